"""What does a hub do in a second, how long does it take, and what does it use, beside its peers?

Real server processes on loopback, one after the other, and clients in a process of their own
(`hub_load.py`), which sees that every client gets every update. Ours stores every update on SQLite
with a disk sync per commit before it passes it on; the peers keep rooms in memory: hocuspocus,
@y/websocket-server, pycrdt-websocket. `localmem` is a sealed room, `localmem-plain` a room of
standard Yjs clients. Updates hold 100 random bytes, as a small sealed batch does.

`burst`: clients of one room send all they have at once. `paced`: the same, each sends two a second,
evenly spread. `rooms`: bursts in many rooms of two. `readers`: one writer, ten updates a second, and
many who only read. `join`: clients that come to a large document. `idle`: connections in rooms of
two that say nothing. Rounds alternate between the servers; each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.hub_load import Client, Job, Room
from bench.hub_peers import PeerMissingError
from bench.hub_servers import SERVERS, Running, running, stored
from bench.postgres_server import ends_with_its_parent
from bench.report import print_json, print_progress, print_table

Figures = dict[str, float]
PACE_S: Final = 0.5
READERS_PACE_S: Final = 0.1
WARM_CLIENTS: Final = 20
WARM: Final = "warm"
OURS: Final = ("localmem", "localmem-plain")


@dataclass(frozen=True)
class Part:
    """A load: its rooms, and what is done in them."""

    rooms: Callable[[argparse.Namespace], list[Room]]
    job: Callable[[argparse.Namespace], dict[str, Any]]


def room(name: str, clients: int, writers: int | None = None) -> Room:
    """A room of so many clients; all of them write, or the first ones."""
    names = (f"{number:016x}" for number in range(1, clients + 1))
    many = clients if writers is None else writers
    return Room(
        name=name,
        clients=[Client(name=one, writer=place < many) for place, one in enumerate(names)],
    )


def many_rooms(count: int) -> list[Room]:
    """Rooms of two."""
    return [room(f"room-{number}", 2) for number in range(count)]


PARTS: Final[Mapping[str, Part]] = {
    "burst": Part(lambda o: [room("room", o.clients)], lambda o: {"updates": o.updates}),
    "paced": Part(
        lambda o: [room("room", o.clients)], lambda o: {"updates": o.updates, "interval_s": PACE_S}
    ),
    "rooms": Part(lambda o: many_rooms(o.rooms), lambda o: {"updates": o.updates}),
    "readers": Part(
        lambda o: [room("room", o.readers + 1, writers=1)],
        lambda o: {"updates": o.updates, "interval_s": READERS_PACE_S},
    ),
    "join": Part(
        lambda o: [room("room", 2 + o.joins)],
        lambda o: {
            "kind": "join",
            "joins": o.joins,
            "document_bytes": int(o.document_mb * 1_000_000),
        },
    ),
    "idle": Part(lambda o: many_rooms(o.idle // 2), lambda o: {"kind": "idle", "idle_s": o.idle_s}),
}


class Generator:
    """The process of the clients, at one job."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _line(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit("bench: the load failed; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, line: bytes) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.decode() + "\n")
        self._process.stdin.flush()

    def begin(self, job: Job) -> None:
        """Until all clients are in."""
        self.tell(msgspec.json.encode(job))
        self._line()

    def result(self) -> dict[str, Any]:
        """Start the load; what came of it."""
        self.tell(b"")
        return self._line()


