"""The servers of `bench hub`, each a process on loopback, and what such a process uses.

Ours stores on SQLite with a disk sync per commit, in a temporary folder; the others keep their rooms
in memory. Processes that a server starts count as it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import event

from bench.hub_load import Room
from bench.hub_peers import node_server, python_server
from bench.postgres_server import ends_with_its_parent
from localmem_hub.database import open_engine, prepare
from localmem_hub.seams import Kind
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_protocol.updates import decode_update

PAGE_BYTES: Final = resource.getpagesize()
START_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Running:
    """A server: where it is, in which dialect, and its process."""

    url: str
    dialect: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time that it has used, by all its processes and threads that are there."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def rss_bytes(self) -> int:
        """Resident memory of all its processes."""
        statm = (Path(f"/proc/{pid}/statm").read_text() for pid in self._pids())
        return sum(int(text.split()[1]) * PAGE_BYTES for text in statm)

    def _pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found


@dataclass(frozen=True)
class Server:
    """How one is started. `prepare` fills in the tokens of the rooms' clients."""

    dialect: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path, Sequence[Room]], None]
    announces: bool = False


@contextlib.contextmanager
def running(server: Server, folder: Path, rooms: Sequence[Room]) -> Iterator[Running]:
    """A server with these rooms, until the end. Raises PeerMissingError."""
    server.prepare(folder, rooms)
    port = _free_port()
    with subprocess.Popen(
        server.command(folder),
        env={**os.environ, "PORT": str(port), "LOCALMEM_HUB_LOG_LEVEL": "error"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=ends_with_its_parent(signal.SIGTERM if server.announces else signal.SIGKILL),
    ) as process:
        try:
            url = f"ws://127.0.0.1:{port}"
            if server.announces:
                url = json.loads((process.stdout and process.stdout.readline()) or "{}")["url"]
            else:
                _await_port(process, port)
            yield Running(url, server.dialect, process.pid)
        finally:
            process.terminate()


def stored(folder: Path, rooms: Sequence[Room]) -> int:
    """How many updates our hub has stored of these rooms."""
    store = SqlStore(open_engine(_database(folder)))
    try:
        return sum(map(batches, (data for one in rooms for data in store.load(one.name).updates)))
    finally:
        store.close()


def batches(data: bytes) -> int:
    """How many are in an update that is stored: some may have been joined."""
    items = decode_update(data, stored=True).items
    return sum(item.length for run in items.values() for item in run)


def _ours(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", "0"]
    return [*command, "--database", _database(folder)]


def _database(folder: Path) -> str:
    return f"sqlite:///{folder / 'hub.db'}"


def _give_tokens(kind: Kind) -> Callable[[Path, Sequence[Room]], None]:
    def give(folder: Path, rooms: Sequence[Room]) -> None:
        engine = open_engine(_database(folder))
        event.listen(engine, "connect", _without_syncs)  # this is not what is measured
        prepare(engine)
        store, random = SqlStore(engine), SystemRandom()
        for room in rooms:
            shared = ""
            for client in room.clients:
                device = client.name if kind == "sealed" else None
                if not shared or kind == "sealed":
                    shared = store.tokens.create(
                        room.name, device, "writer", random, 1, kind=kind
                    ).text
                client.token = shared
        store.close()

    return give


def _without_syncs(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
    connection.cursor().execute("PRAGMA synchronous=OFF")


def _nothing(folder: Path, rooms: Sequence[Room]) -> None:
    """Rooms in memory need no preparation."""


SERVERS: Final[Mapping[str, Server]] = {
    "localmem": Server("sealed", _ours, _give_tokens("sealed"), announces=True),
    "localmem-plain": Server(
        "plain", lambda folder: [*_ours(folder), "--plain"], _give_tokens("plain"), announces=True
    ),
    "hocuspocus": Server("hocuspocus", lambda _: node_server("hocuspocus.mjs"), _nothing),
    "y-websocket": Server("y-websocket", lambda _: node_server("y_websocket.mjs"), _nothing),
    "pycrdt-websocket": Server("y-websocket", lambda _: python_server("pycrdt_rooms.py"), _nothing),
}
"""By the names in the result."""


def _cpu_s(pid: int) -> float:
    """To the nanosecond, which `stat` is not; of the threads that are there."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"bench: {' '.join(process.args)} did not start")  # type: ignore[arg-type]
        time.sleep(0.05)
