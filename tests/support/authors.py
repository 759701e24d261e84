"""Devices that sign, and a roster that is a table."""

from __future__ import annotations

from dataclasses import dataclass, field

from localmem_protocol.entries import Role
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import PublicKeys
from support.pools import device_id, person


@dataclass
class Table:
    """Who is what; everybody by default. Numbers are those of `support.pools.person`."""

    roles: dict[int, Role] = field(default_factory=lambda: dict.fromkeys(range(1, 10), "member"))

    def role_of(self, device: str) -> Role | None:
        return self.roles.get(int(device, 16))


@dataclass
class Authors:
    """Implements `Authorship` for one device. `keys` are whose keys it signs with."""

    device: str
    table: Table = field(default_factory=Table)
    keys: int = 0

    def sign(self, at: Position) -> SignedHead:
        number = self.keys or int(self.device, 16)
        return sign_head(at, self.device, person(number).keys)

    def keys_of(self, device: str) -> PublicKeys | None:
        return person(int(device, 16)).keys.public if self.table.role_of(device) else None

    def role_at(self, device: str, epoch: int) -> Role | None:
        assert epoch == 1
        return self.table.role_of(device)


def author(number: int, table: Table | None = None, *, keys: int = 0) -> Authors:
    return Authors(device_id(number), table or Table(), keys)
