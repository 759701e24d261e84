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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from localmem_hub.audit import Audit
from localmem_hub.authentication import Authentication
from localmem_hub.connection import DEFECT, Connection
from localmem_hub.connections import Connections
from localmem_hub.counts import Counts
from localmem_hub.errors import RefusedError, StoppingError, StoreError, TokenError
from localmem_hub.http_requests import peer_of
from localmem_hub.limits import CHANGES_SECONDS, RECHECK_SECONDS
from localmem_hub.live import LiveRoom
from localmem_hub.quotas import Limit, Quotas, Room
from localmem_hub.rooms import Rooms
from localmem_hub.rosters import Rosters
from localmem_hub.seams import Identity, TokenStore
from localmem_hub.session_tokens import SESSION
from localmem_hub.stay import SealedStay
from localmem_hub.wire import wire_of
from localmem_hub.workers import Workers
from localmem_protocol.events import is_device_id
from localmem_protocol.frames import (
    PROTOCOL,
    ROSTER_NOTICE,
    Close,
    Notice,
    is_permanent,
    is_question,
    is_update,
    later,
)
from localmem_protocol.limits import FRAME_BYTES_MAX
from localmem_protocol.room import Peer
from localmem_protocol.roster import Roster
from localmem_protocol.roster_log import role_in
from localmem_protocol.seams import Clock
from localmem_protocol.wire import varuint

log: Final = logging.getLogger(__name__)

DEVICE_HEADER: Final = "X-Localmem-Device"


