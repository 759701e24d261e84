"""How many updates does a hub merge, store and pass on?

A real hub process on SQLite (a disk sync per commit) in a temporary folder, and devices in this
process that share the machine with it. `burst`: every device sends all it has and waits for the
acknowledgement of the last. `paced`: each sends its next when the last is acknowledged, which is
what a person's devices do; its times are from sending to the acknowledgement. Updates hold 100
random bytes, as a small sealed batch does. What was acknowledged is counted in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
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

from bench.report import print_json, print_progress, print_table
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Step1,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import Item, encode_state_vector, encode_update
from localmem_protocol.updates import Update as YjsUpdate

BATCH_BYTES: Final = 100
POOL: Final = "bench"


@dataclass
class Device:
    """A connection that has been welcomed; what it has sent and received."""

    name: str
    socket: ClientConnection
    client: int
    clock: int = 0
    delivered: int = 0
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
            self.delivered += isinstance(frame, Update)
            if isinstance(frame, Ack) and frame.clock >= clock:
                return


async def receive(socket: ClientConnection) -> Frame:
    """The next frame."""
    data = await socket.recv()
    if not isinstance(data, bytes):
        raise TypeError("a text message from the hub")
    return decode_frame(data)


async def join(url: str, name: str, token: str) -> Device:
    """Connect, say hello, and ask for everything: from then on the hub passes updates on."""
    socket = await connect(
        f"{url}/v1/sync/{POOL}",
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}", "X-Localmem-Device": name},
        compression=None,
        max_size=None,
        max_queue=None,
        proxy=None,
    )
    await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, name, 0)))
    welcome = await receive(socket)
    if not isinstance(welcome, Welcome):
        raise TypeError(f"{type(welcome).__name__} instead of a welcome")
    await receive(socket)
    await socket.send(encode_frame(Step1(encode_state_vector({}))))
    await receive(socket)
    return Device(name, socket, welcome.client)


async def burst(device: Device, frames: list[bytes]) -> None:
    """Send everything, and wait until the last is acknowledged."""

    async def send() -> None:
        for frame in frames:
            await device.socket.send(frame)

    sending = asyncio.create_task(send())
    await device.acknowledged(device.clock)
    await sending


async def paced(device: Device, updates: int) -> None:
    """Send one after the other."""
    for _ in range(updates):
        frame = device.next_update()
        since = time.perf_counter()
        await device.socket.send(frame)
        await device.acknowledged(device.clock)
        device.times_s.append(time.perf_counter() - since)


async def measure(url: str, tokens: dict[str, str], updates: int) -> dict[str, float]:
    """Both loads, one after the other, on one room."""
    devices = [await join(url, name, token) for name, token in tokens.items()]
    frames = {device.name: [device.next_update() for _ in range(updates)] for device in devices}
    since = time.perf_counter()
    await asyncio.gather(*(burst(device, frames[device.name]) for device in devices))
    burst_s = time.perf_counter() - since
    single = max(1, updates // 10)
    since = time.perf_counter()
    await asyncio.gather(*(paced(device, single) for device in devices))
    paced_s = time.perf_counter() - since
    times = sorted(t for device in devices for t in device.times_s)
    for device in devices:
        await device.socket.close()
    return {
        "devices": len(devices),
        "updates": sum(device.clock for device in devices),
        "burst_updates_per_s": round(len(devices) * updates / burst_s),
        "paced_updates_per_s": round(len(times) / paced_s),
        "paced_p50_ms": round(1000 * statistics.median(times), 2),
        "paced_p99_ms": round(1000 * times[int(0.99 * len(times))], 2),
    }


@contextlib.contextmanager
def running_hub(database: Path) -> Iterator[str]:
    """The address of a hub process."""
    command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--database", f"sqlite:///{database}"],
        env={**os.environ, "LOCALMEM_HUB_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            answer = json.loads(line or "{}")
            if "url" not in answer:
                raise SystemExit(f"bench: the hub did not start {answer.get('error', '')}")
            yield answer["url"]
        finally:
            process.terminate()


def make_token(database: Path, device: str) -> str:
    """A token for a device."""
    command = [sys.executable, "-m", "localmem_hub", "token", "create", "--pool", POOL]
    target = ["--device", device, "--database", f"sqlite:///{database}"]
    made = subprocess.run([*command, *target], check=True, capture_output=True, text=True)
    return made.stdout.strip()


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench hub", description=__doc__)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--updates", type=int, default=5000, help="per device, in the burst")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.devices < 1 or options.updates < 1:
        parser.error("--devices and --updates must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "hub.db")
        names = [f"{number:016x}" for number in range(1, options.devices + 1)]
        print_progress(f"{options.devices} devices, {options.updates} updates each")
        tokens = {name: make_token(database, name) for name in names}
        with running_hub(database) as url:
            result = asyncio.run(measure(url, tokens, options.updates))
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (stored,) = connection.execute("SELECT head FROM pools").fetchone()
    if stored != result["updates"]:
        raise SystemExit(f"bench: {result['updates']} acknowledged, {stored} stored")
    if options.json:
        print_json(result)
    else:
        print_table(["figure", "value"], [[name, str(value)] for name, value in result.items()])
