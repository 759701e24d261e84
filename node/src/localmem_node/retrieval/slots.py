"""Arrays by slot: slots are small integers that the engine hands out and uses again."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

SLOTS_MAX: Final = 1 << 24
"""Slots of one store; 16 million events are more than any ring file holds."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


def grown(values: npt.NDArray[_Scalar], slots: int) -> npt.NDArray[_Scalar]:
    """`values` with room for `slots` along its last axis: itself, or a copy at least twice as wide."""
    wide = values.shape[-1]
    if slots <= wide:
        return values
    larger = np.zeros((*values.shape[:-1], max(slots, 2 * wide, 64)), dtype=values.dtype)
    larger[..., :wide] = values
    return larger


class Numbering:
    """Small numbers for slots, for a moment: an array by slot that is kept from call to call.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._numbers = np.zeros(0, dtype=np.intp)

    def number(
        self, slots: npt.NDArray[np.int64], width: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The distinct ones of some slots below `width`; which of them each is, from 1; and the same for
        every slot below `width`, 0 for the others: for as long as it takes to call `done`.

        -1 is nobody: not among the distinct ones, and 0.
        """
        self._numbers = grown(self._numbers, width + 1)  # the last place is nobody's
        numbers, every = self._numbers, slots.ravel()
        ids = np.arange(1, len(every) + 1)
        numbers[every] = ids  # of equals the last one stays
        numbers[-1] = 0
        distinct = every[numbers.take(every) == ids]
        numbers[distinct] = ids[: len(distinct)]
        return distinct, numbers[slots], numbers

    def done(self, distinct: npt.NDArray[np.int64]) -> None:
        """Forget them again."""
        self._numbers[distinct] = 0
