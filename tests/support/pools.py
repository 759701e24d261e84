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

    def admit(self, number: int, role: Role = "member", by: int = 0, *, label: str = "") -> Author:
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
                label=label,
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


def small_order_signers() -> Iterator[PublicKeys]:
    """Public keys for which anybody can sign, or that are not in their shortest form.

    The y of Ed25519's points of order 8 solve d·y^4 + 2·y^2 = 1.
    """
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime)
    root = pow(1 + d, (prime + 3) // 8, prime)
    root = root if (root * root - 1 - d) % prime == 0 else root * pow(2, prime // 4, prime) % prime
    order_8 = set()
    for square in ((sign * root - 1) * pow(d, -1, prime) % prime for sign in (1, -1)):
        y = pow(square, (prime + 3) // 8, prime)
        for candidate in (y, y * pow(2, prime // 4, prime) % prime):
            if candidate * candidate % prime == square:
                order_8 |= {candidate, prime - candidate}
    assert len(order_8) == 2
    sealing = person(1).keys.public.sealing
    for y in (0, 1, prime - 1, *sorted(order_8), *range(prime, 2**255)):
        for sign in (0, 1):
            yield PublicKeys((y | sign << 255).to_bytes(32, "little"), sealing)


def refused_keys() -> Iterator[bytes]:
    """Public keys, as bytes, that nobody takes."""
    for keys in (*small_order_signers(), *low_order_keys()):
        yield keys.to_bytes()


def low_order_keys() -> Iterator[PublicKeys]:
    """Public keys to which nothing can be sealed: the points of small order of Curve25519."""
    prime = 2**255 - 19
    signing = person(1).keys.public.signing
    for point in (0, 1, prime - 1, prime, prime + 1):
        yield PublicKeys(signing, point.to_bytes(32, "little"))
