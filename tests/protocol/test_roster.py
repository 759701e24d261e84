"""Rosters: who may change them and how, and who can read what."""

from __future__ import annotations

import msgspec
import pytest

from localmem_protocol.entries import (
    NO_ENTRY,
    Action,
    Admit,
    Entry,
    Found,
    Label,
    Remove,
    Rename,
    Rotate,
    SetRole,
    decode_entry,
    encode_entry,
    sign_entry,
)
from localmem_protocol.epoch_keys import commitment_to, seal_key, unseal_key
from localmem_protocol.errors import (
    ConflictError,
    KeysError,
    RosterError,
    SealError,
)
from localmem_protocol.keys import DeviceKeys, PublicKeys
from localmem_protocol.roster import (
    RECOVERY,
    Author,
    Roster,
    admit,
    found,
    leave,
    pool_id_of,
    recover,
    remove,
    rename,
    rotate,
    set_role,
)
from support.pools import NOW, RESCUER, Pool, device_id, low_order_keys, person, pool
from support.seeded import SeededRandom

KEY = b"k" * 32


def signed(roster: Roster, author: Author, *actions: Action) -> Entry:
    """An entry that no builder would make."""
    entry = Entry(roster.length, roster.head, author.device, NOW, actions, bytes(64))
    return sign_entry(entry, author.keys)


def rotation(made: Pool, *numbers: int, epoch: int | None = None, key: bytes = KEY) -> Rotate:
    """A rotation to these devices, by hand."""
    epoch = epoch or made.roster.epoch + 1
    scope = bytes.fromhex(made.roster.pool_id)
    sealed = [
        (
            device_id(n),
            seal_key(key, scope, epoch, device_id(n), person(n).keys.public, made.random),
        )
        for n in numbers
    ]
    backup = seal_key(key, scope, epoch, RECOVERY, RESCUER.keys.public, made.random)
    return Rotate(epoch, commitment_to(key, epoch), tuple(sealed), backup)


def refused(made: Pool, author: Author, *actions: Action, match: str = ".") -> None:
    """The roster does not take these actions, and is the same afterwards."""
    before, members = made.roster.tip, made.roster.membership
    entry = signed(made.roster, author, *actions)
    for attempt in (made.roster.check, made.roster.apply):
        with pytest.raises(RosterError, match=match):
            attempt(entry)
    assert made.roster.tip == before
    assert made.roster.membership is members


def epochs_of(made: Pool, author: Author) -> list[int]:
    return sorted(made.roster.epoch_keys(author.keys, author.device))


# What honest owners do


def test_a_pool_begins_with_its_founder_and_is_named_by_its_first_entry() -> None:
    made = pool()
    roster = made.roster
    assert roster.pool_id == pool_id_of(made.log[0])
    assert len(roster.pool_id) == 32
    assert (roster.length, roster.epoch, roster.stale) == (1, 1, False)
    assert {one.device: one.role for one in roster.members.values()} == {device_id(0): "owner"}
    keys = roster.epoch_keys(person(0).keys, device_id(0))
    assert roster.label(device_id(0), keys) == "desk"
    assert roster.label("", keys) == "team"
    assert roster.label("", {}) is None
    assert b"desk" not in made.log[0]


def test_two_pools_of_one_founder_are_two() -> None:
    assert pool(seed=1).roster.pool_id != pool(seed=2).roster.pool_id


def test_the_same_chance_gives_the_same_bytes() -> None:
    assert pool("member", "reader").log == pool("member", "reader").log


def test_every_member_and_the_phrase_get_the_key_of_the_epoch() -> None:
    made = pool("member", "reader")
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    for epoch in (1, 2):
        holders = [person(0), person(1), person(2), RESCUER]
        keys = {made.roster.epoch_key(epoch, one.keys, one.device) for one in holders}
        assert len(keys) == 1


def test_a_joiner_opens_every_epoch_before_unless_the_owner_says_otherwise() -> None:
    made = pool("member")
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    assert epochs_of(made, made.admit(2)) == [1, 2, 3]
    guest = person(3)
    joining = admit(
        made.roster,
        person(0),
        made.random,
        NOW,
        device=guest.device,
        keys=guest.keys.public,
        role="reader",
        epochs=(),
    )
    made.apply(joining)
    assert epochs_of(made, guest) == [3]


