"""How far each transcript was read, so that the next import begins where the last one ended.

A small file for each in the state folder, named by a digest of its path: it says nothing of what the
transcript is of. What it says is only trusted while the transcript is the same file and still has the
same bytes before that place; else it is read anew, and the events' keys keep doubles out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, write_private

BEFORE_BYTES: Final = 256
"""Bytes before the place that must be the same."""


class Mark(msgspec.Struct, frozen=True):
    """A place in a source that was as described: `done` if all of it had been read.

    `rows` are the last rows read of a database's tables, in the place of an offset; `since_ms` is the
    time before which events were left out.
    """

    inode: int
    size: int
    modified_ns: int
    offset: int = 0
    before: str = ""
    done: bool = False
    since_ms: int | None = None
    rows: dict[str, int] = {}

    def is_done(self, found: os.stat_result) -> bool:
        """Whether nothing changed since all was read."""
        return self.done and (self.size, self.modified_ns) == (found.st_size, found.st_mtime_ns)

    def begin(self, found: os.stat_result, stream: BinaryIO) -> int:
        """Where to go on in the source; 0 if it is no longer what was read."""
        same = found.st_size >= self.size and before(stream, self.offset) == self.before
        return self.offset if same else 0


class Progress:
    """The marks of one store, each a file in `folder`; `ignored`, all is read anew and marked."""

    def __init__(self, folder: Path, *, ignored: bool = False) -> None:
        self._folder, self._ignored = folder, ignored

    def load(self, source: Path, found: os.stat_result, since_ms: int | None) -> Mark | None:
        """The mark of a source, if it says something of events since `since_ms`."""
        if self._ignored:
            return None
        try:
            mark = msgspec.json.decode(self._path(source).read_bytes(), type=Mark)
        except (OSError, msgspec.DecodeError):
            return None
        covered = mark.since_ms is None or (since_ms is not None and since_ms >= mark.since_ms)
        return mark if covered and mark.inode == found.st_ino else None

    def save(self, source: Path, mark: Mark) -> None:
        """Remember a mark. That it fails is no reason to fail."""
        with contextlib.suppress(OSError, ConfigError):
            private_directory(self._folder)
            write_private(self._path(source), msgspec.json.encode(mark), durable=False)

    def _path(self, source: Path) -> Path:
        name = hashlib.blake2b(os.fsencode(source.absolute()), digest_size=12).hexdigest()
        return self._folder / f"{name}.json"


def before(stream: BinaryIO, offset: int) -> str:
    """A digest of what stands before a place."""
    start = max(0, offset - BEFORE_BYTES)
    stream.seek(start)
    return hashlib.blake2b(stream.read(offset - start), digest_size=12).hexdigest()
