"""Sealing batches, so that a hub can keep them and never read them.

A sealed batch is one flag byte and AES-256-GCM-SIV (RFC 8452) over an encoded parcel. The key
is the pool's epoch key by HKDF (RFC 5869) for one device and one incarnation of it (its Yjs client
id); the nonce is the batch's clock, which is also its place in the device's array. A cloned machine
that seals twice at one clock reveals at most that two batches are equal: that is why GCM-SIV.

Batches form segments. The first of a segment stands alone and carries the hash of the batch before
it; the later ones are bound to their predecessor by the associated data and compressed against the
segment so far. Whoever holds a whole segment can open it, on any day; whole segments are evicted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.errors import SealError
from localmem_protocol.limits import (
    BATCH_SEALED_BYTES_MAX,
    SEGMENT_BATCHES_MAX,
)
from localmem_protocol.padding import Padding, pad, unpad
from localmem_protocol.parcels import Context, Parcel, decode_parcel, encode_parcel
from localmem_protocol.wire import varuint

VERSION: Final = 2
FIRST_OF_SEGMENT: Final = 0x10
PADDED: Final = 0x20
HASH_BYTES: Final = 16
EPOCH_KEY_BYTES: Final = 32
HISTORY_BYTES_MAX: Final = 64 * 1024
"""Text of a segment; beyond it a new one starts, since a prefix costs time to digest."""

NO_HASH: Final = bytes(HASH_BYTES)
_PURPOSE: Final = b"localmem batch 2"
_TAG_BYTES: Final = 16


@dataclass(frozen=True)
class PoolKey:
    """What a member device holds of a pool: its id, the epoch and that epoch's random key.

    `lasting` is the first epoch's key, for what has to be recognised in every epoch (tombstones);
    None stands for `key`.
    """

    pool: str
    epoch: int
    key: bytes = field(repr=False)
    lasting: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != EPOCH_KEY_BYTES:
            raise ValueError(f"an epoch key is {EPOCH_KEY_BYTES} bytes, not {len(self.key)}")

    def reference_key(self) -> bytes:
        """The key of the hashes that stand for texts (`references`); 32 bytes."""
        return _derive(self, b"localmem reference 1")


def _derive(pool: PoolKey, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, pool.pool.encode(), info).derive(pool.key)


def batch_hash(sealed: bytes) -> bytes:
    """The link of the chain: 16 bytes of SHA-256 over a sealed batch."""
    return hashlib.sha256(sealed).digest()[:HASH_BYTES]


def opens_segment(sealed: bytes) -> bool:
    """Whether a sealed batch is the first of its segment."""
    return bool(sealed) and bool(sealed[0] & FIRST_OF_SEGMENT)


class _Chain:
    """The key and the running segment of one device's incarnation."""

    def __init__(self, pool: PoolKey, device: str, client: int) -> None:
        self._aead = AESGCMSIV(_derive(pool, _PURPOSE + bytes.fromhex(device) + varuint(client)))
        self._context = b"".join(
            (
                _PURPOSE,
                pool.epoch.to_bytes(4, "little"),
                bytes.fromhex(device),
                client.to_bytes(8, "little"),
                pool.pool.encode(),
            )
        )
        self._device = device
        self._head = NO_HASH
        self._running = Context.of(device)

    def _associated(self, flags: int, clock: int, previous: bytes) -> bytes:
        return bytes([flags]) + clock.to_bytes(8, "little") + previous + self._context


class Sealer(_Chain):
    """Seals one incarnation's batches in order; starts a segment whenever it is made anew."""

    def __init__(
        self,
        pool: PoolKey,
        device: str,
        client: int,
        head: bytes = NO_HASH,
        padding: Padding = Padding.NONE,
    ) -> None:
        super().__init__(pool, device, client)
        self._head = head or NO_HASH  # it is empty if that batch was deleted
        self._padding = padding

    @property
    def head(self) -> bytes:
        """The hash of the batch before the next one."""
        return self._head

    @property
    def starts(self) -> bool:
        """Whether the next batch is the first of a segment."""
        return not self._running.batches or _is_full(self._running)

    def seal(self, parcel: Parcel, clock: int) -> bytes:
        """The sealed batch for the array's item `clock`. Batches must be sealed in order."""
        first = self.starts
        context = Context.of(self._device) if first else self._running
        plain, context = encode_parcel(parcel, context)
        flags = VERSION | (FIRST_OF_SEGMENT if first else 0)
        previous = self._head
        if first:
            plain, previous = self._stated(clock) + plain, NO_HASH
        if self._padding is not Padding.NONE:
            flags |= PADDED
            plain = pad(plain, self._padding)
        sealed = bytes([flags]) + self._aead.encrypt(
            clock.to_bytes(12, "little"), plain, self._associated(flags, clock, previous)
        )
        self._head, self._running = batch_hash(sealed), context
        return sealed

    def _stated(self, clock: int) -> bytes:
        """The hash before the first batch of a segment; at clock 0 there is none to state."""
        return self._head if clock else b""


class Opener(_Chain):
    """Opens one incarnation's batches in order, from the first of any segment.

    `previous` is the hash of the batch before the one that was opened last, as that one states it.
    """

    previous = NO_HASH

    def open(self, sealed: bytes, clock: int) -> Parcel:
        """What a batch holds.

        Raises SealError for a wrong key, altered bytes, another place or another predecessor, and
        BatchError for a plaintext that does not parse.
        """
        if not 1 + _TAG_BYTES <= len(sealed) <= BATCH_SEALED_BYTES_MAX:
            raise SealError(f"a sealed batch of {len(sealed)} bytes")
        flags, first = sealed[0], opens_segment(sealed)
        if flags & 0x0F != VERSION:
            raise SealError(f"a batch of version {flags & 0x0F}; this release reads {VERSION}")
        if flags & ~(VERSION | FIRST_OF_SEGMENT | PADDED):
            raise SealError("a batch with unknown flags")
        if not first and not self._running.batches:
            raise SealError("a segment whose first batch is missing")
        if not first and _is_full(self._running):
            raise SealError("a segment that goes on beyond what a segment may hold")
        try:
            plain = self._aead.decrypt(
                clock.to_bytes(12, "little"),
                sealed[1:],
                self._associated(flags, clock, NO_HASH if first else self._head),
            )
        except InvalidTag:
            raise SealError("wrong key, altered, or out of its place") from None
        if flags & PADDED:
            plain = unpad(plain)
        context = Context.of(self._device) if first else self._running
        stated = HASH_BYTES if first and clock else 0
        parcel, context = decode_parcel(plain[stated:], context)
        self.previous = plain[:stated] or (NO_HASH if first else self._head)
        self._head, self._running = batch_hash(sealed), context
        return parcel


def _is_full(segment: Context) -> bool:
    """Whether what comes next begins another segment: nobody has to remember more."""
    return segment.batches >= SEGMENT_BATCHES_MAX or len(segment.history) > HISTORY_BYTES_MAX
