"""Approximate nearest vectors: a graph proposes, the rows beside it decide.

HNSW (Malkov and Yashunin 2016) walks from neighbour to neighbour. What it proposes is multiplied again
with the rows, so that scores are those of exact search and only what is proposed can differ.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.quantised import Codes, Products, QuantisedIndex, Slots, ranked
from localmem_node.retrieval.slots import checked_vector

CONNECTIVITY: Final = 16
EXPANSION_ADD: Final = 128
EXPANSION_SEARCH: Final = 256
"""HNSW's M, efConstruction and least ef; docs/decisions/0009-vectors.md has what others cost."""

REACH_MAX: Final = 512
"""Proposals beyond which a scan of all rows is no slower than the graph."""

FILTER_MARGIN: Final = 1.5
"""Proposals per expected one that a filter lets through: those of a project stand together."""


class Graph(Protocol):
    """What an HNSW library does: unit vectors by slot, the likely nearest of a query."""

    @property
    def name(self) -> str:
        """Of the library, and of how nodes are kept."""
        ...

    @property
    def dimensions(self) -> int:
        """Components of a vector."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of nodes and links, about."""
        ...

    def put(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        """Add or replace vectors, a row each; no slot twice."""
        ...

    def remove(self, slot: int) -> None:
        """Propose this slot no more; unknown slots are ignored."""
        ...

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> Slots:
        """About the `count` nearest, in any order; fewer if the graph reaches no more."""
        ...

    def dump(self) -> bytes | bytearray:
        """The graph as bytes for `load`."""
        ...

    def load(self, data: memoryview, *, mapped: bool) -> None:
        """Become a dumped graph; `mapped`: use the bytes in place, and change no more.

        Only bytes of `dump`: the libraries do not check what they read.
        """
        ...

    @property
    def stale(self) -> bool:
        """Whether what was replaced and removed has made it so slow that it is to be built anew."""
        ...

    @property
    def mapped(self) -> bool:
        """Whether it reads bytes in place, and so cannot be changed."""
        ...

    def __len__(self) -> int: ...


class GraphIndex:
    """A `seams.VectorIndex` of rows and a graph over all of them. Not thread-safe.

    For unit vectors, as encoders give them: a graph goes by the angle.
    """

    def __init__(self, rows: QuantisedIndex, graph: Graph) -> None:
        self.rows = rows
        self.graph = graph
        self.dimensions = rows.dimensions

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, slot: int) -> bool:
        return slot in self.rows

    def put(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        """Add or replace the vector of a slot. Raises ValueError for a wrong shape or number."""
        self._check_writable()
        self.rows.put(slot, vector)
        self.graph_put(np.array([slot], dtype=np.int64))

    def put_many(self, slots: Slots, vectors: npt.NDArray[np.float32]) -> None:
        """Like `put` for each row of `vectors`, in this order. Raises ValueError, and then nothing is added."""
        self._check_writable()
        self.rows.put_many(slots, vectors)
        self.graph_put(np.unique(slots))

    def graph_put(self, slots: Slots) -> None:
        """Into the graph, what the rows have at these slots."""
        if len(slots):
            self.graph.put(slots, *self.rows.rows(slots))

    def vector(self, slot: int) -> npt.NDArray[np.float32] | None:
        """What is held of the vector of a slot, if it has one."""
        return self.rows.vector(slot)

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot in self.rows:
            self._check_writable()
            self.graph.remove(slot)
            self.rows.remove(slot)

    def scores_of(self, vectors: npt.NDArray[np.float32], slots: Slots) -> Products:
        """Inner products with these slots (0 where a slot has no vector): (vectors, slots)."""
        return self.rows.scores_of(vectors, slots)

    def search(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Slots, Products]:
        """About the k best slots and their inner products, best first, ties by lower slot.

        `allowed` names the slots that may be found; those beyond its end may not. Where the graph
        would have to propose too many, or proposes too few, every row is looked at.
        """
        query = checked_vector(vector, self.dimensions)
        reach, wanted = k, min(k, len(self))
        if allowed is not None:
            count = int(np.count_nonzero(self.rows.allowed(allowed)))
            wanted = min(k, count)
            reach = int(FILTER_MARGIN * k * len(self) / count) + 1 if count else 0
        if 0 < reach <= min(REACH_MAX, len(self)):
            found = self.graph.nearest(query, reach)
            found = found[self.rows.held(found)]
            if allowed is not None:
                found = found[found < len(allowed)]
                found = found[allowed[found]]
            if len(found) >= wanted:
                return ranked(found, self.rows.scores_of(query[None], found)[0], k)
        return self.rows.search(query, k, allowed)

    def reserve(self, slots: int) -> None:
        """Make room for the slots below this one at once."""
        self.rows.reserve(slots)

    def catch_up(self, count: int) -> bool:
        """Nothing is put off here."""
        return False

    def _check_writable(self) -> None:
        if self.graph.mapped:
            raise ValueError("a mapped index cannot be changed")
