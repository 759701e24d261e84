"""The endpoint `/v1/yjs/{room}`: WebSockets of standard Yjs clients, as y-websocket's protocol has it.

The token comes as `Authorization: Bearer …`, or as `?token=…`, since a browser cannot send headers;
so nothing here logs an address. Rooms that are not there, and those that a token does not open, get
one answer: an auth message for clients that know it, then `Close.BAD_TOKEN`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from localmem_hub.connection import Connection
from localmem_hub.conversation import Received, converse
from localmem_hub.endpoint import Endpoint
from localmem_hub.errors import RefusedError, StoppingError, StoreError, TokenError
from localmem_hub.plain.limits import MESSAGE_BYTES_MAX
from localmem_hub.plain.messages import changes, denied, step2
from localmem_hub.plain.room import NOTHING
from localmem_hub.plain.rooms import PlainRooms
from localmem_hub.seams import Identity, TokenStore
from localmem_hub.wire import close_reason
from localmem_hub.workers import Workers
from localmem_protocol.frames import Close
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

NO_ROOM: Final = "there is no such room for this token"

_SAYING_NOTHING: Final = frozenset((step2(NOTHING), changes(NOTHING)))
"""What a client without changes answers when it comes; not counted, or it could not read in a full room."""


class PlainEndpoint:
    """Brings connections into plain rooms; `endpoint` sees to those whose token is revoked."""

    def __init__(
        self,
        rooms: PlainRooms,
        endpoint: Endpoint,
        tokens: TokenStore,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._rooms = rooms
        self._endpoint = endpoint
        self._counts = endpoint.counts
        self._tokens = tokens
        self._workers = workers
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """What to serve. Names with slashes, too, which no room has, so that all get one answer."""
        return [WebSocketRoute("/v1/yjs/{room:path}", self.serve)]

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        await websocket.accept()
        name = websocket.path_params["room"]
        try:
            identity = await self._identify(name, websocket)
            self._endpoint.count_request(identity)
            await self._stay(websocket, identity)
        except RefusedError as refused:
            self._counts.refuse(refused.close_code)
            log.info("refused room=%r code=%d", name[:80], refused.close_code)
            self._endpoint.note_refusal(websocket, name, refused, "yjs")
            with suppress(WebSocketDisconnect):  # it did not wait for the answer
                if refused.close_code == Close.BAD_TOKEN:
                    await websocket.send_bytes(denied(refused.reason))
                await websocket.close(refused.close_code, close_reason(refused.reason))

    async def _identify(self, name: str, websocket: WebSocket) -> Identity:
        """Whom a connection is from. Raises RefusedError."""
        scheme, _, token = websocket.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = websocket.query_params.get("token", "")
        try:
            while True:
                rechecks = self._endpoint.rechecks
                identity = await self._check(name, token.strip())
                self._endpoint.note_enrolment(websocket, identity)
                if self._endpoint.rechecks == rechecks:
                    return identity
        except TokenError:
            raise RefusedError(Close.BAD_TOKEN, NO_ROOM) from None
        except StoppingError as error:
            raise RefusedError(Close.GOING_AWAY, str(error)) from None
        except StoreError as error:
            log.error("cannot check a token: %s", error)
            raise RefusedError(Close.STORE_FAILED, "the hub's store does not answer") from None

    async def _check(self, name: str, token: str) -> Identity:
        now_ms = self._clock.now_ms()
        identity = await self._workers.read(
            lambda: self._tokens.check(token, name, None, now_ms, kind="plain")
        )
        if identity.fresh:
            await self._workers.write(lambda: self._tokens.note(identity, now_ms))
        return identity

    async def _stay(self, websocket: WebSocket, identity: Identity) -> None:
        connection = Connection(self._endpoint.number(), websocket, self._endpoint.outbox)
        with self._endpoint.staying(connection, identity):
            try:
                room = self._rooms.join(
                    identity.pool,
                    connection.number,
                    connection,
                    identity.token,
                    writer=identity.role == "writer",
                )
            except StoppingError as error:
                raise RefusedError(Close.GOING_AWAY, str(error)) from None
            self._endpoint.note_entrance(websocket, identity)
            since = self._clock.monotonic_s()
            received = Received()

            async def take(message: bytes) -> None:
                await room.ready(connection.number)
                if connection.closing is None:  # it may have lost its right while it waited
                    if message not in _SAYING_NOTHING:
                        self._endpoint.count_frames(identity, (message,), sealed=False)
                    self._rooms.receive(room, connection.number, message)

            try:
                with self._counts.plain.connection(received, connection):
                    failed = await converse(
                        websocket, connection, received, take, MESSAGE_BYTES_MAX
                    )
                for problem in failed:
                    log.error("connection failed room=%s", room.name, exc_info=problem)
            finally:
                if connection.closing is not None:
                    self._counts.refuse(connection.closing[0])
                self._rooms.leave(room, connection.number)
                ended = connection.closing or (0, "")
                self._endpoint.note_end(websocket, identity, *ended)
                log.info(
                    "closed room=%s token=%s role=%s code=%d seconds=%.1f "
                    "frames_in=%d bytes_in=%d frames_out=%d bytes_out=%d",
                    identity.pool,
                    identity.token,
                    identity.role,
                    connection.closing[0] if connection.closing else received.code,
                    self._clock.monotonic_s() - since,
                    received.frames,
                    received.bytes,
                    connection.frames_sent,
                    connection.bytes_sent,
                )
