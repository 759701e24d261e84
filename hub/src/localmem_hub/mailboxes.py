"""Mailboxes, where two devices that know a short code find each other.

    POST   /v1/mailboxes                 a number and a secret, for the opener
    POST   /v1/mailboxes/{number}/join   a secret, for the joiner: once
    PUT    /v1/mailboxes/{number}/{slot} leave a message (its bytes are the body)
    GET    /v1/mailboxes/{number}/{slot} read one, waiting up to ?wait=25 seconds; 204 if none came
    DELETE /v1/mailboxes/{number}        end it; either party may

The secret goes as `Authorization: Bearer …`. The opener writes the even slots from 0, the joiner the odd
ones, each once; either reads all. Two parties and no third: whoever joined had the one guess at the
code, and after a wrong one there is only a new mailbox. What no party is told is whether a mailbox
does not exist, is over, or is somebody else's. The messages are sealed by the two parties
(`localmem_protocol.pairing`); the hub sees their sizes and when they came.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_hub.errors import StoreError
from localmem_hub.http_requests import (
    Problem,
    bearer,
    guarded,
    json_response,
    number_in,
    parse_number,
    read_body,
)
from localmem_hub.limits import (
    MAILBOX_MESSAGE_BYTES,
    MAILBOX_MESSAGES_MAX,
    MAILBOX_MS,
    MAILBOX_POLL_S,
    MAILBOX_WAIT_S,
    SWEEP_SECONDS,
)
from localmem_hub.rate_limits import Rate, RateLimit
from localmem_hub.seams import MailboxStore, Party
from localmem_hub.workers import Workers
from localmem_protocol.seams import Clock, Random

log: Final = logging.getLogger(__name__)

PARTIES: Final[tuple[Party, Party]] = ("opener", "joiner")
SECRET_BYTES: Final = 32
OPENING: Final = Rate(burst=10, seconds=6)
JOINING: Final = Rate(burst=10, seconds=6)
USING: Final = Rate(burst=120, seconds=0.5)


class Mailboxes:
    """The endpoints of mailboxes. `stop` answers everybody who waits."""

    def __init__(self, store: MailboxStore, workers: Workers, clock: Clock, random: Random) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._random = random
        self._opening = RateLimit(OPENING, clock)
        self._joining = RateLimit(JOINING, clock)
        self._using = RateLimit(USING, clock)
        self._waiting: dict[tuple[int, Party], asyncio.Event] = {}
        self._stopping = False

    def routes(self) -> list[BaseRoute]:
        """What to serve."""
        one = "/v1/mailboxes/{number}"
        return [
            Route("/v1/mailboxes", guarded(self.open), methods=["POST"]),
            Route(f"{one}/join", guarded(self.join), methods=["POST"]),
            Route(one, guarded(self.remove), methods=["DELETE"]),
            Route(f"{one}/{{slot}}", guarded(self.put), methods=["PUT"]),
            Route(f"{one}/{{slot}}", guarded(self.get), methods=["GET"]),
        ]

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._stopping = True
        for event in self._waiting.values():
            event.set()

    def changed(self, number: int) -> None:
        """Something happened to a mailbox at another replica: whoever waits there looks."""
        for party in PARTIES:
            if (event := self._waiting.get((number, party))) is not None:
                event.set()

    async def sweep(self) -> None:
        """Have nothing lie about that nobody may fetch any more."""
        now_ms = self._clock.now_ms()
        await self._workers.write(lambda: self._store.sweep(now_ms))

    async def sweep_forever(self) -> None:
        """Sweep again and again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("mailboxes not swept: %s", error)

    async def open(self, request: Request) -> Response:
        """A new mailbox."""
        self._opening.check(request)
        await read_body(request, 0)
        secret, kept = self._new_secret()
        now_ms = self._clock.now_ms()
        number = await self._workers.write(
            lambda: self._store.open(kept, now_ms + MAILBOX_MS, self._random, now_ms)
        )
        if number is None:
            headers = {"Retry-After": "60"}
            raise Problem(503, "full", "too many mailboxes are open; try later", headers=headers)
        made = {"number": number, "secret": secret, "expires_in_s": MAILBOX_MS // 1000}
        return json_response(made, 201)

    async def join(self, request: Request) -> Response:
        """Become the second party of a mailbox."""
        self._joining.check(request)
        await read_body(request, 0)
        secret, kept = self._new_secret()
        number, now_ms = _number(request), self._clock.now_ms()
        if not await self._workers.write(lambda: self._store.join(number, kept, now_ms)):
            raise _absent()
        return json_response({"secret": secret}, 201)

    async def put(self, request: Request) -> Response:
        """Leave a message in a slot of one's own."""
        number, party = await self._enter(request)
        slot = _slot(request)
        if (party == "opener") != (slot % 2 == 0):
            raise Problem(403, "slot", "this slot is for the other party", field="slot")
        data = await read_body(request, MAILBOX_MESSAGE_BYTES)
        if not await self._workers.write(lambda: self._store.put(number, slot, data)):
            raise Problem(409, "slot", "another message is in this slot", field="slot")
        other = PARTIES[party == "opener"]
        if (event := self._waiting.get((number, other))) is not None:
            event.set()
        return Response(status_code=204)

    async def get(self, request: Request) -> Response:
        """The message in a slot, as soon as it is there."""
        number, party = await self._enter(request)
        slot, wait = _slot(request), number_in(request, "wait", 0, MAILBOX_WAIT_S)
        if (before := self._waiting.get((number, party))) is not None:
            before.set()  # one request waits per party, the newest
        event = self._waiting[number, party] = asyncio.Event()
        data: bytes | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    data = await self._arrival(number, slot, party, event)
        finally:
            if self._waiting.get((number, party)) is event:
                del self._waiting[number, party]
        if data is None:
            data = await self._workers.read(lambda: self._store.get(number, slot))
        if data is None:
            return Response(status_code=204)
        return Response(data, media_type="application/octet-stream")

    async def remove(self, request: Request) -> Response:
        """End a mailbox."""
        number, _ = await self._enter(request)
        await self._workers.write(lambda: self._store.remove(number))
        for party in PARTIES:
            if (event := self._waiting.pop((number, party), None)) is not None:
                event.set()
        return Response(status_code=204)

    async def _arrival(
        self, number: int, slot: int, party: Party, event: asyncio.Event
    ) -> bytes | None:
        """The message once it is there; None when this request shall not wait any longer."""
        while self._waiting.get((number, party)) is event and not self._stopping:
            event.clear()
            data = await self._workers.read(lambda: self._store.get(number, slot))
            if data is not None:
                return data
            with suppress(TimeoutError):
                async with asyncio.timeout(MAILBOX_POLL_S):
                    await event.wait()
        return None

    async def _enter(self, request: Request) -> tuple[int, Party]:
        """The mailbox of a request, and which party it is from. Raises Problem."""
        self._using.check(request)
        number, now_ms = _number(request), self._clock.now_ms()
        kept = hashlib.sha256(bearer(request).encode()).digest()
        party: Party | None = await self._workers.read(
            lambda: self._store.party(number, kept, now_ms)
        )
        if party is None:
            raise _absent()
        return number, party

    def _new_secret(self) -> tuple[str, bytes]:
        """A secret, and what is kept of it."""
        secret = self._random.token_bytes(SECRET_BYTES).hex()
        return secret, hashlib.sha256(secret.encode()).digest()


def _number(request: Request) -> int:
    number = parse_number(request.path_params["number"])
    if number is None:
        raise _absent()
    return number


def _slot(request: Request) -> int:
    slot = parse_number(request.path_params["slot"])
    if slot is None or slot >= MAILBOX_MESSAGES_MAX:
        most = MAILBOX_MESSAGES_MAX - 1
        raise Problem(404, "slot", f"slots are numbered from 0 to {most}", field="slot")
    return slot


def _absent() -> Problem:
    return Problem(404, "mailbox", "there is no such mailbox, it is over, or it has two parties")
