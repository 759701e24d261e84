"""Those who attack a hub for `hub-fuzz`, one attempt after the other, and those who must not notice.

An attempt is one WebSocket message, and a question after it that any connection may ask. The verdict
is the code that the hub closes with, or 0 if it answers the question instead.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol
from weakref import WeakSet

from pycrdt import Doc, Text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bench.mutations import mutated, noise, noise_frame, yjs_update
from localmem_hub.plain import messages
from localmem_hub.plain.structs import decode_vector
from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Hello,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.simulation import SeededRandom
from localmem_protocol.updates import Item, encode_state_vector, encode_update
from localmem_protocol.updates import Update as SealedUpdate

PATIENCE_SECONDS = 60.0


class Attacker(ABC):
    """A connection that is made anew after each refusal."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self._address, self._headers = address, headers
        self._socket: ClientConnection | None = None

    async def attempt(self, kind: str, draw: SeededRandom) -> int:
        """The verdict on one message of this kind."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            socket = self._socket or await self._join()
            message = self._message(kind, draw)
            try:
                await socket.send(message)
                await self._ask(socket)
                return 0
            except ConnectionClosed:
                self._socket = None
                return socket.close_code or 0

    async def leave(self) -> None:
        """Close."""
        if self._socket is not None:
            await self._socket.close()

    @abstractmethod
    async def _join(self) -> ClientConnection:
        """Come in, as the rules are; `_socket` from then on."""

    @abstractmethod
    def _message(self, kind: str, draw: SeededRandom) -> bytes:
        """What to try."""

    @abstractmethod
    async def _ask(self, socket: ClientConnection) -> None:
        """Ask what anybody may ask, and wait for the answer."""


class SealedAttacker(Attacker):
    """A device with a good token, in a room of sealed batches."""

    def __init__(self, url: str, pool: str, device: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "X-Localmem-Device": device}
        super().__init__(f"{url}/v1/sync/{pool}", headers)
        self._device = device
        self._client = 0
        self._clock = 0
        self._vector = b"\x00"

    async def _join(self) -> ClientConnection:
        self._socket = socket = await dial(self._address, self._headers, PROTOCOL)
        await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, self._device, self._client)))
        while not isinstance(await self._next(socket), Step1):
            pass
        return socket

    def _message(self, kind: str, draw: SeededRandom) -> bytes:
        valid = sealed_update(
            self._device, self._client, self._clock, draw.token_bytes(draw.between(1, 40))
        )
        return drawn(kind, valid, lambda update: encode_frame(Update(update)), draw)

    async def _ask(self, socket: ClientConnection) -> None:
        await socket.send(encode_frame(Step1(self._vector)))
        while not isinstance(await self._next(socket), Step2):
            pass

    async def _next(self, socket: ClientConnection) -> object:
        data = await socket.recv()
        frame = decode_frame(data if isinstance(data, bytes) else data.encode())
        match frame:
            case Welcome(client=client, clock=clock):
                self._client, self._clock = client, clock
            case Ack(client=client, clock=clock) if client == self._client:
                self._clock = clock
            case Step1(vector):
                self._vector = vector
            case _:
                pass
        return frame


class PlainAttacker(Attacker):
    """Somebody with a good token, in a plain room."""

    def __init__(self, url: str, room: str, token: str) -> None:
        super().__init__(f"{url}/v1/yjs/{room}", {"Authorization": f"Bearer {token}"})
        self._vector = b"\x00"

    async def _join(self) -> ClientConnection:
        self._socket = socket = await dial(self._address, self._headers)
        while True:
            data = await socket.recv()
            message = messages.decode(data if isinstance(data, bytes) else b"")
            if isinstance(message, messages.Step1):
                decode_vector(message.vector)
                self._vector = message.vector
                return socket

    def _message(self, kind: str, draw: SeededRandom) -> bytes:
        return drawn(kind, yjs_update(draw), messages.changes, draw)

    async def _ask(self, socket: ClientConnection) -> None:
        await socket.send(messages.step1(self._vector))
        while not is_step2(await socket.recv()):
            pass


class SealedMember:
    """An honest device: writes, and reads what there is."""

    def __init__(self, url: str, pool: str, device: str, token: str) -> None:
        self._address = f"{url}/v1/sync/{pool}"
        self._device = device
        self._headers = {"Authorization": f"Bearer {token}", "X-Localmem-Device": device}
        self._client = 0  # the same at every connection, as a device's

    async def write(self, text: bytes) -> bool:
        """Write a batch; whether it was acknowledged."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            socket, client, clock = await self._join()
            try:
                await socket.send(
                    encode_frame(Update(sealed_update(self._device, client, clock, text)))
                )
                while True:
                    frame = decode_frame(bytes_of(await socket.recv()))
                    if isinstance(frame, Refusal):
                        return False
                    if isinstance(frame, Ack) and frame.clock > clock:
                        return True
            except ConnectionClosed:
                return False
            finally:
                await socket.close()

    async def read(self) -> bytes:
        """The whole document."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            socket, _, _ = await self._join()
            await socket.send(encode_frame(Step1(encode_state_vector({}))))
            found = b""
            while True:
                frame = decode_frame(bytes_of(await socket.recv()))
                if isinstance(frame, Step2):
                    await socket.close()
                    return found + frame.update
                if isinstance(frame, Update):  # a large document comes in parts
                    found += frame.update

    async def _join(self) -> tuple[ClientConnection, int, int]:
        socket = await dial(self._address, self._headers, PROTOCOL)
        await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, self._device, self._client)))
        welcome = decode_frame(bytes_of(await socket.recv()))
        if not isinstance(welcome, Welcome):
            raise ProtocolError(f"{type(welcome).__name__} instead of a welcome")
        self._client = welcome.client
        return socket, welcome.client, welcome.clock


class PlainMember:
    """An honest Yjs client that stays."""

    def __init__(self, url: str, room: str, token: str, client: int) -> None:
        self._address = f"{url}/v1/yjs/{room}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.doc: Doc[Text] = Doc(client_id=client)
        self.text = self.doc.get("members", type=Text)
        self._socket: ClientConnection | None = None

    async def write(self, text: str) -> None:
        """Write; it is on its way."""
        before = self.doc.get_state()
        self.text += text
        socket = self._socket or await self._join()
        await socket.send(messages.changes(self.doc.get_update(before)))

    async def settle(self) -> bytes:
        """Exchange what both lack; the state vector then."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            socket = self._socket or await self._join()
            await socket.send(messages.step1(self.doc.get_state()))
            await self._read_until_step2(socket)
            return self.doc.get_state()

    async def leave(self) -> None:
        """Close."""
        if self._socket is not None:
            await self._socket.close()

    async def _join(self) -> ClientConnection:
        self._socket = socket = await dial(self._address, self._headers)
        await socket.send(messages.step1(self.doc.get_state()))
        await self._read_until_step2(socket)
        return socket

    async def _read_until_step2(self, socket: ClientConnection) -> None:
        while True:
            message = messages.decode(bytes_of(await socket.recv()))
            if isinstance(message, messages.Changes):
                self.doc.apply_update(message.update)
                if message.step2:
                    return


