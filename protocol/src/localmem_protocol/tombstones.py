"""Tombstones: what stands for a forgotten event, and says nothing about it without the key.

A tombstone is a keyed hash of an event's id (BLAKE2b, RFC 7693), under a key that follows from the
pool's first epoch key by HKDF (RFC 5869): what was forgotten stays so in every epoch. Tombstones travel sealed, in parcels; the key keeps a device that
was given one in another way, or a list of ids, from matching the two.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.envelope import PoolKey
from localmem_protocol.parcels import TOMBSTONE_BYTES

PURPOSE: Final = b"localmem forget 1"


class TombstoneKey:
    """What makes the tombstones of one pool."""

    def __init__(self, pool: PoolKey) -> None:
        derive = HKDF(
            algorithm=hashes.SHA256(),
            length=32,
            salt=pool.pool.encode(),
            info=PURPOSE,
        )
        self._key = derive.derive(pool.lasting or pool.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TombstoneKey) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def of(self, event_id: str) -> bytes:
        """The tombstone of an event: TOMBSTONE_BYTES."""
        return blake2b(event_id.encode(), digest_size=TOMBSTONE_BYTES, key=self._key).digest()
