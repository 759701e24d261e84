"""Frames, state vectors and updates: they round-trip, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array, Doc

from localmem_protocol.errors import FrameError, UpdateError
from localmem_protocol.frames import (
    Ack,
    Frame,
    Hello,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import CLOCK_MAX
from localmem_protocol.updates import (
    Item,
    after,
    decode_state_vector,
    decode_update,
    encode_state_vector,
    encode_update,
    split,
)
from localmem_protocol.updates import Update as Structs
from support.documents import ROOT, document, values

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**53)
names = st.lists(text, max_size=3).map(tuple)
frames = st.one_of(
    st.builds(Step1, st.binary(max_size=50)),
    st.builds(Step2, st.binary(max_size=50)),
    st.builds(Update, st.binary(max_size=50)),
    st.builds(Hello, text, names, text, numbers),
    st.builds(Welcome, names, numbers, numbers, st.binary(max_size=16), st.booleans()),
    st.builds(Ack, numbers, numbers),
    st.builds(Refusal, numbers, st.booleans(), text),
)


@given(frames)
def test_a_frame_round_trips(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(frames, st.data())
def test_a_truncated_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = encode_frame(frame)
    with pytest.raises(FrameError):
        decode_frame(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(frames, st.data())
def test_an_altered_frame_is_refused_or_a_frame(frame: Frame, data: st.DataObject) -> None:
    changed = bytearray(encode_frame(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(changed))


@given(st.binary(max_size=80))
def test_noise_is_refused_or_a_frame(noise: bytes) -> None:
    read(noise)


def read(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except FrameError:
        return
    assert decode_frame(encode_frame(frame)) == frame


@given(st.dictionaries(st.integers(1, 2**31), st.integers(0, CLOCK_MAX), max_size=8))
def test_state_vectors_round_trip(vector: dict[int, int]) -> None:
    assert decode_state_vector(encode_state_vector(vector)) == vector


@given(st.integers(1, 12), st.integers(0, 12))
def test_what_yrs_writes_is_read_and_written_back_the_same(count: int, deleted: int) -> None:
    data = document(count, min(count, deleted)).get_update()
    update = decode_update(data)
    assert decode_update(encode_update(update)) == update
    other: Doc[Array[bytes]] = Doc()
    other.apply_update(encode_update(update))
    assert values(other) == values(document(count, min(count, deleted)))


@given(st.binary(max_size=80))
def test_noise_is_refused_or_an_update(noise: bytes) -> None:
    try:
        update = decode_update(noise)
    except UpdateError:
        return
    assert decode_update(encode_update(update)) == update


@given(st.integers(2, 10), st.integers(1, 9))
def test_the_second_part_of_a_run_fits_behind_the_first(count: int, cut: int) -> None:
    first, second = split_at(document(count).get_update(), min(cut, count - 1))
    other: Doc[Array[bytes]] = Doc()
    other.apply_update(encode_update(first))
    other.apply_update(encode_update(second))
    assert values(other) == values(document(count))


def split_at(data: bytes, clock: int) -> tuple[Structs, Structs]:
    """The first clocks of a document, and the rest."""
    run = decode_update(data).items[7]
    contents = (run[0].contents or ())[:clock]
    return Structs({7: [Item(0, clock, contents, root=ROOT)]}), Structs({7: after(run, 7, clock)})


@given(st.integers(1, 30), st.integers(0, 20), st.integers(1, 400))
def test_the_pieces_of_an_update_merge_to_the_whole_one_after_the_other(
    count: int, deleted: int, bytes_max: int
) -> None:
    whole = document(count, min(count, deleted))
    later: Doc[Array[bytes]] = Doc(client_id=9)
    later.apply_update(whole.get_update())
    later.get(ROOT, type=Array).append(b"of another incarnation")
    update = decode_update(later.get_update())
    ledger, other = Ledger(), Doc[Array[bytes]]()
    for piece in split(update, bytes_max):
        ledger.note(piece, ledger.check(piece))
        other.apply_update(encode_update(piece))
    assert other.get_update() == later.get_update()
