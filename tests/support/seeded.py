"""Chance that repeats: `localmem_protocol.seams.Random` from a seed, and what tests draw from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class SeededRandom:
    """The same bytes and choices for the same seed."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def token_bytes(self, size: int) -> bytes:
        """`size` bytes."""
        return self._generator.bytes(size)

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        return int(self._generator.integers(limit))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return float(self._generator.random()) < share

    def choice(self, options: Sequence[T]) -> T:
        """One of these."""
        return options[self.below(len(options))]
