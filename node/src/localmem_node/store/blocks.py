"""Blocks and the records in them: framing, without keys and without I/O.

A block is a 32-byte header and payload. The payloads of consecutive blocks are one stream of
records; a record may run on through several blocks. Each header says how many of its bytes belong
to a record begun earlier, and the ordinal of the first record that starts in it, so that a reader
can begin at any block: damage costs only the records that touch the damaged block.

    block header   u32 crc32 of the rest of the block | u16 carried | u16 used
                   | u64 number | u64 ordinal | 8 bytes open id
    record         u24 length of the body | u8 kind | body: 12-byte nonce, ciphertext, 16-byte tag

Numbers count every block ever begun, ordinals every record. A record header never straddles two
blocks. All records that start in one block are sealed under the key of one open id.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from localmem_node.store.layout import BLOCK_HEADER_BYTES

OPEN_ID_BYTES: Final = 8
NO_OPEN_ID: Final = bytes(OPEN_ID_BYTES)
"""Of a block in which nothing has been written."""

NONCE_BYTES: Final = 12
SEAL_TAG_BYTES: Final = 16
RECORD_HEADER_BYTES: Final = 4
BODY_BYTES_MIN: Final = NONCE_BYTES + SEAL_TAG_BYTES
BODY_BYTES_MAX: Final = 2**24 - 1

_BLOCK: Final = struct.Struct("<IHHQQ8s")
_RECORD: Final = struct.Struct("<I")
_ASSOCIATED: Final = struct.Struct("<BQQ")


@dataclass(frozen=True, slots=True)
class Block:
    """A block whose checksum holds. `payload` is its used part."""

    checksum: int
    carried: int
    number: int
    ordinal: int
    open_id: bytes
    payload: bytes

    def starts(self, capacity: int) -> Iterator[tuple[int, int, int]]:
        """(offset in the payload, kind, body length) of each record that starts here.

        `capacity` is the payload bytes of a full block; a record may run past them. Stops at the
        first record that cannot be.
        """
        offset = self.carried
        while offset + RECORD_HEADER_BYTES <= len(self.payload):
            kind, length = read_record_header(self.payload, offset)
            end = offset + RECORD_HEADER_BYTES + length
            if length < BODY_BYTES_MIN or (
                end > len(self.payload) and len(self.payload) < capacity
            ):
                return
            yield offset, kind, length
            offset = end


class Frame(NamedTuple):
    """A whole record as it lies in the ring. `position` is number · block size + offset."""

    ordinal: int
    position: int
    kind: int
    open_id: bytes
    body: bytes


def pack_block(
    size: int, *, carried: int, number: int, ordinal: int, open_id: bytes, payload: bytes
) -> bytes:
    """The `size` bytes of a block."""
    packed = _BLOCK.pack(0, carried, len(payload), number, ordinal, open_id) + payload
    packed = packed.ljust(size, b"\0")
    return zlib.crc32(memoryview(packed)[4:]).to_bytes(4, "little") + packed[4:]


def parse_block(raw: bytes | memoryview, size: int) -> Block | None:
    """The block in `raw`, or None when it is damaged."""
    if len(raw) != size:
        return None
    checksum, carried, used, number, ordinal, open_id = _BLOCK.unpack_from(raw)
    if used > size - BLOCK_HEADER_BYTES or carried > used:
        return None
    if zlib.crc32(raw[4:]) != checksum:
        return None
    payload = bytes(raw[BLOCK_HEADER_BYTES : BLOCK_HEADER_BYTES + used])
    return Block(checksum, carried, number, ordinal, open_id, payload)


def record_header(kind: int, length: int) -> bytes:
    """The 4 bytes before a body of `length` bytes."""
    return _RECORD.pack(length | kind << 24)


def read_record_header(raw: bytes, offset: int = 0) -> tuple[int, int]:
    """(kind, body length)."""
    word: int = _RECORD.unpack_from(raw, offset)[0]
    return word >> 24, word & 0xFFFFFF


def associated(kind: int, ordinal: int, position: int) -> bytes:
    """What a sealed record is bound to: its kind, its ordinal and its place."""
    return _ASSOCIATED.pack(kind, ordinal, position)


def frames(blocks: Iterable[tuple[int, Block | None]], block_size: int) -> Iterator[Frame]:
    """The whole records in consecutive blocks; None stands for a damaged block.

    Records that begin before the first block, or run through a damaged one, are left out.
    """
    capacity = block_size - BLOCK_HEADER_BYTES
    begun: Frame | None = None
    missing = 0
    for number, block in blocks:
        if block is None:
            begun = None
            continue
        if begun is not None:
            if block.carried != min(missing, capacity):
                begun = None
            else:
                missing -= block.carried
                begun = begun._replace(body=begun.body + block.payload[: block.carried])
                if missing == 0:
                    yield begun
                    begun = None
        ordinal = block.ordinal
        base = number * block_size + BLOCK_HEADER_BYTES
        for offset, kind, length in block.starts(capacity):
            body_at = offset + RECORD_HEADER_BYTES
            body = block.payload[body_at : body_at + length]
            begun = Frame(ordinal, base + offset, kind, block.open_id, body)
            missing = length - len(body)
            if missing == 0:
                yield begun
                begun = None
            ordinal += 1


class OpenBlock:
    """The block being filled; hands finished ones to `finished`.

    Not thread-safe. The next record gets `next_ordinal` and starts at `position()`.
    """

    def __init__(self, size: int, number: int, ordinal: int, open_id: bytes) -> None:
        self.size = size
        self.number = number
        self.next_ordinal = ordinal
        self.open_id = open_id
        self.payload = bytearray()
        self.finished: list[tuple[int, bytes]] = []
        self._carried = 0
        self._ordinal = ordinal

    @classmethod
    def resume(cls, size: int, block: Block, next_ordinal: int) -> OpenBlock:
        """Go on in a block that was committed unfinished."""
        opened = cls(size, block.number, block.ordinal, block.open_id)
        opened.payload = bytearray(block.payload)
        opened.next_ordinal = next_ordinal
        opened._carried = block.carried
        return opened

    @property
    def capacity(self) -> int:
        """Payload bytes of a full block."""
        return self.size - BLOCK_HEADER_BYTES

    def packed(self) -> bytes:
        """The block as it stands."""
        return pack_block(
            self.size,
            carried=self._carried,
            number=self.number,
            ordinal=self._ordinal,
            open_id=self.open_id,
            payload=bytes(self.payload),
        )

    def block(self) -> Block:
        """The block as a reader sees it."""
        return Block(
            0, self._carried, self.number, self._ordinal, self.open_id, bytes(self.payload)
        )

    def position(self) -> int:
        """Where the next record starts; finishes the block when no record header fits."""
        if self.capacity - len(self.payload) < RECORD_HEADER_BYTES:
            self._turn(0)
        return self.number * self.size + BLOCK_HEADER_BYTES + len(self.payload)

    def number_after(self, length: int) -> int:
        """The number of the open block once a record with a body of `length` bytes is placed."""
        used = len(self.payload)
        number = self.number
        if self.capacity - used < RECORD_HEADER_BYTES:
            number, used = number + 1, 0
        return number + max(0, used + RECORD_HEADER_BYTES + length - 1) // self.capacity

    def skip_to(self, ordinal: int) -> None:
        """Leave out the ordinals below `ordinal`; the next record starts a new block."""
        if ordinal > self.next_ordinal:
            self.next_ordinal = ordinal
            self._turn(0)

    def place(self, kind: int, body: bytes) -> None:
        """Add the record that `position` and `next_ordinal` were asked for."""
        rest = memoryview(record_header(kind, len(body)) + body)
        self.next_ordinal += 1
        while True:
            room = self.capacity - len(self.payload)
            self.payload += rest[:room]
            rest = rest[room:]
            if not rest:
                return
            self._turn(len(rest))

    def _turn(self, left: int) -> None:
        self.finished.append((self.number, self.packed()))
        self.number += 1
        self.payload = bytearray()
        self._carried = min(left, self.capacity)
        self._ordinal = self.next_ordinal
