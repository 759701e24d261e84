"""Pools and their rosters over HTTP.

    POST /v1/pools                {"entry", "invitation"?}   -> {"pool", "length"}
    GET  /v1/pools/{pool}/roster  ?from=N                    -> {"length", "head", "entries"}
    POST /v1/pools/{pool}/roster  {"expected", "entry"}      -> {"length"}; 409 with "length"
    GET  /v1/recovery/{fingerprint}                          -> {"pools"}

Entries are bytes of `localmem_protocol.entries`, verified before they are stored. A pool is made with
an invitation of the operator (`localmem-hub invite`), or by anybody if the hub is open. A roster is
asked for with a session token, and answered in parts of 1 MiB: whoever has less than `length`
entries asks again from there. Its ETag is the hash of its newest entry. To append one says how long
the roster is; of two at once the slower one gets 409 and the present length. What was stored before,
at the same place, is answered as if it was now: an answer may have been lost.

The pools of a recovery phrase are listed by the fingerprint of its public keys (32 hex digits), for

    Authorization: Proof <challenge> <signature, base64> <origin>

which answers a challenge for the pool "" and the device "recovery" (`authentication.py`).
"""

from __future__ import annotations

import logging
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_hub.audit import Audit
from localmem_hub.authentication import Authentication, Proof, Session
from localmem_hub.errors import AdmissionError, LengthError
from localmem_hub.http_requests import (
    Problem,
    decode_body,
    guarded,
    json_response,
    number_in,
    peer_of,
)
from localmem_hub.invitations import name_of
from localmem_hub.limits import ENTRY_BODY_BYTES, RECOVERED_POOLS_MAX, ROSTER_PAGE_BYTES
from localmem_hub.rate_limits import Rate, RateLimit
from localmem_hub.rosters import Rosters
from localmem_hub.seams import RosterMark, RosterStore
from localmem_hub.workers import Workers
from localmem_protocol.access import is_pool_id
from localmem_protocol.entries import Admit, Remove, Rotate, SetRole, decode_entry
from localmem_protocol.errors import RosterError
from localmem_protocol.keys import PublicKeys
from localmem_protocol.limits import ROSTER_ENTRIES_MAX, ROSTER_ENTRY_BYTES_MAX
from localmem_protocol.roster import RECOVERY, Roster
from localmem_protocol.roster_log import addition
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

FOUNDING: Final = Rate(burst=10, seconds=6)
CHANGING: Final = Rate(burst=120, seconds=0.5)
RECOVERING: Final = Rate(burst=10, seconds=6)

INVITATION_NEEDED: Final = "pools are made by invitation (lmi_…); ask this hub's operator for one"

Entry = Annotated[bytes, Meta(max_length=ROSTER_ENTRY_BYTES_MAX)]


class Founding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/pools."""

    entry: Entry
    invitation: Annotated[str, Meta(max_length=100)] | None = None


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/pools/{pool}/roster: an entry, for a roster of `expected` entries."""

    expected: Annotated[int, Meta(ge=1, le=ROSTER_ENTRIES_MAX)]
    entry: Entry


