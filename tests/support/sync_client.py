"""Devices that talk to a real hub: an honest one, and one that sends whatever it is told."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Notice,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.presence import LISTENING
from localmem_protocol.session import Session
from localmem_protocol.simulation import MemoryJournal, MemoryLog
from localmem_protocol.updates import Item, encode_state_vector, encode_update
from localmem_protocol.updates import Update as YjsUpdate

FRAME_BYTES_MAX = 32 * 1024 * 1024


async def dial(
    url: str,
    pool: str,
    device: str,
    token: str | None,
    *,
    subprotocol: str = PROTOCOL,
    queue: int = 1024,
) -> ClientConnection:
    """A WebSocket to a hub; `queue` messages are read ahead."""
    headers = {"X-Localmem-Device": device}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await connect(
        f"{url}/v1/sync/{pool}",
        subprotocols=[Subprotocol(subprotocol)],
        additional_headers=headers,
        compression=None,
        max_size=FRAME_BYTES_MAX,
        max_queue=queue,
        proxy=None,
    )


async def close_code(socket: ClientConnection) -> int:
    """Read until the hub closes; its code."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code or 0


class SyncClient:
    """An honest device: a `Session` whose log and journal outlive its connections."""

    def __init__(self, url: str, pool: PoolKey, device: str, token: str) -> None:
        self.url = url
        self.pool = pool
        self.token = token
        self.log = MemoryLog(device)
        self.journal = MemoryJournal()
        self.session = Session(pool, self.log, self.journal)
        self.now_ms = 1_760_000_000_000
        self._socket: ClientConnection | None = None

    @property
    def socket(self) -> ClientConnection:
        """The connection."""
        assert self._socket is not None, "not connected"
        return self._socket

    async def __aenter__(self) -> Self:
        self._socket = await dial(self.url, self.pool.pool, self.log.device, self.token)
        await self._send(self.session.hello())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()
        self.session.disconnect()

    def record(self, snippet: str) -> Event:
        """Something happens on this device."""
        self.now_ms += 1000
        return self.log.record(snippet, self.now_ms)

    async def settle(self) -> None:
        """Exchange until everything of ours is durable on the hub."""
        await self.exchange(lambda: self.session.settled)

    async def receive(self, events: int) -> None:
        """Exchange until this many events are here."""
        await self.exchange(lambda: len(self.log.events) >= events)

    async def exchange(self, done: Callable[[], bool]) -> None:
        """Talk until `done`. Raises ConnectionClosed, RefusedError."""
        await self._upload()
        while not done():
            data = await self.socket.recv()
            assert isinstance(data, bytes)
            await self._send(self.session.receive(data))
            await self._upload()

    async def _upload(self) -> None:
        while frames := self.session.upload():
            await self._send(frames)

    async def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self.socket.send(frame)


class RawClient:
    """A device that keeps to no rule but the handshake."""

    def __init__(self, socket: ClientConnection, device: str) -> None:
        self.socket = socket
        self.device = device
        self.client = 0
        self.clock = 0

    @classmethod
    async def join(
        cls,
        url: str,
        pool: str,
        device: str,
        token: str,
        *,
        client: int = 0,
        queue: int = 1024,
    ) -> RawClient:
        """A connection that has been welcomed, and has read the hub's state vector."""
        raw = cls(await dial(url, pool, device, token, queue=queue), device)
        await raw.send(Hello(PROTOCOL, CAPABILITIES, device, client))
        welcome = await raw.next()
        assert isinstance(welcome, Welcome)
        raw.client, raw.clock = welcome.client, welcome.clock
        assert isinstance(await raw.next(), Step1)
        return raw

    async def send(self, frame: Frame) -> None:
        """Send a frame."""
        await self.socket.send(encode_frame(frame))

    async def next(self) -> Frame:
        """The hub's next frame that says something else than who is there. Raises ConnectionClosed."""
        while True:
            data = await self.socket.recv()
            assert isinstance(data, bytes)
            frame = decode_frame(data)
            if not (isinstance(frame, Notice) and frame.kind == LISTENING):
                return frame

    async def synchronise(self) -> bytes:
        """Ask for everything; the hub's update."""
        await self.send(Step1(encode_state_vector({})))
        while not isinstance(frame := await self.next(), Step2):
            pass
        return frame.update

    async def acknowledged(self, clock: int) -> None:
        """Read until the hub has everything before `clock`."""
        while True:
            frame = await self.next()
            if isinstance(frame, Ack) and frame.clock >= clock:
                return

    def update(self, content: bytes) -> bytes:
        """The update that appends this to the own array."""
        made = append(self.device, self.client, self.clock, content)
        self.clock += 1
        return made

    async def write(self, content: bytes) -> None:
        """Append this to the own array, without waiting."""
        await self.send(Update(self.update(content)))


def append(device: str, client: int, clock: int, content: bytes) -> bytes:
    """The update that appends one batch to a device's array."""
    origin = (client, clock - 1) if clock else None
    item = Item(clock, 1, (content,), origin, None, None if clock else device)
    return encode_update(YjsUpdate({client: [item]}))
