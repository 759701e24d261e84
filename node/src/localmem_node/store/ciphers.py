"""Which key each block's records are sealed under: one per open of the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from localmem_node.store.vault import Vault


class Ciphers:
    """Open ids by the first block that they begin in, ascending. Not thread-safe."""

    def __init__(self, vault: Vault, openings: Sequence[tuple[int, bytes]]) -> None:
        self._vault = vault
        self._first = [number for number, _ in openings]
        self._open_ids = [open_id for _, open_id in openings]
        self._ciphers = [vault.records(open_id) for open_id in self._open_ids]

    def of(self, block: int) -> AESGCM:
        """The cipher of the records that start in a block."""
        return self._ciphers[bisect_right(self._first, block) - 1]

    def begin(self, block: int, open_id: bytes) -> AESGCM:
        """From this block on, which is the last, records are sealed under another open id."""
        cipher = self._vault.records(open_id)
        if self._first and self._first[-1] == block:
            self._open_ids[-1], self._ciphers[-1] = open_id, cipher
        else:
            self._first.append(block)
            self._open_ids.append(open_id)
            self._ciphers.append(cipher)
        return cipher

    def openings(self) -> list[tuple[int, bytes]]:
        """(first block, open id) of each."""
        return list(zip(self._first, self._open_ids, strict=True))
