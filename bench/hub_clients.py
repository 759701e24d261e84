"""Clients of the servers in `bench hub`, all of one kind: as little work per message as can be.

A `Socket` is a WebSocket client on bare asyncio: it sends messages that were made before, and keeps
what comes with the time it came; nothing is parsed while a load runs. What differs between the
servers' protocols is in a `Dialect`. Frames are masked with zeros, which saves this side the work and
the server nothing.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from localmem_hub.plain.messages import changes, step1
from localmem_hub.plain.structs import examine
from localmem_protocol.errors import FrameError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Hello,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import encode_state_vector
from localmem_protocol.wire import Reader, varbytes, varuint

_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_PING: Final = 0x89
_PONG: Final = 0x8A
_MASKED: Final = 0x80
_NO_MASK: Final = bytes(4)


class ClosedError(Exception):
    """The server closed a connection, or did not let it in."""


def frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    """A message as it goes over the wire."""
    size = len(payload)
    if size < 126:
        head = bytes((opcode, _MASKED | size))
    elif size < 65536:
        head = bytes((opcode, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opcode, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + _NO_MASK + payload


class Socket(asyncio.Protocol):
    """One connection. `inbox` holds (time, message); `bytes` is all that came, frames' heads too."""

    def __init__(self) -> None:
        self.inbox: list[tuple[float, bytes]] = []
        self.bytes = 0
        self.last_s = 0.0
        self.transport: asyncio.Transport | None = None
        self.closed = ""
        self._rest = b""
        self._parts: list[bytes] = []
        self._upgraded = False
        self._came = asyncio.Event()

    @classmethod
    async def open(cls, url: str, headers: Sequence[str] = ()) -> Socket:
        """A connection that was let in. Raises ClosedError and OSError."""
        where = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(cls, where.hostname or "", where.port or 0)
        path = (where.path or "/") + (f"?{where.query}" if where.query else "")
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {where.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *headers,
        ]
        assert socket.transport is not None
        socket.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        while not socket._upgraded:
            await socket._more()
        if socket.closed:
            raise ClosedError(socket.closed)
        return socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio says."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio says."""
        self.closed = self.closed or f"the connection was lost: {exc}"
        self._came.set()

    def data_received(self, data: bytes) -> None:
        """Keep every whole message."""
        self.last_s = now = time.perf_counter()
        self.bytes += len(data)
        data = self._rest + data if self._rest else data
        at = 0
        if not self._upgraded:
            at = self._shake_hands(data)
            if not at:
                self._rest = data
                return
        end = len(data)
        inbox = self.inbox
        while end - at >= 2:
            size = data[at + 1]
            start = at + 2
            if size == 126:
                start = at + 4
                size = int.from_bytes(data[at + 2 : start], "big")
            elif size == 127:
                start = at + 10
                size = int.from_bytes(data[at + 2 : start], "big")
            if start > end or start + size > end:
                break
            if data[at] == _BINARY:
                inbox.append((now, data[start : start + size]))
            else:
                self._special(data[at], data[start : start + size], now)
            at = start + size
        self._rest = data[at:]
        self._came.set()

    def send(self, wire: bytes) -> None:
        """Send what `frame` made."""
        assert self.transport is not None
        self.transport.write(wire)

    async def next(self) -> bytes:
        """The oldest message in the inbox, taken out of it. Raises ClosedError."""
        return (await self.take())[1]

    async def take(self) -> tuple[float, bytes]:
        """The same, with the time at which it came. Raises ClosedError."""
        while not self.inbox:
            await self._more()
        return self.inbox.pop(0)

    def close(self) -> None:
        """Close, without a word."""
        if self.transport is not None:
            self.transport.abort()

    async def _more(self) -> None:
        if self.closed:
            raise ClosedError(self.closed)
        self._came.clear()
        await self._came.wait()

    def _shake_hands(self, data: bytes) -> int:
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        status = head.partition(b"\r\n")[0].decode("latin-1")
        if " 101 " not in f"{status} ":
            self.closed = f"not let in: {status}"
        self._upgraded = True
        return len(head) + 4

    def _special(self, first: int, payload: bytes, now: float) -> None:
        if first == _PING:
            self.send(frame(payload, _PONG))
        elif first == _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self.closed = f"closed with {code} {payload[2:].decode(errors='replace')}"
        elif not first & 0x7F or not first & 0x80:  # a message in parts
            self._parts.append(payload)
            if first & 0x80:
                self.inbox.append((now, b"".join(self._parts)))
                self._parts.clear()


class Dialect(Protocol):
    """How a server is spoken to."""

    def address(self, url: str, room: str, token: str) -> str:
        """Where a room is."""
        ...

    def headers(self, name: str, token: str) -> Sequence[str]:
        """What the handshake carries."""
        ...

    async def enter(self, socket: Socket, room: str, name: str, client: int) -> int:
        """Until everything so far was received, kept in the inbox; the client id to write under."""
        ...

    def update(self, room: str, update: bytes) -> bytes:
        """The message that carries an update."""
        ...

    def read(self, room: str, message: bytes) -> tuple[bytes, bool] | None:
        """The update in a message, and whether with it all there was has come; None for another."""
        ...

    def ask(self, room: str, vector: dict[int, int]) -> bytes:
        """The message that asks for what somebody lacks."""
        ...


