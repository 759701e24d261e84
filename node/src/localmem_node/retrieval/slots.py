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
