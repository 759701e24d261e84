"""Entries of a roster: their bytes, and how many of them there may be."""

from __future__ import annotations

import msgspec
import pytest

from localmem_protocol import chain, membership
from localmem_protocol.entries import (
    Admit,
    Entry,
    Label,
    Rename,
    Rotate,
    decode_entry,
    encode_entry,
)
from localmem_protocol.errors import (
    ProtocolError,
    RosterError,
)
from localmem_protocol.limits import (
    ADMITTED_EPOCHS_MAX,
    ROSTER_ENTRY_BYTES_MAX,
    ROSTER_MEMBERS_MAX,
)
from localmem_protocol.roster import (
    Roster,
    rotate,
)
from support.pools import NOW, device_id, person, pool


def test_an_entry_comes_back_from_its_bytes() -> None:
    for data in pool("member", "reader").log:
        assert encode_entry(decode_entry(data)) == data


def test_an_action_of_a_newer_release_is_refused() -> None:
    made = pool()
    entry = rotate(made.roster, person(0), made.random, NOW)
    fields = msgspec.msgpack.decode(encode_entry(entry))
    for action in ([6, "new"], [6], [99], ["rotate"], [5, "", [1, bytes(20)], "more"], []):
        fields[4] = [action]
        with pytest.raises(RosterError, match="does not parse"):
            made.roster.apply(msgspec.msgpack.encode(fields))


def test_an_entry_in_a_longer_form_is_refused() -> None:
    data = pool().log[0]
    longer = data[:1] + b"\xcc\x00" + data[2:]
    candidates = [b"\xdc\x00\x06" + data[1:], data + b"\x00", longer]
    for candidate in candidates:
        assert candidate != data
        with pytest.raises(RosterError):
            decode_entry(candidate)
    with pytest.raises(RosterError, match="shortest form"):
        decode_entry(candidates[0])


def test_every_flipped_byte_and_every_truncation_is_refused() -> None:
    made = pool("member")
    base, data = Roster.load(made.log[:1]), made.log[1]
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 0x55
        for candidate in (bytes(altered), data[:place]):
            with pytest.raises(ProtocolError):
                base.apply(candidate)
    base.apply(data)


def test_an_entry_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(RosterError, match="over the limit"):
        decode_entry(bytes(ROSTER_ENTRY_BYTES_MAX + 1))


def test_the_largest_change_that_is_allowed_fits_into_an_entry() -> None:
    members = tuple((device_id(n), bytes(80)) for n in range(ROSTER_MEMBERS_MAX))
    epochs = tuple((4096, bytes(80)) for _ in range(ADMITTED_EPOCHS_MAX))
    actions = (
        Admit(device_id(0), bytes(64), "member", epochs),
        Rotate(4096, bytes(32), members, bytes(80)),
        Rename(device_id(0), Label(4096, bytes(144))),
    )
    entry = Entry(4095, bytes(32), device_id(0), 2**47 - 1, actions, bytes(64))
    assert len(encode_entry(entry)) <= ROSTER_ENTRY_BYTES_MAX
    assert decode_entry(encode_entry(entry)) == entry


def test_a_roster_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pool("member")
    monkeypatch.setattr(membership, "ROSTER_MEMBERS_MAX", 2)
    with pytest.raises(RosterError, match="more than 2 members"):
        made.admit(2)
    entry = rotate(made.roster, person(0), made.random, NOW)
    monkeypatch.setattr(chain, "ROSTER_ENTRIES_MAX", 2)
    with pytest.raises(RosterError, match="full"):
        made.apply(entry)
    monkeypatch.undo()
    monkeypatch.setattr(chain, "ROSTER_BYTES_MAX", sum(map(len, made.log)) + 10)
    with pytest.raises(RosterError, match="full"):
        made.apply(entry)
    monkeypatch.undo()
    made.apply(entry)
