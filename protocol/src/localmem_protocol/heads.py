"""Signed chain heads: what a device vouches for.

A sealed batch proves that a member made it, since only members have the key, but not which one: any
member could write in another's name. And a hub can leave out the end of a chain. So the owner of a
chain signs, once in a while, how far it goes:

    at `clock` of my client id the last batch has the hash `head`; my events in my array go up to
    `sequence`, the oldest that I still keep is `floor`, and `holes` sequences between are not there

Every batch up to there is the owner's, for each carries the hash of the one before. What comes later
is provisional. Events below the floor were evicted; holes are what the owner does not share with this
pool, and what was forgotten or moved; any other event that is missing was withheld or lost.

    signature over   purpose | pool (16) | device (8) | epoch (4) | client (4) | clock (4)
                     | head (16) | floor (8) | sequence (8) | holes (8) | views (16)
                     little-endian, see `keys.py`
    bytes            the same fields without the device, then the signature (64)
    compact          varuint floor | varuint sequence + 1 - floor | varuint holes | signature

The compact form is for the owner's own array, where the place says the rest. `views` is the digest of
what it says of others in the same batch (`views.py`): they are signed by it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from localmem_protocol.errors import HeadError
from localmem_protocol.keys import SIGN_HEAD, SIGNATURE_BYTES, DeviceKeys, PublicKeys
from localmem_protocol.limits import CLIENT_ID_MAX, CLOCK_MAX, MARK_MAX, ROSTER_ENTRIES_MAX
from localmem_protocol.views import DIGEST_BYTES, NO_VIEWS
from localmem_protocol.wire import Reader, varuint

HEAD_BYTES: Final = 16
_FIELDS: Final = struct.Struct("<16sIII16sQQQ16s")
ENCODED_BYTES: Final = _FIELDS.size + SIGNATURE_BYTES
COMPACT_BYTES_MAX: Final = 10 + 10 + 10 + SIGNATURE_BYTES


@dataclass(frozen=True)
class Position:
    """What is signed. `pool` is 32 hex digits, `head` 16 bytes, `floor` at most `sequence` + 1.

    `clock` counts the batches of `client` so far, from 1; `head` is the hash of the last of them.
    `floor` is the oldest own sequence that is still kept; `sequence` + 1 if none is. From the one to
    the other, both included, `holes` are not in the array. `views` is `views.digest_of`, 16 bytes.
    """

    pool: str
    epoch: int
    client: int
    clock: int
    head: bytes
    floor: int
    sequence: int
    holes: int = 0
    views: bytes = NO_VIEWS


@dataclass(frozen=True)
class SignedHead:
    """A position, and its owner's word for it."""

    at: Position
    signature: bytes

    def verify(self, device: str, keys: PublicKeys) -> None:
        """Raise SignatureError unless the device with these keys signed this."""
        keys.verify(SIGN_HEAD, _covered(self.at, device), self.signature)

    def encode(self) -> bytes:
        """All of it, in 148 bytes."""
        return _packed(self.at) + self.signature

    def compact(self) -> bytes:
        """What its place in its owner's array does not tell; 67 bytes and more."""
        at = self.at
        span = at.sequence + 1 - at.floor
        return varuint(at.floor) + varuint(span) + varuint(at.holes) + self.signature


def sign_head(at: Position, device: str, keys: DeviceKeys) -> SignedHead:
    """A device's word for how far its chain goes. Raises HeadError for an impossible position."""
    _check(at)
    return SignedHead(at, keys.sign(SIGN_HEAD, _covered(at, device)))


def decode_head(data: bytes) -> SignedHead:
    """The inverse of `encode`; says nothing of the signature. Raises HeadError."""
    if len(data) != ENCODED_BYTES:
        raise HeadError(f"a signed head is {ENCODED_BYTES} bytes, not {len(data)}")
    pool, *numbers = _FIELDS.unpack(data[: _FIELDS.size])
    at = Position(pool.hex(), *numbers)
    _check(at)
    return SignedHead(at, data[_FIELDS.size :])


def decode_compact(
    data: bytes,
    pool: str,
    epoch: int,
    client: int,
    clock: int,
    head: bytes,
    views: bytes = NO_VIEWS,
) -> SignedHead:
    """The inverse of `compact`, at its place; says nothing of the signature. Raises HeadError."""
    if len(data) > COMPACT_BYTES_MAX:
        raise HeadError(f"{len(data)} bytes, over the limit of {COMPACT_BYTES_MAX}")
    reader = Reader(data, HeadError)
    floor, span, holes = (reader.varuint(MARK_MAX) for _ in range(3))
    signature = reader.take(SIGNATURE_BYTES)
    reader.finish()
    at = Position(pool, epoch, client, clock, head, floor, floor + span - 1, holes, views)
    _check(at)
    return SignedHead(at, signature)


def contradiction(one: SignedHead, other: SignedHead) -> str | None:
    """Why one device cannot have signed both of these of one chain in good faith; None if it can.

    Two that contradict each other are two copies of one device under one client id, or a device
    that was put back to an earlier state. Ask only about heads of the same device.
    """
    first, second = sorted((one.at, other.at), key=lambda at: at.clock)
    if (first.pool, first.epoch, first.client) != (second.pool, second.epoch, second.client):
        return None
    if first.clock == second.clock and first.head != second.head:
        return f"two batches at clock {first.clock} of client {first.client}"
    if first.clock == second.clock and first.sequence != second.sequence:
        return f"two ends, {first.sequence} and {second.sequence}, of one chain"
    if first.clock < second.clock and first.sequence > second.sequence:
        return f"its events went back from {first.sequence} to {second.sequence}"
    if first.clock < second.clock and first.floor > second.floor:
        return f"what it keeps went back from {first.floor} to {second.floor}"
    return None


def _check(at: Position) -> None:
    if not 1 <= at.epoch <= ROSTER_ENTRIES_MAX or not 1 <= at.client <= CLIENT_ID_MAX:
        raise HeadError("an epoch or client id out of bounds")
    if not 1 <= at.clock <= CLOCK_MAX or len(at.head) != HEAD_BYTES:
        raise HeadError("a clock or hash out of bounds")
    if len(at.views) != DIGEST_BYTES:
        raise HeadError("a digest of views out of bounds")
    if not 1 <= at.floor <= at.sequence + 1 <= MARK_MAX:
        raise HeadError("a floor above the newest sequence, or one out of bounds")
    if not 0 <= at.holes <= at.sequence + 1 - at.floor:
        raise HeadError("more holes than sequences")


def _packed(at: Position) -> bytes:
    pool = bytes.fromhex(at.pool)
    numbers = (at.epoch, at.client, at.clock, at.head, at.floor, at.sequence, at.holes, at.views)
    return _FIELDS.pack(pool, *numbers)


def _covered(at: Position, device: str) -> bytes:
    packed = _packed(at)
    return packed[:16] + bytes.fromhex(device) + packed[16:]
