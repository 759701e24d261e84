"""Devices that write to a hub without a pause, whatever becomes of it, and what they were told.

What a device writes at which place follows from a seed: what is found later can be compared byte for
byte, whether it was acknowledged or not, and what a dying hub lost is sent again as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import shake_128
from typing import Final

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import Item, decode_update, encode_state_vector, encode_update
from localmem_protocol.updates import Update as YjsUpdate

UNACKNOWLEDGED_MAX: Final = 32
"""Batches that a device sends ahead of what is acknowledged."""

BATCHES_MAX: Final = 3
"""Batches in one update."""

BATCH_BYTES_MAX: Final = 500
LARGE_BYTES: Final = 20_000
"""Of one batch in fifty: so the write-ahead log fills, and starts anew, within one life."""

PAUSE_S: Final = 0.02
"""The longest pause between two updates of a device."""

RETRY_S: Final = 0.01
PATIENCE_S: Final = 30.0
"""How long a device waits for a hub that accepted its connection."""

GONE: Final = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError)
"""What a device sees of a hub that dies."""


@dataclass
class Told:
    """What the devices were told, and what turned out to be otherwise.

    `welcomed` counts greetings; `lost_acknowledged` batches that a hub had acknowledged, and
    `lost_shown` those that it had passed on to others, which it had no more.
    """

    welcomed: int = 0
    lost_acknowledged: int = 0
    lost_shown: int = 0
    altered: int = 0
    problems: list[str] = field(default_factory=list)


class Writer:
    """A device in a room; `confirmed` is how many of its batches are durable, as it was told."""

    def __init__(self, seed: int, pool: str, name: str, token: str, told: Told) -> None:
        self.pool, self.name = pool, name
        self.client = 0
        self.sent = 0
        self.confirmed = 0
        self.shown: dict[int, int] = {}  # client id -> batches of others that it was shown
        self.progress = asyncio.Event()  # something was acknowledged
        self._seed, self._token, self._told = seed, token, told
        self._chance = np.random.default_rng([seed, int(name, 16)])

    def batch(self, number: int) -> bytes:
        """What this device writes at its place `number`."""
        return batch(self._seed, self.name, number)

    async def write(self, url: str) -> None:
        """Write for ever, over as many connections as it takes."""
        while True:
            with suppress(*GONE):
                async with dial(url, self.pool, self.name, self._token) as socket:
                    await self._live(socket)
            await asyncio.sleep(RETRY_S)

    async def _live(self, socket: ClientConnection) -> None:
        await self._greet(socket)
        room = asyncio.Event()
        reading = asyncio.create_task(self._read(socket, room))
        number = self.confirmed
        try:
            while not reading.done():
                if number - self.confirmed >= UNACKNOWLEDGED_MAX:
                    room.clear()
                    waiting = asyncio.create_task(room.wait())
                    await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    continue
                size = 1 + int(self._chance.integers(BATCHES_MAX))
                await socket.send(encode_frame(Update(self._update(number, size))))
                number += size
                self.sent = max(self.sent, number)
                await asyncio.sleep(PAUSE_S * float(self._chance.random()))
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _greet(self, socket: ClientConnection) -> None:
        """Say hello, and hold what the hub has against what was acknowledged."""
        await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, self.name, self.client)))
        while not isinstance(frame := await receive(socket), Welcome):
            if isinstance(frame, Refusal):
                self._refused(frame)
        if self.client and frame.client != self.client:
            self._told.problems.append(f"{self.name} was given client {frame.client}")
        self._told.welcomed += 1
        self._told.lost_acknowledged += max(0, self.confirmed - frame.clock)
        self.client, self.confirmed = frame.client, frame.clock
        known = {**self.shown, self.client: frame.clock}
        await socket.send(encode_frame(Step1(encode_state_vector(known))))

    async def _read(self, socket: ClientConnection, room: asyncio.Event) -> None:
        while True:
            frame = await receive(socket)
            if isinstance(frame, Ack):
                self.confirmed = max(self.confirmed, frame.clock)
                self.progress.set()
                room.set()
            elif isinstance(frame, Update | Step2):
                for client, run in decode_update(frame.update).items.items():
                    self.shown[client] = max(self.shown.get(client, 0), run[-1].end)
            elif isinstance(frame, Refusal):
                self._refused(frame)

    def _refused(self, frame: Refusal) -> None:
        if frame.permanent:
            self._told.problems.append(f"{self.name} was refused: {frame.code} {frame.reason}")

    def _update(self, number: int, size: int) -> bytes:
        contents = tuple(self.batch(number + at) for at in range(size))
        origin = (self.client, number - 1) if number else None
        item = Item(number, size, contents, origin, None, None if number else self.name)
        return encode_update(YjsUpdate({self.client: [item]}))


def batch(seed: int, name: str, number: int) -> bytes:
    """A batch of 16 to BATCH_BYTES_MAX bytes, or of LARGE_BYTES."""
    drawn = shake_128(f"{seed} {name} {number}".encode())
    head = drawn.digest(3)
    size = LARGE_BYTES if head[2] < 5 else 16 + int.from_bytes(head[:2]) % (BATCH_BYTES_MAX - 15)
    return drawn.digest(size)


def dial(url: str, pool: str, name: str, token: str) -> connect:
    """A connection to a room, to be entered."""
    return connect(
        f"{url}/v1/sync/{pool}",
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}", "X-Localmem-Device": name},
        compression=None,
        max_size=None,
        max_queue=None,
        ping_interval=None,
        open_timeout=PATIENCE_S,
        close_timeout=1,
        proxy=None,
    )


async def receive(socket: ClientConnection) -> Frame:
    """The next frame. Raises TimeoutError from a hub that says nothing."""
    data = await asyncio.wait_for(socket.recv(), PATIENCE_S)
    if not isinstance(data, bytes):
        raise TypeError("a text message from the hub")
    return decode_frame(data)


async def read_room(url: str, pool: str, name: str, token: str) -> dict[int, list[bytes | None]]:
    """All that a device which knows nothing is given: of each client id, its batches in order."""
    found: dict[int, list[bytes | None]] = {}
    async with dial(url, pool, name, token) as socket:
        await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, name, 0)))
        await socket.send(encode_frame(Step1(encode_state_vector({}))))
        while True:
            frame = await receive(socket)
            if not isinstance(frame, Update | Step2):
                continue
            for client, run in decode_update(frame.update).items.items():
                held = found.setdefault(client, [])
                for item in run:
                    fresh = item.contents or (None,) * item.length
                    held.extend(fresh[max(0, len(held) - item.clock) :])
            if isinstance(frame, Step2):
                return found
            vector = {client: len(held) for client, held in found.items()}
            await socket.send(encode_frame(Step1(encode_state_vector(vector))))


def compare(
    writers: Sequence[Writer],
    confirmed: Mapping[str, int],
    shown: Mapping[int, int],
    found: Mapping[int, Sequence[bytes | None]],
    told: Told,
) -> int:
    """Hold a room against what its devices were told before it was read; the batches compared."""
    compared = 0
    for writer in writers:
        held = found.get(writer.client, ())
        wrong = sum(one != writer.batch(number) for number, one in enumerate(held))
        told.altered += wrong + (len(held) > writer.sent)
        told.lost_acknowledged += max(0, confirmed[writer.name] - len(held))
        told.lost_shown += max(0, shown.get(writer.client, 0) - len(held))
        compared += len(held)
    strangers = found.keys() - {writer.client for writer in writers}
    told.altered += sum(bool(found[client]) for client in strangers)
    return compared
