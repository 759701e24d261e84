"""Files and folders that only their owner may read.

Everything that grants access (tokens, sockets, keys) lives in folders of mode 0700 and files of
mode 0600 that belong to this user; anything looser is refused, not repaired, because whoever could
write there may already have.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from localmem_node.errors import ConfigError

SMALL_FILE_BYTES_MAX: Final = 64 * 1024
"""Bytes of a key, token or state file; more is not one of ours."""


def private_directory(path: Path) -> Path:
    """`path` as a folder of mode 0700 that belongs to this user, made if missing.

    Raises ConfigError when it is something else, or another user's, or cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be used as a folder: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(
            f"{path}: is not a folder; remove it or choose another with LOCALMEM_HOME"
        )
    if found.st_uid != os.getuid():
        raise ConfigError(f"{path}: belongs to another user; choose another with LOCALMEM_HOME")
    if found.st_mode & 0o077:
        # A folder that others could only read is closed; one they could write to is not trusted.
        if found.st_mode & 0o022:
            raise ConfigError(f"{path}: others may write to it; run: chmod 700 {path}")
        path.chmod(0o700)
    return path


def write_private(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace a file that others cannot read whole: a reader sees the old bytes or the new ones.

    Not `durable`, it outlives the process and not a power cut, after which it may be damaged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def read_private(path: Path, what: str) -> bytes:
    """A small file that only this user may read.

    Raises ConfigError naming `what` when it is missing, too large, or open to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            data = file.read(SMALL_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{what}: cannot read {path}: {error.strerror}") from None
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o077:
        raise ConfigError(f"{what}: {path} is open to others; run: chmod 600 {path}")
    if len(data) > SMALL_FILE_BYTES_MAX:
        raise ConfigError(f"{what}: {path} is larger than {SMALL_FILE_BYTES_MAX} bytes")
    return data


def try_lock(path: Path) -> int | None:
    """An exclusive lock on a file of mode 0600, as an open descriptor; None if another has it.

    The kernel drops it when the descriptor is closed or the process ends, however that happens.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def note_owner(lock: int) -> None:
    """Write this process's id into a file that `try_lock` locked, for `lock_owner`."""
    # On a full disk the lock holds all the same; only the name of its owner is missing.
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def lock_owner(path: Path) -> int | None:
    """The process that noted itself last; it may have ended long ago, the lock alone tells."""
    try:
        text = path.read_bytes()[:20].strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """Files made inside get no permission that is in `mask` (for sockets, which take no mode)."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
