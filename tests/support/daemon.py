"""Daemons for tests: real processes, each with a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.daemons import daemons_of as daemons_of
from bench.daemons import is_alive as is_alive

ROOT = Path(__file__).parents[2]
SOURCES = ("protocol/src", "node/src", "models/minilm/src")
PASSPHRASE = "correct horse"


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user with this home and nothing else of localmem's."""
    inherited = {name: value for name, value in os.environ.items() if "LOCALMEM" not in name}
    return inherited | {
        "LOCALMEM_HOME": str(home),
        "LOCALMEM_PASSPHRASE": PASSPHRASE,
        "LOCALMEM_SIZE": "2 MiB",
        "PYTHONPATH": os.pathsep.join(str(ROOT / source) for source in SOURCES),
        **more,
    }


def localmem(
    home: Path, *arguments: str, stdin: bytes | None = b"", cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        env=environment(home, **more),
        cwd=cwd or home.parent,
        capture_output=True,
        timeout=100,
        check=False,
    )


@contextlib.contextmanager
def started(home: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a command that takes its time; it is killed at the end if it still runs."""
    with subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home, **more),
        cwd=home.parent,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def command(*arguments: str) -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-P", "-m", "localmem_node.cli.main", *arguments]


def answer(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    parsed = json.loads(done.stdout)
    assert isinstance(parsed, dict)
    return parsed


def children(pid: int) -> list[int]:
    """The processes whose parent is this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def left_behind(home: Path) -> list[str]:
    """What of this home's is still alive: daemons, and sockets by the kernel's own list."""
    sockets = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    return [f"process {pid}" for pid in daemons_of(home)] + [
        line for line in sockets if str(home) in line
    ]


def listens(port: int) -> bool:
    """Whether something takes connections at this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_sockets(pid: int) -> int:
    """Sockets that a process holds."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


def thread_heaps(pid: int) -> int:
    """Heaps that glibc has made for threads.

    A heap is 64 MiB, aligned to its size: memory in use, and then an inaccessible rest that ends
    with it. The guard page of a stack may end there as well, but nothing in use reaches up to it
    from the beginning of such a block.
    """
    size = 64 * 2**20
    heaps, used_from, used_to = 0, 0, 0
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        span, access, _, _, inode = line.split()[:5]
        start, end = (int(part, 16) for part in span.split("-"))
        if access == "---p" and inode == "0" and end % size == 0:
            heaps += used_to == start and used_from <= end - size
        if access == "rw-p":
            used_from = used_from if used_to == start else start
            used_to = end
    return heaps
