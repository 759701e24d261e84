"""Daemons for benchmarks: real processes, each with a home of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from localmem_node.client import DaemonClient

PASSPHRASE: Final = {"LOCALMEM_PASSPHRASE": "benchmark"}
"""What a daemon seals its store with, unless it has a key file."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user with this home and nothing else of localmem's."""
    inherited = {name: value for name, value in os.environ.items() if "LOCALMEM" not in name}
    return inherited | {
        "LOCALMEM_HOME": str(home),
        # What this process can import the daemon can, too: a checkout need not be installed.
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        **more,
    }


@contextmanager
def daemon(home: Path, **more: str) -> Iterator[DaemonClient]:
    """A client of a daemon of its own, which is stopped afterwards."""
    keys = {} if "LOCALMEM_KEY_FILE" in more else PASSPHRASE
    with DaemonClient(environment(home, **keys, **more)) as client:
        try:
            yield client
        finally:
            client.stop()


def daemons_of(home: Path) -> list[int]:
    """Every daemon process whose home this is, from the first moment on."""
    mine = f"LOCALMEM_HOME={home}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"localmem_node.daemon\0" not in (process / "cmdline").read_bytes():
                continue
            if mine in (process / "environ").read_bytes() and is_alive(int(process.name)):
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
