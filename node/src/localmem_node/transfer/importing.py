"""From an export to a memory: everything is checked before the first event is sent.

A file is read twice, so one that cannot be read again (a pipe) is first copied to a temporary file
without a name, sealed under a key that only this process ever has.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from localmem_node.results import event_json
from localmem_node.transfer.lines import read_export
from localmem_node.transfer.seal import (
    CHUNK_BYTES,
    HEADER_BYTES,
    KEY_BYTES,
    MAGIC,
    Sealer,
    Unsealer,
    open_key,
)
from localmem_protocol.events import Event
from localmem_protocol.seams import Random

BATCH_EVENTS_MAX: Final = 256
"""Events sent at once; what one call takes."""

BATCH_CHARACTERS_MAX: Final = 4 * 1024 * 1024
"""Characters of snippets sent at once; even all escaped, they stay below what one call takes."""

REFUSED_LISTED_MAX: Final = 10_000
"""Refused lines that a report lists; further ones are only counted."""

SendEvents = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
"""Hands events to a memory, as `DaemonClient.import_events` does."""


@dataclass(slots=True)
class Imported:
    """What became of the events of a file: `read` is how many it holds. Each was `new`, `known`,
    `too_old` for a full ring, or refused. `evicted` left the ring to make room.
    """

    read: int = 0
    new: int = 0
    known: int = 0
    too_old: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    refused_count: int = 0
    evicted: int = 0


class Source:
    """An export that can be read from its beginning, again and again; one reading at a time."""

    def __init__(self, stream: Callable[[], io.BufferedReader], passphrase: Callable[[], str]):
        """`stream` opens it at its beginning; `passphrase` is asked for once, if it is sealed."""
        self._stream = stream
        self._passphrase = passphrase
        self._key: bytes | None = None

    def read(self) -> Iterator[tuple[int, Event]]:
        """As `lines.read_export`. Raises also WrongPassphrase and KeyUnavailable."""
        stream = self._stream()
        if stream.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
            return read_export(stream)
        header = stream.read(HEADER_BYTES)
        if self._key is None:
            self._key = open_key(self._passphrase(), header)
        return read_export(io.BufferedReader(Unsealer(stream, self._key), CHUNK_BYTES))


@contextlib.contextmanager
def open_source(descriptor: int, passphrase: Callable[[], str], random: Random) -> Iterator[Source]:
    """What a descriptor has from here on; it stays the caller's."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        start = os.lseek(descriptor, 0, os.SEEK_CUR)
        yield Source(lambda: _read_from(descriptor, start), passphrase)
        return
    with tempfile.TemporaryFile() as file:
        key = random.token_bytes(KEY_BYTES)
        sealer = Sealer(file.write, key)
        while data := os.read(descriptor, CHUNK_BYTES):
            sealer.write(data)
        sealer.finish()
        file.flush()
        copy = file.fileno()
        yield Source(
            lambda: io.BufferedReader(Unsealer(_read_from(copy, 0), key), CHUNK_BYTES), passphrase
        )


def check(source: Source) -> int:
    """How many events an export holds, once all of it was found right.

    Raises ForeignExport, WrongExportVersion, WrongPassphrase, KeyUnavailable, DamagedExport.
    """
    return sum(1 for _ in source.read())


def send(
    events: Iterable[tuple[int, Event]],
    import_events: SendEvents,
    progress: Callable[[int], None] = lambda count: None,
) -> Imported:
    """Hand numbered events on, in batches; `progress` is told how many. Refused ones are reported by
    their number.
    """
    report = Imported()
    for batch in _batches(events):
        answer = import_events([event_json(event) for _, event in batch])
        report.read += len(batch)
        report.new += answer["new"]
        report.known += answer["known"]
        report.too_old += answer["too_old"]
        report.evicted += answer["evicted"]
        for one in answer["refused"]:
            report.refused_count += 1
            if len(report.refused) < REFUSED_LISTED_MAX:
                where = f"{one['field']}: " if one["field"] else ""
                line = batch[one["index"]][0]
                report.refused.append({"line": line, "reason": f"{where}{one['message']}"})
        progress(report.read)
    return report


def _batches(events: Iterable[tuple[int, Event]]) -> Iterator[list[tuple[int, Event]]]:
    batch: list[tuple[int, Event]] = []
    size = 0
    for number, event in events:
        size += len(event.snippet)
        if batch and (len(batch) >= BATCH_EVENTS_MAX or size > BATCH_CHARACTERS_MAX):
            yield batch
            batch, size = [], len(event.snippet)
        batch.append((number, event))
    if batch:
        yield batch


def _read_from(descriptor: int, offset: int) -> io.BufferedReader:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return io.BufferedReader(io.FileIO(descriptor, closefd=False), CHUNK_BYTES)
