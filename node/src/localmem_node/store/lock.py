"""One owner per store: an advisory lock on a file beside it, with the owner's process id in it.

The kernel releases the lock when the owner ends, however it ends; the file stays, since removing it
would let two owners hold locks on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from localmem_node.errors import StoreBusy, StoreError
from localmem_node.store.disk import reason


class OwnerLock:
    """Held from construction until `release`."""

    def __init__(self, store: Path) -> None:
        """Take the lock of the store at this path. Raises StoreBusy naming the owner, StoreError."""
        path = store.with_name(store.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"cannot lock {store}: {path.name}: {reason(error)}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise StoreBusy(f"{store} is in use by {who}; stop it or use its daemon") from None
        except OSError as error:
            os.close(self._fd)
            raise StoreError(f"cannot lock {store}: {reason(error)}") from None
        self._note(f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let the next owner in; harmless when repeated."""
        if self._fd < 0:
            return
        self._note(b"")
        os.close(self._fd)
        self._fd = -1

    def _note(self, owner: bytes) -> None:
        # On a full disk the lock holds all the same; only the name of its owner is missing.
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, owner, 0)
        except OSError:
            return