def test_a_removed_device_opens_nothing_that_came_later_and_keeps_what_it_had() -> None:
    made = pool("member", "member")
    made.apply(remove(made.roster, person(0), made.random, NOW, device_id(1)))
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    assert epochs_of(made, person(1)) == [1]
    assert epochs_of(made, person(2)) == epochs_of(made, RESCUER) == [1, 2, 3]
    assert list(made.roster.former) == [device_id(1)]
    with pytest.raises(SealError):
        made.roster.epoch_key(2, person(1).keys, device_id(1))
    with pytest.raises(SealError):  # nor with its own keys under another's name
        made.roster.epoch_key(2, person(1).keys, device_id(2))


def test_who_leaves_leaves_the_roster_stale_until_an_owner_does_anything() -> None:
    made = pool("member", "reader")
    made.apply(leave(made.roster, person(1), NOW))
    assert made.roster.stale
    made.apply(leave(made.roster, person(2), NOW))
    refused(made, person(0), Rename("", Label(1, bytes(20))), match="rotation")
    made.apply(rename(made.roster, person(0), made.random, NOW, "", "new name"))
    assert (made.roster.stale, made.roster.epoch) == (False, 2)
    keys = made.roster.epoch_keys(person(0).keys, device_id(0))
    assert made.roster.label("", keys) == "new name"
    assert epochs_of(made, person(1)) == [1]


def test_who_joins_a_stale_roster_gets_a_key_that_nobody_who_left_has() -> None:
    made = pool("member")
    made.apply(leave(made.roster, person(1), NOW))
    assert epochs_of(made, made.admit(2)) == [1, 2]
    assert not made.roster.stale
    assert epochs_of(made, person(1)) == [1]


def test_an_owner_can_leave_unless_it_is_the_last() -> None:
    made = pool("owner", "member")
    made.apply(leave(made.roster, person(0), NOW))
    with pytest.raises(RosterError, match="without an owner"):
        leave(made.roster, person(1), NOW)


def test_a_writer_that_becomes_a_reader_takes_a_new_epoch_and_others_do_not() -> None:
    made = pool("member", "reader")
    made.apply(set_role(made.roster, person(0), made.random, NOW, device_id(2), "owner"))
    made.apply(set_role(made.roster, person(2), made.random, NOW, device_id(0), "member"))
    assert made.roster.epoch == 1
    made.apply(set_role(made.roster, person(2), made.random, NOW, device_id(1), "reader"))
    assert made.roster.epoch == 2
    role_at = made.roster.role_at
    assert [role_at(device_id(0), epoch) for epoch in (0, 1, 2, 3)] == [
        None,
        "owner",
        "member",
        None,
    ]
    assert [role_at(device_id(1), epoch) for epoch in (1, 2)] == ["member", "reader"]
    assert [role_at(device_id(2), epoch) for epoch in (1, 2)] == ["owner", "owner"]
    assert role_at(device_id(77), 1) is None


def test_the_role_in_an_epoch_that_is_over_never_changes() -> None:
    made = pool("member")
    made.apply(remove(made.roster, person(0), made.random, NOW, device_id(1)))
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    made.admit(1, "reader")
    made.apply(leave(made.roster, person(1), NOW))
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    role_at = made.roster.role_at
    assert [role_at(device_id(1), epoch) for epoch in (1, 2, 3, 4)] == [
        "member",
        None,
        "reader",
        None,
    ]
    assert made.roster.keys_of(device_id(1)) == person(1).keys.public


def test_the_phrase_brings_a_new_owner_and_removes_what_was_lost() -> None:
    made = pool("member")
    made.apply(rotate(made.roster, person(0), made.random, NOW))
    saved = person(5)
    made.apply(
        recover(
            made.roster,
            RESCUER.keys,
            made.random,
            NOW,
            device=saved.device,
            keys=saved.keys.public,
            label="new machine",
            lost=[device_id(0)],
        )
    )
    assert {one.device: one.role for one in made.roster.members.values()} == {
        device_id(1): "member",
        saved.device: "owner",
    }
    assert epochs_of(made, saved) == [1, 2, 3]
    assert epochs_of(made, person(0)) == [1, 2]
    keys = made.roster.epoch_keys(person(1).keys, device_id(1))
    assert made.roster.label(saved.device, keys) == "new machine"
    assert Roster.load(made.log).tip == made.roster.tip


