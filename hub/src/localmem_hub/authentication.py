"""Access by key: a device proves that it holds the key which the roster names, and gets a token.

    POST /v1/auth        {"pool", "device"}                  -> {"challenge", "expires_in_s"}
    POST /v1/auth/proof  {"challenge", "signature", "origin"} -> {"token", "role", "length", "expires_in_s"}

The device signs the challenge with the hub's origin as it dialled it, the pool and its own id
(`localmem_protocol.access`), and says which origin that was: the hub takes it only if it is known under
that name. A challenge is given to anybody for anything, so it says nothing about who is a member. It
can be answered once: that it was is kept in the database until it expires, so a proof that somebody
overheard is worth nothing to them, at any process of this hub. "recovery" in the place of a device is
the holder of the recovery phrase, who may read and write the roster and enters no room.

A session token `lms_…` says who proved what and when. It is never the last word: every use looks the
device up in the roster as it is then. A token that knows a longer roster than the hub is void: the
hub was restored from an older state.
"""

from __future__ import annotations

import logging
import re
from asyncio import sleep
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_hub.audit import Audit
from localmem_hub.errors import TokenError
from localmem_hub.http_requests import Problem, bearer, decode_body, guarded, json_response, peer_of
from localmem_hub.limits import CHALLENGE_MS, REFUSAL_SECONDS, SESSION_MS, SMALL_BODY_BYTES
from localmem_hub.rate_limits import Rate, RateLimit
from localmem_hub.rosters import Rosters
from localmem_hub.seams import AccessStore, Identity
from localmem_hub.session_tokens import TEXT_CHARS_MAX, Challenge, Grant, Mint
from localmem_hub.workers import Workers
from localmem_protocol.access import (
    ORIGIN_CHARS_MAX,
    is_pool_id,
    origin_of,
    parse_room,
    proof_data,
)
from localmem_protocol.errors import SignatureError
from localmem_protocol.events import is_device_id
from localmem_protocol.keys import SIGN_ACCESS, SIGNATURE_BYTES, DeviceKeys, PublicKeys
from localmem_protocol.roster import RECOVERY, Roster
from localmem_protocol.roster_log import role_in
from localmem_protocol.seams import Clock, Random

log: Final = logging.getLogger(__name__)

SESSIONS: Final = "session"
ASKING: Final = Rate(burst=120, seconds=0.2)
_LOOPBACK: Final = re.compile(
    r"https?://(localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]+)?", re.ASCII
)


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/auth; `pool` may be "" for the recovery phrase."""

    pool: Annotated[str, Meta(max_length=32)]
    device: Annotated[str, Meta(max_length=16)]


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/auth/proof."""

    challenge: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
    origin: Annotated[str, Meta(max_length=ORIGIN_CHARS_MAX)]


@dataclass(frozen=True)
class Session:
    """Who asks, as a token and the roster say together. The roster is that of this very moment."""

    pool: str
    device: str
    roster: Roster


