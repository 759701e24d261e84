"""The reader of Yjs updates: what it finds is what the library finds, and it never reads too far."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc

from bench.mutations import yjs_update
from localmem_hub.errors import ConfigError
from localmem_hub.plain.awareness import Awareness
from localmem_hub.plain.calls import FITS, GAP, Done, Failed, Load, Missing, Turn, Turned
from localmem_hub.plain.messages import NO_STATE, Presence
from localmem_hub.plain.scratch import Scratch, compacted
from localmem_hub.plain.structs import decode_vector, examine
from localmem_hub.settings import load_settings
from localmem_protocol.errors import UpdateError
from localmem_protocol.simulation import SeededRandom
from support.hostile_yjs import erase, letter


@given(st.integers(0, 2**32))
def test_an_update_reaches_as_far_as_the_library_says(seed: int) -> None:
    update = yjs_update(SeededRandom(seed))
    doc: Doc[object] = Doc()  # type: ignore[type-var]
    doc.apply_update(update)
    assert examine(update, {}).ends == decode_vector(doc.get_state())


@given(st.binary(max_size=200), st.integers(0, 2**32), st.integers(0, 200))
def test_bytes_are_an_update_or_refused_by_type(noise: bytes, seed: int, at: int) -> None:
    update = yjs_update(SeededRandom(seed))
    for data in (noise, update[:at] + noise, update + noise):
        try:
            examine(data, {})
        except UpdateError:
            continue


def test_every_cut_off_update_is_refused() -> None:
    update = yjs_update(SeededRandom(5))
    for end in range(len(update)):
        with pytest.raises(UpdateError):
            examine(update[:end], {})


@pytest.mark.parametrize(
    ("update", "vector", "fits"),
    [
        (letter(1, 0), {}, True),
        (letter(1, 1), {}, False),
        (letter(1, 1), {1: 1}, True),
        (letter(1, 1), {1: 9}, True),  # known already
        (erase(1, 0, 2), {1: 1}, False),
        (erase(1, 0, 2), {1: 2}, True),
        (b"\x01\x01\x01\x00\x84\x09\x04\x01x\x00", {9: 4}, False),
        (b"\x01\x01\x01\x00\x84\x09\x04\x01x\x00", {9: 5}, True),
        (b"\x01\x01\x01\x00\x04\x00\x09\x04\x01x\x00", {}, False),  # in a type that is missing
        (b"\x01\x02\x01\x00\x0a\x03\x84\x01\x02\x01x\x00", {}, False),  # a hole
        (b"\x01\x02\x01\x00\x0a\x03\x84\x01\x02\x01x\x00", {1: 3}, True),
    ],
)
def test_what_an_update_builds_on_is_known_before_it_is_applied(
    update: bytes, vector: dict[int, int], fits: bool
) -> None:
    assert examine(update, vector).fits(vector) is fits


def test_a_worker_knows_documents_by_version_and_says_when_it_lacks_one() -> None:
    scratch = Scratch()
    assert scratch.handle(Turn("a", 1, 2, [], [], False)) == Missing()
    assert scratch.handle(Load("a", 1, [letter(1, 0)])) == Done()
    turned = scratch.handle(Turn("a", 1, 2, [letter(1, 1), letter(1, 5)], [b"\x00", b""], True))
    assert isinstance(turned, Turned)
    assert (turned.verdicts, turned.merged) == ([FITS, GAP], letter(1, 1))
    assert turned.answers[1] is None
    assert decode_vector(turned.state) == {1: 2}
    assert scratch.handle(Turn("a", 1, 3, [], [], False)) == Missing()  # that was before
    failed = scratch.handle(
        Turn("a", 2, 3, [bytes.fromhex("01010500050101740568656c6c6f00")], [], False)
    )
    assert isinstance(failed, Failed)
    assert scratch.handle(Turn("a", 2, 3, [], [], False)) == Missing()


def test_documents_that_were_used_longest_ago_make_room() -> None:
    scratch = Scratch(held_bytes_max=3000)
    for number, room in enumerate("abc"):
        assert scratch.handle(Load(room, number, [letter(1, 0, "x" * 1400)])) == Done()
    assert scratch.handle(Turn("a", 0, 9, [], [], False)) == Missing()
    assert isinstance(scratch.handle(Turn("b", 1, 9, [], [], False)), Turned)


def test_a_snapshot_leaves_deleted_letters_out() -> None:
    rows = [letter(1, 0, "secret"), letter(1, 6, "kept"), erase(1, 0, 6)]
    snapshot = compacted(rows)
    assert b"secret" not in snapshot
    assert b"kept" in snapshot


def test_of_two_states_of_a_client_the_later_counts_and_an_end_of_the_same_clock() -> None:
    awareness = Awareness()
    first = Presence(7, 3, '"a"')
    assert awareness.apply(1, (first,)) == [first]
    for stale in (first, Presence(7, 2, '"b"'), Presence(7, 2, NO_STATE), Presence(8, 1, NO_STATE)):
        assert awareness.apply(2, (stale,)) == []
    later = Presence(7, 4, '"c"')
    assert awareness.apply(2, (later,)) == [later]
    end = Presence(7, 4, NO_STATE)
    assert awareness.apply(2, (end,)) == [end]
    assert awareness.apply(1, (later,)) == []
    assert awareness.states == []


def test_a_state_ends_with_the_connection_that_told_of_its_client_first() -> None:
    awareness = Awareness()
    awareness.apply(1, (Presence(7, 1, '"here"'),))
    awareness.apply(1, (Presence(7, 1, NO_STATE),))
    back = Presence(7, 2, '"here"')  # a client that hears of its own end says that it is there…
    assert awareness.apply(2, (back,)) == [back]  # …and another tab is faster in telling
    assert awareness.leave(2) == []
    assert awareness.leave(1) == [Presence(7, 2, NO_STATE)]
    assert awareness.apply(2, (back,)) == []
    again = Presence(7, 3, '"elsewhere"')
    assert awareness.apply(3, (again,)) == [again]
    assert awareness.leave(3) == [Presence(7, 3, NO_STATE)]


def test_plain_rooms_are_off_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    assert not load_settings({}, tmp_path).plain.enabled
    file = tmp_path / "hub.toml"
    file.write_text("[plain]\nenabled = true\nworkers = 3\n")
    told = load_settings({"LOCALMEM_HUB_PLAIN_WORKERS": "4"}, tmp_path, file).plain
    assert (told.enabled, told.workers) == (True, 4)
    file.write_text("[plain]\nworkers = 0\n")
    with pytest.raises(ConfigError, match="workers"):
        load_settings({}, tmp_path, file)
