"""Does a hub that is killed again and again keep what it acknowledged?

Devices in a few rooms write without a pause, over WebSocket. The hub, a process of its own on SQLite
or on a real PostgreSQL, gets SIGKILL at moments that a seed draws: at work, while it starts, or while
it stops after SIGTERM; or it may stop in order. Then it is started anew. PostgreSQL is killed as well, once in
DATABASE_EVERY kills, under a hub that serves. At every greeting a device compares what the hub has with
what it was acknowledged; in every life that comes to serve a device that knows nothing reads one room, after
ROUND_KILLS kills all rooms, and at the end all rooms of all rounds, byte for byte. What devices were shown
of each other counts like what they were acknowledged: a hub must not pass on what it could lose.

SIGKILL leaves the kernel's page cache alone; for power cuts there is `hub-power-cut`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from bench.hub_writers import GONE, Told, Writer, compare, read_room
from bench.postgres_server import MISSING, PostgresServer, find_binaries, running_postgres
from bench.report import print_json, print_progress, print_table
from bench.warm_hub import WarmHub
from localmem_hub.database import open_engine, prepare
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom

ROUND_KILLS: Final = 25
"""Kills with the same rooms; then new ones, so that no room grows without end."""

ROOMS: Final = 3
WRITERS: Final = 2
"""In each room."""

READER: Final = "f" * 16
DATABASE_EVERY: Final = 20
PROBLEMS_SHOWN: Final = 10
LOG_CHARS: Final = 4000
PATIENCE_S: Final = 60.0
PORTS: Final = range(20_000, 30_000)
"""Below those that the kernel gives to connections: one of those could take the hub's while it is down."""

Moment = Literal["working", "starting", "stopping", "stopped"]
MOMENTS: Final[Sequence[Moment]] = get_args(Moment)
WEIGHTS: Final = (3 / 7, 1 / 7, 2 / 7, 1 / 7)
"""How often each of them is drawn."""

DELAY_S: Final[Mapping[Moment, float]] = {
    "working": 0.25,
    "starting": 0.2,
    "stopping": 0.03,
    "stopped": 0.25,
}
"""The longest time to the signal that ends it: from the first acknowledgement, from the fork, from
SIGTERM; on a quiet machine a hub listens after 0.1 s and has stopped after 0.03 s. `stopped` is SIGTERM
alone, as long after the first acknowledgement as `working`."""


