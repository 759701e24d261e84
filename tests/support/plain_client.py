"""A client of plain rooms that says whatever it is told, in y-websocket's protocol."""

from __future__ import annotations

import asyncio
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from localmem_hub.plain.messages import (
    Changes,
    Message,
    Presence,
    Presences,
    Step1,
    changes,
    decode,
    presences,
    step1,
    step2,
)
from support.hostile_yjs import letter

NOBODY = b"\x00"
FRAME_BYTES_MAX = 64 * 1024 * 1024


class PlainClient:
    """One connection; `denied` says whether an auth message came."""

    def __init__(self, socket: ClientConnection, client: int) -> None:
        self.socket = socket
        self.client = client
        self.clock = 0
        self.denied = False

    @classmethod
    async def dial(
        cls, url: str, room: str, token: str, *, client: int = 0, queue: int = 1024
    ) -> Self:
        """A connection whose token comes in the address, as a browser's."""
        socket = await connect(
            f"{url}/v1/yjs/{room}?token={token}",
            compression=None,
            max_size=FRAME_BYTES_MAX,
            max_queue=queue,
            proxy=None,
        )
        return cls(socket, client)

    @classmethod
    async def join(
        cls, url: str, room: str, token: str, *, client: int = 0, queue: int = 1024
    ) -> Self:
        """One that has been sent all there is."""
        made = await cls.dial(url, room, token, client=client, queue=queue)
        await made.synchronise()
        return made

    async def synchronise(self) -> bytes:
        """Ask for everything; what comes."""
        await self.socket.send(step1(NOBODY))
        while True:
            message = await self.next()
            if isinstance(message, Changes) and message.step2:
                return message.update

    async def next(self) -> Message:
        """The next message that is no auth message. Raises ConnectionClosed."""
        while True:
            data = await self.socket.recv()
            assert isinstance(data, bytes)
            if data[0] != 2:
                return decode(data)
            self.denied = True

    async def update(self) -> bytes:
        """The next update that is passed on."""
        while True:
            message = await self.next()
            if isinstance(message, Changes) and not message.step2:
                return message.update

    async def presence(self) -> tuple[Presence, ...]:
        """The next awareness states."""
        while True:
            message = await self.next()
            if isinstance(message, Presences):
                return message.states

    async def asked(self) -> bytes:
        """The next state vector that the hub sends."""
        while True:
            message = await self.next()
            if isinstance(message, Step1):
                return message.vector

    async def send(self, update: bytes, *, offline: bool = False) -> None:
        """Send an update, as it happens or as a Step2."""
        await self.socket.send(step2(update) if offline else changes(update))

    async def write(self, text: str = "x") -> bytes:
        """Add letters at the end of the own ones; the update."""
        update = letter(self.client, self.clock, text)
        self.clock += len(text)
        await self.send(update)
        return update

    async def show(self, *states: Presence) -> None:
        """Send awareness states."""
        await self.socket.send(presences(list(states)))

    async def closed(self) -> int:
        """Read until the hub closes; its code."""
        try:
            while True:
                await self.next()
        except ConnectionClosed:
            return self.socket.close_code or 0

    async def leave(self) -> None:
        """Close."""
        await self.socket.close()


async def stored(url: str, room: str, token: str) -> bytes:
    """A room's document, as somebody who comes now is sent it."""
    async with asyncio.timeout(60):
        client = await PlainClient.dial(url, room, token)
        document = await client.synchronise()
        await client.leave()
        return document
