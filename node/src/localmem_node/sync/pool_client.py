"""What a device asks a hub about a pool: to be let in by its key, and for the pool's roster.

    POST /v1/auth, /v1/auth/proof         a session token, good for an hour
    GET, POST /v1/pools/{pool}/roster     entries of the roster; the next one
    POST /v1/pools                        a new pool
    GET  /v1/recovery/{fingerprint}       the pools of a recovery phrase

Blocking, for threads.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

import msgspec

from localmem_node.errors import HubRefused, SyncError
from localmem_node.sync.hub_client import Answer, HubClient
from localmem_node.sync.standing import Identity, Standing
from localmem_protocol.access import is_pool_id, proof_data
from localmem_protocol.entries import Entry, encode_entry
from localmem_protocol.keys import SIGN_ACCESS
from localmem_protocol.limits import ROSTER_BYTES_MAX, ROSTER_ENTRIES_MAX
from localmem_protocol.roster import RECOVERY, Roster
from localmem_protocol.seams import Clock

FRESH_S: Final = 120.0
"""A token that ends within this time is not used any more."""

TRIES: Final = 8
"""Times that a change of a roster is made anew because another owner was faster."""

Reply = TypeVar("Reply", bound=msgspec.Struct)


_InHeader = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,1024}\Z")]
"""What is sent back in a header."""


class _Challenge(msgspec.Struct):
    challenge: _InHeader


class _Token(msgspec.Struct):
    token: _InHeader
    role: str
    length: Annotated[int, msgspec.Meta(ge=0, le=ROSTER_ENTRIES_MAX)]
    expires_in_s: float


class _Entries(msgspec.Struct):
    length: Annotated[int, msgspec.Meta(ge=0, le=ROSTER_ENTRIES_MAX)]
    entries: list[bytes]


class _Pools(msgspec.Struct):
    pools: list[str]


class PoolClient:
    """One pool at its hub, as one device. `identity.device` may be RECOVERY, with the phrase's keys."""

    def __init__(self, hub: HubClient, pool: str, identity: Identity, clock: Clock) -> None:
        self.hub, self.pool = hub, pool
        self._identity = identity
        self._clock = clock
        self._token: tuple[str, float] | None = None

    def token(self) -> str:
        """A session token. Raises SyncError, HubRefused."""
        if self._token is None or self._token[1] < self._clock.monotonic_s():
            found = self._prove()
            until_s = self._clock.monotonic_s() + found.expires_in_s - FRESH_S
            self._token = (found.token, until_s)
        return self._token[0]

    def forget_token(self) -> None:
        """The hub does not take it: prove anew the next time."""
        self._token = None

    def entries(self, start: int) -> list[bytes]:
        """The roster's entries from one on."""
        found: list[bytes] = []
        while True:
            path = f"/v1/pools/{self.pool}/roster?from={start + len(found)}"
            page = _decoded(self._authorised("GET", path), _Entries)
            found += page.entries
            if len(found) > ROSTER_ENTRIES_MAX or sum(map(len, found)) > ROSTER_BYTES_MAX:
                raise SyncError("the hub shows a larger roster than there can be")
            if not page.entries or start + len(found) >= page.length:
                return found

    def append(self, expected: int, entry: Entry) -> bool:
        """Make a roster of `expected` entries longer; False if it is longer already."""
        body = {"expected": expected, "entry": encode_entry(entry)}
        try:
            self._authorised("POST", f"/v1/pools/{self.pool}/roster", body)
        except HubRefused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def refresh(self, standing: Standing) -> bool:
        """Learn what is new of the roster; whether anything was."""
        with standing.lock:
            return standing.learn(self.entries(standing.length))

    def change(self, standing: Standing, make: Callable[[Roster], Entry]) -> Entry:
        """Put the entry that `make` returns at the end of the roster, whoever else changes it.

        Raises what `make` raises, SyncError and HubRefused.
        """
        for _ in range(TRIES):
            with standing.lock:
                self.refresh(standing)
                entry = make(standing.roster)
                if self.append(standing.length, entry):
                    standing.learn([encode_entry(entry)])
                    return entry
        raise SyncError("others change the roster all the time; try again")

    def _authorised(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        try:
            return self.hub.call(method, path, body, bearer=self.token())
        except HubRefused as refused:
            if refused.status != HTTPStatus.UNAUTHORIZED:
                raise
            self.forget_token()
        return self.hub.call(method, path, body, bearer=self.token())

    def _prove(self) -> _Token:
        challenge = ask(self.hub, self.pool, self._identity.device)
        body = proof(self.hub, challenge, self.pool, self._identity)
        return _decoded(self.hub.call("POST", "/v1/auth/proof", body), _Token)


def ask(hub: HubClient, pool: str, device: str) -> str:
    """A challenge."""
    answer = hub.call("POST", "/v1/auth", {"pool": pool, "device": device})
    return _decoded(answer, _Challenge).challenge


def proof(hub: HubClient, challenge: str, pool: str, identity: Identity) -> dict[str, Any]:
    """What answers a challenge."""
    data = proof_data(challenge, hub.origin, pool, identity.device)
    signature = identity.keys.sign(SIGN_ACCESS, data)
    return {"challenge": challenge, "signature": signature, "origin": hub.origin}


def make_pool(hub: HubClient, first: Entry, invitation: str | None) -> None:
    """Have a hub keep a new pool. Raises SyncError, HubRefused."""
    body: dict[str, Any] = {"entry": encode_entry(first)}
    if invitation is not None:
        body["invitation"] = invitation
    hub.call("POST", "/v1/pools", body)


def pools_of(hub: HubClient, recovery: Identity) -> list[str]:
    """The pools at a hub that a recovery phrase opens."""
    answered = proof(hub, ask(hub, "", RECOVERY), "", recovery)
    signature = base64.b64encode(answered["signature"]).decode()
    fingerprint = recovery.keys.public.fingerprint().replace(" ", "")
    header = f"{answered['challenge']} {signature} {hub.origin}"
    answer = hub.call("GET", f"/v1/recovery/{fingerprint}", bearer=header, scheme="Proof")
    pools = _decoded(answer, _Pools).pools
    if not all(map(is_pool_id, pools)):  # each becomes the name of a folder
        raise SyncError("the hub names a pool whose id is none")
    return list(dict.fromkeys(pools))


def _decoded(answer: Answer, kind: type[Reply]) -> Reply:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SyncError(f"the hub answers what no hub of this release does: {error}") from None
