"""Where a device stands in a pool: the roster as far as it has seen it, and the keys that gives it.

A roster only ever grows here. What a hub tells is appended, entry by entry, each checked; what it
tells otherwise (a fork, another pool's list, fewer entries than before) is refused, and what is known
stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Final, Literal, Protocol

import msgspec

from localmem_node.errors import SyncError
from localmem_node.sync.pool_files import PoolFiles
from localmem_protocol.chain import Roster
from localmem_protocol.entries import Role
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import RemoteError
from localmem_protocol.heads import Position, SignedHead, sign_head
from localmem_protocol.keys import DeviceKeys, PublicKeys

Place = Literal["owner", "member", "reader", "removed"]

_ENTRIES: Final = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True)
class Identity:
    """A device by its id and private keys."""

    device: str
    keys: DeviceKeys


class _Keyed(Protocol):
    @property
    def device(self) -> str: ...
    def derive_key(self, purpose: str) -> bytes: ...


def identity_of(engine: _Keyed) -> Identity:
    """This device's; its keys follow from its store's."""
    keys = DeviceKeys(engine.derive_key("sync signing"), engine.derive_key("sync sealing"))
    return Identity(engine.device, keys)


class Standing:
    """One pool's roster, on disk and in memory. Whoever changes it holds `lock` (`PoolClient` does)."""

    def __init__(self, files: PoolFiles, pool: str, identity: Identity) -> None:
        """Read what was kept. Raises SyncError if that is damaged: it comes again from the hub."""
        self.pool = pool
        self.identity = identity
        self.lock = RLock()
        self._files = files
        self._unsealed: tuple[int, Mapping[int, bytes]] = (0, {})
        self._entries = _decoded(files.roster(pool), pool)
        self._roster = self._loaded(self._entries)

    @property
    def roster(self) -> Roster:
        """The roster. Raises SyncError while nothing of it is known."""
        if self._roster is None:
            raise SyncError(f"nothing is known yet of pool {self.pool}")
        return self._roster

    @property
    def length(self) -> int:
        """Entries that are known."""
        return len(self._entries)

    @property
    def place(self) -> Place:
        """What this device is in the pool."""
        member = self.roster.members.get(self.identity.device)
        return "removed" if member is None else member.role

    @property
    def name(self) -> str:
        """The pool's name, as its owners gave it; empty if it has none that opens here."""
        return self.label("")

    def learn(self, entries: Sequence[bytes]) -> bool:
        """Append what is new, durably; whether anything was. Raises RemoteError, and keeps all before.

        `entries` begin at `length`.
        """
        if not entries:
            return False
        if self._roster is None:
            self._roster = Roster.load(entries, pool_id=self.pool)
            self._keep([*entries])
            return True
        taken = 0
        try:
            for data in entries:
                self._roster.apply(data)
                taken += 1
        finally:
            if taken:
                self._keep([*self._entries, *entries[:taken]])
        return True

    def epochs(self) -> dict[int, PoolKey]:
        """Every epoch that this device can read, ascending."""
        keys = self._epoch_keys()
        lasting = keys[min(keys)] if keys else None
        return {epoch: PoolKey(self.pool, epoch, keys[epoch], lasting) for epoch in sorted(keys)}

    def label(self, device: str) -> str:
        """What a device ("" for the pool) is called; empty if that does not open here."""
        try:
            return self.roster.label(device, self._epoch_keys()) or ""
        except RemoteError:
            return ""

    def role_at(self, device: str, epoch: int) -> Role | None:
        """What a device was in an epoch."""
        return self.roster.role_at(device, epoch)

    def keys_of(self, device: str) -> PublicKeys | None:
        """The keys of a device that is or was a member."""
        return self.roster.keys_of(device)

    def sign(self, at: Position) -> SignedHead:
        """This device's word for how far its chain goes."""
        return sign_head(at, self.identity.device, self.identity.keys)

    def _epoch_keys(self) -> Mapping[int, bytes]:
        """Unsealed once for each length of the roster: there is one for every epoch ever."""
        roster = self.roster
        length, keys = self._unsealed
        if length != roster.length:
            length = roster.length  # before: what comes meanwhile is looked at the next time
            keys = roster.epoch_keys(self.identity.keys, self.identity.device)
            self._unsealed = (length, keys)
        return keys

    def _keep(self, entries: list[bytes]) -> None:
        self._entries = entries  # first: the roster is as long already, should the disk be full
        self._files.save_roster(self.pool, msgspec.msgpack.encode(entries))

    def _loaded(self, entries: Sequence[bytes]) -> Roster | None:
        if not entries:
            return None
        try:
            return Roster.load(entries, pool_id=self.pool, verified=len(entries))
        except RemoteError as error:
            raise SyncError(f"the roster of pool {self.pool} is damaged here: {error}") from None


def _decoded(data: bytes, pool: str) -> list[bytes]:
    if not data:
        return []
    try:
        return _ENTRIES.decode(data)
    except msgspec.DecodeError as error:
        raise SyncError(f"the roster of pool {pool} is damaged here: {error}") from None
