"""Synchronisation by single requests: a `Transport` for hubs and networks without WebSocket.

A connection here is an `Exchange` and a pool of kept-alive HTTP connections below it. Whatever the
session says is posted at once; else the hub is asked for news, at the pace of `Pacing`, or with a
request that waits there. One request waits at most, beside it at most one other is under way, and
nothing more is asked before what came was taken.

Bytes are counted as HTTP/1.1 writes them: request and status lines, headers, bodies. What lies below
is not counted (TLS, chunk sizes that a proxy may add, a proxy's CONNECT), as for WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec

from localmem_node.config import HubSettings
from localmem_node.errors import SyncError
from localmem_node.sync.transport import CONNECT_S, http_url
from localmem_protocol.errors import RefusedError
from localmem_protocol.exchange import CONTENT_TYPE, Exchange, Poll, Post
from localmem_protocol.frames import encode_frame, is_permanent, is_update
from localmem_protocol.limits import EXCHANGE_BYTES_MAX
from localmem_protocol.pacing import Pacing
from localmem_protocol.presence import LISTENING, read_notices
from localmem_protocol.seams import Clock, Random

ANSWER_S: Final = 60.0
"""Longest silence within a request, beside what the hub was asked to wait."""

KEPT_S: Final = 330.0
"""How long an HTTP connection is kept for the next request; hubs keep theirs a little longer."""

WAIT_S_MAX: Final = 25
"""Longest that a hub is asked to wait, whatever it offers; what lies between gives up after 30."""

WAIT_HEADER: Final = "X-Localmem-Wait"
NOTICES_HEADER: Final = "X-Localmem-Notices"

# It has a line for each request, at INFO.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class HttpTransport:
    """A `Transport` to `http://` and `https://` hubs."""

    def __init__(self, hub: HubSettings, clock: Clock, random: Random) -> None:
        """Raises ConfigError for a URL that is none."""
        self._url = http_url(hub.url, hub.pool)
        self._token = hub.token
        self._clock = clock
        self._random = random

    @asynccontextmanager
    async def connect(self, device: str) -> AsyncIterator[HttpConnection]:
        """As `Transport` says; nothing is sent before the first frame."""
        pacing = Pacing(self._clock, self._random)
        async with self._caller(device) as caller:
            connection = HttpConnection(caller, pacing, self._clock)
            try:
                yield connection
            finally:
                await connection.close()

    async def introduce(self, device: str) -> dict[str, Any]:
        """What the hub says of itself and of this token. Raises SyncError, RefusedError."""
        async with self._caller(device) as caller:
            status, _, data = await caller.call("GET", "")
        if status != httpx2.codes.OK:
            raise _failure(status, data, self._url)
        return _json(data)

    @asynccontextmanager
    async def _caller(self, device: str) -> AsyncIterator[_Caller]:
        headers = {"Authorization": f"Bearer {self._token}", "X-Localmem-Device": device}
        try:
            client = httpx2.AsyncClient(limits=httpx2.Limits(keepalive_expiry=KEPT_S))
        except (ImportError, ValueError) as error:  # SOCKS, or an address that is none
            raise SyncError(f"the proxy of the environment cannot be used: {error}") from None
        async with client:
            yield _Caller(client, self._url, headers)


class _Caller:
    """Requests to one hub, counted and bounded."""

    def __init__(self, client: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.sent = 0
        self.received = 0
        self._client = client
        self._headers = headers

    async def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        wait_s: float = 0.0,
    ) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body of an answer. Raises SyncError."""
        timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S, read=ANSWER_S + wait_s)
        try:
            request = httpx2.Request(
                method,
                self.url + path,
                headers=self._headers | (headers or {}),
                content=content,
                extensions={"timeout": timeout.as_dict()},
            )
            self.sent += _request_bytes(request)
            response = await self._client.send(request, stream=True)
            async with contextlib.aclosing(response):
                self.received += _head_bytes(response)
                data = await self._read(response)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise SyncError(f"the hub cannot be reached at {self.url}: {reason}") from None
        return response.status_code, response.headers, data

    async def _read(self, response: httpx2.Response) -> bytes:
        """The body as it came; nothing is unpacked, so that nothing can grow. Raises SyncError."""
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_raw():
            self.received += len(part)
            size += len(part)
            if size > EXCHANGE_BYTES_MAX:
                raise SyncError(f"{self.url} answers with more than {EXCHANGE_BYTES_MAX} bytes")
            parts.append(part)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise SyncError(f"{self.url} answers with a Content-Encoding that was not asked for")
        return b"".join(parts)


