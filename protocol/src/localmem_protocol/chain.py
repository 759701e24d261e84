"""A roster as a chain: in which order its entries come, who signed them, which keys they hold.

What an entry may say is in `membership.py`; what `roster.py` says of hubs and forks is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from localmem_protocol.entries import (
    NO_ENTRY,
    RECOVERY,
    Admit,
    Entry,
    Found,
    Role,
    Rotate,
    decode_entry,
    encode_entry,
    entry_hash,
    pool_id_of,
)
from localmem_protocol.epoch_keys import open_label, origin_of, unseal_key
from localmem_protocol.errors import (
    ConflictError,
    ForkError,
    RosterError,
    SealError,
    SignatureError,
)
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.limits import ROSTER_BYTES_MAX, ROSTER_ENTRIES_MAX
from localmem_protocol.membership import Member, Membership


class Tip(NamedTuple):
    """How far somebody knows a roster: its length in entries and the hash of the last one."""

    length: int
    head: bytes


@dataclass(frozen=True)
class _Checked:
    """An entry that may be applied, and what follows from it."""

    entry: Entry
    size: int
    head: bytes
    after: Membership


class Roster:
    """One pool's roster, from its first entry on. `load` makes one."""

    def __init__(self) -> None:
        self._now = Membership()
        self._hashes: list[bytes] = []
        self._bytes = 0
        self._pool_id = ""
        self._origin = b""
        self._rotations: dict[int, tuple[Rotate, bytes]] = {}  # with the scope of their keys
        self._admissions: dict[str, list[Admit]] = {}

    @classmethod
    def load(
        cls,
        log: Iterable[bytes],
        *,
        pool_id: str | None = None,
        known: Tip | None = None,
        verified: int = 0,
    ) -> Roster:
        """The roster of these encoded entries, all of them checked.

        `pool_id` is the pool that it has to be, `known` how far it was seen before: a log that is
        another pool's, or does not contain that entry at that place, raises ForkError. Whatever
        breaks the rules raises RosterError. The signatures of the first `verified` entries are not
        looked at: for a log that was checked once and comes from one's own disk.
        """
        roster = cls()
        for data in log:
            if not roster._hashes and pool_id is not None and pool_id_of(data) != pool_id:
                raise ForkError(f"the roster of another pool, {pool_id_of(data)}")
            roster._apply(data, signed=roster.length >= verified)
        if not roster._hashes:
            raise RosterError("a roster without an entry")
        if known is not None and not roster.contains(known):
            raise ForkError(
                f"a roster of {roster.length} entries that leaves out or replaces what is known"
                f" ({known.length} entries)"
            )
        return roster

    @property
    def pool_id(self) -> str:
        """The pool's id: 32 hex digits."""
        return self._pool_id

    @property
    def origin(self) -> bytes:
        """What labels are bound to, and what was sealed before there was a pool id; 32 bytes."""
        return self._origin

    @property
    def length(self) -> int:
        """How many entries there are."""
        return len(self._hashes)

    @property
    def head(self) -> bytes:
        """The hash of the last entry, 32 bytes."""
        return self._hashes[-1] if self._hashes else NO_ENTRY

    @property
    def tip(self) -> Tip:
        """Length and head: what to remember, and to hand to `load` or `contains` later."""
        return Tip(self.length, self.head)

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return self._now.epoch

    @property
    def stale(self) -> bool:
        """Whether somebody left who knows the current key: an owner should `rotate`."""
        return self._now.stale

    @property
    def membership(self) -> Membership:
        """All of this as one immutable value."""
        return self._now

    @property
    def members(self) -> Mapping[str, Member]:
        """Who belongs to the pool, by device id."""
        return self._now.members

    @property
    def former(self) -> Mapping[str, Member]:
        """Who did once and does not now."""
        return self._now.former

    @property
    def recovery(self) -> PublicKeys:
        """The public keys of the recovery phrase."""
        if self._now.recovery is None:
            raise RosterError("a roster without an entry")
        return self._now.recovery

    def contains(self, tip: Tip) -> bool:
        """Whether this roster is the one that somebody else knew as far as `tip`, or goes on from it."""
        return 0 < tip.length <= self.length and self._hashes[tip.length - 1] == tip.head

    def role_at(self, device: str, epoch: int) -> Role | None:
        """The strongest role that a device had in an epoch; None if it was no member, or is unknown.

        Owners and members may write; what a reader wrote is refused. Losing a right counts from the
        next epoch on, so an answer for an epoch that is over never changes.
        """
        member = self.members.get(device) or self.former.get(device)
        return member.role_at(epoch) if member and 0 < epoch <= self.epoch else None

    def keys_of(self, device: str) -> PublicKeys | None:
        """The public keys of a device that is or was a member: they never change."""
        member = self.members.get(device) or self.former.get(device)
        return member.keys if member else None

    def check(self, entry: Entry | bytes) -> None:
        """Raise what `apply` would; change nothing."""
        self._check(encode_entry(entry) if isinstance(entry, Entry) else entry, signed=True)

    def apply(self, entry: Entry | bytes) -> None:
        """Append an entry. If it raises, nothing has changed.

        Raises ConflictError for one that is not the next, ForkError for a next one that was made
        upon another last one, and RosterError for whatever else is wrong with it.
        """
        self._apply(encode_entry(entry) if isinstance(entry, Entry) else entry, signed=True)

    def epoch_key(self, epoch: int, keys: DeviceKeys, device: str) -> bytes:
        """The key of an epoch, as it was sealed to this device (or RECOVERY).

        Raises SealError if it was not, or if it does not open or is not the one of the others.
        """
        if epoch not in self._rotations:
            raise SealError(f"there is no epoch {epoch}")
        rotation, scope = self._rotations[epoch]
        if device == RECOVERY:
            sealed: bytes | None = rotation.recovery
        else:
            sealed = dict(rotation.sealed).get(device)
        if sealed is not None:
            return unseal_key(sealed, rotation.commitment, scope, epoch, device, keys)
        for admission in reversed(self._admissions.get(device, ())):
            sealed = dict(admission.sealed).get(epoch)
            if sealed is not None:
                scope = bytes.fromhex(self._pool_id)
                return unseal_key(sealed, rotation.commitment, scope, epoch, device, keys)
        raise SealError(f"the key of epoch {epoch} was not sealed to {device}")

    def epoch_keys(self, keys: DeviceKeys, device: str) -> dict[int, bytes]:
        """Every epoch's key that this device (or RECOVERY) can have, by epoch."""
        found: dict[int, bytes] = {}
        for epoch in tuple(self._rotations):  # another thread may append meanwhile
            try:
                found[epoch] = self.epoch_key(epoch, keys, device)
            except SealError:
                continue
        return found

    def label(self, device: str, epoch_keys: Mapping[int, bytes]) -> str | None:
        """The name of a device, or of the pool (""). None if it has none, or under another key.

        Raises SealError for one that does not open, and RosterError for an unknown device.
        """
        label = self._now.name
        if device:
            member = self.members.get(device) or self.former.get(device)
            if member is None:
                raise RosterError(f"{device} is no member")
            label = member.label
        key = epoch_keys.get(label.epoch) if label else None
        if label is None or key is None:
            return None
        return open_label(label, key, self._origin, device)

    def _check(self, data: bytes, *, signed: bool) -> _Checked:
        entry = decode_entry(data)
        if self.length >= ROSTER_ENTRIES_MAX or self._bytes + len(data) > ROSTER_BYTES_MAX:
            raise RosterError("a roster that is full: found another pool")
        if entry.index != self.length:
            raise ConflictError(f"entry {entry.index}, where {self.length} would be the next")
        if entry.previous != self.head:
            raise ForkError(f"entry {entry.index} follows another entry than the last one here")
        keys = self._now.author_keys(entry)
        after = self._now.after(entry)
        if signed:
            try:
                entry.verify(keys)
            except SignatureError:
                raise RosterError(f"entry {entry.index} is not signed by {entry.author}") from None
        return _Checked(entry, len(data), entry_hash(data), after)

    def _apply(self, data: bytes, *, signed: bool) -> None:
        checked = self._check(data, signed=signed)
        entry = checked.entry
        if not self._hashes:
            self._pool_id = pool_id_of(data)
            self._origin = _origin(entry)
        self._now = checked.after
        self._hashes.append(checked.head)
        self._bytes += checked.size
        for action in entry.actions:
            match action:
                case Rotate(epoch):
                    scope = bytes.fromhex(self._pool_id) if entry.index else self._origin
                    self._rotations[epoch] = (action, scope)
                case Admit(device):
                    self._admissions.setdefault(device, []).append(action)
                case _:
                    pass


def _origin(first: Entry) -> bytes:
    match first.actions:
        case (Found() as begun, Admit(device, keys), *_):
            return origin_of(begun, device, keys)
        case _:
            raise RosterError("a roster begins with its founder")
