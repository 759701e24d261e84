"""The endpoint `/v1/sync/{pool}`: a WebSocket, and a plain GET that says whom a token stands for.

A device offers the subprotocol `frames.PROTOCOL`, its token as `Authorization: Bearer lmt_…`, and
its id in the header `X-Localmem-Device`. Whoever may not come in is accepted and closed with a
code, since clients cannot see why a handshake failed; no room is touched before. After that every
message is one binary frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from localmem_hub.connection import Connection
from localmem_hub.errors import StoppingError, StoreError, TokenError
from localmem_hub.limits import RECHECK_SECONDS
from localmem_hub.live import LiveRoom
from localmem_hub.rooms import Rooms
from localmem_hub.seams import Identity, TokenStore
from localmem_hub.workers import Workers
from localmem_protocol.events import is_device_id
from localmem_protocol.frames import PROTOCOL, Close
from localmem_protocol.limits import FRAME_BYTES_MAX
from localmem_protocol.room import Peer
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

DEVICE_HEADER: Final = "X-Localmem-Device"


class RefusedError(Exception):
    """This connection is closed before it reaches a room."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass
class Received:
    """What came in on a connection, for its line in the log."""

    frames: int = 0
    bytes: int = 0
    code: int = 1006  # as it was closed from there


class Endpoint:
    """Brings connections into rooms, and takes them out when their token ends."""

    def __init__(self, rooms: Rooms, tokens: TokenStore, workers: Workers, clock: Clock) -> None:
        self._rooms = rooms
        self._tokens = tokens
        self._workers = workers
        self._clock = clock
        self._numbers = count(1)
        self._live: dict[Connection, Identity] = {}

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        offered = PROTOCOL in websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=PROTOCOL if offered else None)
        pool = websocket.path_params["pool"]
        try:
            identity = await self._identify(pool, websocket.headers)
            if not offered:
                raise RefusedError(Close.BAD_FRAME, f"the subprotocol must be {PROTOCOL}")
            await self._stay(websocket, identity)
        except RefusedError as refused:
            log.info("refused pool=%r code=%d reason=%s", pool, refused.code, refused.reason)
            await websocket.close(refused.code, refused.reason)

    async def introduce(self, request: Request) -> JSONResponse:
        """Whom a token stands for; notes nothing, and binds it to nobody.

        The device may be left out. 401 for a token that does not open this pool (to it), and why.
        """
        device = request.headers.get(DEVICE_HEADER)
        try:
            identity = await self._check(request.path_params["pool"], request.headers, device)
        except RefusedError as refused:
            error = {"code": refused.code, "message": refused.reason, "field": None}
            status = 401 if refused.code == Close.BAD_TOKEN else 503
            return JSONResponse({"error": error}, status)
        return JSONResponse({"pool": identity.pool, "role": identity.role})

    async def recheck(self) -> None:
        """Send away whoever's token was revoked."""
        tokens = {identity.token for identity in self._live.values()}
        if not tokens:
            return
        revoked = await self._workers.read(lambda: self._tokens.revoked(tokens))
        for connection, identity in self._live.items():
            if identity.token in revoked:
                connection.drop(Close.BAD_TOKEN, "this token was revoked")

    async def recheck_forever(self) -> None:
        """Look the tokens of live connections up again and again."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self.recheck()
            except StoreError as error:
                log.warning("tokens not rechecked: %s", error)

    async def _identify(self, pool: str, headers: Headers) -> Identity:
        """Whom a connection is from; from then on the token is that device's. Raises RefusedError."""
        identity = await self._check(pool, headers, headers.get(DEVICE_HEADER, ""))
        if not is_device_id(identity.device):
            raise RefusedError(Close.BAD_FRAME, f"{DEVICE_HEADER} must be 16 lower-case hex digits")
        if identity.fresh:
            now_ms = self._clock.now_ms()
            with _refusals():
                await self._workers.write(lambda: self._tokens.note(identity, now_ms))
        return identity

    async def _check(self, pool: str, headers: Headers, device: str | None) -> Identity:
        """Whom a token stands for. Raises RefusedError."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        now_ms = self._clock.now_ms()
        with _refusals():
            if scheme.lower() != "bearer":
                raise TokenError("send the token as `Authorization: Bearer lmt_…`")
            return await self._workers.read(
                lambda: self._tokens.check(token.strip(), pool, device, now_ms)
            )

    async def _stay(self, websocket: WebSocket, identity: Identity) -> None:
        connection = Connection(next(self._numbers), websocket)
        peer = Peer(connection.number, identity.device, identity.role == "writer")
        try:
            room = await self._rooms.join(identity.pool, peer, connection)
        except StoppingError as error:
            raise RefusedError(Close.GOING_AWAY, str(error)) from None
        except StoreError as error:
            log.error("cannot load a room: %s", error)
            raise RefusedError(Close.STORE_FAILED, "the pool cannot be loaded") from None
        self._live[connection] = identity
        since = self._clock.monotonic_s()
        received = Received()
        try:
            await self._exchange(websocket, connection, room, received)
        finally:
            del self._live[connection]
            self._rooms.leave(room, connection.number)
            log.info(
                "closed pool=%s device=%s token=%s role=%s code=%d seconds=%.1f "
                "frames_in=%d bytes_in=%d frames_out=%d bytes_out=%d",
                identity.pool,
                identity.device,
                identity.token,
                identity.role,
                connection.closing[0] if connection.closing else received.code,
                self._clock.monotonic_s() - since,
                received.frames,
                received.bytes,
                connection.frames_sent,
                connection.bytes_sent,
            )

    async def _exchange(
        self, websocket: WebSocket, connection: Connection, room: LiveRoom, received: Received
    ) -> None:
        """Read and write until either ends."""
        reading = asyncio.create_task(self._read(websocket, connection, room, received))
        writing = asyncio.create_task(connection.write())
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            writing.cancel()
            ended = await asyncio.gather(reading, writing, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                log.error("connection failed pool=%s", room.pool, exc_info=error)

    async def _read(
        self, websocket: WebSocket, connection: Connection, room: LiveRoom, received: Received
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
                connection.drop(Close.BAD_FRAME, "a text message; frames are binary")
            elif len(data) > FRAME_BYTES_MAX:
                connection.drop(Close.TOO_LARGE, f"a frame of over {FRAME_BYTES_MAX} bytes")
            else:
                received.frames += 1
                received.bytes += len(data)
                await room.ready(connection.number)
                self._rooms.receive(room, connection.number, data)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the token store raises, as RefusedError."""
    try:
        yield
    except TokenError as error:
        raise RefusedError(Close.BAD_TOKEN, str(error)) from None
    except StoreError as error:
        log.error("cannot check a token: %s", error)
        raise RefusedError(Close.STORE_FAILED, "the hub's store does not answer") from None