@contextmanager
def generator() -> Iterator[Generator]:
    """A process for one job."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.hub_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=ends_with_its_parent(),
    ) as process:
        try:
            yield Generator(process)
        finally:
            process.kill()


def measure(server: Running, rooms: list[Room], job: Mapping[str, Any]) -> Figures:
    """One job; its figures, with what the server used for it."""
    with generator() as clients:
        before = server.rss_bytes()
        clients.begin(Job(dialect=server.dialect, url=server.url, rooms=rooms, **job))
        cpu = server.cpu_s()
        found = clients.result()
        cpu, rss = server.cpu_s() - cpu, server.rss_bytes()
    match job.get("kind"):
        case "idle":
            grown = (rss - before) / found["connections"]
            return {
                "connections": found["connections"],
                "rss_bytes_per_connection": round(grown),
                "rss_mb": rss / 1e6,
                "cpu_percent": 100 * cpu / job["idle_s"],
            }
        case "join":
            return {
                "seconds": found["seconds"],
                "bytes": found["bytes"],
                "server_cpu_s": cpu / job["joins"],
                "rss_mb": rss / 1e6,
                "generator_cpu_s": found["generator_cpu_s"] / job["joins"],
            }
    return {
        "updates_per_s": found["updates"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "server_cpu_s": cpu,
        "cpu_us_per_delivery": 1e6 * cpu / found["deliveries"],
        "rss_mb": rss / 1e6,
        "deliveries": found["deliveries"],
        "generator_cpu_percent": 100 * found["generator_cpu_s"] / found["seconds"],
    }


def run(name: str, part: Part, options: argparse.Namespace) -> Figures:
    """One round of a part on a server of its own. Raises PeerMissingError."""
    rooms, warm, job = part.rooms(options), room(WARM, WARM_CLIENTS), part.job(options)
    with tempfile.TemporaryDirectory() as folder:
        with running(SERVERS[name], Path(folder), [warm, *rooms]) as server:
            measure(server, [warm], {"updates": 20})
            found = measure(server, rooms, job)
        written = options.updates * sum(one.writer for each in rooms for one in each.clients)
        if name == "localmem" and not job.get("kind") and stored(Path(folder), rooms) != written:
            raise SystemExit(
                f"bench: {stored(Path(folder), rooms)} of {written} updates are stored"
            )
    return found


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Every part on every server: part -> server -> figures; and `missing` -> server -> why."""
    result: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in options.only:
        rounds: dict[str, list[Figures]] = {}
        for number in range(options.rounds):
            for server in options.servers:
                if server in missing:
                    continue
                print_progress(f"{name}, round {number + 1}: {server}")
                try:
                    found = run(server, PARTS[name], options)
                except PeerMissingError as error:
                    missing[server] = str(error)
                else:
                    rounds.setdefault(server, []).append(found)
        result[name] = {
            server: {figure: _rounded(median(one[figure] for one in found)) for figure in found[0]}
            for server, found in rounds.items()
        }
    return result | ({"missing": missing} if missing else {})


def _rounded(value: float) -> float:
    return round(value, 3) if abs(value) < 10 else round(value, 1) if value < 1000 else round(value)


def _names(allowed: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [one for one in found if one not in allowed]:
            raise argparse.ArgumentTypeError(
                f"unknown: {unknown[0]}; there is {', '.join(allowed)}"
            )
        return found

    return parse


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench hub", description=__doc__)
    parser.add_argument("--only", type=_names(PARTS), default=list(PARTS), help="with commas")
    parser.add_argument("--servers", type=_names(SERVERS), default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50, help="in the one room")
    parser.add_argument("--updates", type=int, default=20, help="of each who writes")
    parser.add_argument("--rooms", type=int, default=500)
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--joins", type=int, default=3, help="late joiners, one after the other")
    parser.add_argument("--document-mb", type=float, default=10.0)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--idle-s", type=float, default=5.0, help="how long they are idle")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.updates, options.rooms, options.readers, options.joins) < 1:
        parser.error("there must be at least one of each")
    if options.clients < 2 or options.idle < 2:
        parser.error("--clients and --idle must be at least 2")
    return options


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    options = parse(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the processes that it starts
    result = compare(options)
    if options.json:
        print_json(result)
        return
    for part in options.only:
        figures = result[part]
        heads = list(next(iter(figures.values()), {}))
        print(f"\n{part}")
        print_table(
            ["server", *heads],
            [[server, *(str(row[head]) for head in heads)] for server, row in figures.items()],
        )
    for server, reason in result.get("missing", {}).items():
        print(f"\n{server} is missing: {reason}")
