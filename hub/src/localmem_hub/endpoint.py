"""The endpoint `/v1/sync/{pool}`: a WebSocket, and a plain GET that says whom a token stands for.
Its other form, by single requests, is in `http_sync`.

A device offers the subprotocol `frames.PROTOCOL`, its token as `Authorization: Bearer …`, and its
id in the header `X-Localmem-Device`. `lmt_…` is a device token of the operator's for a pool without a
roster; `lms_…` a session token (`authentication.py`) for the room of an epoch, `{pool}.{epoch}`. Whoever may not come in is accepted and closed with a
code, since clients cannot see why a handshake failed; no room is touched before. After that every
message is one binary frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from localmem_hub.authentication import Authentication
from localmem_hub.connection import Connection, Outbox
from localmem_hub.errors import StoppingError, StoreError, TokenError
from localmem_hub.limits import RECHECK_SECONDS
from localmem_hub.live import LiveRoom
from localmem_hub.rooms import Rooms
from localmem_hub.rosters import Rosters
from localmem_hub.seams import Identity, TokenStore
from localmem_hub.session_tokens import SESSION
from localmem_hub.workers import Workers
from localmem_protocol.events import is_device_id
from localmem_protocol.frames import PROTOCOL, ROSTER_NOTICE, Close, Notice
from localmem_protocol.limits import FRAME_BYTES_MAX
from localmem_protocol.room import Peer
from localmem_protocol.roster import Roster
from localmem_protocol.roster_log import role_in
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

DEVICE_HEADER: Final = "X-Localmem-Device"


class RefusedError(Exception):
    """This connection is closed before it reaches a room."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Droppable(Protocol):
    """A connection, or the stay of one request in a room."""

    def drop(self, code: int, reason: str) -> None:
        """End it, with a code of `frames.Close`."""
        ...


@dataclass
class Received:
    """What came in on a connection, for its line in the log."""

    frames: int = 0
    bytes: int = 0
    code: int = 1006  # as it was closed from there


