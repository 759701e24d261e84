"""Sealing batches, so that a hub can keep them and never read them.

A sealed batch is one flag byte and AES-256-GCM-SIV (RFC 8452) over the compressed columns. The key
is the pool's epoch key by HKDF (RFC 5869) for one device and one incarnation of it (its Yjs client
id); the nonce is the batch's clock, which is also its place in the device's array. A cloned machine
that seals twice at one clock reveals at most that two batches are equal: that is why GCM-SIV.

Batches form segments. The first of a segment stands alone and carries the hash of the batch before
it; the later ones are bound to their predecessor by the associated data and compressed against the
segment so far. Whoever holds a whole segment can open it, on any day; whole segments are evicted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.batches import decode_batch, encode_batch
from localmem_protocol.dictionary import compress, decompress
from localmem_protocol.errors import SealError
from localmem_protocol.events import Event
from localmem_protocol.limits import (
    BATCH_PLAIN_BYTES_MAX,
    BATCH_SEALED_BYTES_MAX,
    SEGMENT_BATCHES_MAX,
)
from localmem_protocol.wire import varuint

VERSION: Final = 1
FIRST_OF_SEGMENT: Final = 0x10
HASH_BYTES: Final = 16
EPOCH_KEY_BYTES: Final = 32
HISTORY_BYTES_MAX: Final = 256 * 1024
"""Plain bytes of a segment; beyond it a new one starts, since a prefix costs time to digest."""

NO_HASH: Final = bytes(HASH_BYTES)
_TAG_BYTES: Final = 16


@dataclass(frozen=True)
class PoolKey:
    """What a member device holds of a pool: its id, the epoch and that epoch's random key."""

    pool: str
    epoch: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != EPOCH_KEY_BYTES:
            raise ValueError(f"an epoch key is {EPOCH_KEY_BYTES} bytes, not {len(self.key)}")


def batch_hash(sealed: bytes) -> bytes:
    """The link of the chain: 16 bytes of SHA-256 over a sealed batch."""
    return hashlib.sha256(sealed).digest()[:HASH_BYTES]


def opens_segment(sealed: bytes) -> bool:
    """Whether a sealed batch is the first of its segment."""
    return bool(sealed) and bool(sealed[0] & FIRST_OF_SEGMENT)


class _Chain:
    """The key and the running segment of one device's incarnation."""

    def __init__(self, pool: PoolKey, device: str, client: int) -> None:
        derive = HKDF(
            algorithm=hashes.SHA256(),
            length=32,
            salt=pool.pool.encode(),
            info=b"localmem batch 1" + bytes.fromhex(device) + varuint(client),
        )
        self._aead = AESGCMSIV(derive.derive(pool.key))
        self._context = b"".join(
            (
                b"localmem batch 1",
                pool.epoch.to_bytes(4, "little"),
                bytes.fromhex(device),
                client.to_bytes(8, "little"),
                pool.pool.encode(),
            )
        )
        self._head = NO_HASH
        self._history = b""
        self._batches = 0

    def _associated(self, flags: int, clock: int, previous: bytes) -> bytes:
        return bytes([flags]) + clock.to_bytes(8, "little") + previous + self._context

    def _note(self, sealed: bytes, plain: bytes, *, first: bool) -> None:
        self._head = batch_hash(sealed)
        self._history = plain if first else self._history + plain
        self._batches = 1 if first else self._batches + 1


class Sealer(_Chain):
    """Seals one incarnation's batches in order; starts a segment whenever it is made anew."""

    def __init__(self, pool: PoolKey, device: str, client: int, head: bytes = NO_HASH) -> None:
        super().__init__(pool, device, client)
        self._head = head

    def seal(self, events: Sequence[Event], clock: int) -> bytes:
        """The sealed batch for the array's item `clock`. Batches must be sealed in order."""
        plain = encode_batch(events)
        full = (
            self._batches >= SEGMENT_BATCHES_MAX
            or len(self._history) + len(plain) > HISTORY_BYTES_MAX
        )
        first = self._batches == 0 or full
        flags = VERSION | (FIRST_OF_SEGMENT if first else 0)
        if first:
            body, previous = self._head + compress(plain), NO_HASH
        else:
            body, previous = compress(plain, history=self._history), self._head
        sealed = bytes([flags]) + self._aead.encrypt(
            clock.to_bytes(12, "little"), body, self._associated(flags, clock, previous)
        )
        self._note(sealed, plain, first=first)
        return sealed


class Opener(_Chain):
    """Opens one incarnation's batches in order, from the first of any segment."""

    def open(self, sealed: bytes, clock: int) -> list[Event]:
        """The events of a batch.

        Raises SealError for a wrong key, altered bytes, another place or another predecessor, and
        BatchError for a plaintext that does not parse.
        """
        if not 1 + _TAG_BYTES <= len(sealed) <= BATCH_SEALED_BYTES_MAX:
            raise SealError(f"a sealed batch of {len(sealed)} bytes")
        flags, first = sealed[0], opens_segment(sealed)
        if flags & 0x0F != VERSION:
            raise SealError(f"a batch of version {flags & 0x0F}; this release reads {VERSION}")
        if not first and self._batches == 0:
            raise SealError("a segment whose first batch is missing")
        previous = NO_HASH if first else self._head
        try:
            body = self._aead.decrypt(
                clock.to_bytes(12, "little"), sealed[1:], self._associated(flags, clock, previous)
            )
        except InvalidTag:
            raise SealError("wrong key, altered, or out of its place") from None
        if first:
            body = body[HASH_BYTES:]
        history = b"" if first else self._history
        plain = decompress(body, BATCH_PLAIN_BYTES_MAX, history=history)
        events = decode_batch(plain)
        self._note(sealed, plain, first=first)
        return events
