"""The rules of a roster: who belongs to a pool after an entry, and which entries are allowed.

Pure: a `Membership` is a value, and `after(entry)` the next one. Signatures, hashes and the order of
entries are `roster.py`'s business. A hub can check all of it; it needs no key.

1. The first entry is Found, Admit(its author, owner), Rotate(1), and names.
2. Later ones are by an owner or the recovery phrase. Anybody else may only leave: one Remove, of
   oneself, and nothing beside it. An owner leaves the same way, unless it is the last.
3. What takes a right away rotates in the same entry: removing somebody else (to read), or making a
   writer a reader (to write). Somebody who leaves cannot do that, having known the key it made: until
   the next entry of an owner, which must rotate, the roster is `stale`.
4. A rotation is the last action but names, seals its key to exactly those who are members after the
   entry, and its author is one of them (or the phrase).
5. There is always an owner.
6. A device id and each of its two keys belong together for good. A removed device comes back with
   the same keys or under a new id; so a signature of once says today whose it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from localmem_protocol.entries import (
    NO_ENTRY,
    RECOVERY,
    Admit,
    Entry,
    Found,
    Label,
    Remove,
    Rename,
    Role,
    Rotate,
    SetRole,
)
from localmem_protocol.errors import KeysError, RosterError
from localmem_protocol.keys import PublicKeys
from localmem_protocol.limits import ROSTER_MEMBERS_MAX

_STRENGTH: Final[Mapping[Role, int]] = {"reader": 0, "member": 1, "owner": 2}

RoleSince = tuple[int, Role | None]
"""A role (None: no member) and the epoch from which it counts."""


@dataclass(frozen=True)
class Member:
    """A device of the pool, now or once. `since_epoch` is the first epoch that it may write in."""

    device: str
    keys: PublicKeys
    role: Role
    since_epoch: int
    label: Label | None
    roles: tuple[RoleSince, ...] = field(repr=False)

    def role_at(self, epoch: int) -> Role | None:
        """The strongest role that the device held in this epoch; None if it was no member.

        Losing a right counts from the next epoch on: what was written before was allowed.
        """
        place = bisect_right(self.roles, epoch, key=lambda since: since[0])
        return self.roles[place - 1][1] if place else None


@dataclass(frozen=True)
class Membership:
    """Who belongs to a pool. `former` are devices that once did; `epoch` 0 before the first entry.

    `stale`: somebody left who knows the key of the current epoch; an owner should rotate.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    former: Mapping[str, Member] = field(default_factory=dict)
    epoch: int = 0
    stale: bool = False
    recovery: PublicKeys | None = None
    name: Label | None = None
    owner_of: Mapping[bytes, str] = field(default_factory=dict, repr=False)

    def author_keys(self, entry: Entry) -> PublicKeys:
        """By whose keys this entry has to be signed. Raises RosterError for a stranger."""
        if self.epoch == 0:
            return _founder(entry)
        if entry.author == RECOVERY and self.recovery is not None:
            return self.recovery
        member = self.members.get(entry.author)
        if member is None:
            was = "is no member any more" if entry.author in self.former else "is no member"
            raise RosterError(f"entry {entry.index}: its author {entry.author} {was}")
        return member.keys

    def must_rotate(self, entry: Entry) -> bool:
        """Whether these actions take a right away, or the roster is stale (rule 3)."""
        if self.epoch == 0 or (self.stale and not self._leaves(entry)):
            return True
        return any(
            (isinstance(action, Remove) and action.device != entry.author)
            or (isinstance(action, SetRole) and self._silences(action))
            for action in entry.actions
        )

    def after(self, entry: Entry) -> Membership:
        """The members after this entry. Raises RosterError for one that the rules do not allow."""
        try:
            found = self.preview(entry)
            self._check_rotation(entry, found)
        except RosterError as error:
            raise RosterError(f"entry {entry.index}: {error}") from None
        return found

    def preview(self, entry: Entry) -> Membership:
        """The same, before anybody asks for a rotation: who is to get a new key."""
        self.check_author(entry)
        found = _Change(self, entry).run()
        if not any(member.role == "owner" for member in found.members.values()):
            raise RosterError("it leaves the pool without an owner")
        return found

    def check_author(self, entry: Entry) -> None:
        """Raise RosterError if this author may not make such an entry, whatever it is about."""
        if self.epoch == 0:
            _founder(entry)
            return
        if entry.author == RECOVERY:
            return
        member = self.members.get(entry.author)
        if self._leaves(entry):
            return
        if member is None or member.role != "owner":
            role = member.role if member else "stranger"
            raise RosterError(f"a {role} may leave, and change nothing else")
        if Remove(entry.author) in entry.actions:
            raise RosterError("who leaves does nothing else in the same entry")

    def _leaves(self, entry: Entry) -> bool:
        return entry.actions == (Remove(entry.author),)

    def _silences(self, action: SetRole) -> bool:
        member = self.members.get(action.device)
        return action.role == "reader" and member is not None and member.role != "reader"

    def _check_rotation(self, entry: Entry, found: Membership) -> None:
        rotations = [action for action in entry.actions if isinstance(action, Rotate)]
        if not rotations:
            if self.must_rotate(entry):
                raise RosterError("it needs a rotation: a removed device knows the key")
            for action in entry.actions:
                if isinstance(action, Admit) and self.epoch not in dict(action.sealed):
                    raise RosterError(f"{action.device} is not given the current key")
            return
        if len(rotations) > 1:
            raise RosterError("more than one rotation")
        if [device for device, _ in rotations[0].sealed] != sorted(found.members):
            raise RosterError("the new key is not sealed to exactly the members, in their order")


