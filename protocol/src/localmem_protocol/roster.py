"""The roster of a pool: a signed, append-only list of who belongs to it. Here entries are made.

    entries.py      what an entry is, byte by byte
    membership.py   which entries are allowed, and what they change
    epoch_keys.py   what is sealed in them
    chain.py        order, hashes, signatures; reading keys: the class `Roster`
    roster.py       the next entry

A hub keeps the entries and takes one only at the end of the list (compare and swap on the length).
It checks everything but what is sealed. Each device checks the same, remembers how far it has seen
the list (`Roster.tip`), and refuses one that does not go on from there: so a hub can keep the newest
entries from a device for a while, and nothing else. A device that has seen nothing is told pool id
and tip by whoever pairs with it. One that is restored from a recovery phrase has only the pool id
at best: a hub that conspires with a removed owner can show it an older list. It should compare the
members with what its user remembers.

    author = Author(device, DeviceKeys.generate(random))
    first = found(author, random, now_ms, recovery.public)
    roster = Roster.load([encode_entry(first)])
    entry = admit(roster, author, random, now_ms, device=…, keys=…, role="member")
    …                                                    # the hub takes it at this length, or refuses
    roster.apply(entry)
    roster.epoch_key(roster.epoch, author.keys, device)  # 32 bytes

No builder changes the roster. Each returns an entry that `Roster.check` has passed, adds a rotation
where the rules ask for one, and raises RosterError for what they do not allow. All randomness comes
from `random`: 32 bytes for a new epoch's key, then 32 for each that something is sealed to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from localmem_protocol.chain import Roster, Tip
from localmem_protocol.entries import (
    NO_ENTRY,
    NONCE_BYTES,
    RECOVERY,
    Action,
    Admit,
    Entry,
    Found,
    Remove,
    Rename,
    Role,
    Rotate,
    SetRole,
    decode_entry,
    encode_entry,
    pool_id_of,
    sign_entry,
)
from localmem_protocol.epoch_keys import commitment_to, origin_of, seal_key, seal_label
from localmem_protocol.errors import RosterError, SealError
from localmem_protocol.keys import KEY_BYTES, SIGNATURE_BYTES, DeviceKeys, PublicKeys
from localmem_protocol.limits import ADMITTED_EPOCHS_MAX, TIMESTAMP_MS_MAX
from localmem_protocol.membership import Member
from localmem_protocol.seams import Random

__all__ = [
    "RECOVERY",
    "Author",
    "Entry",
    "Member",
    "Role",
    "Roster",
    "Tip",
    "admit",
    "decode_entry",
    "encode_entry",
    "found",
    "leave",
    "pool_id_of",
    "recover",
    "remove",
    "rename",
    "rotate",
    "set_role",
]


@dataclass(frozen=True)
class Author:
    """Who makes an entry: a device id (or RECOVERY) and its private keys."""

    device: str
    keys: DeviceKeys


@dataclass(frozen=True)
class _Newcomer:
    """A device to be admitted; `epochs` as `admit` has it."""

    device: str
    keys: PublicKeys
    role: Role
    label: str
    epochs: Collection[int] | None


def found(
    author: Author,
    random: Random,
    now_ms: int,
    recovery: PublicKeys,
    *,
    label: str = "",
    name: str = "",
) -> Entry:
    """The first entry of a new pool, with its author as owner and epoch 1.

    `label` names the device and `name` the pool, at most LABEL_BYTES_MAX bytes (ValueError).
    """
    begun = Found(random.token_bytes(NONCE_BYTES), recovery.to_bytes())
    key = random.token_bytes(KEY_BYTES)
    device, keys = author.device, author.keys.public
    origin = origin_of(begun, device, keys.to_bytes())
    actions: list[Action] = [
        begun,
        Admit(device, keys.to_bytes(), "owner", ()),
        _rotation(1, key, origin, {device: keys}, recovery, random),
        *_names(_given({device: label, "": name}), key, origin, 1),
    ]
    entry = _signed(0, NO_ENTRY, author, now_ms, actions)
    Roster().check(entry)
    return entry


def admit(
    roster: Roster,
    author: Author,
    random: Random,
    now_ms: int,
    *,
    device: str,
    keys: PublicKeys,
    role: Role = "member",
    label: str = "",
    epochs: Collection[int] | None = None,
) -> Entry:
    """Admit a device, with the keys of the current epoch and of `epochs` before.

    None means all that the author has (the first, and of more than ADMITTED_EPOCHS_MAX the newest):
    the newcomer can open whatever is there. `()` lets it read nothing older. `keys` come from a pairing, where the device
    proved that it holds them. Raises KeysError if nothing can be sealed to them.
    """
    newcomer = _Newcomer(device, keys, role, label, epochs)
    return _change(roster, author, random, now_ms, newcomer=newcomer)


def remove(roster: Roster, author: Author, random: Random, now_ms: int, *devices: str) -> Entry:
    """Remove other devices, and rotate: what is sealed from now on they cannot read."""
    actions = [Remove(device) for device in devices]
    return _change(roster, author, random, now_ms, actions)


def leave(roster: Roster, author: Author, now_ms: int) -> Entry:
    """Remove oneself. The roster is stale then until an owner rotates; the last owner cannot go."""
    entry = _signed(roster.length, roster.head, author, now_ms, [Remove(author.device)])
    roster.check(entry)
    return entry


def rotate(roster: Roster, author: Author, random: Random, now_ms: int) -> Entry:
    """Begin a new epoch for the same members."""
    return _change(roster, author, random, now_ms, rotating=True)


def set_role(
    roster: Roster, author: Author, random: Random, now_ms: int, device: str, role: Role
) -> Entry:
    """Give a member another role; making a writer a reader rotates."""
    return _change(roster, author, random, now_ms, [SetRole(device, role)])


def rename(
    roster: Roster, author: Author, random: Random, now_ms: int, device: str, label: str
) -> Entry:
    """Name a member, or the pool (device ""); 1 to LABEL_BYTES_MAX bytes (else ValueError)."""
    return _change(roster, author, random, now_ms, names={device: label})


def recover(
    roster: Roster,
    recovery: DeviceKeys,
    random: Random,
    now_ms: int,
    *,
    device: str,
    keys: PublicKeys,
    label: str = "",
    lost: Sequence[str] = (),
) -> Entry:
    """By the recovery phrase: admit a new owner, and remove the devices that are lost."""
    newcomer = _Newcomer(device, keys, "owner", label, None)
    author = Author(RECOVERY, recovery)
    actions = [Remove(one) for one in lost]
    return _change(roster, author, random, now_ms, actions, newcomer=newcomer)


def _change(
    roster: Roster,
    author: Author,
    random: Random,
    now_ms: int,
    actions: Sequence[Action] = (),
    *,
    newcomer: _Newcomer | None = None,
    names: Mapping[str, str] | None = None,
    rotating: bool = False,
) -> Entry:
    """The next entry with these actions, and with a rotation if it needs one."""

    def signed(actions: Sequence[Action]) -> Entry:
        return _signed(roster.length, roster.head, author, now_ms, actions)

    done = list(actions)
    epoch, key, now = roster.epoch, b"", roster.membership
    now.check_author(signed(done))  # before anything is unsealed for it
    rotating = rotating or now.must_rotate(signed(done))
    if newcomer is not None:
        done.append(_admission(roster, author, random, newcomer, rotating=rotating))
        names = _given({newcomer.device: newcomer.label})
    if rotating:
        epoch, key = epoch + 1, random.token_bytes(KEY_BYTES)
        members = {one.device: one.keys for one in now.preview(signed(done)).members.values()}
        scope = bytes.fromhex(roster.pool_id)
        done.append(_rotation(epoch, key, scope, members, roster.recovery, random))
    if names:
        key = key or _current_key(roster, author)
        done += _names(names, key, roster.origin, epoch)
    entry = signed(done)
    roster.check(entry)
    return entry


def _admission(
    roster: Roster, author: Author, random: Random, newcomer: _Newcomer, *, rotating: bool
) -> Admit:
    """What admits a device; if the entry rotates as well, that gives it the newest key."""
    known = roster.epoch_keys(author.keys, author.device)
    chosen = set(known if newcomer.epochs is None else newcomer.epochs) & set(known)
    if not rotating:
        chosen |= {roster.epoch} & set(known)
    scope = bytes.fromhex(roster.pool_id)
    device, keys = newcomer.device, newcomer.keys
    ordered = sorted(chosen)
    if len(ordered) > ADMITTED_EPOCHS_MAX:
        # The first one stays: by its key everybody knows what was forgotten in any epoch.
        ordered = [ordered[0], *ordered[1 - ADMITTED_EPOCHS_MAX :]]
    sealed = tuple(
        (epoch, seal_key(known[epoch], scope, epoch, device, keys, random)) for epoch in ordered
    )
    return Admit(device, keys.to_bytes(), newcomer.role, sealed)


def _current_key(roster: Roster, author: Author) -> bytes:
    try:
        return roster.epoch_key(roster.epoch, author.keys, author.device)
    except SealError as error:
        raise RosterError(f"{author.device} lacks the current key; rotate first: {error}") from None


def _rotation(
    epoch: int,
    key: bytes,
    scope: bytes,
    members: Mapping[str, PublicKeys],
    recovery: PublicKeys,
    random: Random,
) -> Rotate:
    sealed = tuple(
        (device, seal_key(key, scope, epoch, device, members[device], random))
        for device in sorted(members)
    )
    backup = seal_key(key, scope, epoch, RECOVERY, recovery, random)
    return Rotate(epoch, commitment_to(key, epoch), sealed, backup)


def _names(names: Mapping[str, str], key: bytes, origin: bytes, epoch: int) -> list[Rename]:
    return [
        Rename(device, seal_label(name, key, origin, epoch, device))
        for device, name in names.items()
    ]


def _given(names: Mapping[str, str]) -> dict[str, str]:
    """Only those that somebody gave."""
    return {device: name for device, name in names.items() if name}


def _signed(
    index: int, previous: bytes, author: Author, now_ms: int, actions: Sequence[Action]
) -> Entry:
    at_ms = min(max(now_ms, 0), TIMESTAMP_MS_MAX)
    entry = Entry(index, previous, author.device, at_ms, tuple(actions), bytes(SIGNATURE_BYTES))
    return sign_entry(entry, author.keys)
