"""What hooks left while no daemon answered them (`hook/client.py` writes it).

Records of `EDITOR MS LENGTH`, a line break, so many bytes of JSON, a line break. The file is renamed
before it is read, so that a client begins a new one; what a crash leaves of it is read the next
time, and nothing is recorded twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

from localmem_node.config import Settings
from localmem_node.editors.captured import EDITORS, Editor
from localmem_protocol.limits import TIMESTAMP_MS_MAX

SPOOL_BYTES_MAX: Final = 8 * 1024 * 1024
"""Twice what clients leave; more is not one of ours."""

LOCK_ATTEMPTS: Final = 50
LOCK_PAUSE_S: Final = 0.01

_HEAD: Final = re.compile(rb"(%s) ([0-9]{1,15}) ([0-9]{1,9})\n" % b"|".join(
    editor.encode() for editor in EDITORS
))  # fmt: skip

logger = logging.getLogger(__name__)


class Spooled(NamedTuple):
    """A hook's body, and when it came, in ms since 1970."""

    editor: Editor
    at_ms: int
    body: bytes


def spool_path(settings: Settings) -> Path:
    """Where clients leave it."""
    return settings.runtime_dir / "spool"


def drain(settings: Settings) -> Iterator[list[Spooled]]:
    """What was left, file by file, oldest first; each is removed after it was used.

    A file that is not ours is left alone.
    """
    path = spool_path(settings)
    draining = path.with_name("spool.draining")
    for _ in range(2):  # of a crash before, and of now
        if not os.path.lexists(draining):
            try:
                path.rename(draining)
            except OSError:
                return
        data = _read(draining)
        if data is None:
            return
        yield list(parse(data))
        # A client may have opened the file before it was renamed.
        later = (_read(draining) or b"")[len(data) :]
        if later:
            yield list(parse(later))
        with contextlib.suppress(OSError):
            draining.unlink()


def parse(data: bytes) -> Iterator[Spooled]:
    """The records; what is torn is left out, and the search goes on behind it."""
    at = 0
    while (head := _HEAD.search(data, at)) is not None:
        end = head.end() + int(head[3])
        at_ms = int(head[2])
        starts_line = head.start() == 0 or data[head.start() - 1 : head.start()] == b"\n"
        if starts_line and data[end : end + 1] == b"\n" and at_ms <= TIMESTAMP_MS_MAX:
            yield Spooled(cast(Editor, head[1].decode()), at_ms, data[head.end() : end])
            at = end + 1
        else:
            at = head.end()


def _wait_for_writer(descriptor: int) -> None:
    """A client holds the lock while it writes; one that was stopped meanwhile is not waited for."""
    for _ in range(LOCK_ATTEMPTS):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(LOCK_PAUSE_S)


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            ours = found.st_uid == os.getuid() and not found.st_mode & 0o077
            if not stat.S_ISREG(found.st_mode) or not ours:
                logger.error("%s is not a private file of ours; left alone", path)
                return None
            _wait_for_writer(file.fileno())
            return file.read(SPOOL_BYTES_MAX)
    except OSError as error:
        logger.error("%s: %s", path, error.strerror)
        return None
