"""The load of `bench hub`, in a process of its own: one job on standard input, one result back.

A job names a server and its rooms with their clients. They come in, one line `{"ready": …}` says so,
and a line from outside starts the load. What came is only kept meanwhile, with its time; afterwards
every message is read, and it is an error unless every client got every update of all others in its
room. Times are from sending an update to its arrival at another client.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from bench.hub_clients import DIALECTS, Dialect, Socket, frame, ranges
from localmem_protocol.updates import Item, encode_update
from localmem_protocol.updates import Update as YjsUpdate

PAYLOAD_BYTES: Final = 100
"""Random bytes of one update, as a small sealed batch has."""

QUIET_SECONDS: Final = 1.0
"""Nothing came for so long: then it is looked whether all is there."""

PATIENCE_SECONDS: Final = 90.0
"""How long nothing may come before what is missing is lost."""

ENTERING: Final = 32
"""Clients that come in at a time."""

CHUNKS: Final = 100
"""Updates that the document of a late joiner is written in."""

ITEM_BYTES: Final = 1000
"""Bytes of one of its items."""


class Client(msgspec.Struct, kw_only=True):
    """One of a room: its name, its token, whether it writes."""

    name: str
    token: str = ""
    writer: bool = True


class Room(msgspec.Struct, kw_only=True):
    """A room and who is in it."""

    name: str
    clients: list[Client]


class Job(msgspec.Struct, kw_only=True):
    """What to do. `interval_s` is between two updates of a client; 0 for all at once.

    `kind` is `load`, `join` (a document of `document_bytes`, and `joins` clients that come later) or
    `idle` (for `idle_s`).
    """

    dialect: str
    url: str
    rooms: list[Room]
    kind: str = "load"
    updates: int = 20
    interval_s: float = 0.0
    document_bytes: int = 10_000_000
    joins: int = 3
    idle_s: float = 5.0


@dataclass
class Guest:
    """A client that is in."""

    room: str
    name: str
    socket: Socket
    client: int
    writer: bool
    clock: int = 0
    sent_s: list[float] = field(default_factory=list)  # by clock

    def update(self, contents: tuple[bytes, ...]) -> bytes:
        """The update that appends these at the end of its own array."""
        origin = (self.client, self.clock - 1) if self.clock else None
        root = None if self.clock else self.name
        item = Item(self.clock, len(contents), contents, origin, None, root)
        self.clock += len(contents)
        return encode_update(YjsUpdate({self.client: [item]}))


class Load:
    """One job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._dialect: Dialect = DIALECTS[job.dialect]
        self._guests: list[Guest] = []

    async def run(self) -> dict[str, Any]:
        """Do it; the result."""
        for room in self._job.rooms:  # some servers lose those who open a new room together
            await self._enter(room.name, room.clients[0])
        gate = asyncio.Semaphore(ENTERING)

        async def enter(room: Room, client: Client) -> None:
            async with gate:
                await self._enter(room.name, client)

        later = self._job.joins if self._job.kind == "join" else 0
        others = [
            (room, client)
            for room in self._job.rooms
            for client in room.clients[1 : len(room.clients) - later]
        ]
        await asyncio.gather(*(enter(room, client) for room, client in others))
        match self._job.kind:
            case "idle":
                return await self._idle()
            case "join":
                return await self._join()
            case _:
                return await self._load()

    async def _enter(self, room: str, client: Client) -> Guest:
        socket = await self._dial(room, client)
        drawn = int.from_bytes(os.urandom(4)) | 1 << 31  # as large as Yjs draws them
        given = await self._dialect.enter(socket, room, client.name, drawn)
        guest = Guest(room, client.name, socket, given, client.writer)
        self._guests.append(guest)
        return guest

    async def _dial(self, room: str, client: Client) -> Socket:
        address = self._dialect.address(self._job.url, room, client.token)
        return await Socket.open(address, self._dialect.headers(client.name, client.token))

    async def _load(self) -> dict[str, Any]:
        plan = self._plan()
        for guest in self._guests:
            guest.socket.inbox.clear()
        await _start()
        cpu, since = time.process_time(), time.perf_counter()
        for due, guest, wire in plan:
            late = time.perf_counter() - since - due
            if late < 0:
                await asyncio.sleep(-late)
            guest.sent_s.append(time.perf_counter())
            guest.socket.send(wire)
            if self._job.interval_s == 0:
                await asyncio.sleep(0)  # what arrives meanwhile is taken in
        cpu_sent = time.process_time() - cpu
        times, end_s, cpu_s = await self._delivered(cpu)
        return {
            "updates": len(plan),
            "deliveries": len(times),
            "seconds": end_s - plan_start(self._guests),
            "p50_ms": 1000 * times[len(times) // 2],
            "p99_ms": 1000 * times[int(0.99 * len(times))],
            "generator_cpu_s": max(cpu_sent, cpu_s),
        }

    def _plan(self) -> list[tuple[float, Guest, bytes]]:
        """What is sent when, by whom."""
        interval = self._job.interval_s
        plan: list[tuple[float, Guest, bytes]] = []
        writers = [guest for guest in self._guests if guest.writer]
        for number in range(self._job.updates):
            for place, guest in enumerate(writers):
                update = guest.update((os.urandom(PAYLOAD_BYTES),))
                due = interval * (number + place / len(writers))
                plan.append((due, guest, frame(self._dialect.update(guest.room, update))))
        return plan

    async def _delivered(self, cpu: float) -> tuple[list[float], float, float]:
        """Seconds of each delivery, sorted; when the last was; and this process's time until then."""
        last, missing = -1.0, 0
        while True:
            cpu_s = time.process_time() - cpu
            while (quiet := self._quiet_s()) < QUIET_SECONDS:
                await asyncio.sleep(0.05)
                if self._quiet_s() < 0.05:
                    cpu_s = time.process_time() - cpu
            if (newest := max(guest.socket.last_s for guest in self._guests)) != last:
                last = newest
                times, end_s, missing = self._count()
                if not missing:
                    return sorted(times), end_s, cpu_s
            closed = {guest.socket.closed for guest in self._guests if guest.socket.closed}
            if closed or quiet > PATIENCE_SECONDS:
                raise SystemExit(f"{missing} deliveries are missing; {'; '.join(closed)}")
            await asyncio.sleep(QUIET_SECONDS)

    def _quiet_s(self) -> float:
        return time.perf_counter() - max(guest.socket.last_s for guest in self._guests)

    def _count(self) -> tuple[list[float], float, int]:
        """Seconds of each delivery, when the last was, and how many are missing."""
        read: dict[tuple[str, bytes], list[tuple[int, int, int]]] = {}
        rooms: dict[str, dict[int, Guest]] = {}
        for guest in self._guests:
            rooms.setdefault(guest.room, {})[guest.client] = guest
        times: list[float] = []
        end_s, expected = 0.0, 0
        for guest in self._guests:
            others = {c: one for c, one in rooms[guest.room].items() if one is not guest}
            expected += sum(len(one.sent_s) for one in others.values())
            seen: set[tuple[int, int]] = set()
            for at_s, message in guest.socket.inbox:
                key = (guest.room, message)
                if key not in read:
                    read[key] = self._read(guest.room, message)
                for client, start, end in read[key]:
                    for clock in range(start, end):
                        if client in others and (client, clock) not in seen:
                            seen.add((client, clock))
                            times.append(at_s - others[client].sent_s[clock])
                            end_s = max(end_s, at_s)
        return times, end_s, expected - len(times)

    def _read(self, room: str, message: bytes) -> list[tuple[int, int, int]]:
        """(client, first clock, clock after the last) of what an update holds."""
        found = self._dialect.read(room, message)
        return [] if found is None else ranges(found[0])

    async def _idle(self) -> dict[str, Any]:
        await _start()
        await asyncio.sleep(self._job.idle_s)
        gone = sum(bool(guest.socket.closed) for guest in self._guests)
        if gone:
            raise SystemExit(f"{gone} idle connections were closed")
        return {"connections": len(self._guests)}

    async def _join(self) -> dict[str, Any]:
        room = self._job.rooms[0]
        writer, witness = self._guests
        each = max(1, self._job.document_bytes // ITEM_BYTES // CHUNKS)
        for _ in range(CHUNKS):
            contents = tuple(os.urandom(ITEM_BYTES) for _ in range(each))
            update = writer.update(contents)
            writer.socket.send(frame(self._dialect.update(writer.room, update)))
            await self._has(witness.socket, writer)
        await _start()
        seconds, received, cpu = [], 0, time.process_time()
        for client in room.clients[2:]:
            since = time.perf_counter()
            late = await self._enter(room.name, client)
            seconds.append(time.perf_counter() - since)
            received = late.socket.bytes
            await self._has(late.socket, writer)
            late.socket.close()
        return {
            "seconds": sorted(seconds)[len(seconds) // 2],
            "bytes": received,
            "generator_cpu_s": time.process_time() - cpu,
        }

    async def _has(self, socket: Socket, writer: Guest) -> None:
        """Until all that a client wrote has come; the inbox is emptied."""
        while True:
            for _, _, end in self._read(writer.room, await socket.next()):
                if end == writer.clock:
                    return


def plan_start(guests: Iterable[Guest]) -> float:
    """When the first update was sent."""
    return min(guest.sent_s[0] for guest in guests if guest.sent_s)


async def _start() -> None:
    """Say that everybody is in, and wait for the word."""
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def main() -> None:
    """One job."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    print(json.dumps(asyncio.run(Load(job).run())), flush=True)


if __name__ == "__main__":
    main()
