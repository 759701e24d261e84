from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.fields import fields
from localmem_node.retrieval.tokens import terms
from localmem_node.retrieval.traits import (
    SAID,
    SKETCH_BITS,
    TEXT_CHARACTERS_MAX,
    Traits,
    TraitTable,
    kind_code,
    path_hash,
    sketch,
    term_hash,
    tool_code,
)
from localmem_protocol.events import KINDS, LOCATED, Event
from support.events import event, events

_HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=80)


def _sketch(words: list[str]) -> int:
    return sketch(np.array([term_hash(word) for word in words], np.uint64))


def _differing(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def _row(recorded: Event) -> np.void:
    table = TraitTable()
    table.put(0, recorded, [term_hash(term) for part in fields(recorded) for term in terms(part)])
    row: np.void = table.rows[0]
    return row


def _said(text: str, kind: str = "note") -> np.void:
    return _row(event(snippet=text, kind=kind, filePath=None, selectionRange=None))


@given(_HASHES)
def test_a_sketch_is_64_bits_that_no_order_of_the_terms_changes(hashes: list[int]) -> None:
    found = sketch(np.array(hashes, np.uint64))
    assert 0 <= found < 2**SKETCH_BITS
    assert found == sketch(np.array(sorted(hashes), np.uint64))
    assert found == sketch(np.array(hashes * 2, np.uint64))


@given(_HASHES)
def test_a_sketch_has_the_majority_of_each_bit(hashes: list[int]) -> None:
    counts = [sum(each >> bit & 1 for each in hashes) for bit in range(64)]
    expected = sum((count * 2 > len(hashes)) << bit for bit, count in enumerate(counts))
    # Which bit of a byte stands where is the sketch's own affair, but each stands for one.
    assert sketch(np.array(hashes, np.uint64)).bit_count() == expected.bit_count()


def test_one_changed_term_of_60_changes_few_bits_and_other_terms_many() -> None:
    texts = [[f"word{number * 100 + at}" for at in range(60)] for number in range(40)]
    changed = [_differing(_sketch(text), _sketch(["other", *text[1:]])) for text in texts]
    unrelated = [_differing(_sketch(one), _sketch(other)) for one, other in pairwise(texts)]
    assert max(changed) <= 10
    assert np.mean(changed) < 5
    assert min(unrelated) > 15
    assert abs(np.mean(unrelated) - SKETCH_BITS / 2) < 3


def test_hashes_are_the_same_on_every_start() -> None:
    # They are kept in saved indexes.
    assert path_hash("src/main.py") == 0xD5A8DF9E5D8FBD24
    assert term_hash("socket") == 0xCFD856F8CB69A3E1
    assert path_hash(None) == 0
    assert path_hash("") != 0
    assert path_hash("a") != path_hash("b")


def test_every_kind_and_named_tool_has_its_number() -> None:
    assert len({kind_code(kind) for kind in KINDS} | {0}) == len(KINDS) + 1
    tools = {tool_code(tool) for tool in ("claude-code", "cursor", "codex")}
    assert len(tools) == 3
    assert tool_code("vim") == 0 not in tools


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Where is it?", True),
        ('She said "why?"', True),
        ("(really?) ", True),
        ("Have you seen this? [shares a photo of a dog]", True),
        ("Why? Because.", False),
        ("a ? b : c", False),
        ("done", False),
        ("? " + "x" * TEXT_CHARACTERS_MAX, False),
        ("x" * 2 * TEXT_CHARACTERS_MAX + "?", True),
    ],
)
def test_a_text_that_ends_with_a_question_asks(text: str, asks: bool) -> None:
    assert bool(_said(text)["asks"]) is asks


@pytest.mark.parametrize(
    ("text", "time", "number"),
    [
        ("I went there yesterday", True, False),
        ("in May", True, False),
        ("it has 3 legs", False, True),
        ("Twice, to be exact", False, True),
        ("since two weeks", True, True),
        ("nothing of the kind", False, False),
        ("often", False, False),  # has "ten" within
    ],
)
def test_a_text_tells_a_time_or_a_number(text: str, time: bool, number: bool) -> None:
    row = _said(text)
    assert (bool(row["tells_time"]), bool(row["tells_number"])) == (time, number)


@pytest.mark.parametrize("kind", sorted(LOCATED))
def test_code_neither_asks_nor_tells(kind: str) -> None:
    row = _row(event(snippet="yesterday, 3 of them?", kind=kind))
    assert not any(row[name] for name in ("said", "asks", "tells_time", "tells_number"))


@given(events(), st.integers(0, 200))
def test_any_event_has_its_row(recorded: Event, slot: int) -> None:
    table = TraitTable()
    table.put(slot, recorded, [])
    row = table.rows[slot]
    assert row["timestamp"] == recorded.timestamp
    assert row["file"] == path_hash(recorded.file_path)
    assert row["kind"] == kind_code(recorded.kind)
    assert bool(row["said"]) is (recorded.kind in SAID)
    assert row["sketch"] == 0
    assert not table.rows[:slot]["timestamp"].any()


def test_events_of_one_text_have_one_sketch_whatever_else_they_are() -> None:
    one, other, third = (
        event(1, snippet="def open_socket(): ..."),
        event(2, snippet="def open_socket(): ...", kind="read"),
        event(3, snippet="class Header: pass", kind="read"),
    )
    assert _row(one)["sketch"] == _row(other)["sketch"] != _row(third)["sketch"]


def test_rows_are_as_long_as_saved_indexes_have_them() -> None:
    assert Traits.itemsize == 30