def _founder(entry: Entry) -> PublicKeys:
    """The keys of who signs a first entry: those that it admits."""
    match entry.actions:
        case (Found(), Admit(device, keys, "owner", ()), Rotate(), *names) if (
            device == entry.author and all(isinstance(one, Rename) for one in names)
        ):
            pass
        case _:
            raise RosterError("a roster begins with its founder, an owner, and a key; no more")
    if entry.previous != NO_ENTRY:
        raise RosterError("a first entry with one before it")
    return _keys(keys)


class _Change:
    """What one entry does, action by action, on copies."""

    def __init__(self, before: Membership, entry: Entry) -> None:
        self._before = before
        self._entry = entry
        self._members = dict(before.members)
        self._former = dict(before.former)
        self._owner_of = before.owner_of
        self._rotates = any(isinstance(action, Rotate) for action in entry.actions)
        self._named: set[str] = set()
        self._recovery = before.recovery
        self._name = before.name
        self._stale = before.stale and not self._rotates

    def run(self) -> Membership:
        rotated = False
        for action in self._entry.actions:
            if rotated and not isinstance(action, Rename | Rotate):
                raise RosterError("a change of members after the rotation")
            match action:
                case Found(_, recovery):
                    self._found(recovery)
                case Admit():
                    self._admit(action)
                case Remove(device):
                    self._remove(device)
                case SetRole(device, role):
                    self._set_role(device, role)
                case Rotate(epoch):
                    rotated = True
                    if epoch != self._before.epoch + 1:
                        raise RosterError(f"epoch {epoch} after {self._before.epoch}")
                case Rename(device, label):
                    self._rename(device, label)
        return Membership(
            members=self._members,
            former=self._former,
            epoch=self._epoch,
            stale=self._stale,
            recovery=self._recovery,
            name=self._name,
            owner_of=self._owner_of,
        )

    @property
    def _epoch(self) -> int:
        return self._before.epoch + self._rotates

    def _found(self, recovery: bytes) -> None:
        if self._before.epoch:
            raise RosterError("a pool is founded once")
        self._recovery = _keys(recovery)
        self._claim(self._recovery, RECOVERY)

    def _admit(self, action: Admit) -> None:
        device = action.device
        self._once(device)
        if device in self._members:
            raise RosterError(f"{device} is a member already")
        if len(self._members) >= ROSTER_MEMBERS_MAX:
            raise RosterError(f"more than {ROSTER_MEMBERS_MAX} members")
        epochs = [epoch for epoch, _ in action.sealed]
        if epochs != sorted(set(epochs)) or (epochs and epochs[-1] > self._before.epoch):
            raise RosterError("keys of epochs out of order, twice, or of epochs to come")
        keys = _keys(action.keys)
        former = self._former.pop(device, None)
        if former is None:
            self._claim(keys, device)
        elif former.keys != keys:
            raise RosterError(f"{device} was here with other keys; it needs a new device id")
        roles = _noted(former.roles if former else (), self._epoch, action.role)
        self._members[device] = Member(device, keys, action.role, self._epoch, None, roles)

    def _remove(self, device: str) -> None:
        member = self._member(device)
        self._once(device)
        del self._members[device]
        roles = _noted(member.roles, self._before.epoch + 1, None)
        self._former[device] = replace(member, roles=roles)
        if device == self._entry.author:
            self._stale = True

    def _set_role(self, device: str, role: Role) -> None:
        member = self._member(device)
        self._once(device)
        if role == member.role:
            raise RosterError(f"{device} is a {role} already")
        stronger = _STRENGTH[role] > _STRENGTH[member.role]
        since = self._epoch if stronger else self._before.epoch + 1
        roles = _noted(member.roles, since, role)
        self._members[device] = replace(member, role=role, roles=roles)

    def _rename(self, device: str, label: Label) -> None:
        if label.epoch > self._epoch:
            raise RosterError("a label of an epoch to come")
        if device:
            self._members[device] = replace(self._member(device), label=label)
        else:
            self._name = label

    def _member(self, device: str) -> Member:
        if device not in self._members:
            raise RosterError(f"{device} is no member")
        return self._members[device]

    def _once(self, device: str) -> None:
        if device in self._named:
            raise RosterError(f"two actions about {device}")
        self._named.add(device)

    def _claim(self, keys: PublicKeys, owner: str) -> None:
        """Each half of a pair of keys is one device's, for good."""
        halves = (keys.signing, keys.sealing)
        for half in halves:
            if half in self._owner_of:
                raise RosterError(f"a key of {owner} is that of {self._owner_of[half]}")
        self._owner_of = {**self._owner_of, **dict.fromkeys(halves, owner)}


def _noted(roles: tuple[RoleSince, ...], since: int, role: Role | None) -> tuple[RoleSince, ...]:
    """These roles with another one from an epoch on; what was to come then comes no more."""
    kept = tuple(one for one in roles if one[0] < since)
    if kept and kept[-1][1] == role:
        return kept
    return (*kept, (since, role))


def _keys(data: bytes) -> PublicKeys:
    try:
        return PublicKeys.from_bytes(data)
    except KeysError as error:
        raise RosterError(str(error)) from None
