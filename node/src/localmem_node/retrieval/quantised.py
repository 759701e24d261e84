"""Nearest vectors over bytes: one int8 matrix, every row against the query, nothing missed.

A vector becomes 8-bit codes and a scale, the very codes that a store keeps of it (`store.records`), so
that an answer is the same before and after a restart. That is 388 bytes for 384 dimensions; as float32
they are 1,536, and reading them is what a scan costs.

The scan multiplies integers (numkong), which is exact for the rows and rounds only the query. What the
rounding can have changed is bounded by the length of what it cut off (Cauchy and Schwarz), so every row
within that bound of the k-th best is multiplied again with the unrounded query.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.slots import (
    checked_vector,
    checked_vectors,
    grown,
    grown_rows,
    permitted,
)

CODE_MAX: Final = 127
SCAN_MIN: Final = 512
"""Rows from which integers pay; below, numkong is not even imported."""

GATHER_SHARE: Final = 8
"""Of so many slots fewer than one is allowed: picking rows is then cheaper than multiplying all."""

CHUNK: Final = 2048
"""Rows multiplied as floats at once: 3 MB."""

SLACK: Final = 1e-5
"""Of the longest product, for sums of 32-bit floats that round."""

_TINY: Final = 1e-30
"""A vector of smaller numbers has no codes: it is taken for zeros."""

Slots = npt.NDArray[np.int64]
Products = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]


def quantised(vectors: npt.NDArray[np.float32]) -> tuple[Codes, npt.NDArray[np.float32]]:
    """Codes (n, dimensions) and the scales (n,) that give codes the lengths of their vectors."""
    peaks = np.abs(vectors).max(axis=1)
    peaks[peaks < _TINY] = np.inf
    codes = np.rint(vectors * (CODE_MAX / peaks)[:, None]).astype(np.int8)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    norms = np.linalg.norm(codes.astype(np.float64), axis=1)
    return codes, np.where(norms > 0, lengths / np.maximum(norms, 1), 0).astype(np.float32)


def ranked(slots: Slots, products: Products, k: int) -> tuple[Slots, Products]:
    """The k best, best first, ties by lower slot."""
    order = np.lexsort((slots, -products))[: max(k, 0)]
    return slots[order], products[order]


class QuantisedIndex:
    """A `seams.VectorIndex` that misses nothing of the codes it holds. Not thread-safe."""

    def __init__(self, dimensions: int) -> None:
        if dimensions < 1:
            raise ValueError(f"a vector has at least one dimension, not {dimensions}")
        self.dimensions = dimensions
        self._codes = np.zeros((64, dimensions), dtype=np.int8)
        self._scales = np.zeros(64, dtype=np.float32)
        self._present = np.zeros(64, dtype=np.bool_)
        self._end = 0  # one past the highest slot that ever had a vector
        self._count = 0
        self._longest = 0.0  # that any vector here ever was

    def __len__(self) -> int:
        return self._count

    def __contains__(self, slot: int) -> bool:
        return 0 <= slot < self._end and bool(self._present[slot])

    @property
    def end(self) -> int:
        """One past the highest slot that ever had a vector."""
        return self._end

    @property
    def nbytes(self) -> int:
        """Bytes of what is held and reserved."""
        return self._codes.nbytes + self._scales.nbytes + self._present.nbytes

    def put(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        """Add or replace the vector of a slot. Raises ValueError for a wrong shape or number."""
        self.put_many(
            np.array([slot], dtype=np.int64), checked_vector(vector, self.dimensions)[None]
        )

    def put_many(self, slots: Slots, vectors: npt.NDArray[np.float32]) -> None:
        """Like `put` for each row of `vectors`, in this order. Raises ValueError, and then nothing is added."""
        if not len(slots):
            return
        codes, scales = quantised(checked_vectors(slots, vectors, self.dimensions))
        self.put_codes(slots, codes, scales)

    def put_codes(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        """Like `put_many`, for what `quantised` made of the vectors."""
        end = int(slots.max()) + 1
        self.reserve(end)
        self._codes[slots] = codes
        self._scales[slots] = scales
        distinct = np.unique(slots)
        self._count += len(distinct) - int(np.count_nonzero(self._present[distinct]))
        self._present[slots] = True
        self._end = max(self._end, end)
        self._longest = max(self._longest, float(_lengths(codes, scales).max()))

    def vector(self, slot: int) -> npt.NDArray[np.float32] | None:
        """What is held of the vector of a slot, if it has one."""
        return self._codes[slot] * self._scales[slot] if slot in self else None

    def rows(self, slots: Slots) -> tuple[Codes, npt.NDArray[np.float32]]:
        """Codes and scales of slots that have a vector, a row each."""
        return self._codes[slots], self._scales[slots]

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot in self:
            self._present[slot] = False
            self._codes[slot] = 0
            self._scales[slot] = 0
            self._count -= 1

    def held(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of these slots have a vector."""
        there = (slots >= 0) & (slots < self._end)
        there[there] = self._present[slots[there]]
        return there

    def slots(self, first: int = 0) -> Slots:
        """The slots from `first` on that have a vector, ascending."""
        return np.flatnonzero(self._present[first : self._end]).astype(np.int64) + first

    def scores_of(self, vectors: npt.NDArray[np.float32], slots: Slots) -> Products:
        """Inner products with these slots (0 where a slot has no vector): (vectors, slots).

        The rows are fetched once.
        """
        queries = [checked_vector(vector, self.dimensions) for vector in vectors]
        there = (slots >= 0) & (slots < self._end)
        chosen = slots if there.all() else np.where(there, slots, 0)
        products = np.empty((len(vectors), len(slots)), dtype=np.float32)
        for first in range(0, len(slots), CHUNK):
            some = chosen[first : first + CHUNK]
            rows, scales = self._codes.take(some, axis=0).astype(np.float32), self._scales[some]
            for query, found in zip(queries, products, strict=True):
                np.multiply(np.vecdot(rows, query), scales, out=found[first : first + CHUNK])
        products[:, ~there] = 0  # one without a vector has codes of zero
        return products

    def search(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Slots, Products]:
        """The k best slots and their inner products, best first, ties by lower slot.

        `allowed` names the slots that may be found; those beyond its end may not.
        """
        query = checked_vector(vector, self.dimensions)
        may = self.allowed(allowed)
        count = int(np.count_nonzero(may))
        if k < 1 or not count:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        if count <= k or count < max(SCAN_MIN, len(may) // GATHER_SHARE):
            slots = np.flatnonzero(may).astype(np.int64)
        else:
            slots = self._contenders(query, k, may)
        return ranked(slots, self.scores_of(query[None], slots)[0], k)

    def allowed(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
        """By slot, up to `end`: whether it has a vector and is allowed."""
        return permitted(self._present[: self._end], allowed)

    def reserve(self, slots: int) -> None:
        """Make room for the slots below this one at once."""
        self._present = grown(self._present, slots)
        self._scales = grown(self._scales, slots)
        self._codes = grown_rows(self._codes, slots)

    def catch_up(self, count: int) -> bool:
        """Nothing is put off here."""
        return False

    def arrays(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], Codes]:
        """What is held, by slot, for `of`: present, scales, codes."""
        end = self._end
        return self._present[:end], self._scales[:end], self._codes[:end]

    @classmethod
    def of(
        cls, present: npt.NDArray[np.bool_], scales: npt.NDArray[np.float32], codes: Codes
    ) -> QuantisedIndex:
        """The index of these `arrays`, which it uses in place."""
        index = cls(codes.shape[1])
        index._present, index._scales, index._codes = present, scales, codes
        index._end, index._count = len(present), int(np.count_nonzero(present))
        index._longest = float(_lengths(codes, scales).max(initial=0))
        return index

    def _contenders(
        self, query: npt.NDArray[np.float32], k: int, may: npt.NDArray[np.bool_]
    ) -> Slots:
        """Every slot that can be among the k best of more than k that may be found."""
        import numkong  # here, since a small store never needs it

        unit = max(float(np.abs(query).max()), _TINY) / CODE_MAX
        codes = np.rint(query / unit).astype(np.int8)
        sums = np.asarray(numkong.cdist(codes[None], self._codes[: len(may)], "dot", threads=1))[0]
        rough = sums.astype(np.float32) * (self._scales[: len(may)] * np.float32(unit))
        rough[~may] = -np.inf
        cut_off = float(np.linalg.norm(query - codes * np.float32(unit)))
        error = (cut_off + SLACK * float(np.linalg.norm(query))) * self._longest
        bound = np.partition(rough, len(rough) - k)[len(rough) - k]
        return np.flatnonzero(rough >= bound - 2 * error).astype(np.int64)


def _lengths(codes: Codes, scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms: npt.NDArray[np.float32] = np.linalg.norm(codes.astype(np.float32), axis=1)
    return norms * scales
