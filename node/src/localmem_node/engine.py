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
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from localmem_node.background import BackgroundEncoder, Vectors
from localmem_node.capture.admission import Admission
from localmem_node.checkpoint import make_checkpoint
from localmem_node.errors import NodeError, StoreError
from localmem_node.group_commit import GroupCommit
from localmem_node.recovery import recover
from localmem_node.results import Found, check_k, check_project, check_query
from localmem_node.retrieval.index import text_for_encoding
from localmem_node.seams import Encoder
from localmem_node.store.event_store import EventStore
from localmem_node.timings import Timings
from localmem_node.writer import Outcome, Write, Writer, Written
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, Event
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

CACHED_EVENTS: Final = 1024
"""Events kept decrypted, for answers; at most 64 MiB, some 500 KiB as a rule."""

CHECKPOINT_EVENTS: Final = 2000
"""New events after which a checkpoint is due; some half a second of indexing at the next start."""


class Engine:
    """Owns an open store, and closes it. Implements `localmem_protocol.session.EventLog`."""

    def __init__(
        self, store: EventStore, encoder: Encoder, clock: Clock, admission: Admission | None = None
    ) -> None:
        """Reads the store once; raises StoreError. Events without a vector are encoded later."""
        self._store = store
        self._encoder = encoder
        self._admission = admission or Admission()
        self._writer = Writer(store, clock)
        recovered = recover(store, encoder, self._writer)
        self._catalogue, self._index = recovered.catalogue, recovered.index
        self._since_checkpoint = recovered.indexed
        self._state = Lock()
        self._commits = GroupCommit(self._apply)
        self._event = lru_cache(maxsize=CACHED_EVENTS)(store.get)
        self._timings = Timings(clock)
        self._subscribers: list[Callable[[], None]] = []
        self._closed = False
        self._background = BackgroundEncoder(encoder, self._text, self._keep_vectors)
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

    def insert(self, events: Sequence[Event]) -> list[Event]:
        """Keep events of other devices, durably; returns those that were new here.

        Raises StoreError. One that is too large for this ring is left out, and logged.
        """
        if not events:
            return []
        outcomes = self._commits.submit(Write(events=events))
        for outcome in outcomes:
            if isinstance(outcome, EventError):
                logger.warning("an event of another device does not fit in the ring: %s", outcome)
        return [outcome for outcome in outcomes if isinstance(outcome, Event)]

    def query_recent(self, k: int, query: str, *, project: str | None = None) -> list[Found]:
        """The k events that answer a query best, best first. Raises QueryError."""
        k, query, project = check_k(k), check_query(query), check_project(project)
        if not len(self._catalogue):
            return []
        with self._timings.measured("query"), self._background.yielding():
            with self._timings.measured("encode"):
                vector = self._query_vector(query)
            wanted = k
            while True:
                places = self._search(query, vector, wanted, project)
                events = [(self._event(ordinal), score) for ordinal, score in places]
                found = [Found(event, score) for event, score in events if event is not None]
                if len(found) >= k or len(places) < wanted:
                    return found[:k]
                # Some left the ring between the search and the reading.
                wanted += k - len(found)

    def recent(self, k: int, *, project: str | None = None) -> list[Found]:
        """The k newest events by `Event.order`, newest first. Raises QueryError."""
        k, project = check_k(k), check_project(project)
        with self._state:
            ordinals = self._catalogue.newest(k, project)
        events = [self._event(ordinal) for ordinal in ordinals]
        return [Found(event, 0.0) for event in events if event is not None]

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""
        with self._state:
            ordinals = self._catalogue.own_after(after, limit)
        events = [self._store.get(ordinal) for ordinal in ordinals]
        return [event for event in events if event is not None]

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
            },
            "encoder": {
                "model": self._encoder.fingerprint,
                "waiting": self._background.pending,
                "problem": self._background.problem,
            },
            "timings": self._timings.summary(),
        }

    def warm(self) -> None:
        """Load the encoder now, so that the first query does not wait for it."""
        self._query_vector("warm up")

    def drain(self) -> None:
        """Wait until every event has its vector. Raises NodeError if the encoder does not work."""
        self._background.drain()

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from the store's key."""
        return self._store.derive_key(purpose)

    def close(self) -> None:
        """Finish what is under way, keep a checkpoint, close the store. Idempotent."""
        self._background.close()
        with self._commits.exclusive():
            if self._closed:
                return
            self._closed = True
            try:
                if self._since_checkpoint:
                    self._checkpoint()
                self._store.close()
            except StoreError as error:
                logger.error("closed, but not in order: %s", error)

    def _apply(self, requests: Sequence[Write]) -> list[list[Outcome]]:
        """One group: append, sync once, publish. Runs in the writer's place."""
        if self._closed:
            raise NodeError("the engine is closed")
        written = Written()
        outcomes = [self._writer.apply(request, written, self._catalogue) for request in requests]
        self._store.commit()
        self._publish(written)
        return outcomes

    def _publish(self, written: Written) -> None:
        """Make what is durable visible, and queue it for the encoder."""
        for ordinal, event in written.events:
            with self._state:  # taken once per event, so that queries get in between
                self._index.add(self._catalogue.add(ordinal, event), event)
        self._forget(written.evicted)
        self._since_checkpoint += len(written.events)
        self._background.push([ordinal for ordinal, _ in written.events])

    def _forget(self, ordinals: Sequence[int]) -> None:
        with self._state:
            for ordinal in ordinals:
                slot = self._catalogue.remove(ordinal)
                if slot is not None:
                    self._index.remove(slot)

    def _search(
        self, query: str, vector: npt.NDArray[np.float32] | None, k: int, project: str | None
    ) -> list[tuple[int, float]]:
        with self._state:
            among = None if project is None else self._catalogue.in_project(project)
            hits = self._index.search(query, vector, k, among=among)
            places = [(self._catalogue.ordinal(hit.slot), hit.score) for hit in hits]
        return [(ordinal, score) for ordinal, score in places if ordinal is not None]

    def _query_vector(self, query: str) -> npt.NDArray[np.float32] | None:
        if self._background.problem:
            return None
        try:
            vector: npt.NDArray[np.float32] = self._encoder.encode([query])[0]
            return vector
        except Exception as error:
            logger.exception("the encoder does not work; searching by words alone")
            self._background.problem = " ".join(str(error).split()) or type(error).__name__
            return None

    def _text(self, ordinal: int) -> str | None:
        with self._state:
            live = self._catalogue.slot(ordinal) is not None
        event = self._event(ordinal) if live else None
        return None if event is None else text_for_encoding(event)

    def _keep_vectors(self, vectors: Vectors, last: bool) -> None:
        """Into the index and the store; synced when the encoder has caught up."""
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

    def _store_vectors(self, vectors: Vectors, last: bool) -> None:
        if not self._store.keeps_vectors:
            return
        evicted = self._store.append_vectors(vectors, encoder=self._encoder.fingerprint)
        if last:
            self._store.commit()
        self._forget(evicted)
        if last and self._since_checkpoint >= max(CHECKPOINT_EVENTS, len(self._catalogue) // 4):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Runs in the writer's place. Raises StoreError."""
        with self._state:
            places, dump = self._catalogue.places(), self._index.dump()
        if not self._store.write_checkpoint(make_checkpoint(places, dump)):
            logger.info("no room for the index of %d events; it is rebuilt at opening", len(places))
        self._since_checkpoint = 0

    def _notify(self) -> None:
        for callback in self._subscribers:
            try:
                callback()
            except Exception:
                logger.exception("a subscriber failed")
