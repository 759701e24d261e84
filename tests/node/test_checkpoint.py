"""The engine's checkpoint: what goes in comes out, and nothing else parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.checkpoint import make_checkpoint, read_checkpoint
from localmem_node.errors import DamagedIndex

_places = st.dictionaries(st.integers(0, 2**63 - 1), st.integers(0, 2**31), max_size=20).filter(
    lambda places: len(set(places.values())) == len(places)
)


@given(_places, st.binary())
def test_a_checkpoint_round_trips(places: dict[int, int], index: bytes) -> None:
    checkpoint = read_checkpoint(make_checkpoint(places, index))
    assert checkpoint.places() == places
    assert checkpoint.index == index


def test_two_events_in_one_slot_are_refused() -> None:
    with pytest.raises(DamagedIndex):
        read_checkpoint(make_checkpoint({1: 5, 2: 5}, b"")).places()


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(DamagedIndex):
        read_checkpoint(payload)


@given(st.data())
def test_altered_bytes_are_refused_or_differ_in_what_they_hold(data: st.DataObject) -> None:
    payload = bytearray(make_checkpoint({n: n for n in range(5)}, b"index"))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        checkpoint = read_checkpoint(bytes(payload))
        checkpoint.places()
    except DamagedIndex:
        return
    assert isinstance(checkpoint.index, bytes)
