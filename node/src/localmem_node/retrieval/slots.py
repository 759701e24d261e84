"""Arrays and vectors by slot: slots are small integers that the engine hands out and uses again."""

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


def grown_rows(rows: npt.NDArray[_Scalar], slots: int) -> npt.NDArray[_Scalar]:
    """Like `grown`, of a matrix with a row per slot."""
    held = len(rows)
    if slots <= held:
        return rows
    larger = np.zeros((max(slots, 2 * held, 64), *rows.shape[1:]), dtype=rows.dtype)
    larger[:held] = rows
    return larger


def permitted(
    present: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_]:
    """By slot, whether it is present and allowed; None allows all, those beyond an end are not."""
    if allowed is None:
        return present
    shared = min(len(present), len(allowed))
    return present[:shared] & allowed[:shared]


def checked_vector(vector: npt.NDArray[np.float32], dimensions: int) -> npt.NDArray[np.float32]:
    """A vector that can be held or asked for, as float32. Raises ValueError for any other."""
    if vector.shape != (dimensions,) or not np.isfinite(vector).all():
        raise ValueError(f"a vector is {dimensions} finite numbers, not {vector.shape}")
    return vector.astype(np.float32, copy=False)


def checked_vectors(
    slots: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32], dimensions: int
) -> npt.NDArray[np.float32]:
    """Vectors that can be held at these slots, a row each and at least one, as float32.

    Raises ValueError for any other.
    """
    if not 0 <= int(slots.min()) <= int(slots.max()) < SLOTS_MAX:
        raise ValueError(f"slots are not all from 0 to {SLOTS_MAX - 1}")
    if vectors.shape != (len(slots), dimensions) or not np.isfinite(vectors).all():
        raise ValueError(f"vectors are {dimensions} finite numbers, not {vectors.shape}")
    return vectors.astype(np.float32, copy=False)


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
