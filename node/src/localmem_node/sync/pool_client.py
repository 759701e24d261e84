"""What a device asks a hub about a pool: to be let in by its key, and for the pool's roster.

    POST /v1/auth, /v1/auth/proof         a session token, good for an hour
    GET, POST /v1/pools/{pool}/roster     entries of the roster; the next one
    POST /v1/pools/{pool}/epochs/N/read   an epoch that is over was read to its end
    POST /v1/pools                        a new pool
    GET  /v1/recovery/{fingerprint}       the pools of a recovery phrase

Blocking, for threads.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
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
from localmem_protocol.roster import RECOVERY, Roster, Tip
from localmem_protocol.roster_view import CHANGE_TRIES, Change
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

FRESH_S: Final = 120.0
"""A token that ends within this time is not used any more."""

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


class Shown(msgspec.Struct):
    """What a hub has of a roster: how many entries, the hash of the last one, and some of them."""

    length: Annotated[int, msgspec.Meta(ge=0, le=ROSTER_ENTRIES_MAX)]
    head: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    entries: list[bytes]


class _Pools(msgspec.Struct):
    pools: list[str]


class PoolClient:
    """One pool at its hub, as one device. `identity.device` may be RECOVERY, with the phrase's keys.

    `notice` is what people should know of the hub's roster: that it had lost entries.
    """

    def __init__(self, hub: HubClient, pool: str, identity: Identity, clock: Clock) -> None:
        self.hub, self.pool = hub, pool
        self._identity = identity
        self._clock = clock
        self._token: tuple[str, float] | None = None
        self.notice: str | None = None

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

    def shown(self, start: int) -> Shown:
        """What the hub has of the roster; the entries from `start` on."""
        found: list[bytes] = []
        while True:
            path = f"/v1/pools/{self.pool}/roster?from={start + len(found)}"
            page = _decoded(self._authorised("GET", path), Shown)
            found += page.entries
            if len(found) > ROSTER_ENTRIES_MAX or sum(map(len, found)) > ROSTER_BYTES_MAX:
                raise SyncError("the hub shows a larger roster than there can be")
            if not page.entries or start + len(found) >= page.length:
                return Shown(page.length, page.head, found)

    def append(self, expected: int, entry: Entry | bytes) -> bool:
        """Make a roster of `expected` entries longer; False if another entry is there already."""
        data = encode_entry(entry) if isinstance(entry, Entry) else entry
        body = {"expected": expected, "entry": data}
        try:
            self._authorised("POST", f"/v1/pools/{self.pool}/roster", body)
        except HubRefused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def finished(self, epoch: int) -> None:
        """Tell the hub that an epoch that is over was read to its end here: it may be dropped when all have.

        Raises SyncError and HubRefused.
        """
        self._authorised("POST", f"/v1/pools/{self.pool}/epochs/{epoch}/read", {})

    def refresh(self, standing: Standing) -> bool:
        """Learn what is new of the roster; whether anything was.

        A hub that has less than is known here was restored from a backup, or withholds it: what it
        lacks is given back to it. Raises ForkError if what it shows is another roster, RemoteError
        for entries that break the rules, SyncError and HubRefused.
        """
        with standing.lock:
            before = standing.length
            for _ in range(CHANGE_TRIES):
                shown = self.shown(standing.length)
                standing.learn(shown.entries)
                lacking = standing.lacking(_tip(shown))
                if not lacking:
                    return standing.length > before
                self._give_back(standing, shown.length, lacking)
        raise SyncError(f"{self.notice}; it changes all the time")

    def change(self, standing: Standing, make: Callable[[Roster], Entry]) -> Entry:
        """Put the entry that `make` returns at the end of the roster, whoever else changes it.

        Raises what `make` raises, SyncError and HubRefused.
        """
        change = Change(standing, make)
        while True:
            with standing.lock:
                self.refresh(standing)
                entry = change.propose()
                if entry is None:
                    raise SyncError("others change the roster all the time; try again")
                if change.answered(taken=self.append(standing.length, entry)):
                    return entry

    def _give_back(self, standing: Standing, length: int, lacking: Sequence[bytes]) -> None:
        """Append what a hub with the first `length` entries lacks. Raises SyncError if it takes it not."""
        self.notice = (
            f"the hub's roster is shorter ({length}) than what this device has verified "
            f"({standing.length})"
        )
        logger.warning("pool %s: %s", self.pool, self.notice)
        for place, entry in enumerate(lacking, start=length):
            try:
                taken = place > 0 and self.append(place, entry)
            except SyncError as error:
                raise SyncError(
                    f"{self.notice}, and does not take what it lacks: {error}"
                ) from None
            if not taken:  # another device is giving it back, or it is another roster
                return
        self.notice += "; it was given back what it lacked"

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


def _tip(shown: Shown) -> Tip:
    return Tip(shown.length, bytes.fromhex(shown.head))


def _decoded(answer: Answer, kind: type[Reply]) -> Reply:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SyncError(f"the hub answers what no hub of this release does: {error}") from None