class Pools:
    """The endpoints of pools. With `open` anybody may make one."""

    def __init__(
        self,
        store: RosterStore,
        rosters: Rosters,
        authentication: Authentication,
        workers: Workers,
        clock: Clock,
        audit: Audit,
        *,
        open_to_all: bool,
    ) -> None:
        self._store = store
        self._rosters = rosters
        self._authentication = authentication
        self._workers = workers
        self._clock = clock
        self._audit = audit
        self._open_to_all = open_to_all
        self._founding = RateLimit(FOUNDING, clock)
        self._changing = RateLimit(CHANGING, clock)
        self._recovering = RateLimit(RECOVERING, clock)

    def routes(self) -> list[BaseRoute]:
        """What to serve."""
        roster = "/v1/pools/{pool}/roster"
        return [
            Route("/v1/pools", guarded(self.found, self._audit), methods=["POST"]),
            Route(roster, guarded(self.read, self._audit), methods=["GET"]),
            Route(roster, guarded(self.append, self._audit), methods=["POST"]),
            Route(
                "/v1/recovery/{fingerprint}", guarded(self.recover, self._audit), methods=["GET"]
            ),
        ]

    async def found(self, request: Request) -> Response:
        """A new pool; 200 instead of 201 when it is there already."""
        self._founding.check(request)
        body = await decode_body(request, Founding, ENTRY_BODY_BYTES)
        try:
            roster = Roster.load([body.entry])
        except RosterError as error:
            raise _refused(error) from None
        pool, mark = roster.pool_id, RosterMark(roster.length, roster.head)
        invitation = None if self._open_to_all else body.invitation or ""
        recovery, now_ms = fingerprint_of(roster.recovery), self._clock.now_ms()
        try:
            fresh = await self._workers.write(
                lambda: self._store.found(pool, body.entry, mark, recovery, invitation, now_ms)
            )
        except AdmissionError as error:
            message = str(error) if body.invitation else INVITATION_NEEDED
            raise Problem(403, error.code, message, field="invitation") from None
        if fresh:
            log.info("pool made pool=%s", pool)
            self._audit.note(
                "pool_created",
                address=peer_of(request),
                pool=pool,
                invitation=name_of(invitation) if invitation else None,
            )
        return json_response({"pool": pool, "length": 1}, 201 if fresh else 200)

    async def read(self, request: Request) -> Response:
        """The roster, or what follows the first `from` entries of it."""
        session = await self._enter(request)
        start = number_in(request, "from", 0, ROSTER_ENTRIES_MAX)
        length, head = session.roster.length, session.roster.head.hex()
        headers = {"ETag": f'"{head}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        pool = session.pool
        entries = await self._workers.read(lambda: self._store.read(pool, start, ROSTER_PAGE_BYTES))
        found = {"length": length, "head": head, "entries": entries[: max(0, length - start)]}
        return json_response(found, 200, headers)

    async def append(self, request: Request) -> Response:
        """One more entry, if the roster is as long as whoever made it thought."""
        self._changing.check(request)
        await self._enter(request)
        change = await decode_body(request, Change, ENTRY_BODY_BYTES)
        session = await self._enter(request)  # the body took its time
        pool, roster = session.pool, session.roster
        if change.expected > roster.length:
            raise _conflict(roster.length)
        try:
            if await self._append(roster, change):
                log.info("roster changed pool=%s by=%s", pool, session.device)
                self._note_change(request, session, change.entry)
        except LengthError:
            pass  # somebody else was faster, perhaps with the same
        position = change.expected
        stored = await self._workers.read(lambda: self._store.read(pool, position, 1))
        now = await self._rosters.get(pool)  # tells everybody who is connected
        length = now.length if now is not None else 0
        if stored[:1] != [change.entry]:
            raise _conflict(length)
        return json_response({"length": length})

    async def recover(self, request: Request) -> Response:
        """The pools whose roster names the recovery key of this fingerprint."""
        self._recovering.check(request)
        proof = _proof_in(request)
        challenge, since_s = self._authentication.open(proof), self._clock.monotonic_s()
        fingerprint = request.path_params["fingerprint"]
        pools: list[str] = []
        keys: PublicKeys | None = None
        if (challenge.pool, challenge.device) == ("", RECOVERY) and is_pool_id(fingerprint):
            pools = await self._workers.read(
                lambda: self._store.recovered(fingerprint, RECOVERED_POOLS_MAX)
            )
            roster = await self._rosters.get(pools[0]) if pools else None
            keys = roster.recovery if roster is not None else None
        await self._authentication.spend(proof, challenge, keys, since_s)
        self._audit.note("recovered", address=peer_of(request), pools=len(pools))
        return json_response({"pools": pools})

    def _note_change(self, request: Request, session: Session, entry: bytes) -> None:
        """What an entry did that was stored, for the audit log."""
        who = {"address": peer_of(request), "pool": session.pool, "by": session.device}
        for action in decode_entry(entry).actions:
            match action:
                case Admit():
                    self._audit.note("enrolled", **who, device=action.device, role=action.role)
                case Remove():
                    self._audit.note("removed", **who, device=action.device)
                case SetRole():
                    self._audit.note("role_changed", **who, device=action.device, role=action.role)
                case Rotate():
                    self._audit.note("rotated", **who, epoch=action.epoch)
                case _:
                    pass

    async def _enter(self, request: Request) -> Session:
        return await self._authentication.require(request, request.path_params["pool"])

    async def _append(self, roster: Roster, change: Change) -> bool:
        """Store an entry behind those of the roster; False if it is for another length.

        Raises Problem, LengthError.
        """
        try:
            new = addition(roster, change.expected, change.entry)
        except RosterError as error:
            raise _refused(error) from None
        if new is None:
            return False
        pool, mark, now_ms = roster.pool_id, RosterMark(*new.tip), self._clock.now_ms()
        await self._workers.write(
            lambda: self._store.append(pool, new.entry, mark, new.epoch, now_ms)
        )
        return True


def fingerprint_of(keys: PublicKeys) -> str:
    """The fingerprint that people compare, as it stands in a URL: 32 hex digits."""
    return keys.fingerprint().replace(" ", "")


def _proof_in(request: Request) -> Proof:
    """The proof in a header. Raises Problem."""
    scheme, *parts = request.headers.get("Authorization", "").split(" ")
    try:
        challenge, signature, origin = parts
        content = {"challenge": challenge, "signature": signature, "origin": origin}
        if scheme.lower() != "proof":
            raise ValueError
        return msgspec.convert(content, Proof)
    except (ValueError, msgspec.ValidationError):
        message = "send `Authorization: Proof <challenge> <signature, base64> <origin>`"
        raise Problem(401, "proof", message) from None


def _refused(error: RosterError) -> Problem:
    return Problem(422, error.code, str(error), field="entry")


def _conflict(length: int) -> Problem:
    error = LengthError(length)
    return Problem(409, error.code, str(error), field="expected", more={"length": length})
