"""What is said on a WebSocket, both ways, until either side ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.websockets import WebSocket

from localmem_hub.connection import Connection
from localmem_hub.errors import RefusedError
from localmem_protocol.frames import Close

Take = Callable[[bytes], Awaitable[None]]
"""What to do with a message. Raises RefusedError for one that ends the connection."""


@dataclass
class Received:
    """What came in on a connection, for its line in the log."""

    frames: int = 0
    bytes: int = 0
    code: int = 1006  # as it was closed from there


async def converse(
    websocket: WebSocket, connection: Connection, received: Received, take: Take, bytes_max: int
) -> list[Exception]:
    """Read and write until either ends; what failed, and should not have.

    Messages of text, and of more than `bytes_max`, end the connection.
    """
    reading = asyncio.create_task(_read(websocket, connection, received, take, bytes_max))
    writing = asyncio.create_task(connection.write())
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        writing.cancel()
        ended = await asyncio.gather(reading, writing, return_exceptions=True)
    return [error for error in ended if isinstance(error, Exception)]


async def _read(
    websocket: WebSocket, connection: Connection, received: Received, take: Take, bytes_max: int
) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            received.code = message.get("code") or 1005
            return
        data = message.get("bytes")
        if connection.closing is not None:
            continue
        if data is None:
            connection.drop(Close.BAD_FRAME, "a text message; messages are binary")
        elif len(data) > bytes_max:
            connection.drop(Close.TOO_LARGE, f"a message of over {bytes_max} bytes")
        else:
            received.frames += 1
            received.bytes += len(data)
            try:
                await take(data)
            except RefusedError as refused:
                connection.drop(refused.close_code, refused.reason)
