"""A device that synchronises with a real hub by single requests, and says exactly what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx2

from localmem_protocol.exchange import CONTENT_TYPE, Body, decode_body, encode_body
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Resume,
    Step1,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import encode_state_vector
from support.sync_client import append


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: httpx2.Headers
    content: bytes

    @property
    def frames(self) -> list[Frame]:
        return [decode_frame(frame) for frame in decode_body(self.content).frames]

    @property
    def position(self) -> str:
        return decode_body(self.content).position

    @property
    def code(self) -> int:
        return int(httpx2.Response(200, content=self.content).json()["error"]["code"])

    def the(self, kind: type[Frame]) -> Frame:
        (found,) = [frame for frame in self.frames if isinstance(frame, kind)]
        return found


@dataclass
class HttpClient:
    """One device of one pool. `position` and `resume` are of the last answer to `post`."""

    url: str
    pool: str
    device: str
    token: str
    client: int = 0
    clock: int = 0
    position: str = ""
    resume: Frame | None = None
    http: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(trust_env=False))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.aclose()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "X-Localmem-Device": self.device}

    @property
    def path(self) -> str:
        return f"{self.url}/v1/sync/{self.pool}"

    async def send(self, content: bytes, **headers: str) -> Answer:
        """POST a body as it is."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.headers | {"Content-Type": CONTENT_TYPE} | named
        response = await self.http.post(self.path, content=content, headers=sent)
        return Answer(response.status_code, response.headers, response.content)

    async def post(self, *frames: Frame, position: str = "") -> Answer:
        """POST frames, and keep what the answer gives to go on with."""
        answer = await self.send(encode_body(Body(tuple(map(encode_frame, frames)), position)))
        if answer.status == 200:
            self.position = answer.position or self.position
            self.resume = answer.the(Resume)
        return answer

    async def greet(self, *, everything: bool = True) -> None:
        """Say hello, and be told everything."""
        answer = await self.post(Hello(PROTOCOL, CAPABILITIES, self.device, self.client))
        welcome = answer.the(Welcome)
        assert isinstance(welcome, Welcome)
        self.client, self.clock = welcome.client, welcome.clock
        if everything:
            assert self.resume is not None
            await self.post(self.resume, Step1(encode_state_vector({})))

    def update(self, content: bytes) -> Update:
        """What appends this to the own array."""
        self.clock += 1
        return Update(append(self.device, self.client, self.clock - 1, content))

    async def write(self, *contents: bytes) -> Answer:
        """Append these, and hear what came after the last position."""
        assert self.resume is not None
        updates = [self.update(content) for content in contents]
        answer = await self.post(self.resume, *updates, position=self.position)
        if answer.status == 200:
            assert answer.the(Ack) == Ack(self.client, self.clock)
        return answer

    async def poll(self, position: str | None = None, wait: int | None = None) -> Answer:
        """GET what came after a position."""
        tag = {"If-None-Match": f'"{self.position if position is None else position}"'}
        query = "" if wait is None else f"?wait={wait}"
        response = await self.http.get(self.path + "/updates" + query, headers=self.headers | tag)
        return Answer(response.status_code, response.headers, response.content)
