"""What is done to a store as a whole: pinning, forgetting, another size, other keys, a check.

Everything that leaves the file without something, or in another shape, is one thing: the live events
are written to a new file under a new data key, which then takes the old one's place
(`store.rewrite`). One such work runs at a time; recording and searching go on beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol

import msgspec

from localmem_node.errors import ConfigError, NodeError, PinsFull, QueryError, StoreError
from localmem_node.seams import KeyStore
from localmem_node.selection import Selection
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import Geometry
from localmem_node.store.recovery_code import encode_recovery
from localmem_node.store.reports import Appended
from localmem_node.store.rewrite import Placed, Rewrite, copies
from localmem_node.store.vault import recovery_pair
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event
from localmem_protocol.seams import Random
from localmem_protocol.tombstones import TombstoneKey

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What maintenance needs of the engine, in the writer's place where it says so."""

    def ordinal_of(self, event_id: str) -> int | None:
        """Where the event with an id is."""
        ...

    def settle(self, appended: Appended) -> None:
        """In the writer's place: make an append durable, and follow what it did."""
        ...

    def forgotten(self, ordinals: Sequence[int], appended: Appended) -> None:
        """In the writer's place: the same, and these events are not to be found any more."""
        ...

    def renumber(self, ordinals: dict[int, int]) -> None:
        """In the writer's place: where each event is now, by where it was; others are gone."""
        ...

    def drop_lost(self) -> None:
        """In the writer's place: events that the store has lost are not to be found any more."""
        ...

    def placed(self) -> Placed | None:
        """The vectors that a new file gets; None for all that are in the old one."""
        ...

    def exclusive(self) -> Any:
        """The writer's place, as a context manager."""
        ...


