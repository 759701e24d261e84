"""The bytes of a ring file: where its parts lie, and its header (docs/ring-file.md).

    slot A | slot B | ring of blocks | index section (files of 1 MiB and more)

A slot is a 512-byte header at the start of one block, and the open block of the ring in the next.
Every integer is little-endian. Pure functions; no I/O.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from localmem_node.errors import ConfigError
from localmem_protocol.lineage import NO_RUNS, RUN_BYTES, RUNS_MAX, Lineage, Run

MAGIC: Final = b"LMEM"
VERSION: Final = 2
OLDEST_VERSION: Final = 1
"""What is older can be read, and is rewritten as the newest when it is opened."""

DEFAULT_BYTES: Final = 96 * 1024 * 1024
"""Room for some 115,000 typical events with their vectors (`python -m bench store`)."""

MIN_BYTES: Final = 8 * 1024
MAX_BYTES: Final = 1 << 40
SMALL_BYTES: Final = 1024 * 1024
"""Files below this have 512-byte blocks, no index section and no vectors."""

HEADER_BYTES: Final = 512
BLOCK_HEADER_BYTES: Final = 32
RECORD_BYTES_MIN: Final = 32
"""Of a record with nothing in it: its header, nonce and tag."""

WRAPPED_BYTES: Final = 12 + 64 + 16
"""The store's two keys, sealed: nonce, ciphertext, tag. Version 1 had one key."""

RECOVERY_KEY_BYTES: Final = 32
RECOVERY_SEALED_BYTES: Final = 32 + 64 + 16
"""The two keys sealed for the recovery key (RFC 9180): encapsulated key, ciphertext, tag."""

TAG_BYTES: Final = 32
CHECKED_BYTES: Final = HEADER_BYTES - 4
"""What the checksum of a header covers; the place of the checksum is the same in every version."""
TAGGED_BYTES: Final = CHECKED_BYTES - TAG_BYTES
"""What the tag of a header covers."""

VECTOR_DIMENSIONS: Final = 384
VECTOR_BYTES: Final = VECTOR_DIMENSIONS + 64
"""Of a vector of so many components in a record of its own: what a pinned event is counted with."""

KIND_EVENT: Final = 1
KIND_VECTORS: Final = 2
KIND_FORGOTTEN: Final = 3
KIND_PINNED: Final = 0x40
"""Beside an event's kind: eviction passes over it."""

SLOT_BLOCKS: Final = 2
SLOTS: Final = 2
INDEX_SHARE: Final = 4
"""A checkpoint takes some 65 bytes an event, the ring 640; each of two halves is an eighth."""

SLACK_SHARE: Final = 64
SLACK_BLOCKS_MIN: Final = 2
"""A block's records can run on into the next, and are copied forward into free space."""

_HEADER: Final = struct.Struct(
    f"<4sIQQQIIQQQQQQQIIII8s16s{WRAPPED_BYTES}s{RECOVERY_KEY_BYTES}s{RECOVERY_SEALED_BYTES}s"
)
_RUN: Final = struct.Struct(f"<Q{RUN_BYTES}s")
"""The ordinal that a run began after, and its mark."""

_CHECKSUM: Final = struct.Struct("<I")


