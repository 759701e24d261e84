"""What became durable here lately, in that order: what those who watch read, each at its own pace.

Ids alone, and a bounded number: the events are read from the store when somebody wants them, so that
one that was forgotten meanwhile is told to nobody. Who falls behind by more has lost its place.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from threading import Lock
from typing import Final

logger = logging.getLogger(__name__)

ARRIVALS_MAX: Final = 4096
"""Ids that are kept: some 0.5 MB. A minute of the busiest import, a day of work."""


class Passed(LookupError):
    """A place that is no longer known."""


class Arrivals:
    """Thread-safe. A place is the number of ids that came before it."""

    def __init__(self, most: int = ARRIVALS_MAX) -> None:
        self._lock = Lock()
        self._ids: deque[str] = deque(maxlen=most)
        self._places: dict[str, int] = {}
        self._end = 0
        self._callbacks: tuple[Callable[[], object], ...] = ()

    def end(self) -> tuple[int, str | None]:
        """The place of what comes next, and the id before it, if one is known."""
        with self._lock:
            return self._end, self._ids[-1] if self._ids else None

    def add(self, ids: Iterable[str]) -> None:
        """These are durable and can be read. Whoever watches is told in this thread."""
        with self._lock:
            for one in ids:
                if one in self._places:  # it has its place already
                    continue
                if len(self._ids) == self._ids.maxlen:
                    del self._places[self._ids[0]]
                self._ids.append(one)
                self._places[one] = self._end
                self._end += 1
        for callback in self._callbacks:
            try:
                callback()
            except Exception:  # what is durable is durable, whoever cannot hear of it
                logger.exception("one who watches could not be told")

    def place_after(self, event_id: str) -> int | None:
        """The place behind an id; None if it is not known (any more)."""
        with self._lock:
            place = self._places.get(event_id)
        return None if place is None else place + 1

    def since(self, place: int, limit: int) -> list[str]:
        """The ids from a place on, at most `limit`. Raises Passed."""
        with self._lock:
            first = self._end - len(self._ids)
            if place < first:
                raise Passed
            return list(islice(self._ids, place - first, place - first + limit))

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back, in the writer's thread, when there is more; it must not wait. Returns how to stop."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

        def unsubscribe() -> None:
            with self._lock:
                self._callbacks = tuple(one for one in self._callbacks if one is not callback)

        return unsubscribe