class Maintenance:
    """Thread-safe; a second work of the kind that rewrites is refused while one runs."""

    def __init__(
        self, store: EventStore, keystore: KeyStore | None, random: Random, host: Host
    ) -> None:
        self._store, self._keystore, self._random, self._host = store, keystore, random, host
        self._running = Lock()
        self._told: tuple[Callable[[Sequence[str]], object], ...] = ()
        self._work: str | None = None
        self._done = self._total = 0

    def status(self) -> dict[str, Any] | None:
        """What runs, for people and for JSON; None while nothing does."""
        work = self._work
        return None if work is None else {"work": work, "done": self._done, "total": self._total}

    def pin(self, event_id: str, *, pinned: bool) -> Event:
        """Pin an event, or let it go; durable on return.

        Raises QueryError for an id that is not here, EventError when no more can be pinned.
        """
        with self._host.exclusive():
            ordinal = self._host.ordinal_of(event_id)
            event = None if ordinal is None else self._store.get(ordinal)
            if ordinal is None or event is None:
                raise QueryError("id", f"{event_id[:40]!r} is not an event that is here")
            if event.pinned == pinned:
                return event
            changed = msgspec.structs.replace(event, pinned=pinned)
            try:
                appended = self._store.replace(ordinal, changed)
            except PinsFull as error:
                raise EventError("pinned", str(error)) from None
            self._host.settle(appended)
            return changed

    def select(self, selection: Selection) -> list[Event]:
        """The events that are meant. Raises QueryError if nothing narrows them down."""
        if selection == Selection():
            raise QueryError("selection", "is empty; name ids, a project, a file, a kind or a time")
        ids = list(selection.ids) or self._store.named()[1]
        narrowed = msgspec.structs.replace(selection, ids=())
        events = {event_id: self._event(event_id) for event_id in ids}
        if None in events.values():
            # Some were being copied forward; once the writer is done, all is where it is said to be.
            with self._host.exclusive():
                for event_id in [event_id for event_id, event in events.items() if event is None]:
                    events[event_id] = self._event(event_id)
        meant = [event for event in events.values() if event is not None]
        return [event for event in meant if narrowed.takes(event)]

    def before_forgetting(self, callback: Callable[[Sequence[str]], object]) -> Callable[[], None]:
        """Call back with the ids of what is about to be forgotten here; returns how to stop that.

        An error that it raises keeps them from being forgotten.
        """
        self._told = (*self._told, callback)

        def stop() -> None:
            self._told = tuple(one for one in self._told if one is not callback)

        return stop

    def forget(self, ids: Sequence[str]) -> int:
        """Forget events for good: hidden and marked, durably, then erased from the file.

        Ids of events that are not here are marked as well, so that none of them comes later.
        Returns how many were here. Raises StoreError: the events are hidden all the same, and
        erased by the next forgetting or start that can.
        """
        ids = list(dict.fromkeys(ids))
        here = sum(self._host.ordinal_of(event_id) is not None for event_id in ids)
        for tell in self._told:
            tell(ids)
        self._hide(ids)
        with self._work_named("forget", wait=True):
            self._rewrite()
        return here

    def forget_elsewhere(self, tombstones: Sequence[bytes], key: TombstoneKey) -> list[Event]:
        """Forget what other devices forgot, whether it is here or comes later; those that were here.

        Durable, and hidden, on return; `finish_erasing` erases it, some time.
        """
        with self._host.exclusive():
            self._store.forgotten.honour(key)
            self._host.settle(self._store.forgotten.bury(tombstones))
        # Not before: what is recorded from now on is known to be forgotten.
        wanted = set(tombstones)
        ordinals, names = self._store.named()
        here = [
            (ordinal, event_id)
            for ordinal, event_id in zip(ordinals, names, strict=True)
            if key.of(event_id) in wanted
        ]
        gone = [self._store.get(ordinal) for ordinal, _ in here]
        if here:
            self._hide([event_id for _, event_id in here])
        return [event for event in gone if event is not None]

    @property
    def erasing_due(self) -> bool:
        """Whether the file may still hold what was forgotten, hidden."""
        return self._store.forgotten.erasing_due

    def finish_erasing(self) -> bool:
        """Erase what a crash left in the file; whether there was anything. Raises StoreError."""
        if not self._store.forgotten.erasing_due:
            return False
        with self._work_named("forget", wait=True):
            self._rewrite()
        return True

    def place_vectors(self) -> None:
        """Put every vector beside its event, and leave those of other encoders behind.

        Raises StoreError, KeyUnavailable, and NodeError for a store that cannot be rewritten; it is
        then as it was.
        """
        with self._work_named("vectors", wait=True):
            self._rewrite()

    def resize(self, size: int) -> None:
        """Give the store another size in bytes; the oldest unpinned events make room.

        Raises ConfigError for a size that cannot work or is too small for what is pinned, and
        StoreError; the store is then as it was.
        """
        geometry = Geometry.of(size)
        wanted, longest = self._store.kept_bytes, self._store.longest_pinned
        if wanted > geometry.record_space or longest > geometry.copied_space:
            raise ConfigError(
                f"store size: {size} bytes keep {geometry.record_space} bytes of pinned events, "
                f"each of up to {geometry.copied_space}, and {wanted} are pinned, the longest of "
                f"{longest}; unpin some, or choose a larger size"
            )
        with self._work_named("resize"):
            self._rewrite(size=size)

    def rotate(self, keystore: KeyStore | None = None) -> None:
        """Seal everything under new keys, kept by `keystore` or by the one in use.

        Raises KeyUnavailable and StoreError; the store is then as it was.
        """
        with self._work_named("rotate"):
            self._rewrite(keystore=keystore)

    def export_recovery(self) -> str:
        """A new recovery code; the one before it is void. Raises KeyUnavailable and StoreError."""
        private, public = recovery_pair(self._random)
        with self._work_named("export-recovery"):
            self._rewrite(recovery_key=public)
        return encode_recovery(private)

    def copies(self) -> list[str]:
        """Files beside the store that hold it as an older release left it."""
        return [str(path) for path in copies(self._store.path)]

    def verify(self) -> dict[str, Any]:
        """Read all of the store from the disk, and say what is damaged, for people and JSON."""
        blocks = self._store.verify()
        if blocks:
            with self._host.exclusive():
                self._host.drop_lost()
        return {
            "damaged_blocks": blocks,
            "damaged": [
                {"records": one.records, "after": one.after_ms, "before": one.before_ms}
                for one in self._store.damage()
            ],
        }

    def _rewrite(
        self,
        *,
        size: int | None = None,
        keystore: KeyStore | None = None,
        recovery_key: bytes | None = None,
    ) -> None:
        if self._keystore is None:
            raise NodeError("this store was opened without its key store, and cannot be rewritten")
        replaced, salt = self._keystore, self._store.file.identity.salt
        rewrite = Rewrite(
            self._store,
            keystore or self._keystore,
            self._random,
            size=size,
            recovery_key=recovery_key,
            placed=self._host.placed(),
        )
        try:
            self._total = len(self._store.ordinals())
            while rewrite.copy():
                self._done = rewrite.copied
        except BaseException:
            rewrite.abandon()
            raise
        try:
            with self._host.exclusive():
                ordinals = rewrite.finish()
                self._keystore = keystore or self._keystore
                self._host.renumber(ordinals)
        finally:
            if rewrite.durable:
                rewrite.wipe()
                replaced.discard(salt)

    def _hide(self, ids: Sequence[str]) -> None:
        with self._host.exclusive():
            found = [self._host.ordinal_of(event_id) for event_id in ids]
            ordinals = [ordinal for ordinal in found if ordinal is not None]
            self._host.forgotten(ordinals, self._store.forgotten.forget(ids))

    def _event(self, event_id: str) -> Event | None:
        ordinal = self._host.ordinal_of(event_id)
        return None if ordinal is None else self._store.get(ordinal)

    @contextmanager
    def _work_named(self, work: str, *, wait: bool = False) -> Iterator[None]:
        if not self._running.acquire(blocking=wait):
            raise StoreError(f"the store is being rewritten ({self._work}); try again afterwards")
        self._work, self._done, self._total = work, 0, 0
        try:
            yield
        finally:
            self._work = None
            self._running.release()
