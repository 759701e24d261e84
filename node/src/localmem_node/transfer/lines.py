"""The format of an export: JSON Lines between a header and a trailer (docs/export-format.md).

    {"format":"localmem-export","version":1,"device":…,"created":…}
    {"id":…,"timestamp":…,…}            one line for each event, in `Event.order`
    {"count":…,"sha256":…}              of all lines before

Whatever is cut off, flipped, swapped, doubled or dropped shows: at the line where it is if that line
no longer makes sense by itself or after the one before it, else at the trailer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from localmem_node.errors import DamagedExport, ForeignExport, WrongExportVersion
from localmem_node.lines import LINE_BYTES_MAX
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event, Order, parse_recorded

FORMAT: Final = "localmem-export"
VERSION: Final = 1

_FOREIGN: Final = (
    "is not an export of localmem: its first line is no header; "
    "events as plain JSON lines are taken by: localmem record"
)


class Readable(Protocol):
    """The one thing that reading lines needs of a file."""

    def readline(self, size: int = -1, /) -> bytes:
        """Bytes up to a line feed, it included; at most `size`; b"" at the end."""
        ...


class LinesWriter:
    """Writes an export, piece by piece: `header`, `event` for each, `finish`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self.count = 0

    def header(self, device: str, created: int) -> None:
        """The first line: whose memory this is, and when it was exported (ms since 1970)."""
        self._line({"format": FORMAT, "version": VERSION, "device": device, "created": created})

    def event(self, fields: Mapping[str, Any]) -> None:
        """An event, in the form of `results.event_json`."""
        self._line(fields)
        self.count += 1

    def finish(self) -> str:
        """The last line. Returns the digest in it."""
        digest = self._digest.hexdigest()
        self._write(_trailer(self.count, digest))
        return digest

    def _line(self, value: object) -> None:
        line = msgspec.json.encode(value) + b"\n"
        self._digest.update(line)
        self._write(line)


def read_export(stream: Readable) -> Iterator[tuple[int, Event]]:
    """The events of an export with their line numbers (the header is line 1).

    Only when it has come to its end is the whole known to be right. Raises ForeignExport,
    WrongExportVersion, and DamagedExport naming the line and what is wrong with it.
    """
    digest = hashlib.sha256()
    line = _read_line(stream, 1)
    if not line:
        raise DamagedExport("line 1: the file is empty")
    _check_header(line)
    digest.update(line)
    number, count = 1, 0
    before: Order | None = None
    while True:
        number += 1
        line = _read_line(stream, number)
        fields = _fields(line, number)
        if "sha256" in fields:
            break
        event = _event(fields, number, before)
        yield number, event
        before = event.order
        digest.update(line)
        count += 1
    _check_trailer(line, fields, number, count, digest.hexdigest())
    if stream.readline(1):
        raise DamagedExport(f"line {number + 1}: there is something after the last line")


def _read_line(stream: Readable, number: int) -> bytes:
    line = stream.readline(LINE_BYTES_MAX + 1)
    if len(line) > LINE_BYTES_MAX:
        if number == 1:
            raise ForeignExport(_FOREIGN)
        raise DamagedExport(f"line {number}: is longer than {LINE_BYTES_MAX} bytes")
    return line


def _check_header(line: bytes) -> None:
    try:
        header = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ForeignExport(_FOREIGN)
    version = header.get("version")
    if version != VERSION or version is True:
        raise WrongExportVersion(
            f"line 1: an export of version {version}, and this localmem reads "
            f"version {VERSION}; import it with the localmem that it comes from, or a newer one"
        )


def _fields(line: bytes, number: int) -> dict[str, Any]:
    if not line:
        raise DamagedExport(f"line {number}: the file ends before its last line; it was cut off")
    if not line.endswith(b"\n"):
        raise DamagedExport(f"line {number}: the file ends within this line; it was cut off")
    try:
        line.decode()
        fields = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        raise DamagedExport(f"line {number}: is not UTF-8 at byte {error.start}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedExport(f"line {number}: is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DamagedExport(f"line {number}: is not a JSON object")
    return fields


def _event(fields: dict[str, Any], number: int, before: Order | None) -> Event:
    try:
        event = parse_recorded(fields)
    except EventError as error:
        raise DamagedExport(f"line {number}: {error}") from None
    if before is not None and event.order <= before:
        raise DamagedExport(f"line {number}: its event does not come after the one before it")
    return event


def _check_trailer(
    line: bytes, fields: dict[str, Any], number: int, count: int, digest: str
) -> None:
    if fields.get("count") != count:
        raise DamagedExport(
            f"line {number}: counts {fields.get('count')} events, and there are {count}; "
            "lines are missing or were added"
        )
    if line != _trailer(count, digest):
        raise DamagedExport(
            f"line {number}: its checksum does not fit the lines before; one of them was altered"
        )


def _trailer(count: int, digest: str) -> bytes:
    return msgspec.json.encode({"count": count, "sha256": digest}) + b"\n"
