"""Key stores for tests: as quick as can be."""

from __future__ import annotations

import hashlib


class FixedKeyStore:
    """Implements `localmem_node.seams.KeyStore`; the key follows from a word."""

    def __init__(self, word: str = "right") -> None:
        self._word = word

    @property
    def location(self) -> str:
        """For people."""
        return f"the word {self._word!r}"

    def get(self, salt: bytes) -> bytes:
        """The key of this word and salt."""
        return hashlib.blake2b(self._word.encode(), salt=salt, digest_size=32).digest()

    def create(self, salt: bytes) -> bytes:
        """The same."""
        return self.get(salt)

    def discard(self, salt: bytes) -> None:
        """Nothing is kept."""
