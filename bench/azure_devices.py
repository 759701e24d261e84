"""Devices that synchronise by single requests, whatever becomes of each, and what they were told.

Every request has a connection of its own, as it would be whatever process of a function app takes it.
What a device writes at which place follows from a seed, as in `hub_writers`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from bench.hub_writers import batch
from localmem_protocol.exchange import CONTENT_TYPE, Body, decode_body, encode_body
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Frame,
    Hello,
    Resume,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.updates import Item, decode_update, encode_state_vector, encode_update
from localmem_protocol.updates import Update as YjsUpdate

PATIENCE_S: Final = 20.0
"""How long a device waits for an answer; a process may be frozen."""

RETRY_S: Final = 0.02
CONFLICT, OK, NOT_MODIFIED = 409, 200, 304


class UnansweredError(Exception):
    """A request that may have been carried out, or not."""


class RefusedError(Exception):
    """An answer that is no success; `status` is its."""

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(f"{status} {content[:200]!r}")
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def frames(self) -> list[Frame]:
        """Of a body of the exchange."""
        return [decode_frame(frame) for frame in decode_body(self.content).frames]


async def call(
    url: str, method: str, path: str, headers: Mapping[str, str], content: bytes = b""
) -> Answer:
    """One request on a connection of its own. Raises UnansweredError."""
    where = urlsplit(url)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {where.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if content or method == "POST":
        lines.append(f"Content-Length: {len(content)}")
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            try:
                writer.write("\r\n".join([*lines, "", ""]).encode() + content)
                data = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise UnansweredError(str(error)) from None
    head, found, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if not found:
        raise UnansweredError("the connection ended")
    named = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)
    }
    if len(body) != int(named.get("content-length", len(body))):
        raise UnansweredError("half an answer")
    return Answer(int(status.split()[1]), named, body)


@dataclass
class Told:
    """What happened to all devices: `greetings`, `unanswered` requests, refusals by status, batches
    that were acknowledged and are not there, and how long each acknowledged write took."""

    greetings: int = 0
    unanswered: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    lost_acknowledged: int = 0
    times_s: list[float] = field(default_factory=list)


class Device:
    """One device of one pool. `confirmed` is how many of its batches are durable, as it was told."""

    def __init__(
        self, url: str, pool: str, name: str, token: str, told: Told, seed: int = 0
    ) -> None:
        self.name, self.told = name, told
        self.client = self.confirmed = 0
        self.position = ""
        self._url, self._path = url, f"/v1/sync/{pool}"
        self._headers = {"Authorization": f"Bearer {token}", "X-Localmem-Device": name}
        self._resume: Frame | None = None
        self._seed = seed

    async def post(self, *frames: Frame, position: str = "") -> list[Frame]:
        """The frames of an answer. Raises UnansweredError, RefusedError."""
        body = encode_body(Body(tuple(map(encode_frame, frames)), position))
        headers = self._headers | {"Content-Type": CONTENT_TYPE}
        answer = await call(self._url, "POST", self._path, headers, body)
        if answer.status != OK:
            self._resume = None
            raise RefusedError(answer.status, answer.content)
        self.position = decode_body(answer.content).position or self.position
        found = answer.frames
        self._resume = next((one for one in found if isinstance(one, Resume)), None)
        return found

    async def greet(self) -> None:
        """Say hello, and hold what the hub has against what was acknowledged."""
        self.position = ""
        hello = Hello(PROTOCOL, CAPABILITIES, self.name, self.client)
        (welcome,) = [one for one in await self.post(hello) if isinstance(one, Welcome)]
        self.told.greetings += 1
        if self.client and self.client != welcome.client:
            self.told.lost_acknowledged += self.confirmed  # it is told that it is somebody else
        self.told.lost_acknowledged += max(0, self.confirmed - welcome.clock)
        self.client, self.confirmed = welcome.client, welcome.clock

    async def catch_up(self) -> dict[int, list[bytes | None]]:
        """All that there is: of each client id, its batches in order."""
        held: dict[int, list[bytes | None]] = {}
        while True:
            vector = {client: len(batches) for client, batches in held.items()}
            assert self._resume is not None
            found = await self.post(self._resume, Step1(encode_state_vector(vector)))
            complete = False
            for frame in found:
                if isinstance(frame, Update | Step2):
                    take(frame.update, held)
                    complete = isinstance(frame, Step2)
            if complete:
                return held

    async def write(self) -> None:
        """Append a batch, and wait until it is acknowledged. Raises UnansweredError, RefusedError."""
        if self._resume is None:
            await self.greet()
        number, since = self.confirmed, time.perf_counter()
        content = batch(self._seed, self.name, number)[:500]
        origin = (self.client, number - 1) if number else None
        item = Item(number, 1, (content,), origin, None, None if number else self.name)
        update = Update(encode_update(YjsUpdate({self.client: [item]})))
        resume, self._resume = self._resume, None
        assert resume is not None
        found = await self.post(resume, update, position=self.position)
        assert Ack(self.client, number + 1) in found
        self.confirmed = number + 1
        self.told.times_s.append(time.perf_counter() - since)

    async def write_all(self, updates: int) -> None:
        """Append so many, however often it takes."""
        while self.confirmed < updates:
            try:
                await self.write()
            except UnansweredError:
                self.told.unanswered += 1
                await asyncio.sleep(RETRY_S)
            except RefusedError as error:
                self.told.refused[error.status] += 1
                if error.status not in (CONFLICT, 503):
                    raise
                await asyncio.sleep(RETRY_S)

    async def poll(self) -> Answer:
        """Ask for what is new."""
        tag = {"If-None-Match": f'"{self.position}"'}
        return await call(self._url, "GET", f"{self._path}/updates", self._headers | tag)

    def check(self, found: Mapping[int, list[bytes | None]]) -> None:
        """Hold what somebody else was given against what this device wrote."""
        held = found.get(self.client, [])
        self.told.lost_acknowledged += max(0, self.confirmed - len(held))
        for number, one in enumerate(held):
            assert one == batch(self._seed, self.name, number)[:500], (
                "another batch than was written"
            )


def take(update: bytes, held: dict[int, list[bytes | None]]) -> None:
    """Add the batches of an update to what is held."""
    for client, run in decode_update(update).items.items():
        mine = held.setdefault(client, [])
        for item in run:
            fresh = item.contents or (None,) * item.length
            mine.extend(fresh[max(0, len(mine) - item.clock) :])
