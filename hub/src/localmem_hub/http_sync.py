"""Synchronisation by single requests, for devices and servers without WebSocket.

    POST /v1/sync/{pool}            a body of `localmem_protocol.exchange`; answered by one, once
                                    everything in it is stored
    GET  /v1/sync/{pool}/updates    what came after the position in If-None-Match; 304 if nothing did.
                                    With `?wait=SECONDS` the hub waits for news, if it can.

A request needs nothing that an earlier one left behind: a POST is a short visit to the room, which
then stays in memory for a while, and a GET reads the log of rows and never the document. Errors are
`{"error": {"code": one of frames.Close, "message", "field"}}`. Every answer to a POST says in the
header X-Localmem-Wait for how many seconds a GET may wait here, 0 for not at all, and in
X-Localmem-Notices who is there (`presence`). The answer to a GET leaves that out if nobody is; one that
waits is answered when somebody comes, or waits for news. A hub of several replicas never says it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from localmem_hub.endpoint import Endpoint, refuse_query
from localmem_hub.errors import RefusedError, StoppingError, StoreError
from localmem_hub.http_requests import Problem, read_body
from localmem_hub.limits import LOOK_SECONDS, VISIT_ATTEMPTS
from localmem_hub.live import LiveRoom
from localmem_hub.rooms import Rooms
from localmem_hub.seams import Identity, UpdateLog
from localmem_hub.watchers import Watchers
from localmem_hub.workers import Workers
from localmem_protocol.errors import FrameError, GapError
from localmem_protocol.exchange import (
    CONTENT_TYPE,
    Body,
    Mark,
    News,
    Visit,
    decode_body,
    encode_body,
    news_body,
    parse_position,
)
from localmem_protocol.frames import Close, Notice, is_permanent, is_update, wait_s
from localmem_protocol.limits import EXCHANGE_BYTES_MAX
from localmem_protocol.presence import notices_text, quickens
from localmem_protocol.room import Peer
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

WAIT_HEADER: Final = "X-Localmem-Wait"
NOTICES_HEADER: Final = "X-Localmem-Notices"
_STATUS: Final = {
    Close.BAD_TOKEN: 401,
    Close.READ_ONLY: 403,
    Close.TOO_LARGE: 413,
    Close.REFUSED_UPDATE: 422,
    Close.GAP: 409,
    Close.LIMITED: 429,
}
_CODES: Final = {413: Close.TOO_LARGE, 408: Close.SLOW}
"""What a device is told about a body, by what others are."""

_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"', re.ASCII)


class _Guest(Visit):
    """A `rooms.Sink` for one request."""

    def __init__(self, peer: Peer, body: Body) -> None:
        super().__init__(peer, body)
        self.over = asyncio.Event()
        self._sure_stepped = 0

    def drop(self, code: int, reason: str) -> None:
        """As `Visit` says."""
        super().drop(code, reason)
        self.over.set()

    def hear(self, frame: bytes, live: LiveRoom) -> None:
        """The room took a frame."""
        before = self._stepped
        self.heard(frame, live.newest)
        if self._stepped != before:
            self._sure_stepped = live.head

    def be_sure(self, head: int) -> None:
        """Rows of other replicas came before ours, and all up to `head` are stored by now.

        What the room was asked for it said before: there the device is sent some rows once more.
        """
        self._heard = head
        if self._stepped is not None:
            self._stepped = self._sure_stepped


class HttpSync:
    """The two routes. `wait_seconds` is how long a request may wait here."""

    def __init__(
        self,
        endpoint: Endpoint,
        rooms: Rooms,
        rows: UpdateLog,
        watchers: Watchers,
        workers: Workers,
        clock: Clock,
        *,
        wait_seconds: int,
    ) -> None:
        self._endpoint = endpoint
        self._rooms = rooms
        self._rows = rows
        self._watchers = watchers
        self._workers = workers
        self._clock = clock
        self._wait_seconds = wait_seconds

    async def post(self, request: Request) -> Response:
        """Take what a device says, and answer it."""
        pool: str = request.path_params["pool"]
        try:
            refuse_query(request.query_params)
            _check_headers(request)
            identity = await self._endpoint.identify(pool, request)
            body = decode_body(await _read(request))
            self._endpoint.count_request(identity)
            self._endpoint.note_entrance(request, identity, "http")
            self._watchers.release(pool, identity.device)
            # The body took its time: somebody may have lost a right meanwhile.
            identity = await self._endpoint.identify(pool, request, note=False)
            self._there(identity)
            answer = await self._exchange(identity, body)
        except _Unsupported as error:
            return self._refusal(pool, Close.BAD_FRAME, str(error), 415)
        except RefusedError as refused:
            self._endpoint.note_refusal(request, pool, refused, "http")
            return self._refusal(pool, refused.close_code, refused.reason)
        except FrameError as error:
            return self._refusal(pool, Close.BAD_FRAME, str(error))
        except GapError as error:
            return self._refusal(pool, Close.GAP, str(error))
        except StoppingError as error:
            return self._refusal(pool, Close.GOING_AWAY, str(error))
        except StoreError as error:
            log.error("no exchange: %s", error)
            return self._refusal(pool, Close.STORE_FAILED, "the hub's store does not answer")
        data = encode_body(answer)
        size = sum(map(len, body.frames))
        self._endpoint.counts.exchange(len(body.frames), size, len(answer.frames), len(data))
        log.info(
            "exchanged pool=%s device=%s token=%s role=%s frames_in=%d frames_out=%d bytes_out=%d",
            pool,
            identity.device,
            identity.token,
            identity.role,
            len(body.frames),
            len(answer.frames),
            len(data),
        )
        headers = {WAIT_HEADER: str(self._wait_seconds)} | self._notices(identity)
        return Response(data, headers=headers | _tag(answer.position), media_type=CONTENT_TYPE)

    async def updates(self, request: Request) -> Response:
        """What is new since a position. Notes no use of the token, and touches no room."""
        pool: str = request.path_params["pool"]
        try:
            refuse_query(request.query_params, allowed=("wait",))
            wait = _seconds(request.query_params.get("wait", "0"), self._wait_seconds)
            match = _TAG.fullmatch(request.headers.get("If-None-Match", ""))
            if match is None:
                raise RefusedError(Close.BAD_FRAME, "send the position as If-None-Match")
            identity = await self._endpoint.identify(pool, request, note=False)
            self._endpoint.count_request(identity)
            self._endpoint.note_entrance(request, identity, "http")
            mark = parse_position(match[1], writer=identity.role == "writer")
            self._there(identity, wait)
            news = await self._news(request, identity, mark, wait)
            roster = self._endpoint.roster_length(identity)
            tag = mark.tag
            if news.rows:
                tag = await self._tag(pool, news.rows[-1].number)
        except RefusedError as refused:
            self._endpoint.note_refusal(request, pool, refused, "http")
            return self._refusal(pool, refused.close_code, refused.reason)
        except GapError as error:
            return self._refusal(pool, Close.GAP, str(error))
        except StoppingError as error:
            return self._refusal(pool, Close.GOING_AWAY, str(error))
        except StoreError as error:
            log.error("no updates: %s", error)
            return self._refusal(pool, Close.STORE_FAILED, "the hub's store does not answer")
        told = self._told(identity)
        notices = self._notices(identity) if any(notice.value for notice in told) else {}
        if not news.rows and mark.roster in (0, roster):
            return Response(status_code=304, headers=notices | _tag(mark.text))
        body = news_body(mark, news, tag, roster)
        headers = notices | _tag(body.position)
        data = encode_body(body)
        self._endpoint.counts.exchange(0, 0, len(body.frames), len(data))
        return Response(data, headers=headers, media_type=CONTENT_TYPE)

    def _there(self, identity: Identity, wait_s: float = 0.0) -> None:
        """Somebody asks, and may wait here so long."""
        presence = self._rooms.presence(identity.pool)
        if presence is not None:
            presence.request(identity.device, self._clock.monotonic_s(), wait_s)
            self._rooms.tell(identity.pool)

    def _told(self, identity: Identity) -> list[Notice]:
        presence = self._rooms.presence(identity.pool)
        if presence is None:
            return []
        return presence.told(identity.device, self._clock.monotonic_s())

    def _notices(self, identity: Identity) -> dict[str, str]:
        told = self._told(identity)
        return {NOTICES_HEADER: notices_text(told)} if told else {}

    def _refusal(
        self, pool: str, code: int, reason: str, status: int | None = None
    ) -> JSONResponse:
        self._endpoint.counts.refuse(code)
        log.info("refused pool=%r code=%d reason=%s", pool, code, reason)
        error = {"code": code, "message": reason[:200], "field": None}
        status = status or _STATUS.get(code, 400 if is_permanent(code) else 503)
        headers = {"Retry-After": str(wait_s(reason))} if code == Close.LIMITED else None
        return JSONResponse({"error": error}, status, headers)

    async def _news(self, request: Request, identity: Identity, mark: Mark, wait: float) -> News:
        """The rows after a position; none if the roster grew, or if waiting for some was in vain.

        Raises GapError, StoreError, and RefusedError when the device lost its right meanwhile.
        """
        pool = identity.pool
        end, told = self._clock.monotonic_s() + wait, self._told(identity)
        known = (mark.head, mark.tag)
        while True:
            place = await self._workers.read(lambda: self._rows.place(pool, known))
            left = end - self._clock.monotonic_s()
            if place != known:
                return await self._rows_after(pool, mark.head, None, mark.tag)
            grown = mark.roster not in (0, self._endpoint.roster_length(identity))
            if grown or left <= 0:
                return News()
            # Another process's commit wakes nobody here: look again now and then.
            again = await self._watchers.wait(pool, identity.device, min(left, LOOK_SECONDS))
            now = await self._endpoint.identify(pool, request, note=False)
            if now.role != identity.role:
                raise RefusedError(Close.ROSTER_CHANGED, f"may be a {now.role} now")
            if not again or await request.is_disconnected():
                return News()
            if quickens(told, self._told(identity)):
                return News()

    async def _rows_after(self, pool: str, number: int, last: int | None, tag: str) -> News:
        news = await self._workers.read(lambda: self._rows.rows_after(pool, number, last, tag=tag))
        if news is None:
            raise GapError("the log does not reach back that far, or is another; greet again")
        return news

    async def _tag(self, pool: str, number: int) -> str:
        tag = await self._workers.read(lambda: self._rows.tag(pool, number))
        if tag is None:
            raise GapError("the log went on meanwhile; greet again")
        return tag

    async def _exchange(self, identity: Identity, body: Body) -> Body:
        """A visit, again if another process was faster. Raises RefusedError and what stores raise.

        Who has something to store need not look first whether others did: storing it tells. Only if the
        room turns out not to know what the device says of itself it looks, and hears it again.
        """
        look = not any(map(is_update, body.frames))
        for attempt in range(VISIT_ATTEMPTS):
            last = attempt + 1 == VISIT_ATTEMPTS
            guest = await self._visit(identity, body, count=not attempt, look=look)
            refusal = guest.refusal
            if refusal is None:
                try:
                    return await self._answer(identity, guest)
                except GapError:
                    if look or last:
                        raise
            else:
                behind = refusal.close_code == Close.GAP and not look
                if last or not (behind or refusal.close_code == Close.STORE_FAILED):
                    reason = guest.closed[1] if guest.closed else ""
                    raise RefusedError(refusal.close_code, reason)
            look = True
        raise AssertionError("unreachable")

    async def _answer(self, identity: Identity, guest: _Guest) -> Body:
        """With what came after the position that the device has, if that is of this very log."""
        pool, asked, news = identity.pool, guest.asked, News()
        if asked is not None:
            number, last = guest.wanted or (asked.head, asked.head)
            news = await self._rows_after(pool, number, last, asked.tag)
        reached = guest.reached(news)
        tag = "" if reached is None else await self._tag(pool, reached)
        return guest.answer(news, tag, self._endpoint.roster_length(identity))

    async def _visit(self, identity: Identity, body: Body, *, count: bool, look: bool) -> _Guest:
        number = self._endpoint.number()
        peer = Peer(number, identity.device, identity.role == "writer", transient=True)
        guest = _Guest(peer, body)
        with self._endpoint.staying(guest, identity):
            await self._attend(identity, peer, guest, body, count=count, look=look)
        return guest

    async def _attend(
        self,
        identity: Identity,
        peer: Peer,
        guest: _Guest,
        body: Body,
        *,
        count: bool,
        look: bool,
    ) -> None:
        number = peer.connection
        await self._rooms.refresh(identity.pool)
        live: LiveRoom = await self._rooms.join(identity.pool, peer, guest, look=look)
        self._endpoint.prepare(live, identity)
        shifts = live.shifts
        try:
            if count:  # what a device has is known in a room that is loaded
                self._endpoint.count_frames(identity, body.frames, live.room)
            for frame in body.frames:
                await live.ready(number)
                if guest.closed is not None:
                    break
                self._rooms.receive(live, number, frame)
                guest.hear(frame, live)
            self._rooms.finish(live, number)
            await guest.over.wait()
            if live.shifts != shifts:
                guest.be_sure(live.head)
        finally:
            self._rooms.leave(live, number, linger=True)


class _Unsupported(Exception):
    """A body of a type or coding that is not taken."""


def _check_headers(request: Request) -> None:
    """Look at what is announced before anything is read. Raises _Unsupported, RefusedError."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise _Unsupported(f"the Content-Type must be {CONTENT_TYPE}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise _Unsupported("no Content-Encoding is taken: what is sent is compressed already")
    length = request.headers.get("Content-Length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > EXCHANGE_BYTES_MAX:
        raise RefusedError(Close.TOO_LARGE, f"a body of over {EXCHANGE_BYTES_MAX} bytes")


async def _read(request: Request) -> bytes:
    """The body, which may be shorter than announced but never longer than allowed.

    Raises RefusedError, with what a device is told by its code.
    """
    try:
        return await read_body(request, EXCHANGE_BYTES_MAX)
    except Problem as problem:
        code = _CODES.get(problem.status, Close.BAD_FRAME)
        raise RefusedError(code, str(problem)) from None


def _seconds(text: str, most: int) -> int:
    """How long to wait. Raises RefusedError."""
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise RefusedError(Close.BAD_FRAME, "wait must be a number of seconds")
    return min(int(text), most)


def _tag(position: str) -> dict[str, str]:
    return {"ETag": f'"{position}"'} if position else {}
