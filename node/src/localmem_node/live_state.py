"""What is kept in memory of the live events: catalogue, search index and retention, in step.

All three change together, behind one lock, which is never held during a sync or an encoding. Nothing
here writes to the store; what the store did is reported here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Final

from localmem_node.background import Vectors
from localmem_node.catalogue import Catalogue
from localmem_node.checkpoint import make_checkpoint
from localmem_node.retention import Retention
from localmem_node.retrieval.index import SearchIndex
from localmem_protocol.events import Event

ANSWERS_MAX: Final = 1024
"""Answers that wait to be counted; of more, the oldest do not count."""

CATCH_UP_VECTORS: Final = 8
"""Vectors that a graph takes at once: about 2 ms at 100,000, with the lock held."""


class LiveState:
    """Thread-safe. Only those who hold `lock` may use `catalogue` and `index`, and only to read.

    `answers` are the ids of what answered queries and was not counted yet.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        index: SearchIndex,
        retention: Retention,
        *,
        policy: Callable[[int], Retention],
        vector_bytes: int,
    ) -> None:
        """`policy` makes another retention for a ring of so many bytes; `vector_bytes` is what the
        vector of an event takes in the ring.
        """
        self.lock = Lock()
        self.catalogue, self.index = catalogue, index
        self._retention, self._policy = retention, policy
        self._vector_bytes = vector_bytes
        self.answers: deque[list[str]] = deque(maxlen=ANSWERS_MAX)

    def __len__(self) -> int:
        return len(self.catalogue)

    def __contains__(self, event_id: object) -> bool:
        with self.lock:
            return event_id in self.catalogue

    def is_live(self, ordinal: int) -> bool:
        """Whether there is an event at an ordinal."""
        with self.lock:
            return self.catalogue.slot(ordinal) is not None

    def ordinal_of(self, event_id: str) -> int | None:
        """Where the event with an id is."""
        with self.lock:
            return self.catalogue.ordinal_of(event_id)

    def ordinals(self) -> list[int]:
        """Every live ordinal, oldest event first."""
        with self.lock:
            return list(self.catalogue.ordinals())

    def add(self, ordinal: int, event: Event, size: int) -> None:
        """An event that takes `size` ring bytes, its vector apart, is found from now on."""
        with self.lock:
            slot = self.catalogue.add(ordinal, event)
            self.index.add(slot, event)
            self._retention.added(slot, event, size + self._vector_bytes)

    def move(self, moved: Iterable[tuple[int, int]]) -> list[int]:
        """Events were copied from one ordinal to another; where those are that have no vector."""
        with self.lock:
            return [
                new
                for old, new in moved
                if self.catalogue.move(old, new)
                and not self.index.has_vector(self.catalogue.slot(new))
            ]

    def remove(self, ordinal: int) -> None:
        """The event at an ordinal has left, if it is known here."""
        with self.lock:
            slot = self.catalogue.remove(ordinal)
            if slot is not None:
                self._forget(slot)

    def renumber(self, ordinals: dict[int, int], ring_bytes: int) -> list[int]:
        """Where each event is now, by where it was, in a ring of so many bytes; others have left.

        Returns the ordinals of events without a vector.
        """
        with self.lock:
            for slot in self.catalogue.renumber(ordinals):
                self._forget(slot)
            # The policy counts in rings: another one for a ring of another size.
            known = self._retention.dump()
            self._retention = self._policy(ring_bytes)
            self._retention.load(known, self.catalogue.rows().slots.tolist())
            return [
                ordinal
                for ordinal in self.catalogue.ordinals()
                if not self.index.has_vector(self.catalogue.slot(ordinal))
            ]

    def vectors(self, ordinals: Iterable[int]) -> Vectors:
        """The vectors of those events that have one, by ordinal."""
        with self.lock:
            return [
                (ordinal, vector)
                for ordinal in ordinals
                if (slot := self.catalogue.slot(ordinal)) is not None
                and (vector := self.index.vector(slot)) is not None
            ]

    def put_vectors(self, vectors: Vectors) -> None:
        """The vectors of events, by ordinal; those of events that have left are dropped."""
        with self.lock:
            for ordinal, vector in vectors:
                slot = self.catalogue.slot(ordinal)
                if slot is not None:
                    self.index.put_vector(slot, vector)

    def catch_up(self) -> bool:
        """Do a little of what the index put off; whether more waits."""
        with self.lock:
            return self.index.catch_up(CATCH_UP_VECTORS)

    def answered(self, ids: Sequence[str]) -> None:
        """These events were an answer. Counted later: here somebody waits for it."""
        self.answers.append(list(ids))

    def count_answers(self) -> None:
        """Tell the policy what answered queries since the last call."""
        with self.lock:
            while self.answers:
                ordinals = [self.catalogue.ordinal_of(one) for one in self.answers.popleft()]
                slots = [self.catalogue.slot(one) for one in ordinals if one is not None]
                self._retention.used([slot for slot in slots if slot is not None])

    def earned(self, ordinal: int, size: int) -> bool:
        """Whether an event of so many bytes, at the tail of the ring, earns another round."""
        with self.lock:
            slot = self.catalogue.slot(ordinal)
            if slot is None:
                return False
            vector = self._vector_bytes if self.index.has_vector(slot) else 0
            return self._retention.earned(slot, size + vector)

    def checkpoint(self, encoders: Sequence[str]) -> bytes:
        """All of this but the vectors, for `recovery.recover`."""
        self.count_answers()
        with self.lock:
            rows, dump = self.catalogue.rows(), self.index.dump()
            retention = self._retention.dump()
        return make_checkpoint(rows, dump, retention, encoders)

    def _forget(self, slot: int) -> None:
        self.index.remove(slot)
        self._retention.removed(slot)
