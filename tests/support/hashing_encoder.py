"""A deterministic encoder without a model: texts that share words get vectors that are close.

Every lower-cased word adds a pseudo-random direction of its own (signed feature hashing), so cosine
grows with the words in common. Implements `localmem_node.seams.Encoder`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORDS = re.compile(r"\w+")


class HashingEncoder:
    def __init__(self, dimensions: int = 64) -> None:
        self._dimensions = dimensions
        self.encoded: list[str] = []  # every text it was ever asked for, in order

    @property
    def fingerprint(self) -> str:
        return f"hashing-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.encoded.extend(texts)
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _WORDS.findall(text.lower()) or [""]:
                row += self._direction(word)
            length = float(np.linalg.norm(row))
            row /= length
        return vectors

    def _direction(self, word: str) -> npt.NDArray[np.float32]:
        digest = hashlib.shake_128(word.encode(errors="replace")).digest(self._dimensions)
        # Odd numbers, never zero: every word has a direction.
        return np.frombuffer(digest, dtype=np.int8).astype(np.float32) * 2 + 1
