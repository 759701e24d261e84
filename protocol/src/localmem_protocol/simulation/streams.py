"""Chance that is the same for the same seed, on every machine.

One seed feeds many streams, each with a name: what one fault draws does not move what another does,
so that a history changes little when one fault is left out. All of it is whole numbers: no
floating-point library has a say in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_STEPS: Final = 1 << 16


class SeededRandom:
    """A `Random` that is the same for the same seed (BLAKE2b in counter mode); never for keys."""

    def __init__(self, seed: int, name: str = "") -> None:
        self._key = hashlib.blake2b(
            name.encode(), key=seed.to_bytes(16, "little", signed=True), digest_size=32
        ).digest()
        self._counter = 0
        self._left = b""

    def token_bytes(self, size: int) -> bytes:
        """The next `size` bytes of the stream."""
        while len(self._left) < size:
            block = self._counter.to_bytes(8, "little")
            self._left += hashlib.blake2b(block, key=self._key).digest()
            self._counter += 1
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1."""
        return int.from_bytes(self.token_bytes(8), "little") % bound

    def between(self, least: int, most: int) -> int:
        """An integer from `least` to `most`, both included."""
        return least + self.below(most - least + 1)

    def strikes(self, per_mille: int) -> bool:
        """True in `per_mille` of a thousand cases."""
        return bool(per_mille) and self.below(1000) < per_mille

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]


class Streams:
    """The streams of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, name: str) -> SeededRandom:
        """The stream of that name, from its beginning."""
        return SeededRandom(self._seed, name)


class Distribution:
    """A distribution of whole numbers, given by evenly spaced quantiles from least to most."""

    def __init__(self, *quantiles: int) -> None:
        """Two quantiles at least, ascending."""
        self._quantiles = quantiles

    def draw(self, stream: SeededRandom) -> int:
        """One value; linear between two quantiles."""
        place = stream.below((len(self._quantiles) - 1) * _STEPS)
        index, part = divmod(place, _STEPS)
        low, high = self._quantiles[index], self._quantiles[index + 1]
        return low + (high - low) * part // _STEPS
