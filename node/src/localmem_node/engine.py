"""The heart of a node: store, index and encoder behind one thread-safe object.

    record ─▶ admission ─▶ commit pipeline ─▶ ring (durable) ─▶ live state ─▶ background encoder
    query ─▶ encoder ─▶ live state ─▶ ring

Two locks, always taken in this order: the writer's place (`commit_pipeline`), held while appending
and syncing; that of the live state, never held during a sync or an encoding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from localmem_node.arrivals import Arrivals
from localmem_node.background import BackgroundEncoder, Vectors
from localmem_node.capture.admission import Admission
from localmem_node.commit_pipeline import CommitPipeline
from localmem_node.config import EVICTION_DEFAULT
from localmem_node.errors import NodeError
from localmem_node.event_cache import EventCache
from localmem_node.live_state import LiveState
from localmem_node.maintenance import Maintenance
from localmem_node.reading import Reader
from localmem_node.recovery import recover
from localmem_node.reencoding import Reencoding
from localmem_node.results import Found
from localmem_node.retention import POLICIES
from localmem_node.seams import Encoder, KeyStore
from localmem_node.selection import EVERYTHING, Selection
from localmem_node.store.event_store import EventStore
from localmem_node.system import SystemRandom
from localmem_node.timings import Timings
from localmem_node.writer import Write, Writer
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event, Order
from localmem_protocol.lineage import Reach
from localmem_protocol.seams import Clock, Random
from localmem_protocol.tombstones import TombstoneKey

logger = logging.getLogger(__name__)

VECTOR_BYTES: Final = 6
"""Ring bytes of a vector beside its components."""


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
        self._eviction, policy = eviction, POLICIES[eviction]
        retention = policy(store.ring_bytes)
        recovered = recover(store, encoder, self._writer, retention)
        vector_bytes = encoder.dimensions + VECTOR_BYTES if store.geometry.keeps_vectors else 0
        self._live = LiveState(
            recovered.catalogue,
            recovered.index,
            retention,
            policy=policy,
            vector_bytes=vector_bytes,
        )
        store.set_keep(self._live.earned)
        self._reencoding = Reencoding(
            encoder.fingerprint,
            clock,
            known=recovered.encoders,
            replaced=recovered.replaced,
            stale_bytes=recovered.stale_bytes,
            missing=len(recovered.without_vector),
            vector_bytes=vector_bytes,
            ring_bytes=store.ring_bytes,
        )
        self._timings = Timings(clock)
        self._subscribers: list[Callable[[], None]] = []
        self._watchers: list[Callable[[str], None]] = []
        self.arrivals = Arrivals()
        cache = EventCache(store, self._live)
        self._background = BackgroundEncoder(
            encoder, cache.text, self._keep_vectors, self._live.catch_up
        )
        self._pipeline = CommitPipeline(
            store,
            self._writer,
            self._live,
            cache,
            self._background,
            self._reencoding,
            fingerprint=encoder.fingerprint,
            unsaved=recovered.indexed,
            arrivals=self.arrivals,
        )
        self.maintenance = Maintenance(store, keystore, random or SystemRandom(), self._pipeline)
        self._reader = Reader(
            store,
            encoder,
            self._live,
            cache,
            self._pipeline,
            self._background,
            self._timings,
            now=lambda: datetime.fromtimestamp(clock.now_ms() / 1000, UTC).astimezone(),
        )
        self._background.start(recovered.without_vector)

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        return self._store.device

    @property
    def reach(self) -> Reach:
        """As `EventLog` says."""
        return self._store.reach

    def has_reached(self, reach: Reach) -> bool:
        """As `EventLog` says."""
        return self._store.has_reached(reach)

    @property
    def evicted(self) -> int:
        """How many events have left the ring since it was opened."""
        return self._pipeline.evicted

    def __len__(self) -> int:
        return len(self._live)

    def admit(self, drafts: Sequence[Draft], folder: str | None = None) -> list[Draft | EventError]:
        """Drafts as they may be stored: redacted; an EventError for each that must not be.

        Relative paths are relative to `folder`, if that is known.
        """
        if folder is not None:
            for callback in self._watchers:
                callback(folder)
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
        outcomes = self._pipeline.submit(Write(drafts=drafts))
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
        outcomes = self._pipeline.submit(Write(events=events))
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
        self._live.answered(ids)

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

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[Event]:
        """The events of a device at a sequence, and at a clock if one is given."""
        return self._reader.at(device, sequence, clock)

    def shares(self, event: Event) -> bool:
        """Whether an own event may be told to others: here every one may."""
        return True

    def holds(self, event_id: str) -> bool:
        """Whether an event is here, or was forgotten, so that it is not to be inserted."""
        return event_id in self._live or event_id in self._store.forgotten

    def honour(self, key: TombstoneKey) -> None:
        """From now on, what was forgotten under this key is not taken in."""
        self._store.forgotten.honour(key)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> list[Event]:
        """Forget what these stand for, as `Maintenance.forget_elsewhere` says."""
        return self.maintenance.forget_elsewhere(tombstones, key)

    def forgets_mark(self, tombstone: bytes, key: TombstoneKey) -> bool:
        """Whether a tombstone is known, whatever it stands for. The key is in it."""
        return self._store.forgotten.buries(tombstone)

    @property
    def erasing_due(self) -> bool:
        """Whether what was forgotten is hidden, and not yet out of the store's file."""
        return self.maintenance.erasing_due

    def finish_erasing(self) -> bool:
        """Erase it; whether there was anything. Raises StoreError."""
        return self.maintenance.finish_erasing()

    def forgets(self, event_id: str) -> bool:
        """Whether an event was forgotten, here or elsewhere."""
        return event_id in self._store.forgotten

    def next_to_leave(self) -> Order | None:
        """The event that makes room for the next ones; None while there is room."""
        with self._live.lock:
            if not self._store.full:
                return None
            return self._live.catalogue.next_to_leave(self._store.is_pinned)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after new own events are durable, from any thread; returns how to stop that."""
        self._subscribers = [*self._subscribers, callback]

        def unsubscribe() -> None:
            self._subscribers = [one for one in self._subscribers if one is not callback]

        return unsubscribe

    def watch_folders(self, callback: Callable[[str], None]) -> None:
        """Call back, from any thread, with the folder that drafts come from; it must not wait."""
        self._watchers = [*self._watchers, callback]

    def status(self) -> dict[str, Any]:
        """What there is, for people and for JSON. Sizes in bytes."""
        stats = self._store.stats()
        with self._live.lock:
            events, own = len(self._live), self._live.catalogue.own_count()
            encoded = self._live.index.encoded
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
                "forgotten": len(self._store.forgotten),
                "erasing": self._store.forgotten.erasing_due,
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

    @property
    def is_alone(self) -> bool:
        """Whether every event here was recorded here."""
        with self._live.lock:
            return self._live.catalogue.own_count() == len(self._live)

    @property
    def is_warm(self) -> bool:
        """Whether a question finds the encoder loaded."""
        return self._reader.is_warm

    def warm(self) -> None:
        """Load the encoder now, so that the first query does not wait for it."""
        self._reader.warm()

    def drain(self) -> None:
        """Wait until every event has its vector. Raises NodeError if the encoder does not work."""
        self._background.drain()

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from the store's key."""
        return self._store.derive_key(purpose)

    def close(self) -> None:
        """Finish what is under way, keep a checkpoint, close the store. Idempotent."""
        self._background.close()
        self._reader.close()
        self._pipeline.close()

    def _keep_vectors(self, vectors: Vectors, last: bool) -> None:
        if self._pipeline.keep_vectors(vectors, last):
            try:
                self.maintenance.place_vectors()
            except NodeError as error:
                logger.warning("vectors of another encoder go on taking room: %s", error)

    def _notify(self) -> None:
        for callback in self._subscribers:
            try:
                callback()
            except Exception:
                logger.exception("a subscriber failed")


def _log_refused(event: Event, error: EventError) -> None:
    logger.warning("event %s from elsewhere is left out: %s", event.id, error)
