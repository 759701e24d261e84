"""Stores of tokens and rosters that are believed for a second, where each look is a request to pay for.

A hub that runs all the time looks up who may stay, and cuts off within a second whoever may not. One that
is started by its requests looks at each of them instead; but a device that works comes many times a
second, and what was true then may be taken for true until that second is over. What this process changes
itself counts at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from localmem_hub.limits import REACH_SECONDS
from localmem_hub.seams import Identity, Kind, RosterMark, RosterStore, TokenStore
from localmem_protocol.seams import Clock

KEPT_MAX: Final = 1024
"""Answers that are kept at a time; those given longest ago go first."""

Name = TypeVar("Name")
Answer = TypeVar("Answer")


class _Recent(Generic[Name, Answer]):
    """Answers of the last second. Used by several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Name, tuple[float, Answer]] = OrderedDict()

    def get(self, name: Name) -> Answer | None:
        with self._lock:
            found = self._kept.get(name)
        if found is None or self._clock.monotonic_s() - found[0] >= REACH_SECONDS:
            return None
        return found[1]

    def put(self, name: Name, asked_s: float, answer: Answer) -> None:
        """Keep what was answered to a question of that moment."""
        with self._lock:
            self._kept.pop(name, None)
            self._kept[name] = (asked_s, answer)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)

    def drop(self, names: Iterable[Name]) -> None:
        with self._lock:
            for name in names:
                self._kept.pop(name, None)

    def drop_all(self) -> None:
        with self._lock:
            self._kept.clear()


class RecentTokens:
    """A `TokenStore` on another."""

    def __init__(self, inner: TokenStore, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._recent: _Recent[tuple[str, str, str | None, Kind], Identity] = _Recent(clock)

    def check(
        self, text: str, pool: str, device: str | None, now_ms: int, *, kind: Kind = "sealed"
    ) -> Identity:
        """As `TokenStore` says, or as it was said within the last second."""
        name = (text, pool, device, kind)
        found = self._recent.get(name)
        if found is not None and (found.expires_ms is None or now_ms < found.expires_ms):
            return found
        asked_s = self._clock.monotonic_s()
        found = self._inner.check(text, pool, device, now_ms, kind=kind)
        if not found.first:  # else the next one may be somebody else's
            # Its use is noted by whoever was told first that this is due.
            self._recent.put(name, asked_s, replace(found, fresh=False))
        return found

    def note(self, identity: Identity, now_ms: int) -> None:
        """As `TokenStore` says."""
        self._inner.note(identity, now_ms)

    def revoked(self, ids: Iterable[str]) -> set[str]:
        """As `TokenStore` says."""
        gone = self._inner.revoked(ids)
        if gone:
            self._recent.drop_all()
        return gone

    def changes(self) -> int:
        """As `TokenStore` says."""
        return self._inner.changes()


class RecentRosters:
    """A `RosterStore` on another."""

    def __init__(self, inner: RosterStore, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._recent: _Recent[str, RosterMark] = _Recent(clock)

    def mark(self, pool: str) -> RosterMark | None:
        """As `RosterStore` says, or as it was said within the last second."""
        found = self._recent.get(pool)
        if found is not None:
            return found
        asked_s = self._clock.monotonic_s()
        found = self._inner.mark(pool)
        if found is not None:
            self._recent.put(pool, asked_s, found)
        return found

    def read(self, pool: str, start: int, bytes_max: int) -> list[bytes]:
        """As `RosterStore` says. Whoever reads has seen that a mark is not the last word."""
        self._recent.drop([pool])
        return self._inner.read(pool, start, bytes_max)

    def found(
        self,
        pool: str,
        entry: bytes,
        mark: RosterMark,
        recovery: str,
        invitation: str | None,
        now_ms: int,
    ) -> bool:
        """As `RosterStore` says."""
        self._recent.drop([pool])
        return self._inner.found(pool, entry, mark, recovery, invitation, now_ms)

    def append(self, pool: str, entry: bytes, mark: RosterMark, epoch: int, now_ms: int) -> None:
        """As `RosterStore` says."""
        try:
            self._inner.append(pool, entry, mark, epoch, now_ms)
        finally:
            self._recent.drop([pool])

    def recovered(self, recovery: str, limit: int) -> list[str]:
        """As `RosterStore` says."""
        return self._inner.recovered(recovery, limit)
