"""What is in a segment, an append blob that holds all there is of a room: frames, one after the other.

    snapshot parts …, base, entries …, close

A frame is: MAGIC, its kind (1 byte), its length (4 bytes), a checksum of the rest (8 bytes) under the
segment's salt, and the rest. Whoever appends does so with whole frames, and a block is there whole or
not at all. So what is no frame is foreign, and is passed over: the next frame is the next place where
one is whole. The salt keeps what a device has in its updates from being taken for one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from localmem_hub.errors import DamageError
from localmem_protocol.room import Row

MAGIC: Final = b"\xf1lmb"
_HEAD: Final = struct.Struct(">4sBI8s")
_PART, _RECORD = 1, 2
BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Of one block. One larger update has a block for itself; storage takes 100 MiB."""


ENTRY_BYTES: Final = 256 * 1024
ROW_BYTES: Final = 32
"""What is in an entry beside its updates, at most: the client ids that it touches; and beside one."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A segment: its blob, the salt of its checksums, and the offset of its base."""

    segment: str
    salt: bytes
    base_at: int


class Base(msgspec.Struct, frozen=True, array_like=True, tag="base"):
    """What a segment begins with: the number and the tag of the newest row in the snapshot before it (0
    and "" without one), and every client id that is registered."""

    number: int
    tag: str
    clients: dict[int, str]


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="entry"):
    """What a process stores at once.

    `base` is the offset up to which it had read the segment. `touched` are the client ids whose arrays
    the rows write or delete in and those that are registered; None stands for all. `rows` are devices
    and their updates.
    """

    id: bytes
    base: int
    touched: list[int] | None
    rows: list[tuple[str, bytes]]
    clients: dict[int, str]


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """The log goes on in another segment, which holds all that was before this."""

    next: Place


class Touch(msgspec.Struct, frozen=True, array_like=True, tag="touch"):
    """Nothing, but the segment is longer by it: whoever believed to know its end has to look."""


Record = Base | Entry | Close | Touch
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Record)


@dataclass(frozen=True)
class Found:
    """A record, and where it begins and ends in what was scanned."""

    record: Record
    start: int
    end: int


def encode(record: Record, salt: bytes) -> bytes:
    """The frame of a record."""
    return _frame(_RECORD, _ENCODER.encode(record), salt)


def encode_snapshot(snapshot: bytes, salt: bytes) -> list[bytes]:
    """The frames of a snapshot, each small enough for a block."""
    room = BLOCK_BYTES - _HEAD.size
    return [_frame(_PART, snapshot[at : at + room], salt) for at in range(0, len(snapshot), room)]


def decode_snapshot(data: bytes, salt: bytes) -> bytes:
    """The snapshot in the beginning of a segment. Raises DamageError."""
    parts, at = [], 0
    while at < len(data):
        frame = _at(data, at, salt)
        if frame is None or frame[0] != _PART:
            raise DamageError("a snapshot in the hub's storage is damaged")
        parts.append(frame[1])
        at += _HEAD.size + len(frame[1])
    return b"".join(parts)


def scan(data: bytes, salt: bytes) -> tuple[list[Found], int]:
    """The records in what was read of a segment, and the offset up to which there is nothing left to be
    found: what is after that may yet become a frame.
    """
    found: list[Found] = []
    done = at = 0
    while at >= 0:
        frame = _at(data, at, salt)
        record = None if frame is None or frame[0] != _RECORD else _record(frame[1])
        if frame is None or record is None:
            at = data.find(MAGIC, at + 1)
            continue
        end = at + _HEAD.size + len(frame[1])
        found.append(Found(record, at, end))
        done = at = end
    return found, done


def blocks(frames: Sequence[bytes]) -> list[bytes]:
    """Frames as few blocks."""
    joined: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        if gathered and size + len(frame) > BLOCK_BYTES:
            joined.append(b"".join(gathered))
            gathered, size = [], 0
        gathered.append(frame)
        size += len(frame)
    return [*joined, b"".join(gathered)] if gathered else joined


def wrap(data: bytes) -> bytes:
    """Bytes as a frame, for a blob that has nothing else in it."""
    return _frame(_PART, data, b"")


def unwrap(data: bytes) -> tuple[list[bytes], int]:
    """What was wrapped, and the offset up to which there is nothing left to be found."""
    found: list[bytes] = []
    done = at = 0
    while at >= 0:
        frame = _at(data, at, b"")
        if frame is None:
            at = data.find(MAGIC, at + 1)
        else:
            found.append(frame[1])
            done = at = at + _HEAD.size + len(frame[1])
    return found, done


def portions(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows as few portions that each fit in a block; one of nothing for none."""
    made: list[list[Row]] = [[]]
    size = 0
    for row in rows:
        if made[-1] and size + len(row.update) > BLOCK_BYTES - ENTRY_BYTES:
            made.append([])
            size = 0
        made[-1].append(row)
        size += len(row.update) + ROW_BYTES
    return made


def _frame(kind: int, body: bytes, salt: bytes) -> bytes:
    return _HEAD.pack(MAGIC, kind, len(body), _sum(kind, body, salt)) + body


def _sum(kind: int, body: bytes, salt: bytes) -> bytes:
    return blake2b(body, digest_size=8, key=salt, person=bytes([kind])).digest()


def _at(data: bytes, at: int, salt: bytes) -> tuple[int, bytes] | None:
    """Kind and body of the whole frame that begins here, if one does."""
    if len(data) - at < _HEAD.size:
        return None
    magic, kind, length, checksum = _HEAD.unpack_from(data, at)
    if magic != MAGIC or len(data) - at - _HEAD.size < length:
        return None
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    return (kind, body) if _sum(kind, body, salt) == checksum else None


def _record(body: bytes) -> Record | None:
    try:
        found: Record = _DECODER.decode(body)
    except msgspec.DecodeError:  # of a later release, or of nobody
        return None
    return found