@dataclass(frozen=True)
class Geometry:
    """Where things lie in a file of `size` bytes (all offsets and sizes in bytes)."""

    size: int
    block_size: int
    index_bytes: int

    @classmethod
    def of(cls, size: int) -> Geometry:
        """The geometry of a new file. Raises ConfigError for a size that cannot work."""
        if not MIN_BYTES <= size <= MAX_BYTES:
            raise ConfigError(
                f"store size: {size} bytes is outside {MIN_BYTES} to {MAX_BYTES}; "
                f"choose one in between (default {DEFAULT_BYTES >> 20} MiB)"
            )
        if size < SMALL_BYTES:
            return cls(size=size, block_size=512, index_bytes=0)
        block = 4096
        return cls(
            size=size, block_size=block, index_bytes=size // INDEX_SHARE // (2 * block) * 2 * block
        )

    @property
    def keeps_vectors(self) -> bool:
        """Whether there is room for vectors; a small file leaves them out."""
        return self.index_bytes > 0

    @cached_property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return SLOT_BLOCKS * self.block_size

    @cached_property
    def ring_offset(self) -> int:
        """Where block 0 of the ring lies."""
        return SLOTS * self.slot_bytes

    @cached_property
    def index_offset(self) -> int:
        """Where the index section begins."""
        return self.size // self.block_size * self.block_size - self.index_bytes

    @cached_property
    def blocks(self) -> int:
        """Blocks of the ring."""
        return (self.index_offset - self.ring_offset) // self.block_size

    @cached_property
    def slack(self) -> int:
        """Blocks that stay free: what is copied forward goes there while the original counts."""
        return max(SLACK_BLOCKS_MIN, self.blocks // SLACK_SHARE)

    @cached_property
    def live_blocks(self) -> int:
        """Finished blocks that may be live at once."""
        return self.blocks - self.slack

    @cached_property
    def records_max(self) -> int:
        """More records than the ring can hold."""
        return (self.blocks + 1) * self.block_size // RECORD_BYTES_MIN

    @cached_property
    def record_space(self) -> int:
        """Ring bytes that one record may take, and that all kept for good may take together.

        Just under half of what is live each, so that both fit beside each other whatever the blocks
        they begin and end in.
        """
        return (self.live_blocks // 2 - 1) * (self.block_size - BLOCK_HEADER_BYTES)

    def kept_cost(self, kind: int, size: int) -> int:
        """What a record of a kind counts for among those kept for good; 0 for what may leave.

        A pinned event takes its vector along in every round, wherever there are vectors.
        """
        if kind == KIND_FORGOTTEN:
            return size
        return size + (VECTOR_BYTES if self.keeps_vectors else 0) if kind & KIND_PINNED else 0

    @cached_property
    def copied_space(self) -> int:
        """Ring bytes of the longest record that can always be copied forward."""
        return (self.slack - 1) * (self.block_size - BLOCK_HEADER_BYTES)

    def offset(self, number: int) -> int:
        """Where the finished block of this number lies."""
        return self.ring_offset + number % self.blocks * self.block_size

    def sound(self) -> bool:
        """Whether a file can have these numbers; a header that says otherwise is damaged."""
        return (
            MIN_BYTES <= self.size <= MAX_BYTES
            and self.block_size in (512, 4096)
            and 0 <= self.index_bytes <= self.size // 2
            and self.index_bytes % (2 * self.block_size) == 0
            and self.blocks > SLACK_BLOCKS_MIN
        )


@dataclass(frozen=True)
class Cost:
    """What Argon2id is told (RFC 9106): memory in KiB, passes, lanes. Zeros: not used."""

    memory_kib: int = 0
    iterations: int = 0
    lanes: int = 0


@dataclass(frozen=True)
class Identity:
    """What no commit changes: version, geometry, device, and how the store's keys are kept.

    `device` is 8 bytes, `salt` 16. `wrapped` are the keys sealed under the key store's key, and
    `recovery_sealed` the same for `recovery_key`, a public key (zeros where there is none).
    """

    geometry: Geometry
    device: bytes
    salt: bytes
    key_mode: int
    cost: Cost
    wrapped: bytes = bytes(WRAPPED_BYTES)
    recovery_key: bytes = bytes(RECOVERY_KEY_BYTES)
    recovery_sealed: bytes = bytes(RECOVERY_SEALED_BYTES)
    version: int = VERSION

    def bound(self) -> bytes:
        """What the wrapped keys are bound to: what is fixed, and how they are kept."""
        return b"localmem store %d" % self.version + struct.pack(
            "<QIQIIII8s16s",
            self.geometry.size,
            self.geometry.block_size,
            self.geometry.index_bytes,
            self.key_mode,
            self.cost.memory_kib,
            self.cost.iterations,
            self.cost.lanes,
            self.device,
            self.salt,
        )


@dataclass(frozen=True)
class State:
    """What changes with every commit.

    `head` is the number of the open block, `tail` of the oldest live one; `first_ordinal` that of
    the first record that starts at or after `tail`; `next_ordinal` of the next record. `sequence`
    and `clock` are the marks of `event_store.Marks`. `used` counts the payload bytes in the open
    block and `open_checksum` is that block's own. `lineage` has the newest runs, by ordinal.
    """

    generation: int
    head: int
    tail: int
    first_ordinal: int
    next_ordinal: int
    sequence: int
    clock: int
    used: int
    open_checksum: int
    lineage: Lineage = NO_RUNS


def pack_header(identity: Identity, state: State) -> bytes:
    """The part of a header that its tag covers; `finish_header` adds tag and checksum."""
    geometry = identity.geometry
    packed = _HEADER.pack(
        MAGIC,
        identity.version,
        geometry.offset(state.head) + BLOCK_HEADER_BYTES + state.used,
        state.generation,
        geometry.size,
        geometry.block_size,
        identity.key_mode,
        geometry.index_bytes,
        state.head,
        state.tail,
        state.first_ordinal,
        state.next_ordinal,
        state.sequence,
        state.clock,
        state.open_checksum,
        identity.cost.memory_kib,
        identity.cost.iterations,
        identity.cost.lanes,
        identity.device,
        identity.salt,
        identity.wrapped,
        identity.recovery_key,
        identity.recovery_sealed,
    )
    runs = b"".join(_RUN.pack(*run) for run in state.lineage.runs)
    return (packed + runs).ljust(TAGGED_BYTES, b"\0")


def finish_header(tagged: bytes, tag: bytes) -> bytes:
    """The 512 bytes of a header."""
    checked = tagged + tag
    return checked + _CHECKSUM.pack(zlib.crc32(checked))


def header_tag(raw: bytes) -> bytes:
    """The tag of a header."""
    return raw[TAGGED_BYTES:CHECKED_BYTES]


def header_version(raw: bytes) -> int | None:
    """The version of a header of ours whose checksum holds, of whatever version; else None."""
    if len(raw) != HEADER_BYTES or raw[:4] != MAGIC:
        return None
    if zlib.crc32(raw[:CHECKED_BYTES]) != _CHECKSUM.unpack_from(raw, CHECKED_BYTES)[0]:
        return None
    return int.from_bytes(raw[4:8], "little")


def unpack_header(raw: bytes) -> tuple[Identity, State] | None:
    """What a header says, of any version that is read; None where the numbers cannot be."""
    (_, version, write_pos, generation, size, block_size, key_mode, index_bytes, head, tail, first_ordinal,
     next_ordinal, sequence, clock, open_checksum, memory, iterations, lanes, device, salt,
     wrapped, recovery_key, recovery_sealed) = _HEADER.unpack_from(raw)  # fmt: skip
    geometry = Geometry(size=size, block_size=block_size, index_bytes=index_bytes)
    if not geometry.sound():
        return None
    used = write_pos - geometry.offset(head) - BLOCK_HEADER_BYTES
    plausible = (
        0 <= used <= block_size - BLOCK_HEADER_BYTES
        and 0 <= head - tail <= geometry.blocks
        and 0 <= next_ordinal - first_ordinal <= 2 * geometry.records_max
    )
    if not plausible:
        return None
    identity = Identity(
        geometry=geometry,
        device=device,
        salt=salt,
        key_mode=key_mode,
        cost=Cost(memory, iterations, lanes),
        wrapped=wrapped,
        recovery_key=recovery_key,
        recovery_sealed=recovery_sealed,
        version=version,
    )
    state = State(
        generation=generation,
        head=head,
        tail=tail,
        first_ordinal=first_ordinal,
        next_ordinal=next_ordinal,
        sequence=sequence,
        clock=clock,
        used=used,
        open_checksum=open_checksum,
        lineage=_lineage(raw),
    )
    return identity, state


def _lineage(raw: bytes) -> Lineage:
    places = range(_HEADER.size, _HEADER.size + RUNS_MAX * _RUN.size, _RUN.size)
    runs = (Run._make(_RUN.unpack_from(raw, place)) for place in places)
    return Lineage(tuple(run for run in runs if run.mark != bytes(RUN_BYTES)))
