"""Exact search while it is fast enough, a graph beyond.

The graph is not saved: the store is sealed, and a graph gives its vectors away. After a start, and when
a store crosses the bound, search is exact until `catch_up` has been called often enough. Each call adds
a few vectors, so whoever holds the lock of the index holds it for milliseconds; no vector is copied
aside, and nothing has to be reconciled when the graph is whole. A graph that has become stale is
dropped and grows again in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.graph import Graph, GraphIndex
from localmem_node.retrieval.quantised import Products, QuantisedIndex, Slots

logger = logging.getLogger(__name__)

CROSSOVER: Final = 32_768
"""Vectors from which the graph saves enough time for its bytes: docs/decisions/0009-vectors.md."""

KEEP_SHARE: Final = 0.5
"""Of the crossover; a graph is dropped only below, so that a store at the bound does not build again
and again.
"""

PROBES: Final = 32
PROBED: Final = 10
EQUAL: Final = 1e-6
RECALL_MIN: Final = 0.9
"""A graph answers once it has found this share of the PROBED nearest of PROBES vectors of the store. On
some data it does not: many equal vectors, or many around one, cut it into pieces.
"""

BACKENDS: Final = {
    "usearch": ("localmem_node.retrieval.usearch_index", "UsearchGraph"),
    "hnswlib": ("localmem_node.retrieval.hnswlib_index", "HnswlibGraph"),
}
"""Module and class of each, the better first; imported only when a store needs a graph."""


def best_graph(dimensions: int) -> Graph | None:
    """An empty graph of the best backend that is installed; None without one."""
    for name, (module, kind) in BACKENDS.items():
        try:
            graph: Graph = getattr(import_module(module), kind)(dimensions)
        except (ImportError, OSError) as error:
            logger.info("no graph by %s: %s", name, error)
        else:
            return graph
    return None


class AdaptiveIndex:
    """A `seams.VectorIndex` for stores of any size. Not thread-safe."""

    def __init__(
        self,
        dimensions: int,
        *,
        crossover: int = CROSSOVER,
        make_graph: Callable[[int], Graph | None] = best_graph,
    ) -> None:
        self.dimensions = dimensions
        self._rows = QuantisedIndex(dimensions)
        self._crossover = crossover
        self._make_graph = make_graph
        self._gives_up = False  # no backend, or one that failed
        self._index: GraphIndex | None = None
        self._waiting = np.zeros(0, dtype=np.int64)  # slots that are not in the graph yet
        self._entered = np.zeros(0, dtype=np.bool_)  # by slot
        self._probes: list[int] | None = None  # slots; None until the graph is whole
        self._missed = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, slot: int) -> bool:
        return slot in self._rows

    @property
    def approximate(self) -> bool:
        """Whether a graph answers now."""
        return self._index is not None and self._probes == []

    def put(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        """Add or replace the vector of a slot. Raises ValueError for a wrong shape or number."""
        self._rows.put(slot, vector)
        self._to_graph(np.array([slot], dtype=np.int64))

    def put_many(self, slots: Slots, vectors: npt.NDArray[np.float32]) -> None:
        """Like `put` for each row of `vectors`, in this order. Raises ValueError, and then nothing is added."""
        self._rows.put_many(slots, vectors)
        self._to_graph(np.unique(slots))

    def vector(self, slot: int) -> npt.NDArray[np.float32] | None:
        """What is held of the vector of a slot, if it has one."""
        return self._rows.vector(slot)

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot not in self._rows:
            return
        self._rows.remove(slot)
        if self._index is None:
            return
        if len(self) < self._crossover * KEEP_SHARE:
            self._drop()
        else:
            self._index.graph.remove(slot)

    def scores_of(self, vectors: npt.NDArray[np.float32], slots: Slots) -> Products:
        """Inner products with these slots (0 where a slot has no vector): (vectors, slots)."""
        return self._rows.scores_of(vectors, slots)

    def search(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Slots, Products]:
        """The k best slots and their inner products, best first, ties by lower slot.

        `allowed` names the slots that may be found; those beyond its end may not. With a graph a
        few of the k may be missed.
        """
        if self._index is not None and self.approximate:
            return self._index.search(vector, k, allowed)
        return self._rows.search(vector, k, allowed)

    def reserve(self, slots: int) -> None:
        """Make room for the slots below this one at once."""
        self._rows.reserve(slots)

    def catch_up(self, count: int) -> bool:
        """Give the graph at most `count` more vectors, if this store needs one; whether more wait."""
        if self._index is None:
            if self._gives_up or len(self) <= self._crossover:
                return False
            graph = self._make_graph(self.dimensions)
            if graph is None:
                logger.warning("no backend for a graph is installed: every vector is looked at")
                self._gives_up = True
                return False
            self._index = GraphIndex(self._rows, graph)
            self._waiting = self._rows.slots()
            self._entered = np.zeros(self._rows.end, dtype=np.bool_)
        if self._index.graph.stale:  # exact meanwhile
            self._drop()
            return self.catch_up(count)
        if not len(self._waiting):
            return self._probe(self._index)
        slots, self._waiting = self._waiting[:count], self._waiting[count:]
        self._to_graph(slots[self._rows.held(slots) & ~self._entered[slots]])
        return self._index is not None

    def _probe(self, index: GraphIndex) -> bool:
        """Ask for the neighbours of one vector, both ways; whether more is to be done."""
        if self._probes is None:
            slots = self._rows.slots()
            self._probes = slots[:: max(1, len(slots) // PROBES)][:PROBES].tolist()
            self._missed = 0
        if not self._probes:
            return False
        vector = self._rows.vector(self._probes.pop())
        if vector is not None:
            right = self._rows.search(vector, PROBED)[1]
            found = index.search(vector, PROBED)[1]
            # By products: of equals the graph may find others.
            self._missed += int(np.count_nonzero(found < right[-1] - EQUAL))
        if self._missed > (1 - RECALL_MIN) * PROBES * PROBED:
            logger.warning("a graph misses too many of these vectors: every vector is looked at")
            self._gives_up = True
            self._drop()
        return bool(self._probes)

    def _to_graph(self, slots: Slots) -> None:
        if self._index is None:
            return
        self._entered[slots[slots < len(self._entered)]] = True
        try:
            self._index.graph_put(slots)
        except (RuntimeError, MemoryError) as error:
            logger.warning("the graph failed, every vector is looked at: %s", error)
            self._gives_up = True
            self._drop()

    def _drop(self) -> None:
        self._index = None
        self._waiting = self._waiting[:0]
        self._probes = None
