"""The graph of usearch: int8 nodes, an add in tenths of a millisecond, a removal in microseconds.

The compiled module alone is used, always with one thread: its Python wrapper brings a progress bar and
starts as many threads as there are cores for every call. Nothing in it opens a connection unless
`usearch.sqlite_path` is called, and nothing here does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from usearch.compiled import Index, MetricKind, ScalarKind

from localmem_node.retrieval.graph import CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH
from localmem_node.retrieval.quantised import Codes, Slots, quantised

STORAGE: Final = {"i8": ScalarKind.I8, "bf16": ScalarKind.BF16, "f32": ScalarKind.F32}


class UsearchGraph:
    """Implements `graph.Graph`. `storage` is what a node keeps of its vector, one of STORAGE."""

    def __init__(self, dimensions: int, storage: str = "i8") -> None:
        self.name = "usearch" if storage == "i8" else f"usearch {storage}"
        self.dimensions = dimensions
        self._codes = storage == "i8"
        self._mapped: memoryview | None = None  # usearch reads it in place: it has to stay
        self._index = Index(
            ndim=dimensions,
            dtype=STORAGE[storage],
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
            # Not the inner product: that would take codes without their scales.
            metric_kind=MetricKind.Cos,
        )

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of nodes and links."""
        return self._index.serialized_length

    @property
    def mapped(self) -> bool:
        """Whether it reads bytes in place; usearch would take an add then, and lose it."""
        return self._mapped is not None

    def put(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        """Add or replace vectors, a row each; no slot twice."""
        keys = slots.astype(np.uint64)
        for slot in slots[self._index.contains_many(keys)].tolist():
            self._index.remove_one(slot, compact=False, threads=1)
        rows = codes if self._codes else codes * scales[:, None]
        self._index.add_many(keys, rows, threads=1)

    def remove(self, slot: int) -> None:
        """Propose this slot no more; unknown slots are ignored."""
        self._index.remove_one(slot, compact=False, threads=1)

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> Slots:
        """About the `count` nearest, in any order; fewer if the graph reaches no more."""
        query = quantised(vector[None])[0] if self._codes else vector[None]
        keys, _, counts, *_ = self._index.search_many(query, count, threads=1)
        return keys[0, : int(counts[0])].astype(np.int64)

    def dump(self) -> bytes | bytearray:
        """The graph as bytes for `load`."""
        return self._index.save_index_to_buffer()

    def load(self, data: memoryview, *, mapped: bool) -> None:
        """Become a dumped graph; `mapped`: use the bytes in place, and change no more."""
        if mapped:
            self._index.view_index_from_buffer(data)
            self._mapped = data
        else:
            self._index.load_index_from_buffer(data)
        self._index.expansion_search = EXPANSION_SEARCH