class Droppable(Protocol):
    """A connection, or the stay of one request in a room."""

    def drop(self, code: int, reason: str) -> None:
        """End it, with a code of `frames.Close`."""
        ...


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
        audit: Audit,
        quotas: Quotas,
        connections: Connections,
        transports: Sequence[str] = ("websocket", "http"),
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self._transports = list(transports)
        self._rooms = rooms
        self._rosters = rosters
        self._authentication = authentication
        self._tokens = tokens
        self._workers = workers
        self.clock = clock
        self.audit = audit
        self._quotas = quotas
        most = quotas.bounds.update_bytes
        self._framed = 2 + len(varuint(most)) + most  # the kind and the length come before it
        self.rechecks = 0  # who is being let in while one begins has to be looked up again
        self.connections = connections
        self._live: dict[Droppable, Identity] = {}
        self._ending: dict[Droppable, int] = {}  # those whose token expires, and when

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, up to when it is in its room, or was told why not."""
        offered = PROTOCOL in websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=PROTOCOL if offered else None)
        connection = self.connections.accepted(wire_of(websocket.scope), FRAME_BYTES_MAX)
        pool = websocket.path_params["pool"]
        with self.refusals(connection) as refusals:
            refuse_query(websocket.query_params)
            identity = await self.identify(pool, websocket)
            self.count_request(identity)
            if not offered:
                raise RefusedError(Close.BAD_FRAME, f"the subprotocol must be {PROTOCOL}")
            await self._enter(websocket, connection, identity)
        for refused in refusals:
            log.info("refused pool=%r code=%d reason=%s", pool, refused.close_code, refused.reason)
            self.note_refusal(websocket, pool, refused)
            connection.drop(refused.close_code, refused.reason)

    @contextmanager
    def refusals(self, connection: Connection) -> Iterator[list[RefusedError]]:
        """While somebody is let in: if that is refused, why. After any other failure nobody stays."""
        refusals: list[RefusedError] = []
        try:
            yield refusals
        except RefusedError as refused:
            self.counts.refuse(refused.close_code)
            refusals.append(refused)
        except BaseException:
            connection.drop(DEFECT, "the hub failed; try again")
            raise

    async def introduce(self, request: Request) -> JSONResponse:
        """Whom a token stands for, and how to synchronise here; notes nothing, and binds it to nobody.

        The device may be left out. 401 for a token that does not open this pool (to it), and why.
        """
        device = request.headers.get(DEVICE_HEADER)
        try:
            refuse_query(request.query_params)
            identity = await self._check(request.path_params["pool"], request.headers, device)
        except RefusedError as refused:
            self.counts.refuse(refused.close_code)
            self.note_refusal(request, request.path_params["pool"], refused)
            error = {"code": refused.close_code, "message": refused.reason, "field": None}
            status = {Close.BAD_TOKEN: 401, Close.BAD_FRAME: 400}.get(refused.close_code, 503)
            return JSONResponse({"error": error}, status)
        introduction = {"pool": identity.pool, "role": identity.role}
        return JSONResponse(introduction | {"transports": self._transports})

    async def recheck(self) -> None:
        """Send away whoever's token was revoked, and whom a roster knows no more."""
        self.rechecks += 1
        tokens = {identity.token for identity in self._live.values() if identity.token}
        if tokens:
            revoked = await self._workers.look(lambda: self._tokens.revoked(tokens))
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

    @property
    def here(self) -> int:
        """Connections and requests that are in a room."""
        return len(self._live)

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
            with _going_on("tokens not rechecked"):
                await self.recheck()

    async def watch_changes(self, changed: Callable[[], None]) -> None:
        """Cut connections off when another process took their right away.

        `changed` is called then: others may have to look as well. Replicas are told by the database
        (`replication.py`) and need not ask.
        """
        known: int | None = None
        while True:
            await asyncio.sleep(CHANGES_SECONDS)
            with _going_on("not looked whether tokens changed"):
                now = await self._workers.look(self._tokens.changes)
                if now != known:
                    changed()
                    await self.recheck()
                    known = now

    async def expire_forever(self) -> None:
        """Cut connections off when their token expires, however long the database takes."""
        while True:
            await asyncio.sleep(CHANGES_SECONDS)
            with _going_on("not looked whether tokens expired"):
                self._expire()

    def _expire(self) -> None:
        now_ms = self.clock.now_ms()
        for connection, expires_ms in self._ending.items():
            if now_ms >= expires_ms:
                connection.drop(Close.BAD_TOKEN, "this token has expired")

    def count_request(self, identity: Identity) -> None:
        """Count a connection, or a request. Raises RefusedError when there are too many."""
        _refuse(self._quotas.request(identity))

    def count_frames(
        self,
        identity: Identity,
        frames: Sequence[bytes],
        room: Room | None = None,
        *,
        sealed: bool = True,
    ) -> None:
        """Count what a device sent at once. Raises RefusedError for what is too large, or has to wait."""
        updates = [frame for frame in frames if is_update(frame)]
        if any(len(update) > self._framed for update in updates):
            most = self._quotas.bounds.update_bytes
            raise RefusedError(Close.TOO_LARGE, f"an update of over {most} bytes")
        if updates:
            _refuse(self._quotas.admit(identity, updates, room, sealed=sealed))
        if any(map(is_question, frames)):
            _refuse(self._quotas.request(identity))

    def count_freely(
        self,
        identity: Identity,
        frames: Sequence[bytes],
        room: Room | None = None,
        *,
        sealed: bool = True,
    ) -> bool:
        """The same for updates that are far from every bound; False, and nothing, for others."""
        small = all(is_update(frame) and len(frame) <= self._framed for frame in frames)
        return small and self._quotas.admit_freely(identity, frames, room, sealed=sealed)

    def note_refusal(
        self, connection: HTTPConnection, pool: str, refused: RefusedError, transport: str = ""
    ) -> None:
        """Tell the audit log that somebody was not let in, or not heard."""
        note = self.audit.limited if refused.close_code == Close.LIMITED else self.audit.refused
        if is_permanent(refused.close_code) or refused.close_code == Close.LIMITED:
            note(
                peer_of(connection),
                pool=pool,
                device=connection.headers.get(DEVICE_HEADER),
                transport=transport,
                code=refused.close_code,
                reason=refused.reason,
            )

    def note_entrance(
        self, connection: HTTPConnection, identity: Identity, transport: str = "websocket"
    ) -> None:
        """Tell the audit log that somebody was let in."""
        self.audit.admitted(peer_of(connection), transport=transport, **_who(identity))

    def note_end(self, address: str, identity: Identity, code: int, why: str) -> None:
        """Tell the audit log that somebody was sent away, if it was for a reason of its own."""
        if code == Close.LIMITED:
            self.audit.limited(address, **_who(identity), reason=why)
        elif is_permanent(code) or code == Close.ROSTER_CHANGED:
            who = _who(identity)
            self.audit.note("cut_off", address=address, **who, code=code, reason=why)

    async def identify(
        self, pool: str, connection: HTTPConnection, *, note: bool = True
    ) -> Identity:
        """Whom a connection is from; from then on the token is that device's, unless only asked.

        Raises RefusedError.
        """
        while True:
            rechecks = self.rechecks
            headers = connection.headers
            identity = await self._check(pool, headers, headers.get(DEVICE_HEADER, ""))
            if not is_device_id(identity.device):
                reason = f"{DEVICE_HEADER} must be 16 lower-case hex digits"
                raise RefusedError(Close.BAD_FRAME, reason)
            if note and identity.fresh:
                await self._note(identity)
                self.note_enrolment(connection, identity)
                note = False
            if self.rechecks == rechecks:
                return identity

    def note_enrolment(self, connection: HTTPConnection, identity: Identity) -> None:
        """Tell the audit log that a token is somebody's now."""
        if identity.first:
            self.audit.note("enrolled", address=peer_of(connection), **_who(identity))

    async def _note(self, identity: Identity) -> None:
        now_ms = self.clock.now_ms()
        with _refusals():
            await self._workers.write(lambda: self._tokens.note(identity, now_ms))

    async def _check(self, pool: str, headers: Headers, device: str | None) -> Identity:
        """Whom a token stands for. Raises RefusedError."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        now_ms = self.clock.now_ms()
        with _refusals():
            self._rooms.check_open()
            if scheme.lower() != "bearer":
                raise TokenError("send the token as `Authorization: Bearer …`")
            if token.strip().startswith(SESSION):
                return await self._authentication.identify(token.strip(), pool, device)
            return await self._workers.read(
                lambda: self._tokens.check(token.strip(), pool, device, now_ms)
            )

    @contextmanager
    def staying(self, connection: Droppable, identity: Identity) -> Iterator[None]:
        """For as long as a request is in a room, who loses a right is dropped.

        To be entered without an await after `identify`: so no change is missed.
        """
        self.retain(connection, identity)
        try:
            yield
        finally:
            self.release(connection)

    def retain(self, connection: Droppable, identity: Identity) -> None:
        """The same until `release`."""
        self._live[connection] = identity
        if identity.expires_ms is not None:
            self._ending[connection] = identity.expires_ms

    def release(self, connection: Droppable) -> None:
        """It is not in a room any more."""
        del self._live[connection]
        self._ending.pop(connection, None)

    async def _enter(
        self, websocket: WebSocket, connection: Connection, identity: Identity
    ) -> None:
        """Bring a connection into its room. Raises RefusedError."""
        self.retain(connection, identity)
        try:
            room = await self._join(connection, identity)
        except BaseException:
            self.release(connection)
            raise
        self.note_entrance(websocket, identity)
        address, tally = peer_of(websocket), self.counts.sealed
        stay = SealedStay(self, connection, identity, address, tally, self._rooms, room)
        connection.listen(stay)

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


def _refuse(limit: Limit | None) -> None:
    if limit is not None:
        raise RefusedError(Close.LIMITED, later(limit.reason, limit.seconds))


def refuse_query(query: QueryParams, allowed: Collection[str] = ()) -> None:
    """Raise RefusedError for a query string: tokens end up in logs that way."""
    if any(prefix in str(query) for prefix in ("lmt_", SESSION)):
        raise RefusedError(
            Close.BAD_TOKEN,
            "a token in a URL: send it as `Authorization: Bearer …`, and revoke this one",
        )
    if unknown := [name for name in query if name not in allowed]:
        raise RefusedError(Close.BAD_FRAME, f"unknown in the query string: {unknown[0][:40]!r}")


def _who(identity: Identity) -> dict[str, str]:
    return {
        "pool": identity.pool,
        "device": identity.device,
        "token": identity.token,
        "role": identity.role,
    }


@contextmanager
def _going_on(failed: str) -> Iterator[None]:
    """What is done again and again goes on, whatever becomes of it once. Only a hub that stops ends it."""
    try:
        yield
    except StoppingError:
        raise
    except StoreError as error:
        log.warning("%s: %s", failed, error)
    except Exception:  # a defect must not let anybody stay for good
        log.exception("%s", failed)


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
