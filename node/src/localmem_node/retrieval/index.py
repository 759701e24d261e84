"""The search index of a store: words (BM25F) and meanings (vectors) of its live events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.adaptive import AdaptiveIndex
from localmem_node.retrieval.fields import fields, text_for_encoding
from localmem_node.retrieval.lexical import LexicalIndex
from localmem_node.retrieval.ranking import best_slots, candidates_for, combined, order
from localmem_node.retrieval.slots import grown
from localmem_node.retrieval.tokens import query_terms
from localmem_node.seams import VectorIndex
from localmem_protocol.events import Event

__all__ = ["Hit", "SearchIndex", "text_for_encoding"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A slot that answers a query; `score` is from 0 to 1, `lexical` a BM25 score, `dense` a cosine."""

    slot: int
    score: float
    lexical: float
    dense: float


class SearchIndex:
    """Events by slot, found by words and by meaning. Not thread-safe: the engine holds a lock."""

    def __init__(self, dimensions: int, *, vectors: VectorIndex | None = None) -> None:
        self._lexical = LexicalIndex()
        self._vectors: VectorIndex = AdaptiveIndex(dimensions) if vectors is None else vectors
        self._live = np.zeros(0, dtype=np.bool_)
        self._encoded = np.zeros(0, dtype=np.bool_)
        self._newness = np.zeros((3, 0), dtype=np.uint64)  # clock, device, sequence: Event.order

    def __len__(self) -> int:
        return len(self._lexical)

    def __contains__(self, slot: int) -> bool:
        return slot in self._lexical

    def slots(self) -> list[int]:
        """The slots that hold an event, ascending."""
        return self._lexical.slots()

    @property
    def encoded(self) -> int:
        """Events that have their vector."""
        return len(self._vectors)

    def add(self, slot: int, event: Event) -> None:
        """Index the words of an event. Raises ValueError for a slot that is taken."""
        self._lexical.add(slot, fields(event))
        self._live = grown(self._live, slot + 1)
        self._encoded = grown(self._encoded, slot + 1)
        self._newness = grown(self._newness, slot + 1)
        self._live[slot] = True
        self._newness[:, slot] = (event.clock, int(event.device, 16), event.sequence)

    def put_vector(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        """Add the vector of an event that is in the index. Raises ValueError if it is not."""
        if slot not in self._lexical:
            raise ValueError(f"slot {slot} has no event")
        self._vectors.put(slot, vector)
        self._encoded[slot] = True

    def put_vectors(self, slots: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        """Add the vectors of events that are in the index, a row each."""
        self._vectors.put_many(slots, vectors)
        self._encoded[slots] = True

    def vector(self, slot: int) -> npt.NDArray[np.float32] | None:
        """The vector of an event, if it has one."""
        return self._vectors.vector(slot)

    def has_vector(self, slot: int | None) -> bool:
        """Whether an event has its vector."""
        return slot is not None and slot < len(self._encoded) and bool(self._encoded[slot])

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot not in self._lexical:
            return
        self._lexical.remove(slot)
        self._vectors.remove(slot)
        self._live[slot] = self._encoded[slot] = False

    def search(
        self,
        query: str,
        vector: npt.NDArray[np.float32] | None,
        k: int,
        *,
        among: npt.NDArray[np.bool_] | None = None,
    ) -> list[Hit]:
        """The k best events, best first, the newer first among equals.

        Without a vector only events that share a term with the query. `among` names the slots that
        may be found (those beyond its end may not). Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        lexical = self._lexical.scores(query_terms(query))
        allowed = self._allowed(among, len(lexical))
        if allowed is not None:
            lexical = np.where(allowed, lexical, np.float32(0))
        slots = best_slots(lexical, candidates_for(k))
        dense = None
        if vector is not None:
            slots, dense = self._with_nearest(vector, k, slots, allowed)
        scores = combined(lexical[slots], dense, self._encoded[slots])
        best = order(scores, self._newness[:, slots])[:k]
        cosines = np.zeros(len(slots), dtype=np.float32) if dense is None else dense
        columns = (slots[best], scores[best], lexical[slots[best]], cosines[best])
        return [Hit(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def catch_up(self, count: int) -> bool:
        """Do what the vector index put off, for at most `count` vectors; whether more waits."""
        return self._vectors.catch_up(count)

    @property
    def newness(self) -> npt.NDArray[np.uint64]:
        """Clock, device and sequence of each slot's event, (3, slots)."""
        return self._newness

    def dump(self) -> bytes:
        """The lexical side as bytes for `load`; vectors are kept by the store."""
        return self._lexical.dump()

    @classmethod
    def load(
        cls,
        data: bytes,
        newness: npt.NDArray[np.uint64],
        dimensions: int,
        *,
        vectors: VectorIndex | None = None,
    ) -> SearchIndex:
        """The index that was dumped, without vectors.

        `newness` has clock, device and sequence of each slot's event, (3, slots). Raises
        DamagedIndex.
        """
        index = cls(dimensions, vectors=vectors)
        index._lexical = LexicalIndex.load(data)
        slots = np.array(index.slots(), dtype=np.intp)
        width = int(slots.max(initial=-1)) + 1
        if newness.shape[1] < width:
            raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        index._vectors.reserve(width)
        index._live = grown(index._live, width)
        index._encoded = grown(index._encoded, width)
        index._newness = grown(index._newness, width)
        index._live[slots] = True
        index._newness[:, slots] = newness[:, slots]
        return index

    def _allowed(
        self, among: npt.NDArray[np.bool_] | None, width: int
    ) -> npt.NDArray[np.bool_] | None:
        if among is None:
            return None
        allowed = np.zeros(width, dtype=np.bool_)
        shared = min(width, len(among))
        allowed[:shared] = among[:shared] & self._live[:shared]
        return allowed

    def _with_nearest(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        slots: npt.NDArray[np.int64],
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """These slots and the nearest ones, ascending, with their inner products."""
        nearest, products = self._nearest(vector, k, allowed)
        left = np.zeros(self._live.shape, dtype=np.bool_)
        left[slots] = True
        left[nearest] = False
        others = np.flatnonzero(left)
        if len(others):
            nearest = np.concatenate((nearest, others))
            products = np.concatenate((products, self._vectors.scores(vector, others)))
        ascending = np.argsort(nearest)
        return nearest[ascending], products[ascending]

    def _nearest(
        self, vector: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        count = candidates_for(k)
        if allowed is None:
            return self._vectors.search(vector, count)
        slots = np.flatnonzero(allowed & self._encoded).astype(np.int64)
        products = self._vectors.scores(vector, slots)
        best = np.argsort(-products, kind="stable")[:count]
        return slots[best], products[best]
