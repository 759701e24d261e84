"""What was forgotten while a pool could not be told: kept in its folder until it can be.

    pools/<pool id>/untold     nonce (12) | AES-256-GCM-SIV of the ids of events, bound to the pool

So it is when the pool's files are damaged: without its roster there is no key to make tombstones with.
The ids are sealed under a key of this device's store, since they follow from what the events said.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from localmem_node.errors import SyncError
from localmem_node.sync.pool_files import PoolFiles
from localmem_protocol.seams import Random

PURPOSE: Final = "sync untold"
"""What the key is derived for (`Engine.derive_key`)."""

NONCE_BYTES: Final = 12

_IDS: Final = msgspec.msgpack.Decoder(list[str])


class Untold:
    """The files of all pools. Thread-safe; raises SyncError for one that cannot be used."""

    def __init__(self, files: PoolFiles, key: bytes, random: Random) -> None:
        self._files = files
        self._aead = AESGCMSIV(key)
        self._random = random
        self._lock = Lock()

    def keep(self, pool: str, ids: Sequence[str]) -> None:
        """Add ids of events, durably."""
        with self._lock:
            known = self._read(pool)
            self._write(pool, list(dict.fromkeys([*known, *ids])))

    def ids(self, pool: str) -> list[str]:
        """What waits to be told, oldest first."""
        with self._lock:
            return self._read(pool)

    def told(self, pool: str, ids: Sequence[str]) -> None:
        """These wait no more."""
        with self._lock:
            gone = set(ids)
            left = [one for one in self._read(pool) if one not in gone]
            if left:
                self._write(pool, left)
            else:
                self._files.remove_untold(pool)

    def _read(self, pool: str) -> list[str]:
        data = self._files.untold(pool)
        if not data:
            return []
        try:
            plain = self._aead.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], pool.encode())
            return _IDS.decode(plain)
        except (InvalidTag, ValueError, msgspec.DecodeError):
            raise SyncError(
                f"{self._files.untold_path(pool)}: is damaged; what was forgotten and waits there to "
                "be told to the pool cannot be read; remove the file, and forget it again"
            ) from None

    def _write(self, pool: str, ids: list[str]) -> None:
        nonce = self._random.token_bytes(NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, msgspec.msgpack.encode(ids), pool.encode())
        self._files.save_untold(pool, nonce + sealed)
