"""Three real hub processes on one real PostgreSQL: whatever dies, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.nats_server import MISSING as NO_NATS
from bench.nats_server import NatsServer, find_program, running_nats
from bench.postgres_server import MISSING, PostgresServer, find_binaries, running_postgres
from localmem_hub.database import open_engine
from localmem_hub.seams import Stored
from localmem_hub.store import SqlStore
from localmem_protocol.room import Room
from support.hub_process import HubProcess
from support.missing import missing
from support.roaming import RequestRoamer, Roamer, SocketRoamer

POOL = "team"
REPLICAS = 3


class Cluster:
    """The replicas, and devices that go from one to the other."""

    def __init__(self, server: PostgresServer, folder: Path, *options: str) -> None:
        self.server = server
        self.database = server.prepared()
        self.hubs: list[HubProcess] = []
        for number in range(REPLICAS):
            place = folder / str(number)
            place.mkdir()
            self.hubs.append(HubProcess(place, *options, database=self.database))
        self.roamers: list[Roamer] = []
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for hub in self.hubs:
            hub.launch()
        for hub in self.hubs:
            hub.listens()

    def end(self) -> None:
        for hub in self.hubs:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                hub.signal(signal.SIGCONT)
            hub.kill()

    def send_out(self, sockets: int, requests: int) -> None:
        """Devices begin to roam."""
        for number in range(1, sockets + requests + 1):
            device = f"{number:016x}"
            kind = SocketRoamer if number <= sockets else RequestRoamer
            roamer = kind(lambda: [h.url for h in self.hubs], POOL, device, self.token(device))
            self.roamers.append(roamer)
            self._running.append(asyncio.create_task(roamer.run()))

    def token(self, device: str) -> str:
        return self.hubs[0].token(POOL, device)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for it, or for a device that found something wrong."""
        try:
            async with asyncio.timeout(60):
                while not done():
                    for task in self._running:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            state = [(r.device, r.acknowledged, r.target, len(r.seen)) for r in self.roamers]
            logs = "\n\n".join(hub.log.read_text()[-2000:] for hub in self.hubs)
            raise AssertionError(f"{state}\n{logs}") from None

    async def write(self, each: int) -> None:
        """Every device writes so much more."""
        for roamer in self.roamers:
            roamer.target += each
        await self.until(lambda: all(r.acknowledged >= r.target for r in self.roamers))

    async def converge(self) -> None:
        """Everybody has seen all that everybody wrote, and the database has it, each once."""
        everything = {r.content(clock) for r in self.roamers for clock in range(r.target)}
        await self.until(
            lambda: all(
                r.seen >= everything - {r.content(c) for c in range(r.target)} for r in self.roamers
            )
        )
        stored = self.stored()
        found = Room(stored.updates, stored.clients)
        assert {c for roamer in self.roamers for c in roamer.seen} <= everything
        assert stored.head == len(everything)
        assert len(found.snapshot()) > sum(map(len, everything))

    def stored(self) -> Stored:
        store = SqlStore(open_engine(self.database))
        try:
            return store.load(POOL)
        finally:
            store.close()

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server that these tests may restart."""
    if find_binaries() is None:
        missing(MISSING)
    with running_postgres() as server:
        yield server


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    if find_program() is None:
        missing(NO_NATS)
    with running_nats() as server:
        yield server


@asynccontextmanager
async def cluster(server: PostgresServer, folder: Path, *options: str) -> AsyncIterator[Cluster]:
    made = Cluster(server, folder, *options)
    try:
        made.start()
        made.send_out(sockets=4, requests=2)
        await made.write(3)
        yield made
    finally:
        await made.stop()
        made.end()


async def test_replicas_survive_each_others_death_pauses_and_the_databases_restart(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    async with cluster(own_postgres, tmp_path) as made:
        made.hubs[0].kill()
        await made.write(3)
        made.hubs[0].start()
        made.hubs[1].signal(signal.SIGSTOP)
        await made.write(3)
        made.hubs[1].signal(signal.SIGCONT)
        cut = "application_name = 'localmem-hub listen'"
        own_postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {cut}")
        await made.write(3)
        for roamer in made.roamers:
            roamer.target += 3
        own_postgres.stop(signal.SIGINT)
        own_postgres.start()
        await made.write(3)
        await made.converge()


async def test_replicas_go_on_when_the_fan_out_dies(
    own_postgres: PostgresServer, nats: NatsServer, tmp_path: Path
) -> None:
    async with cluster(own_postgres, tmp_path, "--fanout", nats.url) as made:
        nats.kill()
        await made.write(3)
        nats.start()
        await made.write(3)
        await made.converge()
