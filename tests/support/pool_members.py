"""Devices with keys, the roster of their pool, and how they are let in by a hub."""

from __future__ import annotations

import base64
from typing import Any, Protocol

import httpx2

from localmem_protocol.access import proof_data
from localmem_protocol.keys import SIGN_ACCESS, DeviceKeys
from localmem_protocol.roster import (
    RECOVERY,
    Author,
    Entry,
    Role,
    Roster,
    admit,
    encode_entry,
    found,
    remove,
    rotate,
    set_role,
)
from localmem_protocol.simulation import SeededRandom

ONE, TWO, THREE, FOUR = (f"{number:016x}" for number in (1, 2, 3, 4))
NOW = 1_760_000_000_000


class Asking(Protocol):
    """A client of a hub that is dialled as `origin`."""

    @property
    def origin(self) -> str: ...

    async def ask(self, method: str, path: str, **more: Any) -> httpx2.Response: ...


class Team:
    """A pool that device ONE founded. Its entries are made here; what a hub has of them is its own."""

    def __init__(self, seed: int = 1) -> None:
        self.random = SeededRandom(seed)
        self.recovery = DeviceKeys.generate(self.random)
        self.keys = {name: DeviceKeys.generate(self.random) for name in (ONE, TWO, THREE, FOUR)}
        self.keys[RECOVERY] = self.recovery
        first = found(self.author(), self.random, NOW, self.recovery.public)
        self.entries = [encode_entry(first)]
        self.roster = Roster.load(self.entries)

    @property
    def pool(self) -> str:
        """The pool's id."""
        return self.roster.pool_id

    @property
    def path(self) -> str:
        """Where its roster is."""
        return f"/v1/pools/{self.pool}/roster"

    def author(self, device: str = ONE) -> Author:
        """A device as the author of an entry."""
        return Author(device, self.keys[device])

    def take(self, entry: Entry) -> bytes:
        """Add an entry to the own roster; its bytes."""
        self.roster.apply(entry)
        self.entries.append(encode_entry(entry))
        return self.entries[-1]

    def admitting(self, device: str, role: Role = "member") -> Entry:
        """The next entry, which admits a device."""
        keys = self.keys[device].public
        return admit(
            self.roster, self.author(), self.random, NOW, device=device, keys=keys, role=role
        )

    def admit(self, device: str, role: Role = "member") -> bytes:
        """Admit a device."""
        return self.take(self.admitting(device, role))

    def remove(self, device: str) -> bytes:
        """Remove a device, which begins a new epoch."""
        return self.take(remove(self.roster, self.author(), self.random, NOW, device))

    def rotate(self) -> bytes:
        """Begin a new epoch."""
        return self.take(rotate(self.roster, self.author(), self.random, NOW))

    def set_role(self, device: str, role: Role) -> bytes:
        """Give a device another role."""
        return self.take(set_role(self.roster, self.author(), self.random, NOW, device, role))

    def sign(self, challenge: str, origin: str, device: str, pool: str | None = None) -> bytes:
        """What a device answers."""
        data = proof_data(challenge, origin, self.pool if pool is None else pool, device)
        return self.keys[device].sign(SIGN_ACCESS, data)

    async def prove(
        self, hub: Asking, device: str = ONE, *, origin: str | None = None
    ) -> httpx2.Response:
        """Ask for a challenge, answer it; what the hub says."""
        answer = await hub.ask("POST", "/v1/auth", json={"pool": self.pool, "device": device})
        assert answer.status_code == 200, answer.text
        challenge, dialled = answer.json()["challenge"], origin or hub.origin
        signature = self.sign(challenge, dialled, device)
        return await hub.ask("POST", "/v1/auth/proof", json=proof(challenge, signature, dialled))

    async def token(self, hub: Asking, device: str = ONE) -> str:
        """A session token."""
        answer = await self.prove(hub, device)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    async def found_at(self, hub: Asking, invitation: str | None) -> None:
        """Make the pool at a hub, with every entry so far."""
        body = {"entry": text(self.entries[0]), "invitation": invitation}
        answer = await hub.ask("POST", "/v1/pools", json=body)
        assert (answer.status_code, answer.json()) == (201, {"pool": self.pool, "length": 1})
        for position in range(1, len(self.entries)):
            await self.post(hub, position)

    async def post(self, hub: Asking, position: int = -1, device: str = ONE) -> None:
        """Append an entry at the hub, the last one unless told."""
        place = position % len(self.entries)
        token = await self.token(hub, device)
        answer = await hub.ask("POST", self.path, json=self.change(place), token=token)
        assert answer.status_code == 200, answer.text
        assert answer.json()["length"] >= place + 1

    def change(self, position: int = -1) -> dict[str, Any]:
        """The body that appends an entry, the last one unless told."""
        place = position % len(self.entries)
        return {"expected": place, "entry": text(self.entries[place])}


def text(data: bytes) -> str:
    """Bytes as they stand in JSON."""
    return base64.b64encode(data).decode()


def proof(challenge: str, signature: bytes, origin: str) -> dict[str, str]:
    """The body of POST /v1/auth/proof."""
    return {"challenge": challenge, "signature": text(signature), "origin": origin}
