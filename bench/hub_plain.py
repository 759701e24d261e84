"""What does it cost to keep the documents of plain rooms in processes of their own?

The hub's plain rooms on a real store (SQLite, a disk sync per commit), without sockets: clients in
this process send updates of one letter, every room to its last one stored. `processes` calls workers
as a hub does; `inside` does the very same work in the hub's own process, which one bad update would
end. `burst`: all that a client has at once; `paced`: its next once the last was passed on.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.report import print_json, print_progress, print_table
from localmem_hub.database import open_engine, prepare
from localmem_hub.plain.calls import Answer, Call
from localmem_hub.plain.messages import changes, step1
from localmem_hub.plain.rooms import PlainRooms
from localmem_hub.plain.scratch import Scratch
from localmem_hub.plain.workshop import Processes, Workshop
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemClock, SystemRandom
from localmem_hub.workers import Workers
from localmem_protocol.wire import varbytes, varuint


class Inside:
    """A workshop that does everything itself."""

    def __init__(self) -> None:
        self._scratch = Scratch()

    async def call(self, room: str, call: Call) -> Answer:
        """Do it."""
        return self._scratch.handle(call)

    async def stop(self) -> None:
        """Nothing to end."""


class Reader:
    """A connection that counts the letters it is passed."""

    def __init__(self) -> None:
        self.messages = 0
        self.told = asyncio.Event()

    def send(self, data: bytes) -> None:
        """A message for it."""
        self.messages += 1
        self.told.set()

    def drop(self, code: int, reason: str) -> None:
        """Nobody is dropped here."""
        raise RuntimeError(f"dropped: {code} {reason}")

    async def next(self) -> None:
        """Until there is another message."""
        self.told.clear()
        await self.told.wait()


def letter(client: int, clock: int) -> bytes:
    """The message that adds a letter after a client's last one."""
    origin = varuint(client) + varuint(clock - 1) if clock else b"\x01" + varbytes(b"text")
    head = b"\x01\x01" + varuint(client) + varuint(clock) + (b"\x84" if clock else b"\x04")
    return changes(head + origin + b"\x01x\x00")


async def measure(workshop: Workshop, folder: Path, rooms: int, updates: int) -> dict[str, float]:
    """Updates a second, burst and paced, in this many rooms of one writer and one reader."""
    engine = open_engine(f"sqlite:///{folder / 'hub.db'}")
    prepare(engine)
    store, workers = SqlStore(engine), Workers()
    plain = PlainRooms(store, workers, SystemClock(), workshop)
    names = [f"room-{number}" for number in range(rooms)]
    for name in names:
        store.tokens.create(name, None, "writer", SystemRandom(), 1, kind="plain")

    async def work(name: str, *, paced: bool) -> None:
        writer, reader = Reader(), Reader()
        client = 1 + paced
        room = plain.join(name, 1, writer, "writer", writer=True)
        plain.join(name, 2, reader, "reader", writer=False)
        plain.receive(room, 2, [step1(b"\x00")])
        await reader.next()
        for clock in range(updates):
            plain.receive(room, 1, [letter(client, clock)])
            if paced:
                await reader.next()
        while room.waiting or room.busy:
            await reader.next()
            await asyncio.sleep(0)
        plain.leave(room, 1)
        plain.leave(room, 2)

    found: dict[str, float] = {}
    for what, paced in (("burst", False), ("paced", True)):
        since = time.perf_counter()
        await asyncio.gather(*(work(name, paced=paced) for name in names))
        found[f"{what}_updates_per_s"] = round(rooms * updates / (time.perf_counter() - since))
    await plain.stop()
    workers.close()
    store.close()
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench hub-plain", description=__doc__)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--updates", type=int, default=500, help="per room and load")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.rooms < 1 or options.updates < 1:
        parser.error("--rooms and --updates must be at least 1")

    async def run() -> dict[str, dict[str, float]]:
        result = {}
        for name, workshop in (("inside", Inside()), ("processes", Processes(2))):
            print_progress(f"{name}: {options.rooms} rooms, {options.updates} updates each")
            with tempfile.TemporaryDirectory() as folder:
                result[name] = await measure(workshop, Path(folder), options.rooms, options.updates)
        return result

    result = asyncio.run(run())
    if options.json:
        print_json(result)
    else:
        heads = ["where", *result["inside"]]
        print_table(heads, [[name, *map(str, row.values())] for name, row in result.items()])
