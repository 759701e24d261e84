"""The graph of usearch: int8 nodes, an add in tenths of a millisecond.

A node is never removed: usearch gives its place to the next vector, whose neighbours are elsewhere, and
with runs of related vectors, as a ring loses and gets them, the graph falls apart. So a vector that
leaves stays as a path to others, is not proposed, and a graph with many of those is `stale`. Nodes are
numbered as they come.

The compiled module alone is used, always with one thread: its Python wrapper brings a progress bar and
starts as many threads as there are cores for every call. Nothing in it opens a connection unless
`usearch.sqlite_path` is called, and nothing here does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.graph import CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH
from localmem_node.retrieval.quantised import Codes, Slots, quantised
from localmem_node.retrieval.runtime import quiet_onnxruntime
from localmem_node.retrieval.slots import grown

quiet_onnxruntime()  # first: the process crashes when onnxruntime is imported after usearch

from usearch.compiled import Index, MetricKind, ScalarKind  # noqa: E402

STALE_SHARE: Final = 0.5
"""Of the vectors; a graph with more dead nodes is to be built anew."""

DEAD_MARGIN: Final = 1.5
"""Nodes visited per expected live one: those that left together stand together."""

STORAGE: Final = {"i8": ScalarKind.I8, "bf16": ScalarKind.BF16, "f32": ScalarKind.F32}


class UsearchGraph:
    """Implements `graph.Graph`. `storage` is what a node keeps of its vector, one of STORAGE."""

    def __init__(self, dimensions: int, storage: str = "i8") -> None:
        self.name = "usearch" if storage == "i8" else f"usearch {storage}"
        self.dimensions = dimensions
        self._codes = storage == "i8"
        self._mapped: memoryview | None = None  # usearch reads it in place: it has to stay
        self._live = 0
        self._nodes = np.zeros(0, dtype=np.int64)  # by slot: its node + 1, or 0
        self._slots = np.zeros(0, dtype=np.int64)  # by node: its slot + 1, or 0
        self._index = Index(
            ndim=dimensions,
            dtype=STORAGE[storage],
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
            # Not the inner product: that would take codes without their scales.
            metric_kind=MetricKind.Cos,
            enable_key_lookups=False,
        )

    def __len__(self) -> int:
        return self._live

    @property
    def stale(self) -> bool:
        """Whether too many nodes are dead."""
        return len(self._index) - self._live > STALE_SHARE * self._live

    @property
    def nbytes(self) -> int:
        """Bytes of nodes and links."""
        return self._index.serialized_length + self._nodes.nbytes + self._slots.nbytes

    @property
    def mapped(self) -> bool:
        """Whether it reads bytes in place; usearch would take an add then, and lose it."""
        return self._mapped is not None

    def put(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        """Add or replace vectors, a row each; no slot twice."""
        first = len(self._index)
        rows = codes if self._codes else codes * scales[:, None]
        nodes = np.arange(first, first + len(slots))
        self._index.add_many(nodes.astype(np.uint64), rows, threads=1)
        self._nodes = grown(self._nodes, int(slots.max()) + 1)
        self._slots = grown(self._slots, first + len(slots))
        replaced = self._nodes[slots]
        self._slots[replaced[replaced > 0] - 1] = 0
        self._nodes[slots] = nodes + 1
        self._slots[nodes] = slots + 1
        self._live += int(np.count_nonzero(replaced == 0))

    def remove(self, slot: int) -> None:
        """Propose this slot no more; unknown slots are ignored."""
        if 0 <= slot < len(self._nodes) and self._nodes[slot]:
            self._slots[self._nodes[slot] - 1] = 0
            self._nodes[slot] = 0
            self._live -= 1

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> Slots:
        """About the `count` nearest, in any order; fewer if the graph reaches no more."""
        if not self._live:
            return np.zeros(0, dtype=np.int64)
        nodes = len(self._index)
        reach = count
        if nodes > self._live:
            reach = min(nodes, int(DEAD_MARGIN * count * nodes / self._live) + 1)
        query = quantised(vector[None])[0] if self._codes else vector[None]
        keys, _, counts, *_ = self._index.search_many(query, reach, threads=1)
        slots = self._slots[keys[0, : int(counts[0])].astype(np.int64)]
        return slots[slots > 0] - 1

    def dump(self) -> bytes | bytearray:
        """The graph as bytes for `load`."""
        slots = self._slots[: len(self._index)].astype("<i8").tobytes()
        # usearch cannot save a graph without a node.
        graph = self._index.save_index_to_buffer() if len(self._index) else b""
        return len(slots).to_bytes(8, "little") + slots + graph

    def load(self, data: memoryview, *, mapped: bool) -> None:
        """Become a dumped graph; `mapped`: use the bytes in place, and change no more."""
        start = 8 + int.from_bytes(data[:8], "little")
        if mapped:
            self._mapped = data
        if len(data) > start and mapped:
            self._index.view_index_from_buffer(data[start:])
        elif len(data) > start:
            self._index.load_index_from_buffer(data[start:])
        self._index.expansion_search = EXPANSION_SEARCH
        self._slots = np.frombuffer(data[8:start], dtype="<i8").astype(np.int64)
        nodes = np.flatnonzero(self._slots)
        slots = self._slots[nodes] - 1
        self._nodes = grown(np.zeros(0, dtype=np.int64), int(slots.max(initial=-1)) + 1)
        self._nodes[slots] = nodes + 1
        self._live = len(nodes)