def test_a_label_has_to_be_showable() -> None:
    made = pool()
    for label in ("", "a" * 129, "\x1b[2J", "\u202e"):
        with pytest.raises(ValueError, match="label"):
            rename(made.roster, person(0), made.random, NOW, device_id(0), label)


# What members must not do


@pytest.mark.parametrize("role", ["member", "reader"])
def test_who_is_no_owner_changes_nothing(role: str) -> None:
    made = pool(role, "member")  # type: ignore[arg-type]
    author = person(1)
    for actions in (
        (SetRole(device_id(1), "owner"),),
        (Remove(device_id(2)), rotation(made, 0, 1)),
        (Remove(device_id(0)), rotation(made, 1, 2)),
        (rotation(made, 0, 1, 2),),
        (Rename("", Label(1, bytes(20))),),
        (Remove(device_id(1)), Remove(device_id(2)), rotation(made, 0)),
        (Remove(device_id(1)), rotation(made, 0, 2)),
        (Admit(device_id(8), person(8).keys.public.to_bytes(), "owner", ()),),
    ):
        refused(made, author, *actions, match="may leave, and change nothing else")


def test_a_stranger_or_somebody_removed_signs_nothing() -> None:
    made = pool("owner", "member")
    gone = person(1)
    entry = rotate(made.roster, gone, made.random, NOW)
    made.apply(remove(made.roster, person(0), made.random, NOW, gone.device))
    with pytest.raises(ConflictError):
        made.roster.apply(entry)
    refused(made, gone, rotation(made, 0, 2), match="no member any more")
    refused(made, gone, Remove(gone.device), match="no member any more")
    refused(made, person(9), rotation(made, 0, 2), match="is no member")


def test_an_entry_is_signed_by_its_author() -> None:
    made = pool("owner")
    for impostor in (Author(device_id(0), person(1).keys), Author(RECOVERY, person(0).keys)):
        refused(made, impostor, rotation(made, 0, 1), match="is not signed by")
    entry = rotate(made.roster, person(0), made.random, NOW)
    for changed in (
        msgspec.structs.replace(entry, at_ms=entry.at_ms + 1),
        msgspec.structs.replace(entry, author=device_id(1)),
        msgspec.structs.replace(entry, signature=bytes(64)),
    ):
        with pytest.raises(RosterError, match="is not signed by"):
            made.roster.apply(changed)
    made.roster.apply(entry)


@pytest.mark.parametrize(
    ("numbers", "epoch"),
    [((0,), 3), ((0, 1, 2), 3), ((0, 2), 3), ((1, 0), 3), ((0, 1, 1), 3), ((0, 1), 2), ((0, 1), 4)],
)
def test_a_rotation_is_for_exactly_the_members_and_the_next_epoch(
    numbers: tuple[int, ...], epoch: int
) -> None:
    made = pool("member", "member")
    made.apply(remove(made.roster, person(0), made.random, NOW, device_id(2)))
    refused(made, person(0), rotation(made, *numbers, epoch=epoch), match="epoch|exactly")
    made.apply(signed(made.roster, person(0), rotation(made, 0, 1, epoch=3)))


def test_taking_a_right_away_without_a_new_key_is_refused() -> None:
    made = pool("member", "member")
    needs = "needs a rotation"
    refused(made, person(0), Remove(device_id(1)), match=needs)
    refused(made, person(0), SetRole(device_id(1), "reader"), match=needs)
    refused(made, RESCUER, Remove(device_id(1)), match=needs)
    refused(made, person(0), Remove(device_id(1)), rotation(made, 0, 1, 2), match="exactly")


def test_who_leaves_makes_no_key_for_those_who_stay() -> None:
    made = pool("owner")
    refused(made, person(0), Remove(device_id(0)), rotation(made, 1), match="who leaves")


def test_the_last_owner_stays() -> None:
    made = pool("member")
    refused(made, person(0), SetRole(device_id(0), "member"), match="without an owner")
    refused(made, RESCUER, Remove(device_id(0)), rotation(made, 1), match="without an owner")


