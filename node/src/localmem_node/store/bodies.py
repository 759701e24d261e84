"""Where the bytes of a record are: in the open block, in a finished one not yet written, on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable

from localmem_node.seams import Disk
from localmem_node.store.blocks import (
    BODY_BYTES_MIN,
    RECORD_HEADER_BYTES,
    OpenBlock,
    read_record_header,
)
from localmem_node.store.layout import BLOCK_HEADER_BYTES, Geometry

_log = logging.getLogger(__name__)

Reader = Callable[[int, int], bytes]
"""(offset, size) to the bytes there; fewer where there are none."""


class Bodies:
    """Not thread-safe: the ring holds its lock. `pending` are finished blocks by number."""

    def __init__(
        self, geometry: Geometry, disk: Disk, mapped: Reader, opened: OpenBlock, body_bytes_max: int
    ) -> None:
        """`mapped` serves what was read from the disk before (`trust_map`)."""
        self.pending: dict[int, bytes] = {}
        self._geometry, self._disk, self._mapped = geometry, disk, mapped
        self._open = opened
        self._longest = body_bytes_max
        # A map raises SIGBUS where the medium cannot be read; what was not read yet goes by `pread`.
        self._read: Reader = self._from_disk

    def trust_map(self) -> None:
        """All of the ring has been read from the disk."""
        self._read = self._mapped

    def header_at(self, position: int) -> tuple[int, int] | None:
        """(kind, body length) of the record at a position, or None where none can be."""
        header = self._slice(*divmod(position, self._geometry.block_size), RECORD_HEADER_BYTES)
        if len(header) < RECORD_HEADER_BYTES:
            return None
        kind, length = read_record_header(header)
        return (kind, length) if BODY_BYTES_MIN <= length <= self._longest else None

    def at(self, position: int, kind: int) -> bytes | None:
        """The body of the record of a kind at a position, or None where none can be."""
        header = self.header_at(position)
        if header is None or header[0] != kind:
            return None
        missing = header[1]
        size = self._geometry.block_size
        number, offset = divmod(position, size)
        offset += RECORD_HEADER_BYTES
        pieces: list[bytes] = []
        while missing and number <= self._open.number:
            pieces.append(self._slice(number, offset, min(missing, size - offset)))
            missing -= min(missing, size - offset)
            number, offset = number + 1, BLOCK_HEADER_BYTES
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return body if len(body) == header[1] else None

    def _slice(self, number: int, offset: int, size: int) -> bytes:
        if number == self._open.number:
            start = offset - BLOCK_HEADER_BYTES
            return bytes(self._open.payload[start : start + size])
        pending = self.pending.get(number)
        if pending is not None:
            return pending[offset : offset + size]
        return self._read(self._geometry.offset(number) + offset, size)

    def _from_disk(self, offset: int, size: int) -> bytes:
        try:
            return self._disk.pread(offset, size)
        except OSError as error:
            _log.warning("cannot read %d bytes at %d: %s", size, offset, error)
            return b""