def sealed_update(device: str, client: int, clock: int, content: bytes) -> bytes:
    """The update that appends one batch to a device's array."""
    origin = (client, clock - 1) if clock else None
    item = Item(clock, 1, (content,), origin, None, None if clock else device)
    return encode_update(SealedUpdate({client: [item]}))


def drawn(kind: str, valid: bytes, framed: Frame, draw: SeededRandom) -> bytes:
    """The message of an attempt."""
    match kind:
        case "mutated update":
            return framed(mutated(valid, draw))
        case "mutated frame":
            return mutated(framed(valid), draw)
        case "frame of noise":
            return noise_frame(draw)
        case _:
            return noise(draw)


class Frame(Protocol):
    """Makes a message of an update."""

    def __call__(self, update: bytes, /) -> bytes:
        """The message."""
        ...


async def dial(address: str, headers: dict[str, str], subprotocol: str = "") -> ClientConnection:
    """A WebSocket; `hang_up` ends those that nobody closed."""
    socket = await connect(
        address,
        subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
        additional_headers=headers,
        compression=None,
        open_timeout=PATIENCE_SECONDS,  # the machine may be busy
        max_size=None,
        max_queue=None,
        proxy=None,
    )
    _dialled.add(socket)
    return socket


async def hang_up() -> None:
    """End every connection that a refusal, or the end of the run, left open."""
    sockets = list(_dialled)
    for socket in sockets:
        socket.transport.abort()
    await asyncio.gather(*(socket.wait_closed() for socket in sockets))


_dialled: WeakSet[ClientConnection] = WeakSet()


def bytes_of(data: bytes | str) -> bytes:
    """A message as bytes."""
    return data if isinstance(data, bytes) else data.encode()


def is_step2(data: bytes | str) -> bool:
    """Whether this answers a Step1."""
    return bytes_of(data)[:2] == b"\x00\x01"