class Authentication:
    """Challenges, proofs, and what their tokens open."""

    def __init__(
        self,
        store: AccessStore,
        rosters: Rosters,
        workers: Workers,
        clock: Clock,
        random: Random,
        origins: frozenset[str],
        audit: Audit,
    ) -> None:
        self._store = store
        self._rosters = rosters
        self._workers = workers
        self._clock = clock
        self._random = random
        self._origins = origins
        self._audit = audit
        self._mint = Mint(store.secret(SESSIONS, random))
        self._nobody = DeviceKeys.generate(random).public
        self._asking = RateLimit(ASKING, clock)

    def routes(self) -> list[BaseRoute]:
        """What to serve."""
        return [
            Route("/v1/auth", guarded(self.ask, self._audit), methods=["POST"]),
            Route("/v1/auth/proof", guarded(self.prove, self._audit), methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """A challenge, for whoever wants one."""
        self._asking.check(request)
        asked = await decode_body(request, Asked, SMALL_BODY_BYTES)
        if not is_device_id(asked.device) and asked.device != RECOVERY:
            message = f"16 lower-case hex digits, or {RECOVERY!r}"
            raise Problem(400, "device", message, field="device")
        if not is_pool_id(asked.pool) and not (asked.pool == "" and asked.device == RECOVERY):
            raise Problem(400, "pool", "a pool id has 32 lower-case hex digits", field="pool")
        now_ms = self._clock.now_ms()
        challenge = self._mint.challenge(asked.pool, asked.device, self._random, now_ms)
        return json_response({"challenge": challenge, "expires_in_s": CHALLENGE_MS // 1000})

    async def prove(self, request: Request) -> Response:
        """A token, for whoever holds the key."""
        self._asking.check(request)
        proof = await decode_body(request, Proof, SMALL_BODY_BYTES)
        challenge, since_s = self.open(proof), self._clock.monotonic_s()
        roster = await self._rosters.get(challenge.pool)
        keys = _keys_of(roster, challenge.device)
        await self.spend(proof, challenge, keys, since_s)
        roster = await self._rosters.get(challenge.pool)
        role = None if roster is None else _role_of(roster, challenge.device)
        if roster is None or role is None:
            raise Problem(403, "removed", "this device is not in the pool any more")
        pool, device, now_ms = challenge.pool, challenge.device, self._clock.now_ms()
        log.info("proved pool=%s device=%s role=%s", pool, device, role)
        self._audit.note("proved", address=peer_of(request), pool=pool, device=device, role=role)
        return json_response(
            {
                "token": self._mint.grant(pool, device, role, roster.length, now_ms),
                "role": role,
                "length": roster.length,
                "expires_in_s": SESSION_MS // 1000,
            }
        )

    def open(self, proof: Proof) -> Challenge:
        """The challenge that this answers, and that it was answered to this hub. Raises Problem."""
        try:
            challenge = self._mint.open_challenge(proof.challenge, self._clock.now_ms())
        except TokenError as error:
            raise Problem(401, "challenge", str(error), field="challenge") from None
        known = proof.origin in self._origins or _LOOPBACK.fullmatch(proof.origin)
        if not known or origin_of(proof.origin) != proof.origin:
            message = "this hub is not known by that address; its operator sets `origin`"
            raise Problem(403, "origin", message, field="origin")
        return challenge

    async def spend(
        self, proof: Proof, challenge: Challenge, keys: PublicKeys | None, since_s: float
    ) -> None:
        """Make sure that these keys signed it, and that nobody answers it again. Raises Problem.

        Keys that are not there are refused like wrong ones, after the same work and, counted from
        `since_s`, the same time.
        """
        data = proof_data(proof.challenge, proof.origin, challenge.pool, challenge.device)
        try:
            (keys or self._nobody).verify(SIGN_ACCESS, data, proof.signature)
        except SignatureError:
            took_s = self._clock.monotonic_s() - since_s
            await sleep(REFUSAL_SECONDS - took_s % REFUSAL_SECONDS)
            raise Problem(401, "proof", "no key that opens anything here") from None
        nonce, now_ms = challenge.nonce.hex(), self._clock.now_ms()
        fresh = await self._workers.write(
            lambda: self._store.spend(nonce, challenge.expires_ms, now_ms)
        )
        if not fresh:
            message = "this challenge was answered before; ask for another one"
            raise Problem(401, "challenge", message, field="challenge")

    async def require(self, request: Request, pool: str) -> Session:
        """Who asks about a pool. Raises Problem: the same whether there is such a pool or not."""
        try:
            grant = self._mint.open_grant(bearer(request), self._clock.now_ms())
            if grant.pool != pool:
                raise TokenError("this token is for another pool")
            roster = await self._look_up(grant)
        except TokenError as error:
            raise Problem(401, "token", str(error)) from None
        return Session(pool, grant.device, roster)

    async def identify(self, token: str, room: str, device: str | None) -> Identity:
        """Whom a token lets into a room, and to do what, at this moment. Raises TokenError."""
        grant = self._mint.open_grant(token, self._clock.now_ms())
        place = parse_room(room)
        if place is None or place[0] != grant.pool:
            raise TokenError("this token is for another pool")
        if device is not None and device != grant.device:
            raise TokenError("this token belongs to another device")
        roster = await self._look_up(grant)
        role = role_in(roster, grant.device, place[1])
        if role is None:
            raise TokenError("this token opens no such room")
        return Identity("", room, grant.device, role, roster=grant.pool, epoch=place[1])

    async def _look_up(self, grant: Grant) -> Roster:
        """The roster of a token's pool, if the device is in it now. Raises TokenError."""
        roster = await self._rosters.get(grant.pool)
        if roster is None or _role_of(roster, grant.device) is None:
            raise TokenError("this device is not in the pool any more")
        if roster.length < grant.length:
            raise TokenError("this hub was restored from an older state; prove the key again")
        return roster


def _role_of(roster: Roster, device: str) -> str | None:
    if device == RECOVERY:
        return RECOVERY
    member = roster.members.get(device)
    return None if member is None else member.role


def _keys_of(roster: Roster | None, device: str) -> PublicKeys | None:
    """Whose signature counts; also of a device that was removed, so that it can be told so."""
    if roster is None:
        return None
    return roster.recovery if device == RECOVERY else roster.keys_of(device)
