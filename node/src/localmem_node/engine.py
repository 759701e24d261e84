"""The heart of a node: store, index and encoder behind one thread-safe object.

    record ─▶ admission ─▶ group commit ─▶ ring (durable) ─▶ catalogue, index ─▶ background encoder
    query ─▶ encoder ─▶ index ─▶ ring

Two locks, always taken in this order: the writer's place (`GroupCommit`), held while appending and
syncing; the state lock over catalogue and index, never held during a sync or an encoding.
An event is published (found by queries, given to sync) only once it is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final

from localmem_node.background import BackgroundEncoder, Vectors
from localmem_node.capture.admission import Admission
from localmem_node.checkpoint import make_checkpoint
from localmem_node.config import EVICTION_DEFAULT
from localmem_node.errors import NodeError, StoreError
from localmem_node.group_commit import GroupCommit
from localmem_node.maintenance import Maintenance
from localmem_node.reading import Reader
from localmem_node.recovery import recover
from localmem_node.reencoding import Reencoding
from localmem_node.results import Found
from localmem_node.retention import POLICIES
from localmem_node.seams import Encoder, KeyStore
from localmem_node.selection import EVERYTHING, Selection
from localmem_node.store.event_store import EventStore
from localmem_node.store.records import encoder_id
from localmem_node.store.reports import Appended
from localmem_node.store.rewrite import Placed
from localmem_node.system import SystemRandom
from localmem_node.timings import Timings
from localmem_node.writer import Outcome, Write, Writer, Written, final_ordinals
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event, Order
from localmem_protocol.seams import Clock, Random

logger = logging.getLogger(__name__)

CARRIED_MAX: Final = 32
"""Passes in which vectors follow their events; what is left after so many is encoded again some day."""

UNSYNCED_MAX: Final = 128
"""Vectors that a crash may take: some seconds of encoding, against one sync for so many."""

VECTOR_BYTES: Final = 6
"""Ring bytes of a vector beside its components."""

CATCH_UP_VECTORS: Final = 8
"""Vectors that a graph takes at once: about 2 ms at 100,000, with the state lock held."""

CHECKPOINT_EVENTS: Final = 2000
CHECKPOINT_SHARE: Final = 50
"""New events after which a checkpoint is due, at least and as a part of all: half a second of
indexing at the next start, and little to write beside what the events themselves take.
"""


class Engine:
    """Owns an open store, and closes it. Implements `localmem_protocol.session.EventLog`."""

    def __init__(
        self,
        store: EventStore,
        encoder: Encoder,
        clock: Clock,
        admission: Admission | None = None,
        *,
        keystore: KeyStore | None = None,
        random: Random | None = None,
        eviction: str = EVICTION_DEFAULT,
    ) -> None:
        """Reads what is needed of the store; raises StoreError. Events without a vector are encoded
        later. Without `keystore` the store can be used, and not rewritten. `eviction` is one of
        `retention.POLICIES`.
        """
        self._store = store
        self._encoder = encoder
        self._admission = admission or Admission()
        self._writer = Writer(store, clock)
        self._eviction = eviction
        self._retention = POLICIES[eviction](store.ring_bytes)
        recovered = recover(store, encoder, self._writer, self._retention)
        store.set_keep(self._earned)
        self._catalogue, self._index = recovered.catalogue, recovered.index
        self._vector_bytes = encoder.dimensions + VECTOR_BYTES if store.keeps_vectors else 0
        self._since_checkpoint = recovered.indexed
        self._unsynced = 0
        self._placing = False
        self._reencoding = Reencoding(
            encoder.fingerprint,
            clock,
            known=recovered.encoders,
            replaced=recovered.replaced,
            stale_bytes=recovered.stale_bytes,
            missing=len(recovered.without_vector),
            vector_bytes=self._vector_bytes,
            ring_bytes=store.ring_bytes,
        )
        self._state = Lock()
        self._commits = GroupCommit(self._apply)
        self._timings = Timings(clock)
        self.maintenance = Maintenance(store, keystore, random or SystemRandom(), self)
        self._subscribers: list[Callable[[], None]] = []
        self._evicted = 0
        self._closed = False
        self._background = BackgroundEncoder(
            encoder, lambda ordinal: self._reader.text(ordinal), self._keep_vectors, self._catch_up
        )
        self._reader = Reader(
            store,
            encoder,
            self._catalogue,
            self._index,
            state=self._state,
            commits=self._commits,
            background=self._background,
            timings=self._timings,
            lost=lambda ordinals: self._follow(Written(evicted=list(ordinals))),
            now=lambda: datetime.fromtimestamp(clock.now_ms() / 1000, UTC).astimezone(),
        )
        self._background.start(recovered.without_vector)

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        return self._store.device

    @property
    def position(self) -> int:
        """The ordinal of the newest event; lower than before only in an older copy of the store."""
        with self._state:
            return self._catalogue.position

    @property
    def evicted(self) -> int:
        """How many events have left the ring since it was opened."""
        return self._evicted

    def __len__(self) -> int:
        return len(self._catalogue)

    def admit(self, drafts: Sequence[Draft], folder: str | None = None) -> list[Draft | EventError]:
        """Drafts as they may be stored: redacted; an EventError for each that must not be.

        Relative paths are relative to `folder`, if that is known.
        """
        return self._admission.admit_all(drafts, folder)

    def record(self, drafts: Sequence[Draft], folder: str | None = None) -> list[Event]:
        """The events that drafts become: redacted, stamped, durable, found by words at once.

        Relative paths are relative to `folder`, if that is known. Raises EventError, and then
        nothing of a denied batch is stored, and StoreError.
        """
        admitted: list[Draft] = []
        for draft in self.admit(drafts, folder):
            if isinstance(draft, EventError):
                raise draft
            admitted.append(draft)
        outcomes = self.record_admitted(admitted)
        for outcome in outcomes:
            if isinstance(outcome, EventError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Event)]

    def record_admitted(self, drafts: Sequence[Draft]) -> list[Event | EventError]:
        """Like `record` for drafts that `admit` returned; one result for each.

        An EventError stands for a draft that is too large for the ring. Raises StoreError.
        """
        if not drafts:
            return []
        outcomes = self._commits.submit(Write(drafts=drafts))
        self._notify()
        return [outcome for outcome in outcomes if outcome is not None]

    def insert(
        self,
        events: Sequence[Event],
        *,
        refused: Callable[[Event, EventError], None] | None = None,
    ) -> list[Event]:
        """Keep events from elsewhere, durably; returns those that were new here.

        `refused` is told of each that cannot be kept (too large for this ring, out of all bounds);
        by default that is logged. Raises StoreError.
        """
        if not events:
            return []
        outcomes = self._commits.submit(Write(events=events))
        for event, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, EventError):
                (refused or _log_refused)(event, outcome)
        new = [outcome for outcome in outcomes if isinstance(outcome, Event)]
        if any(event.device == self.device for event in new):
            self._notify()
        return new

    def query_recent(
        self,
        k: int,
        query: str,
        *,
        selection: Selection = EVERYTHING,
        counted: bool = True,
        explain: bool = False,
    ) -> list[Found]:
        """The k events among those meant that answer a query best, best first. Raises QueryError.

        They count as an answer, which keeps them longer, unless it is said that they do not. With
        `explain` each has its evidence. A query about nothing that is here finds nothing.
        """
        return self._reader.query_recent(k, query, selection, counted=counted, explain=explain)

    def answered(self, ids: Sequence[str]) -> None:
        """These events were an answer, of those that a question not counted has found."""
        self._reader.answers.append(list(ids))

    def recent(self, k: int, *, selection: Selection = EVERYTHING) -> list[Found]:
        """The k newest events that are meant, by `Event.order`, newest first. Raises QueryError."""
        return self._reader.recent(k, selection)

    def around(
        self, event_id: str, older: int, newer: int, *, selection: Selection = EVERYTHING
    ) -> list[Event]:
        """An event and its neighbours in time among those meant, oldest first; empty without it.

        At most `older` come before it and `newer` after it.
        """
        return self._reader.around(event_id, older, newer, selection)

    def page(self, after: Order | None, limit: int) -> tuple[list[Event], Order | None]:
        """The live events that follow `after` in the order, at most `limit`, and where to go on.

        None begins, and says that there is no more. A page may lack events that left meanwhile.
        """
        return self._reader.page(after, limit)

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""
        return self._reader.own_events(after, limit)

    def holds(self, event_id: str) -> bool:
        """Whether an event is here, or was forgotten, so that it is not to be inserted."""
        with self._state:
            here = event_id in self._catalogue
        return here or self._store.is_forgotten(event_id)

    def next_to_leave(self) -> Order | None:
        """The event that makes room for the next ones; None while there is room."""
        with self._state:
            if not self._store.full:
                return None
            return self._catalogue.next_to_leave(self._store.is_pinned)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after new own events are durable, from any thread; returns how to stop that."""
        self._subscribers = [*self._subscribers, callback]

        def unsubscribe() -> None:
            self._subscribers = [one for one in self._subscribers if one is not callback]

        return unsubscribe

    def status(self) -> dict[str, Any]:
        """What there is, for people and for JSON. Sizes in bytes."""
        stats = self._store.stats()
        with self._state:
            events, own = len(self._catalogue), self._catalogue.own_count()
            encoded = self._index.encoded
        waiting = self._background.pending
        return {
            "device": self.device,
            "events": events,
            "own_events": own,
            "last_sequence": self._writer.last_sequence,
            "store": {
                "path": str(stats.path),
                "size_bytes": stats.size_bytes,
                "used_bytes": stats.used_bytes,
                "damaged": stats.damaged,
                "key": stats.key_location,
                "kept_bytes": self._store.kept_bytes,
                "copied_bytes": stats.copied_bytes,
                "forgotten": self._store.forgotten,
                "eviction": self._eviction,
            },
            "encoder": {
                "model": self._encoder.fingerprint,
                "problem": self._background.problem,
                **self._reencoding.status(encoded=encoded, waiting=waiting),
            },
            "settled": self._background.settled,
            "timings": self._timings.summary(),
            "maintenance": self.maintenance.status(),
        }

    def warm(self) -> None:
        """Load the encoder now, so that the first query does not wait for it."""
        self._reader.warm()

    def drain(self) -> None:
        """Wait until every event has its vector. Raises NodeError if the encoder does not work."""
        self._background.drain()

    def exclusive(self) -> AbstractContextManager[None]:
        """The writer's place: nothing is recorded meanwhile."""
        return self._commits.exclusive()

    def ordinal_of(self, event_id: str) -> int | None:
        """Where the event with an id is."""
        with self._state:
            return self._catalogue.ordinal_of(event_id)

    def settle(self, appended: Appended) -> None:
        """In the writer's place: make an append durable, and follow what it did."""
        written = Written()
        written.follow(appended)
        self._settle(written)

    def forgotten(self, ordinals: Sequence[int], appended: Appended) -> None:
        """In the writer's place: the same, and these events are not found any more."""
        moved = final_ordinals(appended.moved)
        self.settle(appended)
        self._follow(Written(evicted=[moved.get(ordinal, ordinal) for ordinal in ordinals]))
        self._reader.forget()

    def drop_lost(self) -> None:
        """In the writer's place: events that the store has lost are not found any more."""
        live = set(self._store.ordinals())
        with self._state:
            gone = [ordinal for ordinal in self._catalogue.ordinals() if ordinal not in live]
        self._follow(Written(evicted=gone))

    def renumber(self, ordinals: dict[int, int]) -> None:
        """In the writer's place: where each event is now, by where it was; others are gone."""
        if self._placing:
            self._reencoding.rewritten()
        with self._state:
            for slot in self._catalogue.renumber(ordinals):
                self._index.remove(slot)
                self._retention.removed(slot)
            self._retain_anew()
            waiting = [
                ordinal
                for ordinal in self._catalogue.ordinals()
                if not self._index.has_vector(self._catalogue.slot(ordinal))
            ]
        self._reader.forget()
        self._background.forget(ordinals)
        self._background.push(waiting)
        self._checkpoint()

    def placed(self) -> Placed | None:
        """The vectors that a new file gets: this encoder's, unless it has yet to show that it works."""
        self._placing = self._reencoding.proved
        if not self._placing:
            return None
        return Placed(encoder_id(self._encoder.fingerprint), self._vectors_of)

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from the store's key."""
        return self._store.derive_key(purpose)

    def close(self) -> None:
        """Finish what is under way, keep a checkpoint, close the store. Idempotent."""
        self._background.close()
        self._reader.close()
        with self._commits.exclusive():
            if self._closed:
                return
            self._closed = True
            try:
                if self._since_checkpoint or self._reader.answers:
                    self._checkpoint()
            except StoreError as error:
                logger.error("closed without a checkpoint: %s", error)
            try:
                self._store.close()
            except StoreError as error:
                logger.error("closed, but not in order: %s", error)

    def _apply(self, requests: Sequence[Write]) -> list[list[Outcome]]:
        """One group: append, sync once, publish. Runs in the writer's place."""
        if self._closed:
            raise NodeError("the engine is closed")
        written = Written()
        outcomes = [self._writer.apply(request, written, self._catalogue) for request in requests]
        self._settle(written)
        return outcomes

    def _settle(self, written: Written) -> None:
        """Make what was written durable, then visible, and queue it for the encoder."""
        self._carry_vectors(written)
        self._store.commit()
        with self._state:
            self._note_answers()
        for ordinal, event in written.events:
            with self._state:  # taken once per event, so that queries get in between
                slot = self._catalogue.add(ordinal, event)
                self._index.add(slot, event)
                size = self._store.size_of(ordinal)
                self._retention.added(slot, event, size + self._vector_bytes)
        self._since_checkpoint += len(written.events)
        self._background.push([ordinal for ordinal, _ in written.events])
        self._evicted += len(written.evicted)
        self._follow(written)

    def _carry_vectors(self, written: Written) -> None:
        """The vectors of events that were copied forward go with them."""
        followed = 0
        for _ in range(CARRIED_MAX):  # each pass has less to carry than the one before
            if followed == len(written.moved):
                return
            moved, followed = written.moved[followed:], len(written.moved)
            with self._state:
                current = final_ordinals(written.moved)
                slots = {new: self._catalogue.slot(old) for old, new in current.items()}
                affected = {new for _, new in moved}
                vectors = [
                    (new, vector)
                    for new, slot in slots.items()
                    if new in affected
                    and slot is not None
                    and (vector := self._index.vector(slot)) is not None
                ]
            written.follow(self._store.append_vectors(vectors, encoder=self._encoder.fingerprint))

    def _follow(self, written: Written) -> None:
        """Into the catalogue and the index: who was copied forward, and who left."""
        if not written.moved and not written.evicted:
            return
        self._background.forget([*(old for old, _ in written.moved), *written.evicted])
        waiting: list[int] = []
        with self._state:
            for old, new in written.moved:
                moved = self._catalogue.move(old, new)
                if moved and not self._index.has_vector(self._catalogue.slot(new)):
                    waiting.append(new)
        for ordinal in written.evicted:
            with self._state:  # taken once per event, so that queries get in between
                slot = self._catalogue.remove(ordinal)
                if slot is not None:
                    self._index.remove(slot)
                    self._retention.removed(slot)
        self._background.push(waiting)

    def _earned(self, ordinal: int, size: int) -> bool:
        """Whether an event at the tail of the ring earns another round. In the writer's place."""
        with self._state:
            slot = self._catalogue.slot(ordinal)
            if slot is None:
                return False
            vector = self._vector_bytes if self._index.has_vector(slot) else 0
            return self._retention.earned(slot, size + vector)

    def _note_answers(self) -> None:
        """Tell the policy what answered queries since the last call. Under the state lock.

        Not in `query_recent`, where somebody waits.
        """
        answers = self._reader.answers
        while answers:
            ordinals = [self._catalogue.ordinal_of(one) for one in answers.popleft()]
            slots = [self._catalogue.slot(ordinal) for ordinal in ordinals if ordinal is not None]
            self._retention.used([slot for slot in slots if slot is not None])

    def _retain_anew(self) -> None:
        """The policy counts in rings: another one for a ring of another size."""
        known = self._retention.dump()
        self._retention = POLICIES[self._eviction](self._store.ring_bytes)
        self._retention.load(known, self._catalogue.rows().slots.tolist())

    def _vectors_of(self, ordinals: Sequence[int]) -> Vectors:
        with self._state:
            found = [
                (ordinal, self._index.vector(slot))
                for ordinal in ordinals
                if (slot := self._catalogue.slot(ordinal)) is not None
            ]
        return [(ordinal, vector) for ordinal, vector in found if vector is not None]

    def _keep_vectors(self, vectors: Vectors, last: bool) -> None:
        """Into the index and the store; synced now and then, and when the encoder has caught up."""
        self._reencoding.made(len(vectors))
        with self._commits.exclusive():
            if self._closed:
                return
            with self._state:
                for ordinal, vector in vectors:
                    slot = self._catalogue.slot(ordinal)
                    if slot is not None:
                        self._index.put_vector(slot, vector)
            try:
                self._store_vectors(vectors, last)
            except StoreError as error:
                logger.error("vectors are kept in memory only: %s", error)
        if self._reencoding.wants_rewriting(
            waiting=0 if last else self._background.pending, free_bytes=self._store.free_bytes
        ):
            try:
                self.maintenance.place_vectors()
            except NodeError as error:
                logger.warning("vectors of another encoder go on taking room: %s", error)

    def _catch_up(self) -> bool:
        with self._state:
            return self._index.catch_up(CATCH_UP_VECTORS)

    def _store_vectors(self, vectors: Vectors, last: bool) -> None:
        if not self._store.keeps_vectors:
            return
        written = Written()
        written.follow(self._store.append_vectors(vectors, encoder=self._encoder.fingerprint))
        self._carry_vectors(written)
        self._unsynced += len(vectors)
        if last or self._unsynced >= UNSYNCED_MAX:
            self._store.commit()
            self._unsynced = 0
        self._follow(written)
        due = max(CHECKPOINT_EVENTS, len(self._catalogue) // CHECKPOINT_SHARE)
        if last and (self._reencoding.finish(len(self)) or self._since_checkpoint >= due):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Runs in the writer's place. Raises StoreError."""
        with self._state:
            self._note_answers()
            rows, dump = self._catalogue.rows(), self._index.dump()
            retention = self._retention.dump()
        if not self._store.write_checkpoint(
            make_checkpoint(rows, dump, retention, self._reencoding.encoders)
        ):
            logger.info("no room for the index of %d events; it is rebuilt at opening", len(self))
        self._since_checkpoint = 0

    def _notify(self) -> None:
        for callback in self._subscribers:
            try:
                callback()
            except Exception:
                logger.exception("a subscriber failed")


def _log_refused(event: Event, error: EventError) -> None:
    logger.warning("event %s from elsewhere is left out: %s", event.id, error)