class Endpoint:
    """Brings connections into rooms, and takes them out when what let them in is no more."""

    def __init__(
        self,
        rooms: Rooms,
        rosters: Rosters,
        authentication: Authentication,
        tokens: TokenStore,
        workers: Workers,
        clock: Clock,
        transports: Sequence[str] = ("websocket", "http"),
    ) -> None:
        self._transports = list(transports)
        self._rooms = rooms
        self._rosters = rosters
        self._authentication = authentication
        self._tokens = tokens
        self._workers = workers
        self._clock = clock
        self._numbers = count(1)
        self.outbox = Outbox()
        self._live: dict[Droppable, Identity] = {}

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        offered = PROTOCOL in websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=PROTOCOL if offered else None)
        pool = websocket.path_params["pool"]
        try:
            refuse_query(websocket.query_params)
            identity = await self.identify(pool, websocket.headers)
            if not offered:
                raise RefusedError(Close.BAD_FRAME, f"the subprotocol must be {PROTOCOL}")
            await self._stay(websocket, identity)
        except RefusedError as refused:
            log.info("refused pool=%r code=%d reason=%s", pool, refused.code, refused.reason)
            with suppress(WebSocketDisconnect):  # it did not wait for the answer
                await websocket.close(refused.code, refused.reason)

    async def introduce(self, request: Request) -> JSONResponse:
        """Whom a token stands for, and how to synchronise here; notes nothing, and binds it to nobody.

        The device may be left out. 401 for a token that does not open this pool (to it), and why.
        """
        device = request.headers.get(DEVICE_HEADER)
        try:
            refuse_query(request.query_params)
            identity = await self._check(request.path_params["pool"], request.headers, device)
        except RefusedError as refused:
            error = {"code": refused.code, "message": refused.reason, "field": None}
            status = {Close.BAD_TOKEN: 401, Close.BAD_FRAME: 400}.get(refused.code, 503)
            return JSONResponse({"error": error}, status)
        introduction = {"pool": identity.pool, "role": identity.role}
        return JSONResponse(introduction | {"transports": self._transports})

    async def recheck(self) -> None:
        """Send away whoever's token was revoked, and whom a roster knows no more."""
        tokens = {identity.token for identity in self._live.values() if identity.token}
        if tokens:
            revoked = await self._workers.read(lambda: self._tokens.revoked(tokens))
            for connection, identity in self._live.items():
                if identity.token in revoked:
                    connection.drop(Close.BAD_TOKEN, "this token was revoked")
        for pool in {identity.roster for identity in self._live.values() if identity.roster}:
            self._sort_out(pool, await self._rosters.get(pool))

    def roster_changed(self, pool: str, roster: Roster | None) -> None:
        """Cut off whoever lost a right by it, and tell everybody else to look again."""
        self._sort_out(pool, roster)
        if roster is not None:
            notice = Notice(ROSTER_NOTICE, roster.length)
            for room in {one.pool for one in self._live.values() if one.roster == pool}:
                self._rooms.notify(room, notice)

    def follows(self, pool: str) -> bool:
        """Whether somebody is here because a pool's roster lets it in."""
        return any(identity.roster == pool for identity in self._live.values())

    def send_away(self, reason: str) -> None:
        """Drop everybody, for now."""
        for connection in list(self._live):
            connection.drop(Close.STORE_FAILED, reason)

    def _sort_out(self, pool: str, roster: Roster | None) -> None:
        for connection, identity in self._live.items():
            if identity.roster != pool:
                continue
            role = None if roster is None else role_in(roster, identity.device, identity.epoch)
            if role is None:
                connection.drop(Close.BAD_TOKEN, "this device is not in the pool any more")
            elif role != identity.role:
                connection.drop(Close.ROSTER_CHANGED, f"may be a {role} now; connect again")

    def roster_length(self, identity: Identity) -> int:
        """How long a roster is, as it was when `identify` looked; 0 for a pool without one."""
        roster = self._rosters.held(identity.roster)
        return 0 if roster is None else roster.length

    async def recheck_forever(self) -> None:
        """Look the tokens of live connections up again and again."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self.recheck()
            except StoreError as error:
                log.warning("tokens not rechecked: %s", error)

    def number(self) -> int:
        """A number for a connection, unique within the process."""
        return next(self._numbers)

    async def identify(self, pool: str, headers: Headers, *, note: bool = True) -> Identity:
        """Whom a connection is from; from then on the token is that device's, unless only asked.

        Raises RefusedError.
        """
        identity = await self._check(pool, headers, headers.get(DEVICE_HEADER, ""))
        if not is_device_id(identity.device):
            raise RefusedError(Close.BAD_FRAME, f"{DEVICE_HEADER} must be 16 lower-case hex digits")
        if note and identity.fresh:
            now_ms = self._clock.now_ms()
            with _refusals():
                await self._workers.write(lambda: self._tokens.note(identity, now_ms))
        return identity

    async def _check(self, pool: str, headers: Headers, device: str | None) -> Identity:
        """Whom a token stands for. Raises RefusedError."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        now_ms = self._clock.now_ms()
        with _refusals():
            self._rooms.check_open()
            if scheme.lower() != "bearer":
                raise TokenError("send the token as `Authorization: Bearer …`")
            if token.strip().startswith(SESSION):
                return await self._authentication.identify(token.strip(), pool, device)
            return await self._workers.read(
                lambda: self._tokens.check(token.strip(), pool, device, now_ms)
            )

    async def _stay(self, websocket: WebSocket, identity: Identity) -> None:
        connection = Connection(self.number(), websocket, self.outbox)
        with self.staying(connection, identity):
            await self._attend(websocket, connection, identity)

    @contextmanager
    def staying(self, connection: Droppable, identity: Identity) -> Iterator[None]:
        """For as long as somebody is in a room, who loses a right is dropped.

        To be entered without an await after `identify`: so no change is missed.
        """
        self._live[connection] = identity
        try:
            yield
        finally:
            del self._live[connection]

    async def _attend(
        self, websocket: WebSocket, connection: Connection, identity: Identity
    ) -> None:
        room = await self._join(connection, identity)
        since = self._clock.monotonic_s()
        received = Received()
        try:
            await self._exchange(websocket, connection, room, received)
        finally:
            self._rooms.leave(room, connection.number)
            log.info(
                "closed pool=%s device=%s token=%s role=%s code=%d seconds=%.1f "
                "frames_in=%d bytes_in=%d frames_out=%d bytes_out=%d",
                identity.pool,
                identity.device,
                identity.token or "none",
                identity.role,
                connection.closing[0] if connection.closing else received.code,
                self._clock.monotonic_s() - since,
                received.frames,
                received.bytes,
                connection.frames_sent,
                connection.bytes_sent,
            )

    async def _join(self, connection: Connection, identity: Identity) -> LiveRoom:
        """Bring a connection into its room. Raises RefusedError."""
        peer = Peer(connection.number, identity.device, identity.role == "writer")
        try:
            room = await self._rooms.join(identity.pool, peer, connection)
        except StoppingError as error:
            raise RefusedError(Close.GOING_AWAY, str(error)) from None
        except StoreError as error:
            log.error("cannot load a room: %s", error)
            raise RefusedError(Close.STORE_FAILED, "the pool cannot be loaded") from None
        self.prepare(room, identity)
        return room

    def prepare(self, room: LiveRoom, identity: Identity) -> None:
        """Have a room tell everybody who greets how long the roster is."""
        if length := self.roster_length(identity):
            room.room.notice = Notice(ROSTER_NOTICE, length)

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
                if connection.closing is None:  # it may have lost its right while it waited
                    self._rooms.receive(room, connection.number, data)


def refuse_query(query: QueryParams, allowed: Collection[str] = ()) -> None:
    """Raise RefusedError for a query string: tokens end up in logs that way."""
    if any(prefix in str(query) for prefix in ("lmt_", SESSION)):
        raise RefusedError(
            Close.BAD_TOKEN,
            "a token in a URL: send it as `Authorization: Bearer …`, and revoke this one",
        )
    if unknown := [name for name in query if name not in allowed]:
        raise RefusedError(Close.BAD_FRAME, f"unknown in the query string: {unknown[0][:40]!r}")


@contextmanager
def _refusals() -> Iterator[None]:
    """What the token store raises, as RefusedError."""
    try:
        yield
    except TokenError as error:
        raise RefusedError(Close.BAD_TOKEN, str(error)) from None
    except StoppingError as error:
        raise RefusedError(Close.GOING_AWAY, str(error)) from None
    except StoreError as error:
        log.error("cannot check a token: %s", error)
        raise RefusedError(Close.STORE_FAILED, "the hub's store does not answer") from None