class HttpConnection:
    """A `Connection` by requests. `receive` makes them; it belongs to one task, `send` to any."""

    def __init__(self, caller: _Caller, pacing: Pacing, clock: Clock) -> None:
        self._caller = caller
        self._pacing = pacing
        self._clock = clock
        self._exchange = Exchange()
        self._inbox: deque[bytes] = deque()
        self._woken = asyncio.Event()  # there is something to post, or somebody asks
        self._moved = asyncio.Event()  # something was answered or taken
        self._asked = False
        self._hub_waits_s = 0
        self._listening: int | None = None  # as the hub said last
        self._told = 0  # how often that was passed on
        self._waiting: asyncio.Task[bool] | None = None
        self._hasty = False

    @property
    def sent(self) -> int:
        """As `Connection` says."""
        return self._caller.sent

    @property
    def received(self) -> int:
        """As `Connection` says."""
        return self._caller.received

    async def send(self, frame: bytes) -> None:
        """Have it posted with the next request, which is made at once."""
        self._exchange.send(frame)
        self._pacing.said()
        self._woken.set()

    async def receive(self) -> bytes:
        """As `Connection` says."""
        while not self._inbox:
            await self._turn()
            self._moved.set()
        frame = self._inbox.popleft()
        self._moved.set()
        return frame

    async def settle(self, *, ask: bool) -> None:
        """As `Connection` says."""
        if ask:
            self._asked = True
            self._woken.set()
        while self._asked or self._inbox or self._exchange.waiting:
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        """Give up what waits at the hub."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, SyncError, RefusedError):
                await waiting

    async def _turn(self) -> None:
        """Make a request, or wait for a reason to. Raises SyncError, RefusedError, FrameError."""
        self._woken.clear()
        if (post := self._exchange.post()) is not None:
            await self._post(post)
        elif (poll := self._exchange.poll()) is None:
            await self._woken.wait()
        elif self._asked:
            await self._poll(poll, 0)
            self._asked = False
        elif self._waiting is not None:
            await self._until_woken_or(self._waiting)
        else:
            await self._rest_and_poll(poll)

    async def _post(self, post: Post) -> None:
        status, headers, data = await self._caller.call(
            "POST", "", {"Content-Type": CONTENT_TYPE}, post.body
        )
        if status != httpx2.codes.OK:
            raise _failure(status, data, self._caller.url)
        offered = headers.get(WAIT_HEADER, "")
        self._hub_waits_s = (
            min(int(offered), WAIT_S_MAX) if re.fullmatch("[0-9]{1,4}", offered) else 0
        )
        self._take(self._exchange.answered(data))
        self._note(headers)

    async def _rest_and_poll(self, poll: Poll) -> None:
        waits = self._hub_waits_s > 0 and not self._hasty
        rest_s = 0.0 if self._exchange.more else self._pacing.rest_s(waits=waits)
        if rest_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._woken.wait()
                return
        self._hasty = False
        if self._hub_waits_s and not self._exchange.more:
            self._waiting = asyncio.create_task(self._wait_for_news(poll, self._hub_waits_s))
        else:
            await self._poll(poll, 0)

    async def _until_woken_or(self, waiting: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({waiting, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        if waiting.done():
            self._waiting = None
            self._hasty = waiting.result()

    async def _wait_for_news(self, poll: Poll, wait_s: int) -> bool:
        """Ask, and wait; whether the hub came back with nothing before the time was up."""
        since, told = self._clock.monotonic_s(), self._told
        news = await self._poll(poll, wait_s) or self._told > told
        overtaken = self._exchange.position != poll.position
        return not (news or overtaken) and self._clock.monotonic_s() - since < wait_s / 2

    async def _poll(self, poll: Poll, wait_s: int) -> bool:
        """Ask for what comes after a position; whether there was anything."""
        status, headers, data = await self._caller.call(
            "GET",
            f"/updates?wait={wait_s}" if wait_s else "/updates",
            {"If-None-Match": f'"{poll.position}"'},
            wait_s=wait_s,
        )
        if status == httpx2.codes.NOT_MODIFIED:
            self._note(headers)
            return False
        if status != httpx2.codes.OK:
            raise _failure(status, data, self._caller.url)
        self._take(self._exchange.polled(poll, data))
        self._note(headers)
        return True

    def _note(self, headers: httpx2.Headers) -> None:
        """Pass on who is there, when that is another answer than before; it is no work of the pool's."""
        known = self._listening
        nobody = "" if known is None else f"{LISTENING}=0"  # unless the hub never says
        for notice in read_notices(headers.get(NOTICES_HEADER, nobody)):
            if notice.kind == LISTENING:
                self._listening = notice.value
                if known is not None and bool(known) == bool(notice.value):
                    continue
            self._told += 1
            self._inbox.append(encode_frame(notice))

    def _take(self, frames: list[bytes]) -> None:
        self._inbox += frames
        if any(is_update(frame) for frame in frames):
            self._pacing.heard()


def _failure(status: int, data: bytes, url: str) -> Exception:
    """What an answer that is none means: the hub's refusal, or somebody else's page."""
    error = _json(data).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict) and isinstance(code, int) and 4400 <= code < 4600:
        return RefusedError(code, is_permanent(code), str(error.get("message", ""))[:200])
    return SyncError(f"the hub answered HTTP {status}; is {url} a hub?")


def _json(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _request_bytes(request: httpx2.Request) -> int:
    line = len(request.method) + len(request.url.raw_path) + len("  HTTP/1.1\r\n")
    return line + _headers_bytes(request.headers) + len(request.content)


def _head_bytes(response: httpx2.Response) -> int:
    return len(f"HTTP/1.1 200 {response.reason_phrase}\r\n") + _headers_bytes(response.headers)


def _headers_bytes(headers: httpx2.Headers) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers.raw) + len("\r\n")
