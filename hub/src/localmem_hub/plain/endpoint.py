"""The endpoint `/v1/yjs/{room}`: WebSockets of standard Yjs clients, as y-websocket's protocol has it.

The token comes as `Authorization: Bearer …`, or as `?token=…`, since a browser cannot send headers;
so nothing here logs an address. Rooms that are not there, and those that a token does not open, get
one answer: an auth message for clients that know it, then `Close.BAD_TOKEN`.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from localmem_hub.connection import Connection
from localmem_hub.endpoint import Endpoint
from localmem_hub.errors import RefusedError, StoppingError, StoreError, TokenError
from localmem_hub.http_requests import peer_of
from localmem_hub.plain.limits import MESSAGE_BYTES_MAX
from localmem_hub.plain.messages import changes, denied, step2
from localmem_hub.plain.room import NOTHING, PlainRoom
from localmem_hub.plain.rooms import PlainRooms
from localmem_hub.seams import Identity, TokenStore
from localmem_hub.stay import Stay
from localmem_hub.wire import wire_of
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
        """One connection, up to when it is in its room, or was told why not."""
        await websocket.accept()
        connections = self._endpoint.connections
        connection = connections.accepted(wire_of(websocket.scope), MESSAGE_BYTES_MAX)
        name = websocket.path_params["room"]
        with self._endpoint.refusals(connection) as refusals:
            identity = await self._identify(name, websocket)
            self._endpoint.count_request(identity)
            self._enter(websocket, connection, identity)
        for refused in refusals:
            log.info("refused room=%r code=%d", name[:80], refused.close_code)
            self._endpoint.note_refusal(websocket, name, refused, "yjs")
            if refused.close_code == Close.BAD_TOKEN:
                connection.send(denied(refused.reason))
            connection.drop(refused.close_code, refused.reason)

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

    def _enter(self, websocket: WebSocket, connection: Connection, identity: Identity) -> None:
        """Bring a connection into its room. Raises RefusedError."""
        writer = identity.role == "writer"
        try:
            room = self._rooms.join(
                identity.pool, connection.number, connection, identity.token, writer=writer
            )
        except StoppingError as error:
            raise RefusedError(Close.GOING_AWAY, str(error)) from None
        self._endpoint.retain(connection, identity)
        self._endpoint.note_entrance(websocket, identity)
        address, tally = peer_of(websocket), self._counts.plain
        stay = PlainStay(self._endpoint, connection, identity, address, tally, self._rooms, room)
        connection.listen(stay)


class PlainStay(Stay[PlainRoom]):
    """Somebody in a plain room."""

    __slots__ = ()

    @property
    def _where(self) -> str:
        return f"room={self._identity.pool}"

    def _count(self, message: bytes) -> None:
        if message not in _SAYING_NOTHING:
            self._endpoint.count_frames(self._identity, (message,), sealed=False)

    def _count_freely(self, messages: list[bytes]) -> bool:
        return False
