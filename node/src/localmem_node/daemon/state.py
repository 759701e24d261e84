"""Where a daemon is found: `daemon.json` and its neighbours in the runtime folder.

    daemon.json   who runs, on what, and the token that it asks for (0600)
    daemon.lock   held by the daemon for as long as it lives, with its process id
    launch.lock   held by a client while it starts one
    localmem.sock the Unix socket (0600)

Only the standard library and msgspec: every client reads this.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, read_private, write_private

SOCKET_PATH_BYTES_MAX: Final = 100
"""Linux has 108 bytes for the path of a Unix socket, other systems 104, with a final zero."""


class DaemonState(msgspec.Struct, frozen=True):
    """A running daemon. The token is a secret and in no repr."""

    pid: int
    port: int
    socket: str
    token: str
    version: str

    def __repr__(self) -> str:
        return f"DaemonState(pid={self.pid}, port={self.port}, socket={self.socket!r})"


def state_path(settings: Settings) -> Path:
    """Where the state is."""
    return settings.runtime_dir / "daemon.json"


def daemon_lock_path(settings: Settings) -> Path:
    """What the daemon locks."""
    return settings.runtime_dir / "daemon.lock"


def launch_lock_path(settings: Settings) -> Path:
    """What a client locks while it starts a daemon."""
    return settings.runtime_dir / "launch.lock"


def write_state(settings: Settings, state: DaemonState) -> None:
    """Say where the daemon is."""
    write_private(state_path(settings), msgspec.json.encode(state))


def read_state(settings: Settings) -> DaemonState | None:
    """The daemon that runs, or ran when the machine went down; None if there is none.

    Raises ConfigError if the file is open to others.
    """
    path = state_path(settings)
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_private(path, "daemon.json"), type=DaemonState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    except ConfigError:
        if not path.exists():  # a daemon that ended in between took it along
            return None
        raise


def socket_path(settings: Settings, environment_runtime: str | None) -> Path:
    """Where the socket goes: the runtime folder, or a short private folder when that is too long.

    `environment_runtime` is XDG_RUNTIME_DIR. Raises ConfigError when no folder is safe.
    """
    path = settings.runtime_dir / "localmem.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    name = hashlib.blake2b(os.fsencode(settings.runtime_dir), digest_size=8).hexdigest()
    for parent in (environment_runtime, tempfile.gettempdir()):
        if not parent:
            continue
        folder = Path(parent) / f"localmem-{os.getuid()}-{name}"
        if len(os.fsencode(folder / "s")) <= SOCKET_PATH_BYTES_MAX:
            return private_directory(folder) / "s"
    raise ConfigError(
        f"{settings.runtime_dir}: too long for a Unix socket; choose a shorter LOCALMEM_HOME"
    )
