"""Rosters as chains: what a hub cannot make of them."""

from __future__ import annotations

import msgspec
import pytest

from localmem_protocol.entries import (
    NO_ENTRY,
    SetRole,
    decode_entry,
    encode_entry,
    sign_entry,
)
from localmem_protocol.errors import (
    ConflictError,
    ForkError,
    RosterError,
)
from localmem_protocol.roster import (
    RECOVERY,
    Roster,
    Tip,
    rotate,
)
from support.pools import NOW, device_id, person, pool
from support.seeded import SeededRandom


def test_a_roster_of_another_pool_is_refused() -> None:
    one, two = pool(seed=1), pool(seed=2)
    with pytest.raises(ForkError, match="another pool"):
        Roster.load(two.log, pool_id=one.roster.pool_id)
    with pytest.raises(RosterError):
        Roster.load([], pool_id=one.roster.pool_id)


def test_an_old_roster_is_refused_by_who_knows_a_newer_one() -> None:
    made = pool("member")
    known = made.roster.tip
    assert Roster.load(made.log, known=known).tip == known
    made.admit(2)
    assert Roster.load(made.log, known=known).length == 3
    with pytest.raises(ForkError, match="leaves out"):
        Roster.load(made.log[:1], known=known)
    for tip in (Tip(0, b""), Tip(2, bytes(32)), Tip(1, known.head), Tip(99, known.head)):
        assert not made.roster.contains(tip)


def test_two_entries_at_one_place_are_a_fork_for_whoever_has_seen_either() -> None:
    made = pool("owner")
    base = list(made.log)
    mine = encode_entry(rotate(made.roster, person(0), SeededRandom(1), NOW))
    yours = encode_entry(rotate(made.roster, person(1), SeededRandom(2), NOW))
    left, right = Roster.load([*base, mine]), Roster.load([*base, yours])
    with pytest.raises(ConflictError):
        left.apply(yours)
    with pytest.raises(ForkError):
        Roster.load([*base, yours], known=left.tip)
    later = rotate(right, person(1), SeededRandom(3), NOW)
    before = left.tip
    with pytest.raises(ForkError, match="another entry"):
        left.apply(later)
    assert left.tip == before


def test_a_log_with_an_entry_missing_twice_or_moved_is_refused() -> None:
    made = pool("member", "reader")
    one, two, three = made.log
    for log in ([one, three], [one, two, two, three], [one, three, two], [two, three], [one, one]):
        with pytest.raises(RosterError):
            Roster.load(log)


def test_a_second_founding_is_no_first_one() -> None:
    made = pool("member")
    entry = decode_entry(made.log[1])
    alone = sign_entry(msgspec.structs.replace(entry, index=0, previous=NO_ENTRY), person(0).keys)
    with pytest.raises(RosterError, match="begins with its founder"):
        Roster.load([encode_entry(alone)])
    first = decode_entry(made.log[0])
    for changed in (
        msgspec.structs.replace(first, author=device_id(5)),
        msgspec.structs.replace(first, author=RECOVERY),
        msgspec.structs.replace(first, previous=b"\x01" * 32),
        msgspec.structs.replace(first, actions=first.actions[:2]),
        msgspec.structs.replace(first, actions=first.actions[1:]),
        msgspec.structs.replace(first, actions=(*first.actions, SetRole(device_id(0), "member"))),
    ):
        with pytest.raises(RosterError):
            Roster.load([encode_entry(sign_entry(changed, person(0).keys))])


def test_entries_that_were_verified_once_are_not_verified_again_and_new_ones_are() -> None:
    made = pool("member", "member")
    forged = [*made.log[:2], made.log[2][:-1] + bytes([made.log[2][-1] ^ 1])]
    assert Roster.load(forged, verified=3).length == 3
    with pytest.raises(RosterError, match="is not signed"):
        Roster.load(forged, verified=2)
