"""The records of a transcript file, one a line, from any place in it, with a bound on each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import zstandard

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of a line that is read; Claude Code and Codex cut what tools return long before."""

BUFFER_BYTES: Final = 256 * 1024
PACKED: Final = ".zst"


@dataclass(frozen=True, slots=True)
class Record:
    """The line from `offset` up to `end`; `fields` is None if it is no JSON object, or too long.

    `whole` is false for a last line without its end, which may still be being written.
    """

    offset: int
    end: int
    fields: dict[str, Any] | None
    whole: bool = True


def records_from(stream: BinaryIO, offset: int) -> Iterator[Record]:
    """The records from `offset` on, where a line begins. Blank lines are left out."""
    stream.seek(offset)
    while line := stream.readline(RECORD_BYTES_MAX + 1):
        end, whole = offset + len(line), line.endswith(b"\n")
        fields = _fields(line) if len(line) <= RECORD_BYTES_MAX else None
        while not whole and len(line) > RECORD_BYTES_MAX:
            line = stream.readline(RECORD_BYTES_MAX + 1)
            end, whole = end + len(line), line.endswith(b"\n") or not line
        if line.strip():
            yield Record(offset, end, fields, whole)
        offset = end


def open_records(path: Path) -> BinaryIO:
    """A file of records, unpacked if its name says that it is packed. Raises OSError."""
    if path.suffix != PACKED:
        return path.open("rb", BUFFER_BYTES)
    packed = path.open("rb")
    unpacked = zstandard.ZstdDecompressor().stream_reader(packed, closefd=True)
    return io.BufferedReader(_Unpacked(unpacked), BUFFER_BYTES)


class _Unpacked(io.RawIOBase):
    """A packed file as a stream that can be begun at any place, by unpacking what is before."""

    def __init__(self, reader: zstandard.ZstdDecompressionReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._reader.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            return self._reader.readinto(buffer)
        except zstandard.ZstdError as error:
            raise OSError(0, f"damaged: {error}") from None

    def close(self) -> None:
        self._reader.close()  # type: ignore[no-untyped-call]
        super().close()


def _fields(line: bytes) -> dict[str, Any] | None:
    loads: tuple[Callable[[bytes], Any], ...] = (msgspec.json.decode, json.loads)
    for decode in loads:  # the second takes half a surrogate pair, which editors write
        try:
            value = decode(line)
        except (ValueError, RecursionError):  # msgspec.DecodeError is one
            continue
        return value if isinstance(value, dict) else None
    return None
