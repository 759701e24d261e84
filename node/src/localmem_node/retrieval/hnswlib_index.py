"""The graph of hnswlib, the reference implementation of HNSW: float32 nodes, updated in place.

It comes with the extra `localmem-node[hnswlib]`, since it is built from source.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import hnswlib  # type: ignore[import-not-found, import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.graph import CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH
from localmem_node.retrieval.quantised import Codes, Slots

FIRST_CAPACITY: Final = 1024
LEVEL_SEED: Final = 100
"""Of the drawing of levels; the same graph for the same history."""


class HnswlibGraph:
    """Implements `graph.Graph`. Removed nodes stay as paths until their slot is used again."""

    def __init__(self, dimensions: int) -> None:
        self.name = "hnswlib"
        self.mapped = False
        self.stale = False  # a slot is replaced in place, and its neighbours with it
        self.dimensions = dimensions
        self._live: set[int] = set()
        self._known: set[int] = set()
        self._index = self._empty()
        self._index.init_index(
            FIRST_CAPACITY, M=CONNECTIVITY, ef_construction=EXPANSION_ADD, random_seed=LEVEL_SEED
        )
        self._index.set_ef(EXPANSION_SEARCH)

    def __len__(self) -> int:
        return len(self._live)

    @property
    def nbytes(self) -> int:
        """Bytes of nodes and links."""
        return int(self._index.index_file_size())

    def put(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        """Add or replace vectors, a row each; no slot twice."""
        labels = slots.tolist()
        self._known.update(labels)
        if len(self._known) > self._index.max_elements:
            self._index.resize_index(2 * len(self._known))
        self._index.add_items(codes * scales[:, None], slots, num_threads=1)
        self._live.update(labels)

    def remove(self, slot: int) -> None:
        """Propose this slot no more; unknown slots are ignored."""
        if slot in self._live:
            self._live.remove(slot)
            self._index.mark_deleted(slot)

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> Slots:
        """About the `count` nearest, in any order; none if the graph does not reach so many."""
        self._index.set_ef(max(count, EXPANSION_SEARCH))
        try:
            labels, _ = self._index.knn_query(
                vector[None], min(count, len(self._live)), num_threads=1
            )
        except RuntimeError:  # how it says that it found fewer
            return np.zeros(0, dtype=np.int64)
        return np.asarray(labels[0], dtype=np.int64)

    def dump(self) -> bytes | bytearray:
        """The graph as bytes for `load`. hnswlib writes files only: a temporary one, in the clear."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph"
            self._index.save_index(str(path))
            graph = path.read_bytes()
        live = np.array(sorted(self._live), dtype="<i8").tobytes()
        return len(live).to_bytes(8, "little") + live + graph

    def load(self, data: memoryview, *, mapped: bool) -> None:
        """Become a dumped graph. hnswlib cannot map: `mapped` raises ValueError."""
        if mapped:
            raise ValueError("hnswlib reads a graph whole; it cannot be mapped")
        size = int.from_bytes(data[:8], "little")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph"
            path.write_bytes(data[8 + size :])
            self._index = self._empty()
            self._index.load_index(str(path))
        self._live = set(np.frombuffer(data[8 : 8 + size], dtype="<i8").tolist())
        self._known = set(self._index.get_ids_list())

    def _empty(self) -> hnswlib.Index:
        index = hnswlib.Index(space="ip", dim=self.dimensions)
        index.set_num_threads(1)
        return index
