"""Pools with people in them: devices with keys, and a roster that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.roster import (
    RECOVERY,
    Author,
    Entry,
    Role,
    Roster,
    admit,
    encode_entry,
    found,
)
from localmem_protocol.seams import Random
from support.seeded import SeededRandom

NOW = 1_700_000_000_000


def device_id(number: int) -> str:
    return f"{number:016x}"


def person(number: int) -> Author:
    """A device with keys of its own; the same ones for the same number."""
    return Author(device_id(number), DeviceKeys.generate(SeededRandom(1000 + number)))


RESCUER = Author(RECOVERY, person(999).keys)


@dataclass
class Pool:
    """A pool with devices 0 (owner), 1, 2, … and its log."""

    random: Random = field(default_factory=lambda: SeededRandom(7))
    log: list[bytes] = field(default_factory=list)
    roster: Roster = field(default_factory=Roster)

    def apply(self, entry: Entry) -> Entry:
        self.roster.apply(entry)
        self.log.append(encode_entry(entry))
        return entry

    def admit(self, number: int, role: Role = "member", by: int = 0) -> Author:
        joiner = person(number)
        self.apply(
            admit(
                self.roster,
                person(by),
                self.random,
                NOW,
                device=joiner.device,
                keys=joiner.keys.public,
                role=role,
            )
        )
        return joiner


def pool(*roles: Role, seed: int = 7) -> Pool:
    """A pool of an owner (device 0) and a device of each of these roles (1, 2, …)."""
    made = Pool(SeededRandom(seed))
    made.apply(found(person(0), made.random, NOW, RESCUER.keys.public, label="desk", name="team"))
    for number, role in enumerate(roles, start=1):
        made.admit(number, role)
    return made


def low_order_keys() -> Iterator[PublicKeys]:
    """Public keys to which nothing can be sealed: the points of small order of Curve25519."""
    prime = 2**255 - 19
    signing = person(1).keys.public.signing
    for point in (0, 1, prime - 1, prime, prime + 1):
        yield PublicKeys(signing, point.to_bytes(32, "little"))