def test_actions_that_make_no_sense_together_are_refused() -> None:
    made = pool("member", "member")
    owner, keys = person(0), person(8).keys.public.to_bytes()
    turn = rotation(made, 0, 1, 2)
    refused(made, owner, turn, turn, match="more than one|epoch")
    refused(made, owner, turn, SetRole(device_id(1), "owner"), match="after the rotation")
    refused(made, owner, SetRole(device_id(1), "owner"), SetRole(device_id(1), "member"))
    refused(made, owner, SetRole(device_id(1), "member"), match="already")
    refused(made, owner, Remove(device_id(1)), Remove(device_id(1)), rotation(made, 0, 2))
    refused(made, owner, Remove(device_id(8)), turn, match="is no member")
    refused(made, owner, Found(bytes(16), keys), turn, match="founded once")
    refused(made, owner, Rename("", Label(2, bytes(20))), match="epoch to come")
    refused(made, owner, Rename(device_id(8), Label(1, bytes(20))), match="is no member")
    refused(made, owner, Admit(device_id(8), keys, "member", ()), match="current key")
    refused(made, owner, Admit(device_id(8), keys, "member", ((2, bytes(80)),)), match="come")
    twice = ((1, bytes(80)), (1, bytes(80)))
    refused(made, owner, Admit(device_id(8), keys, "member", twice), match="twice")


def test_a_device_is_admitted_once_and_its_keys_are_its_own_for_good() -> None:
    made = pool("member", "member")
    sealed = ((1, bytes(80)),)
    one, two = person(1).keys.public, person(2).keys.public
    fresh = person(8).keys.public

    def joins(number: int, keys: PublicKeys, match: str) -> None:
        epochs = ((made.roster.epoch, bytes(80)),)
        action = Admit(device_id(number), keys.to_bytes(), "member", epochs)
        refused(made, person(0), action, match=match)

    joins(1, one, "a member already")
    joins(1, fresh, "a member already")
    joins(8, one, "is that of")
    joins(8, RESCUER.keys.public, "is that of recovery")
    joins(8, PublicKeys(fresh.signing, one.sealing), "is that of")
    joins(8, PublicKeys(two.signing, fresh.sealing), "is that of")
    both = [Admit(device_id(n), fresh.to_bytes(), "member", sealed) for n in (8, 9)]
    refused(made, person(0), *both, match="is that of")
    made.apply(remove(made.roster, person(0), made.random, NOW, device_id(1)))
    joins(1, fresh, "new device id")
    joins(8, one, "is that of")
    assert epochs_of(made, made.admit(1, "reader")) == [1, 2]


def test_a_key_that_nothing_can_be_sealed_to_is_not_admitted() -> None:
    made = pool()
    for keys in low_order_keys():
        action = Admit(device_id(8), keys.to_bytes(), "member", ((1, bytes(80)),))
        refused(made, person(0), action, match="nothing can be sealed")
        with pytest.raises(KeysError):
            admit(made.roster, person(0), made.random, NOW, device=device_id(8), keys=keys)


def test_an_owner_that_hands_out_another_key_is_noticed_by_who_gets_it() -> None:
    made = pool("member", "member")
    fair, other = rotation(made, 0, 1, 2), rotation(made, 0, 1, 2, key=b"x" * 32)
    mixed = msgspec.structs.replace(fair, sealed=(*fair.sealed[:2], other.sealed[2]))
    made.apply(signed(made.roster, person(0), mixed))
    assert made.roster.epoch_key(2, person(1).keys, device_id(1)) == KEY
    with pytest.raises(SealError, match="not the key of epoch 2"):
        made.roster.epoch_key(2, person(2).keys, device_id(2))


def test_an_owner_that_was_given_another_key_can_rotate_and_nothing_before() -> None:
    made = pool("owner", "member")
    fair, other = rotation(made, 0, 1, 2), rotation(made, 0, 1, 2, key=b"x" * 32)
    mixed = msgspec.structs.replace(fair, sealed=(fair.sealed[0], other.sealed[1], fair.sealed[2]))
    made.apply(signed(made.roster, person(0), mixed))
    with pytest.raises(RosterError, match="rotate first"):
        rename(made.roster, person(1), made.random, NOW, device_id(1), "laptop")
    with pytest.raises(RosterError, match="current key"):
        made.admit(3, by=1)
    made.apply(rotate(made.roster, person(1), made.random, NOW))
    assert epochs_of(made, made.admit(3, by=1)) == [1, 3]