def ranges(update: bytes) -> list[tuple[int, int, int]]:
    """(client, first clock, clock after the last) of what an update holds."""
    found = examine(update, {})
    return [(client, start, found.ends[client]) for client, start in found.starts.items()]


async def _take_all(dialect: Dialect, socket: Socket, room: str) -> None:
    """Ask for everything, and again as long as it comes in parts; all of it is in the inbox then."""
    socket.send(frame(dialect.ask(room, {})))
    vector: dict[int, int] = {}
    kept: list[tuple[float, bytes]] = []
    while True:
        kept.append(await socket.take())
        found = dialect.read(room, kept[-1][1])
        if found is not None and found[1]:
            socket.inbox[:0] = kept
            return
        if found is not None:
            vector |= {client: end for client, _, end in ranges(found[0])}
            socket.send(frame(dialect.ask(room, vector)))


class Sealed:
    """Our own rooms: sealed batches, a token each, and a client id that the hub gives."""

    def address(self, url: str, room: str, token: str) -> str:
        """As `Dialect` says."""
        return f"{url}/v1/sync/{room}"

    def headers(self, name: str, token: str) -> Sequence[str]:
        """As `Dialect` says."""
        return [
            f"Authorization: Bearer {token}",
            f"X-Localmem-Device: {name}",
            f"Sec-WebSocket-Protocol: {PROTOCOL}",
        ]

    async def enter(self, socket: Socket, room: str, name: str, client: int) -> int:
        """As `Dialect` says."""
        socket.send(frame(encode_frame(Hello(PROTOCOL, CAPABILITIES, name, 0))))
        while not isinstance(welcome := decode_frame(await socket.next()), Welcome):
            pass
        await _take_all(self, socket, room)
        return welcome.client

    def update(self, room: str, update: bytes) -> bytes:
        """As `Dialect` says."""
        return encode_frame(Update(update))

    def read(self, room: str, message: bytes) -> tuple[bytes, bool] | None:
        """As `Dialect` says."""
        if message[0] != 0:
            return None
        match decode_frame(message):
            case Step2(update):
                return update, True
            case Update(update):
                return update, False
            case _:
                return None

    def ask(self, room: str, vector: dict[int, int]) -> bytes:
        """As `Dialect` says."""
        return encode_frame(Step1(encode_state_vector(vector)))


class YWebsocket:
    """y-websocket's protocol. `path` is what stands before the room's name."""

    def __init__(self, path: str = "") -> None:
        self._path = path

    def address(self, url: str, room: str, token: str) -> str:
        """As `Dialect` says."""
        return f"{url}{self._path}/{room}" + (f"?token={token}" if token else "")

    def headers(self, name: str, token: str) -> Sequence[str]:
        """As `Dialect` says."""
        return []

    async def enter(self, socket: Socket, room: str, name: str, client: int) -> int:
        """As `Dialect` says."""
        await _take_all(self, socket, room)
        return client

    def update(self, room: str, update: bytes) -> bytes:
        """As `Dialect` says."""
        return changes(update)

    def read(self, room: str, message: bytes) -> tuple[bytes, bool] | None:
        """As `Dialect` says."""
        if message[0] != 0 or message[1] == 0:
            return None
        reader = Reader(message, FrameError)
        step = (reader.varuint(), reader.varuint())[1]
        return reader.varbytes(len(message)), step == 1

    def ask(self, room: str, vector: dict[int, int]) -> bytes:
        """As `Dialect` says."""
        return step1(encode_state_vector(vector))


class Hocuspocus(YWebsocket):
    """The same behind the name of a document; an auth message comes first."""

    def address(self, url: str, room: str, token: str) -> str:
        """As `Dialect` says."""
        return url

    async def enter(self, socket: Socket, room: str, name: str, client: int) -> int:
        """As `Dialect` says."""
        auth = varbytes(room.encode()) + varuint(2) + varuint(0) + varbytes(b"")
        socket.send(frame(auth))
        return await super().enter(socket, room, name, client)

    def update(self, room: str, update: bytes) -> bytes:
        """As `Dialect` says."""
        return varbytes(room.encode()) + changes(update)

    def read(self, room: str, message: bytes) -> tuple[bytes, bool] | None:
        """As `Dialect` says."""
        reader = Reader(message, FrameError)
        reader.varbytes(len(message))
        rest = message[reader.at :]
        if rest[0] == 4:  # an answer that asks for no answer
            rest = b"\x00" + rest[1:]
        return super().read(room, rest)

    def ask(self, room: str, vector: dict[int, int]) -> bytes:
        """As `Dialect` says."""
        return varbytes(room.encode()) + step1(encode_state_vector(vector))


DIALECTS: Final[dict[str, Dialect]] = {
    "sealed": Sealed(),
    "plain": YWebsocket("/v1/yjs"),
    "y-websocket": YWebsocket(),
    "hocuspocus": Hocuspocus(),
}