@dataclass
class Result:
    """Counts on one engine; from `lost_acknowledged` on all are 0 or empty if all is well.

    `kills` are processes that a signal ended; `acknowledged` batches that are durable, as the devices
    were told, `compared` those that were read and compared. `wrong_ends` are ends after SIGTERM with
    another exit code than 0.
    """

    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    database_restarts: int = 0
    rounds: int = 0
    acknowledged: int = 0
    reads: int = 0
    compared: int = 0
    wrong_ends: int = 0
    told: Told = field(default_factory=Told)

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong."""
        told = self.told
        wrong = told.lost_acknowledged, told.lost_shown, told.altered, self.wrong_ends
        return not any(wrong) and not told.problems

    def to_json(self, seconds: float) -> dict[str, Any]:
        """For a report: the first PROBLEMS_SHOWN problems suffice."""
        found = {name: value for name, value in vars(self).items() if name != "told"}
        found |= vars(self.told)
        found |= {"moments": dict(self.moments), "problems": self.told.problems[:PROBLEMS_SHOWN]}
        return {**found, "took_s": round(seconds)}


class Rooms:
    """The rooms of a round: who writes there, and who may read."""

    def __init__(self, database: str, seed: int, number: int, told: Told) -> None:
        self.writers: dict[str, list[Writer]] = {}
        self._readers: dict[str, str] = {}
        self._told = told
        store = SqlStore(open_engine(database))
        try:
            for room in range(ROOMS):
                pool, writers = f"round{number}.{room}", []
                for device in range(WRITERS):
                    name = f"{number:08x}{room:04x}{device + 1:04x}"
                    token = store.tokens.create(pool, name, "writer", SystemRandom(), 1).text
                    writers.append(Writer(seed, pool, name, token, told))
                self.writers[pool] = writers
                made = store.tokens.create(pool, READER, "reader", SystemRandom(), 1)
                self._readers[pool] = made.text
        finally:
            store.close()

    @property
    def all(self) -> list[Writer]:
        """Everybody who writes."""
        return [writer for writers in self.writers.values() for writer in writers]

    @property
    def acknowledged(self) -> int:
        """Batches that are durable."""
        return sum(writer.confirmed for writer in self.all)

    async def read(self, url: str, pool: str) -> int:
        """Read a room as one who knows nothing, and compare; the batches compared."""
        writers = self.writers[pool]
        confirmed = {writer.name: writer.confirmed for writer in writers}
        shown: dict[int, int] = {}
        for writer in writers:
            for client, clock in writer.shown.items():
                shown[client] = max(clock, shown.get(client, 0))
        found = await read_room(url, pool, READER, self._readers[pool])
        return compare(writers, confirmed, shown, found, self._told)


class Run:
    """One engine."""

    def __init__(
        self, hub: WarmHub, database: str, seed: int, server: PostgresServer | None
    ) -> None:
        self.result = Result()
        self._hub, self._database, self._server = hub, database, server
        self._seed = seed
        self._chance = np.random.default_rng(seed)
        self._port = _free_port()
        self._url = f"ws://127.0.0.1:{self._port}"

    async def run(self, kills: int) -> Result:
        """Kill until it is enough; then look at everything once more."""
        rounds: list[Rooms] = []
        while self.result.kills < kills and self.result.sound:
            rooms = await asyncio.to_thread(self._rooms, len(rounds))
            rounds.append(rooms)
            await self._round(rooms, min(ROUND_KILLS, kills - self.result.kills))
            self.result.rounds += 1
            print_progress(
                f"{self._name}: {self.result.kills} kills, "
                f"{'nothing lost' if self.result.sound else 'LOST'}"
            )
        self._start()
        for rooms in rounds:
            await self._read(rooms, list(rooms.writers))
        await self._end_in_order()
        self.result.acknowledged = sum(rooms.acknowledged for rooms in rounds)
        return self.result

    @property
    def _name(self) -> str:
        return "sqlite" if self._server is None else "postgresql"

    def _rooms(self, number: int) -> Rooms:
        return Rooms(self._database, self._seed, number, self.result.told)

    async def _round(self, rooms: Rooms, kills: int) -> None:
        writing = [asyncio.create_task(writer.write(self._url)) for writer in rooms.all]
        try:
            for _ in range(kills):
                await self._life(rooms)
        finally:
            left = set(writing)
            while left:  # a connection that just fails may keep the word from its task
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=1)
            ended = await asyncio.gather(*writing, return_exceptions=True)
        failed = [one for one in ended if not isinstance(one, asyncio.CancelledError)]
        self.result.told.problems += [f"a device failed: {error!r}" for error in failed]
        self._start()
        await self._read(rooms, list(rooms.writers))
        await self._end_in_order()

    async def _life(self, rooms: Rooms) -> None:
        """Start it, let it work, and end it."""
        moment = MOMENTS[int(self._chance.choice(len(MOMENTS), p=WEIGHTS))]
        self._start()
        if moment != "starting":
            await self._works(rooms)
            await self._read(rooms, [list(rooms.writers)[int(self._chance.integers(ROOMS))]])
            if self._server is not None and self._chance.integers(DATABASE_EVERY) == 0:
                await self._restart_database(rooms)
        if moment == "stopping":
            await self._pause("working")
            self._hub.signal(signal.SIGTERM)
        elif moment == "starting":
            await self._pause(moment)
        await self._pause(moment)
        if moment == "stopped":
            await self._end_in_order()
        else:
            self._hub.signal(signal.SIGKILL)
            status = await asyncio.to_thread(self._hub.wait)
            if status != -signal.SIGKILL:  # it had stopped already, or did not start
                self.result.wrong_ends += status != 0
                moment = "stopped"
        self.result.moments[moment] += 1
        self.result.kills += 1

    def _start(self) -> None:
        self._hub.start(["--database", self._database, "--port", str(self._port)])

    async def _end_in_order(self) -> None:
        self._hub.signal(signal.SIGTERM)
        status = await asyncio.to_thread(self._hub.wait)
        self.result.wrong_ends += status != 0

    async def _works(self, rooms: Rooms) -> None:
        """Wait until somebody is acknowledged something."""
        for writer in rooms.all:
            writer.progress.clear()
        waiting = [asyncio.create_task(writer.progress.wait()) for writer in rooms.all]
        done, late = await asyncio.wait(
            waiting, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in late:
            task.cancel()
        if not done:
            raise SystemExit("bench: the hub acknowledges nothing; see what it logged")

    async def _read(self, rooms: Rooms, pools: Sequence[str]) -> None:
        """Compare these rooms; a hub that has only begun to start is waited for."""
        deadline = time.monotonic() + PATIENCE_S
        for pool in pools:
            while True:
                with suppress(*GONE):
                    self.result.compared += await rooms.read(self._url, pool)
                    self.result.reads += 1
                    break
                if time.monotonic() > deadline:
                    raise SystemExit(f"bench: {pool} cannot be read; see what the hub logged")
                await asyncio.sleep(0.01)

    async def _restart_database(self, rooms: Rooms) -> None:
        """End PostgreSQL at once, as a kill does, and have it recover under the hub."""
        assert self._server is not None
        await asyncio.to_thread(self._server.stop, signal.SIGQUIT)
        await asyncio.to_thread(self._server.start)
        self.result.database_restarts += 1
        await self._works(rooms)

    async def _pause(self, moment: Moment) -> None:
        await asyncio.sleep(DELAY_S[moment] * float(self._chance.random()))


def _free_port() -> int:
    first = os.getpid() % len(PORTS)  # others may be at it as well
    for port in (*PORTS[first:], *PORTS[:first]):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(port)
    raise SystemExit("bench: no port is free")


@contextmanager
def _database(engine: str, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    """A new database with the hub's tables."""
    if engine == "sqlite":
        url = f"sqlite:///{folder / 'hub.db'}"
        opened = open_engine(url)
        prepare(opened)
        opened.dispose()
        yield url, None
        return
    with running_postgres(durable=True) as server:
        yield server.prepared(), server


