"""The index section: one sealed payload, from which a store opens without reading all of itself.

The payload is what the ring keeps in memory (its directory, and where each open id begins) and what
the engine asked to keep beside it. Two halves are written in turn, so that a torn write leaves the one before. Each is

    "LMIX" | u32 crc32 of the rest | u64 generation | u64 ordinal | u64 length | 12-byte nonce
    | ciphertext and tag (AES-256-GCM; the fields above, without the crc, are associated data)
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag

from localmem_node.seams import Disk
from localmem_node.store.blocks import NONCE_BYTES, SEAL_TAG_BYTES
from localmem_node.store.directory import Columns
from localmem_node.store.layout import Geometry
from localmem_node.store.recovery import Saved
from localmem_node.store.vault import Vault
from localmem_protocol.seams import Random

_MAGIC: Final = b"LMIX"
_HEAD: Final = struct.Struct("<4sI")
_FIELDS: Final = struct.Struct(f"<QQQ{NONCE_BYTES}s")
_OVERHEAD: Final = _HEAD.size + _FIELDS.size + SEAL_TAG_BYTES


_LEVEL: Final = 1
_COLUMN_BYTES_MAX: Final = 1 << 31


class _Payload(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    head: int
    openings: list[tuple[int, bytes]]
    first: int
    distances: bytes  # zstd
    kinds: bytes  # zstd
    ids: bytes
    rest: bytes


def pack_payload(saved: Saved, rest: bytes) -> bytes:
    """What the ring and the engine keep, as one payload."""
    columns = saved.columns
    return msgspec.msgpack.encode(
        _Payload(
            head=saved.head,
            openings=saved.openings,
            first=columns.first,
            distances=zstandard.compress(columns.distances, _LEVEL),
            kinds=zstandard.compress(columns.kinds, _LEVEL),
            ids=columns.ids,
            rest=rest,
        )
    )


def unpack_payload(payload: bytes) -> tuple[Saved, bytes] | None:
    """The inverse; None for what is of another format."""
    try:
        found = msgspec.msgpack.decode(payload, type=_Payload)
        distances, kinds = (_decompress(column) for column in (found.distances, found.kinds))
    except (msgspec.DecodeError, zstandard.ZstdError, ValueError):
        return None
    columns = Columns(found.first, distances, kinds, found.ids)
    return Saved(found.head, found.openings, columns), found.rest


def _decompress(column: bytes) -> bytes:
    if not 0 <= zstandard.frame_content_size(column) <= _COLUMN_BYTES_MAX:
        raise ValueError("a column that is too long")
    return zstandard.decompress(column)


@dataclass(frozen=True)
class Checkpoint:
    """A payload, and the ordinal up to which it knows the store."""

    generation: int
    ordinal: int
    payload: bytes


class IndexSection:
    """Reads and writes the index section. The caller makes sure of one writer."""

    def __init__(self, disk: Disk, geometry: Geometry, vault: Vault, random: Random) -> None:
        self._disk, self._vault, self._random = disk, vault, random
        self._offset = geometry.index_offset
        self._half = geometry.index_bytes // 2
        self._newest: tuple[int, int] | None = None

    @property
    def capacity(self) -> int:
        """Bytes of the longest payload; 0 or less where there is no section."""
        return self._half - _OVERHEAD

    def claimed_ordinal(self) -> int:
        """The highest ordinal that a half claims, before anything is authenticated; else 0."""
        fields = [self._fields(half) for half in (0, 1)]
        return max((found[1] for found in fields if found is not None), default=0)

    def read(self) -> Checkpoint | None:
        """The newest half that authenticates."""
        halves = [self._open(half) for half in (0, 1)]
        whole = [(found.generation, half) for half, found in enumerate(halves) if found is not None]
        if not whole:
            self._newest = (0, 1)
            return None
        self._newest = max(whole)
        return halves[self._newest[1]]

    def write(self, ordinal: int, payload: bytes) -> bool:
        """Keep a payload, durably; False if it does not fit. Raises OSError."""
        if len(payload) > self.capacity:
            return False
        if self._newest is None:
            self.read()
        assert self._newest is not None
        generation, half = self._newest[0] + 1, 1 - self._newest[1]
        nonce = self._random.token_bytes(NONCE_BYTES)
        fields = _FIELDS.pack(generation, ordinal, len(payload), nonce)
        rest = fields + self._vault.index.encrypt(nonce, payload, fields)
        self._disk.pwrite(self._at(half), _HEAD.pack(_MAGIC, zlib.crc32(rest)) + rest)
        self._disk.sync()
        self._newest = (generation, half)
        return True

    def discard(self) -> None:
        """Both halves are of a past that did not last. Raises OSError."""
        for half in (0, 1):
            self._disk.pwrite(self._at(half), bytes(_HEAD.size))
        self._disk.sync()
        self._newest = (0, 1)

    def _at(self, half: int) -> int:
        return self._offset + half * self._half

    def _fields(self, half: int) -> tuple[int, int, int, bytes] | None:
        if self.capacity <= 0:
            return None
        try:
            raw = self._disk.pread(self._at(half), _HEAD.size + _FIELDS.size)
        except OSError:
            return None
        if len(raw) < _HEAD.size + _FIELDS.size or raw[:4] != _MAGIC:
            return None
        generation, ordinal, length, nonce = _FIELDS.unpack_from(raw, _HEAD.size)
        return (generation, ordinal, length, nonce) if length <= self.capacity else None

    def _open(self, half: int) -> Checkpoint | None:
        fields = self._fields(half)
        if fields is None:
            return None
        generation, ordinal, length, nonce = fields
        try:
            raw = self._disk.pread(self._at(half), _OVERHEAD + length)
        except OSError:
            return None
        rest = raw[_HEAD.size :]
        if len(raw) < _OVERHEAD + length or zlib.crc32(rest) != _HEAD.unpack_from(raw)[1]:
            return None
        bound, sealed = rest[: _FIELDS.size], rest[_FIELDS.size :]
        try:
            payload = self._vault.index.decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None
        return Checkpoint(generation, ordinal, payload)
