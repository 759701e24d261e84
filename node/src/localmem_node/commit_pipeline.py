"""From a request to an event that is durable and found: all that runs in the writer's place.

    append ─▶ carry vectors ─▶ sync ─▶ publish (live state) ─▶ queue for the encoder

An event is published (found by queries, given to sync) only once it is durable. What making room did
to others, copied forward or evicted, is followed in the same way. Vectors come later, out of the
background encoder, and are synced now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from localmem_node.arrivals import Arrivals
from localmem_node.background import BackgroundEncoder, Vectors
from localmem_node.errors import NodeError, StoreError
from localmem_node.event_cache import EventCache
from localmem_node.group_commit import GroupCommit
from localmem_node.live_state import LiveState
from localmem_node.reencoding import Reencoding
from localmem_node.store.event_store import EventStore
from localmem_node.store.records import encoder_id
from localmem_node.store.reports import Appended
from localmem_node.store.rewrite import Placed
from localmem_node.writer import Outcome, Write, Writer, Written, final_ordinals

logger = logging.getLogger(__name__)

CARRIED_MAX: Final = 32
"""Passes in which vectors follow their events; what is left after so many is encoded again some day."""

UNSYNCED_MAX: Final = 128
"""Vectors that a crash may take: some seconds of encoding, against one sync for so many."""

CHECKPOINT_EVENTS: Final = 2000
CHECKPOINT_SHARE: Final = 50
"""New events after which a checkpoint is due, at least and as a part of all: half a second of
indexing at the next start, and little to write beside what the events themselves take.
"""


class CommitPipeline:
    """Thread-safe where it does not say that it runs in the writer's place: then the caller holds
    `exclusive`. The order of locks is: the writer's place, then that of the live state.

    Implements `maintenance.Host`. `evicted` counts events that new ones pushed out.
    """

    def __init__(
        self,
        store: EventStore,
        writer: Writer,
        live: LiveState,
        cache: EventCache,
        background: BackgroundEncoder,
        reencoding: Reencoding,
        *,
        fingerprint: str,
        unsaved: int,
        arrivals: Arrivals,
    ) -> None:
        """`fingerprint` is the encoder's, `unsaved` the events that no checkpoint knows; `arrivals`
        hears of every event once it is found.
        """
        self._store, self._writer, self._live = store, writer, live
        self._cache, self._background, self._reencoding = cache, background, reencoding
        self._fingerprint, self._arrivals = fingerprint, arrivals
        self._since_checkpoint = unsaved
        self._commits = GroupCommit(self._apply)
        self._unsynced = 0
        self._placing = False
        self._closed = False
        self.evicted = 0

    def submit(self, request: Write) -> list[Outcome]:
        """What became of each draft or event of a request, once they are durable and found.

        Raises StoreError, and NodeError when closed.
        """
        return self._commits.submit(request)

    def exclusive(self) -> AbstractContextManager[None]:
        """The writer's place: nothing is recorded meanwhile."""
        return self._commits.exclusive()

    def ordinal_of(self, event_id: str) -> int | None:
        """Where the event with an id is."""
        return self._live.ordinal_of(event_id)

    def settle(self, appended: Appended) -> None:
        """In the writer's place: make an append durable, and follow what it did."""
        written = Written()
        written.follow(appended)
        self._settle(written)

    def forgotten(self, ordinals: Sequence[int], appended: Appended) -> None:
        """In the writer's place: the same, and these events are not found any more."""
        moved = final_ordinals(appended.moved)
        self.settle(appended)
        self.drop(moved.get(ordinal, ordinal) for ordinal in ordinals)
        self._cache.clear()

    def drop(self, ordinals: Iterable[int]) -> None:
        """In the writer's place: these events are not found any more."""
        self._follow(Written(evicted=list(ordinals)))

    def drop_lost(self) -> None:
        """In the writer's place: events that the store has lost are not found any more."""
        live = set(self._store.ordinals())
        self.drop(ordinal for ordinal in self._live.ordinals() if ordinal not in live)

    def renumber(self, ordinals: dict[int, int]) -> None:
        """In the writer's place: where each event is now, by where it was; others are gone."""
        if self._placing:
            self._reencoding.rewritten()
        waiting = self._live.renumber(ordinals, self._store.ring_bytes)
        self._cache.clear()
        self._background.forget(ordinals)
        self._background.push(waiting)
        self._checkpoint()

    def placed(self) -> Placed | None:
        """The vectors that a new file gets: this encoder's, unless it has yet to show that it works."""
        self._placing = self._reencoding.proved
        return Placed(encoder_id(self._fingerprint), self._live.vectors) if self._placing else None

    def keep_vectors(self, vectors: Vectors, last: bool) -> bool:
        """Into the index and the store; synced now and then, and after the `last` for now.

        Whether the ring had better be rewritten (`Maintenance.place_vectors`). In the encoder's
        thread.
        """
        self._reencoding.made(len(vectors))
        with self.exclusive():
            if self._closed:
                return False
            self._live.put_vectors(vectors)
            try:
                self._store_vectors(vectors, last)
            except StoreError as error:
                logger.error("vectors are kept in memory only: %s", error)
        return self._reencoding.wants_rewriting(
            waiting=0 if last else self._background.pending, free_bytes=self._store.free_bytes
        )

    def close(self) -> None:
        """Finish what is under way, keep a checkpoint, close the store. Idempotent."""
        with self.exclusive():
            if self._closed:
                return
            self._closed = True
            try:
                if self._since_checkpoint or self._live.answers:
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
        outcomes = [self._writer.apply(request, written, self._live) for request in requests]
        self._settle(written)
        return outcomes

    def _settle(self, written: Written) -> None:
        """Make what was written durable, then visible, and queue it for the encoder."""
        self._carry_vectors(written)
        self._store.commit()
        self._live.count_answers()
        for ordinal, event in written.events:  # one at a time, so that queries get in between
            self._live.add(ordinal, event, self._store.size_of(ordinal))
        self._since_checkpoint += len(written.events)
        self._background.push([ordinal for ordinal, _ in written.events])
        self.evicted += len(written.evicted)
        self._follow(written)
        if written.events:
            self._arrivals.add(event.id for _, event in written.events)

    def _carry_vectors(self, written: Written) -> None:
        """The vectors of events that were copied forward go with them."""
        followed = 0
        for _ in range(CARRIED_MAX):  # each pass has less to carry than the one before
            if followed == len(written.moved):
                return
            moved, followed = written.moved[followed:], len(written.moved)
            affected = {new for _, new in moved}
            current = {
                old: new for old, new in final_ordinals(written.moved).items() if new in affected
            }
            self._append_vectors(
                [(current[old], vector) for old, vector in self._live.vectors(current)], written
            )

    def _append_vectors(self, vectors: Vectors, written: Written) -> None:
        written.follow(self._store.vectors.append(vectors, encoder=self._fingerprint))

    def _follow(self, written: Written) -> None:
        """Into the live state: who was copied forward, and who left."""
        if not written.moved and not written.evicted:
            return
        self._background.forget([*(old for old, _ in written.moved), *written.evicted])
        waiting = self._live.move(written.moved)
        for ordinal in written.evicted:  # one at a time, so that queries get in between
            self._live.remove(ordinal)
        self._background.push(waiting)

    def _store_vectors(self, vectors: Vectors, last: bool) -> None:
        if not self._store.geometry.keeps_vectors:
            return
        written = Written()
        self._append_vectors(vectors, written)
        self._carry_vectors(written)
        self._unsynced += len(vectors)
        if last or self._unsynced >= UNSYNCED_MAX:
            self._store.commit()
            self._unsynced = 0
        self._follow(written)
        events = len(self._live)
        due = max(CHECKPOINT_EVENTS, events // CHECKPOINT_SHARE)
        if last and (self._reencoding.finish(events) or self._since_checkpoint >= due):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Runs in the writer's place. Raises StoreError."""
        payload = self._live.checkpoint(self._reencoding.encoders)
        if not self._store.write_checkpoint(payload):
            events = len(self._live)
            logger.info("no room for the index of %d events; it is rebuilt at opening", events)
        self._since_checkpoint = 0
