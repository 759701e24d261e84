"""Devices that go from replica to replica, never stop because one is gone, and check what they hear.

What a device writes follows from its name and the clock, and it is never written again once it was
acknowledged: so a hub that forgets it has forgotten it for good. What a device hears has to build on
what it heard before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import httpx2
from websockets.exceptions import WebSocketException

from localmem_protocol.document import Document
from localmem_protocol.errors import FrameError
from localmem_protocol.frames import Ack, Frame, Resume, Step1, Step2, Update
from localmem_protocol.updates import decode_update, encode_state_vector
from support.http_client import Answer, HttpClient
from support.sync_client import RawClient

NOTHING = encode_state_vector({})
REPLY_SECONDS = 2.0
"""How long a device waits for a replica that says nothing, as a paused one does."""


class Roamer:
    """What both kinds have in common: `acknowledged` and `seen`."""

    def __init__(self, urls: Callable[[], list[str]], pool: str, device: str, token: str) -> None:
        self.urls = urls
        self.pool = pool
        self.device = device
        self.token = token
        self.acknowledged = 0
        self.target = 0
        self.seen: set[bytes] = set()
        self.connections = 0
        self._turn = count(int(device, 16))
        self._client = 0

    def content(self, clock: int) -> bytes:
        """What this device writes at a clock."""
        return f"{self.device} {clock}".encode()

    def next_url(self) -> str:
        """The next replica's."""
        urls = self.urls()
        return urls[next(self._turn) % len(urls)]

    def take(self, frame: Frame, document: Document) -> None:
        """Look at something that was heard. Raises GapError when something before it is missing."""
        if isinstance(frame, Update | Step2):
            document.load(frame.update)
            for run in decode_update(frame.update, stored=True).items.values():
                self.seen |= {c for item in run for c in item.contents or ()}
        elif isinstance(frame, Ack):
            self.acknowledged = max(self.acknowledged, frame.clock)

    def welcome(self, client: int, clock: int) -> None:
        """A hub that has less than was acknowledged has lost it."""
        assert clock >= self.acknowledged, f"{self.device}: {self.acknowledged} became {clock}"
        assert self._client in (0, client)
        self._client = client
        self.acknowledged = clock
        self.connections += 1


class SocketRoamer(Roamer):
    """A device on WebSocket."""

    async def run(self) -> None:
        """Write whenever `target` is ahead, and listen, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    raw = await RawClient.join(
                        self.next_url(), self.pool, self.device, self.token, client=self._client
                    )
            except (WebSocketException, OSError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            try:
                await self._stay(raw)
            except (WebSocketException, OSError, TimeoutError):
                await asyncio.sleep(0.05)
            finally:
                raw.socket.transport.abort()

    async def _stay(self, raw: RawClient) -> None:
        self.welcome(raw.client, raw.clock)
        document = Document()
        await raw.send(Step1(NOTHING))
        while not isinstance(frame := await self._next(raw), Step2):
            self.take(frame, document)
        self.take(frame, document)
        while True:
            if raw.clock == self.acknowledged and raw.clock < self.target:
                update = raw.update(self.content(raw.clock))
                document.load(update)
                await raw.send(Update(update))
            try:
                async with asyncio.timeout(0.05 if raw.clock == self.acknowledged else None):
                    frame = await self._next(raw)
            except TimeoutError:
                if raw.clock == self.acknowledged:
                    continue
                raise
            self.take(frame, document)

    async def _next(self, raw: RawClient) -> Frame:
        async with asyncio.timeout(REPLY_SECONDS):
            return await raw.next()


class RequestRoamer(Roamer):
    """A device that asks another replica with each request."""

    async def run(self) -> None:
        """Write whenever `target` is ahead, and poll, until cancelled."""
        async with HttpClient("", self.pool, self.device, self.token) as http:
            while True:
                try:
                    await self._stay(http)
                except ConnectionError:
                    await asyncio.sleep(0.05)

    async def _stay(self, http: HttpClient) -> None:
        """From a greeting to whatever goes wrong."""
        document = Document()
        http.client, http.position = self._client, ""
        await self._ask(http, lambda: http.greet(everything=False))
        self.welcome(http.client, http.clock)
        assert http.resume is not None
        answer = await self._ask(http, lambda: http.post(_resume(http), Step1(NOTHING)))
        self._hear(answer, document)
        while True:
            if self.acknowledged < self.target:
                update = http.update(self.content(http.clock))
                document.load(update.update)
                answer = await self._ask(
                    http,
                    lambda update=update: http.post(  # type: ignore[misc]
                        _resume(http), update, position=http.position
                    ),
                )
                self._hear(answer, document)
            else:
                answer = await self._ask(http, lambda: http.poll(http.position, wait=1))
                if answer is not None and answer.status == 200:
                    self._hear(answer, document)
                    http.position = answer.position

    def _hear(self, answer: Answer | None, document: Document) -> None:
        assert answer is not None
        for frame in answer.frames:
            if not isinstance(frame, Resume):
                self.take(frame, document)

    async def _ask(
        self, http: HttpClient, asking: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        """An answer of the next replica that gives one. Raises ConnectionError for a refusal."""
        while True:
            http.url = "http" + self.next_url().removeprefix("ws")
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    answer = await asking()
            except (httpx2.HTTPError, OSError, TimeoutError):
                await asyncio.sleep(0.05)
                continue  # the same again does no harm, if it was heard
            except (ValueError, FrameError):  # a greeting that was refused has no welcome
                raise ConnectionError from None
            if answer is not None and answer.status not in (200, 304):
                raise ConnectionError
            return answer


def _resume(http: HttpClient) -> Resume:
    assert isinstance(http.resume, Resume)
    return http.resume
