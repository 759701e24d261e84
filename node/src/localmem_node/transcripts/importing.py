"""Reads transcripts from where the last import ended, and hands on what they tell, file by file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final

from localmem_node.transcripts.cursor import records_of_text
from localmem_node.transcripts.found import Reader
from localmem_node.transcripts.progress import Mark, Progress, before
from localmem_node.transcripts.records import PACKED, Record, open_records, records_from
from localmem_node.transcripts.sending import Imported, Sender
from localmem_node.transcripts.sources import Kind, Source, reader_of

CHECKPOINT_EVENTS: Final = 192
"""Events after which they are sent and the place is noted."""

TEXT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of an old transcript of plain text that are read."""


@dataclass(frozen=True, slots=True)
class Importer:
    """Imports transcripts of one kind; events before `since_ms` were asked to be left out."""

    kind: Kind
    sender: Sender
    report: Imported
    progress: Progress
    since_ms: int | None = None

    def run(self, sources: Iterable[Source]) -> None:
        """One transcript after the other; those that cannot be read are listed in the report.

        Raises what the daemon reports. What was sent until then is not read again.
        """
        for source in sources:
            self.sender.begin()
            try:
                self._import(source)
            except OSError as error:
                self.report.unreadable.append(f"{source.path}: {error.strerror or error}")
            self.sender.flush()

    def _import(self, source: Source) -> None:
        found = source.path.stat()
        mark = self.progress.load(source.path, found, self.since_ms)
        if mark is not None and mark.is_done(found):
            return
        self.report.files += 1
        reader = reader_of(self.kind, source)
        with open_records(source.path) as stream:
            if source.path.suffix == ".txt":
                text = stream.read(TEXT_BYTES_MAX).decode(errors="replace")
                for fields in records_of_text(text):
                    self._feed(Record(0, 0, fields), reader)
                offset = 0
            else:
                # A packed file does not grow, and has no places to go on from.
                begin = mark.begin(found, stream) if mark and source.path.suffix != PACKED else 0
                offset = self._read(source, found, stream, begin, reader)
            for one in reader.finish():
                self.sender.add(one)
            needed = reader.needed()
            offset = offset if needed is None else min(needed, offset)
            self.sender.flush()
            self._save(source, found, stream, offset, done=True)

    def _read(
        self,
        source: Source,
        found: os.stat_result,
        stream: BinaryIO,
        begin: int,
        reader: Reader,
    ) -> int:
        """Read on from `begin`; where the last record ended."""
        if begin:
            first = next(records_from(stream, 0), None)
            reader.head((first.fields if first else None) or {})
        offset = begin
        for record in records_from(stream, begin):
            if not record.whole and record.fields is None:
                break  # it is still being written
            self._feed(record, reader)
            offset = record.end
            if self.sender.waiting >= CHECKPOINT_EVENTS:
                self.sender.flush()
                if source.path.suffix == PACKED:
                    continue
                needed = reader.needed()
                place = offset if needed is None else min(needed, offset)
                self._save(source, found, stream, place, done=False)
                stream.seek(offset)
        return offset

    def _feed(self, record: Record, reader: Reader) -> None:
        self.report.lines += 1
        if record.fields is None:
            self.report.skipped += 1
            return
        for one in reader.feed(record.fields, record.offset):
            self.sender.add(one)

    def _save(
        self,
        source: Source,
        found: os.stat_result,
        stream: BinaryIO,
        offset: int,
        *,
        done: bool,
    ) -> None:
        places = source.path.suffix not in (PACKED, ".txt")
        mark = Mark(
            inode=found.st_ino,
            size=found.st_size,
            modified_ns=found.st_mtime_ns,
            offset=offset if places else 0,
            before=before(stream, offset) if places else "",
            done=done,
            since_ms=self.since_ms,
        )
        if places or done:
            self.progress.save(source.path, mark)