def test_a_builder_says_no_to_who_is_no_owner() -> None:
    made = pool("member", "reader")
    for author in (person(1), person(2), person(9), Author(device_id(0), person(1).keys)):
        with pytest.raises(RosterError):
            made.roster.check(rotate(made.roster, author, made.random, NOW))
        with pytest.raises(RosterError):
            rename(made.roster, author, made.random, NOW, device_id(1), "laptop")
        with pytest.raises(RosterError):
            remove(made.roster, author, made.random, NOW, device_id(0))
        with pytest.raises(RosterError):
            admit(
                made.roster,
                author,
                made.random,
                NOW,
                device=device_id(8),
                keys=person(8).keys.public,
            )


# What a hub must not do


def test_a_sealed_key_opens_in_its_pool_epoch_and_entry_alone() -> None:
    """One owner, member of two pools, with the key of one put into the other."""
    one, two = pool("member", seed=1), pool("member", seed=2)
    turn = rotation(one, 0, 1)
    two.apply(signed(two.roster, person(0), turn))
    with pytest.raises(SealError):
        two.roster.epoch_key(2, person(1).keys, device_id(1))
    first = decode_entry(one.log[0]).actions[2]
    assert isinstance(first, Rotate)
    backup = turn.recovery
    again = Rotate(2, first.commitment, (*first.sealed, turn.sealed[1]), backup)
    one.apply(signed(one.roster, person(0), again))
    with pytest.raises(SealError):
        one.roster.epoch_key(2, person(0).keys, device_id(0))


def test_a_sealed_key_is_bound_to_scope_epoch_and_device() -> None:
    me = person(1)
    sealed = seal_key(KEY, b"s" * 16, 2, me.device, me.keys.public, SeededRandom(1))
    places = [
        (b"s" * 16, 2, me.device),
        (b"t" * 16, 2, me.device),
        (b"s" * 16, 3, me.device),
        (b"s" * 16, 2, device_id(2)),
        (b"s" * 16, 2, RECOVERY),
    ]
    opened = []
    for scope, epoch, device in places:
        try:
            commitment = commitment_to(KEY, epoch)
            opened.append(unseal_key(sealed, commitment, scope, epoch, device, me.keys))
        except SealError:
            continue
    assert opened == [KEY]


def test_what_is_sealed_at_the_founding_opens_in_no_other_founding() -> None:
    """Even with the same nonce: founder, keys and phrase are part of what it is bound to."""
    made = pool()
    begun, joins, turn = decode_entry(made.log[0]).actions[:3]
    assert isinstance(turn, Rotate)
    thief = person(4)
    moved = (
        begun,
        Admit(thief.device, thief.keys.public.to_bytes(), "owner", ()),
        msgspec.structs.replace(turn, sealed=((thief.device, turn.sealed[0][1]),)),
    )
    entry = Entry(0, NO_ENTRY, thief.device, NOW, moved, bytes(64))
    roster = Roster.load([encode_entry(sign_entry(entry, thief.keys))])
    assert isinstance(joins, Admit)
    for keys, device in ((person(0).keys, thief.device), (RESCUER.keys, RECOVERY)):
        with pytest.raises(SealError):
            roster.epoch_key(1, keys, device)


# Bytes


def test_device_ids_are_what_they_are_and_nothing_after_them() -> None:
    made = pool()
    for device in ("0" * 15, "0" * 15 + "G", "0" * 16 + "\n", "0" * 15 + "\n", "", "recovery"):
        action = Admit(device, person(8).keys.public.to_bytes(), "member", ((1, bytes(80)),))
        refused(made, person(0), action, match="does not parse")
    for author in ("recovery\n", "Recovery", "0" * 15):
        refused(made, Author(author, person(0).keys), rotation(made, 0), match="does not parse")


def test_a_founding_needs_keys_that_work_and_are_apart() -> None:
    keys = person(0).keys
    with pytest.raises(RosterError, match="is that of"):
        found(person(0), SeededRandom(1), NOW, keys.public)
    clumsy = DeviceKeys(keys.signing, RESCUER.keys.sealing)
    with pytest.raises(RosterError, match="is that of"):
        found(Author(device_id(0), clumsy), SeededRandom(1), NOW, RESCUER.keys.public)