def measure(engine: str, kills: int, seed: int) -> dict[str, Any]:
    """So many kills on one engine; the counts. Raises SystemExit when it cannot go on."""
    since = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as name,
        _database(engine, Path(name)) as (database, server),
    ):
        log = Path(name, "hub.log")
        sound = False
        try:
            with WarmHub(log) as hub:
                result = asyncio.run(Run(hub, database, seed, server).run(kills))
            sound = result.sound
        finally:
            if not sound:
                print_progress(log.read_text()[-LOG_CHARS:])
    return result.to_json(time.perf_counter() - since) | {"sound": sound}


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {engine: {"kills", "lost_acknowledged", …}}.

    Raises SystemExit if anything was lost.
    """
    parser = argparse.ArgumentParser(prog="python -m bench hub-crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="on each engine")
    parser.add_argument("--engine", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the batches")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    engines = ["sqlite", "postgresql"] if options.engine == "both" else [options.engine]
    if "postgresql" in engines and find_binaries() is None:
        raise SystemExit(f"bench: {MISSING}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    result = {engine: measure(engine, options.kills, options.seed) for engine in engines}
    sound = [found.pop("sound") for found in result.values()]
    if options.json:
        print_json(result)
    else:
        figures = next(iter(result.values()))
        print_table(
            ["figure", *result],
            [[name, *(str(found[name]) for found in result.values())] for name in figures],
        )
    if not all(sound):
        raise SystemExit(
            "bench: a hub lost something, or did not end as it should; see the figures"
        )
