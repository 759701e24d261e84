"""Runs of 64-bit numbers, each under a small integer: postings by term, or terms by event.

What was loaded stays one block that is cut where it is read; a run becomes an array of its own when
it first changes. So loading costs nothing per run, and takes no more memory than the numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Runs:
    """Keys count from 0; a key that was never written has an empty run. Not thread-safe."""

    def __init__(
        self,
        values: npt.NDArray[np.uint64] | None = None,
        keys: npt.NDArray[np.intp] | None = None,
        counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """`values` are the runs of `keys`, one after the other, `counts` numbers each."""
        self._block = memoryview(b"")
        self._starts = np.zeros(0, np.int64)
        self._ends = np.zeros(0, np.int64)
        self._changed: dict[int, array[int]] = {}
        if values is not None and keys is not None and counts is not None and len(keys):
            self._block = memoryview(values.tobytes())
            width = int(keys.max()) + 1
            self._starts, self._ends = np.zeros((2, width), np.int64)
            ends = np.cumsum(counts) * 8
            self._starts[keys], self._ends[keys] = ends - counts * 8, ends

    def read(self, key: int) -> memoryview | array[int]:
        """The bytes of a run, for joining; not to be kept."""
        changed = self._changed.get(key)
        if changed is not None:
            return changed
        if key >= len(self._starts):
            return self._block[:0]
        return self._block[int(self._starts[key]) : int(self._ends[key])]

    def count(self, key: int) -> int:
        """How many numbers a run has."""
        changed = self._changed.get(key)
        if changed is not None:
            return len(changed)
        return int(self._ends[key] - self._starts[key]) // 8 if key < len(self._starts) else 0

    def change(self, key: int) -> array[int]:
        """A run that may be changed in place."""
        changed = self._changed.get(key)
        if changed is None:
            changed = self._changed[key] = array("Q", bytes(self.read(key)))
        return changed

    def put(self, key: int, run: array[int]) -> None:
        """Set a run."""
        self._changed[key] = run

    def clear(self, key: int) -> None:
        """Empty a run, and give its memory back."""
        self._changed.pop(key, None)
        if key < len(self._starts):
            self._ends[key] = self._starts[key]

    def room(self) -> int:
        """Bytes that the numbers take, with what their arrays keep free."""
        return len(self._block) + sum(run.__sizeof__() for run in self._changed.values())

    def joined(self, keys: Iterable[int]) -> npt.NDArray[np.uint64]:
        """The runs of some keys, one after the other."""
        # Joined as bytes: an array that lends its buffer cannot grow.
        return np.frombuffer(b"".join(map(self.read, keys)), dtype=np.uint64)
