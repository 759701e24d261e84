"""The operating system's disk: `seams.Disk` for one real file, and making one.

Writes go through `pwrite` and `fdatasync`. The read-only memory map is for reading alone: stores to
a map reach the disk in any order and raise SIGBUS when it is full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from localmem_node.errors import ForeignFile, StoreError
from localmem_protocol.seams import Random

_ZEROS: Final = bytes(1 << 20)
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class FileDisk:
    """`seams.Disk` on a regular file that exists. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open a file for reading and writing. Raises StoreError, ForeignFile."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(f"cannot open {path}: {reason(error)}") from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            os.close(self._fd)
            raise ForeignFile(
                f"{path} is not a localmem store; choose another path or move it away"
            )
        try:
            self._map = mmap.mmap(self._fd, status.st_size, prot=mmap.PROT_READ)
        except OSError as error:
            os.close(self._fd)
            raise StoreError(f"cannot map {path}: {reason(error)}") from None

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes; raises OSError for a medium that cannot be read."""
        return os.pread(self._fd, size, offset)

    def mapped(self, offset: int, size: int) -> bytes:
        """Like `pread`, from the map: for places that `pread` has read before."""
        if offset + size > len(self._map):
            return self.pread(offset, size)
        return self._map[offset : offset + size]

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data`; raises OSError."""
        write_all(self._fd, offset, data)

    def sync(self) -> None:
        """Return once what was written is on the medium; raises OSError.

        After a failure the kernel calls the lost pages clean. They are dropped from memory, so
        that whoever opens the file next sees what the medium has.
        """
        try:
            sync_data(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_DONTNEED)
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
            raise

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Give map and file back."""
        self._map.close()
        os.close(self._fd)
        self._fd = -1  # another file may get its number


def create_file(path: Path, size: int, fill: Callable[[int], None], random: Random) -> None:
    """Make the file at `path` in one step: after a crash it is whole or not there.

    All `size` bytes are allocated before `fill` gets the descriptor. The file is made under a
    temporary name, synced and renamed. The caller holds the owner lock, so nobody else makes one.
    Raises StoreError (a full disk among the reasons) and leaves nothing.
    """
    prefix = f".{path.name}."
    temporary = path.with_name(f"{prefix}{random.token_bytes(8).hex()}.new")
    try:
        for left in path.parent.glob(f"{prefix}{'[0-9a-f]' * 16}.new"):
            left.unlink()
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {reason(error)}") from None
    try:
        _allocate(fd, size)
        fill(fd)
        os.fsync(fd)
        os.rename(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot create {path} of {size} bytes: {reason(error)}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make a directory that only its owner can enter, if it is not there. Raises StoreError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create the directory {path}: {reason(error)}") from None


def write_all(fd: int, offset: int, data: bytes) -> None:
    """`pwrite` until everything is written; raises OSError."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        rest = rest[written:]
        offset += written


def wipe_file(fd: int) -> None:
    """Overwrite a file that nobody reads any more; raises OSError."""
    size = os.fstat(fd).st_size
    for offset in range(0, size, len(_ZEROS)):
        write_all(fd, offset, _ZEROS[: size - offset])
    sync_data(fd)


def sync_data(fd: int) -> None:
    """`fdatasync`, or what comes nearest; raises OSError."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:  # macOS: fsync leaves data in the drive's cache
        fcntl.fcntl(fd, full_sync)
    else:
        os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Make a new name in a directory durable; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def reason(error: OSError) -> str:
    """What an OSError says, without the path."""
    return error.strerror or str(error)


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    for offset in range(0, size, len(_ZEROS)):
        write_all(fd, offset, _ZEROS[: size - offset])
