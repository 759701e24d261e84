from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.fields import Fields
from localmem_node.retrieval.lexical import LexicalIndex, Weights
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_node.retrieval.tokens import terms

_WORDS = st.sampled_from(
    ["alpha", "beta", "gamma", "delta", "parseHeader", "read_file", "the", "while"]
)
_TEXTS = st.lists(_WORDS, max_size=6).map(" ".join)
_FIELDS = st.builds(Fields, _TEXTS, _TEXTS, _TEXTS)
_STEPS = st.lists(st.tuples(st.integers(0, 7), st.none() | _FIELDS), max_size=40)
_QUERY = ["alpha", "beta", "header", "readfil", "while", "absent"]


def _index(*events: Fields) -> LexicalIndex:
    index = LexicalIndex()
    for slot, event in enumerate(events):
        index.add(slot, event)
    return index


def _snippets(*texts: str) -> LexicalIndex:
    return _index(*(Fields("", "", text) for text in texts))


def _applied(steps: list[tuple[int, Fields | None]]) -> tuple[LexicalIndex, dict[int, Fields]]:
    """The index after these steps (None removes, fields replace) and what it should hold."""
    index, held = LexicalIndex(), dict[int, Fields]()
    for slot, event in steps:
        index.remove(slot)
        held.pop(slot, None)
        if event is not None:
            index.add(slot, event)
            held[slot] = event
    return index, held


def _rebuilt(held: dict[int, Fields]) -> LexicalIndex:
    index = LexicalIndex()
    for slot, event in sorted(held.items()):
        index.add(slot, event)
    return index


def _same_scores(left: LexicalIndex, right: LexicalIndex) -> bool:
    one, other = left.scores(_QUERY), right.scores(_QUERY)
    shared = min(len(one), len(other))
    rest_is_zero = not one[shared:].any() and not other[shared:].any()
    return np.array_equal(one[:shared], other[:shared]) and rest_is_zero


@given(_STEPS)
def test_adds_and_removes_in_any_order_score_as_a_rebuild(
    steps: list[tuple[int, Fields | None]],
) -> None:
    index, held = _applied(steps)
    assert index.slots() == sorted(held)
    assert _same_scores(index, _rebuilt(held))


@given(_STEPS)
def test_terms_that_no_live_event_has_take_no_room(steps: list[tuple[int, Fields | None]]) -> None:
    index, held = _applied(steps)
    live = {term for event in held.values() for text in event for term in terms(text)}
    assert index.vocabulary == len(live)


def test_a_term_that_takes_the_place_of_a_common_one_takes_no_more_room_than_it_needs() -> None:
    index = _snippets(*["common"] * 1000)
    for slot in range(1000):
        index.remove(slot)
    index.add(0, Fields("", "", "rare"))
    assert index._postings.room() < 1000


@given(_STEPS, _STEPS)
def test_a_loaded_index_scores_and_goes_on_as_the_one_that_was_dumped(
    before: list[tuple[int, Fields | None]], after: list[tuple[int, Fields | None]]
) -> None:
    index, _ = _applied(before)
    loaded = LexicalIndex.load(index.dump())
    assert _same_scores(index, loaded)
    for slot, event in after:
        for each in (index, loaded):
            each.remove(slot)
            if event is not None:
                each.add(slot, event)
    assert _same_scores(index, loaded)
    assert index.vocabulary == loaded.vocabulary


@given(st.lists(_FIELDS, min_size=1, max_size=8))
def test_scores_are_those_of_the_formula(events: list[Fields]) -> None:
    weights = Weights()
    counts = [[Counter(terms(text)) for text in event] for event in events]
    lengths = [[sum(field.values()) for field in event] for event in counts]
    averages = [max(sum(column), 1) / len(events) for column in zip(*lengths, strict=True)]
    expected = np.zeros(len(events))
    for term in _QUERY:
        holders = sum(any(field[term] for field in event) for event in counts)
        idf = math.log(1 + (len(events) - holders + 0.5) / (holders + 0.5))
        for number, event in enumerate(counts):
            frequency = sum(
                weight * field[term] / (1 - b + b * length / average)
                for weight, b, field, length, average in zip(
                    weights.field, weights.length, event, lengths[number], averages, strict=True
                )
            )
            k1 = weights.saturation
            expected[number] += idf * frequency * (k1 + 1) / (frequency + k1)
    found = _index(*events).scores(_QUERY)[: len(events)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_rare_term_outweighs_a_common_one() -> None:
    index = _snippets("alpha beta", "alpha gamma", "alpha delta")
    scores = index.scores(["alpha", "delta"])
    assert scores[2] > scores[0] == scores[1] > 0


def test_a_match_in_the_path_outweighs_one_in_the_snippet() -> None:
    index = _index(Fields("alpha", "", "beta"), Fields("beta", "", "alpha"))
    scores = index.scores(["alpha"])
    assert scores[0] > scores[1] > 0


def test_a_short_snippet_outweighs_a_long_one_with_the_same_match() -> None:
    index = _snippets("alpha beta", "alpha " + "beta gamma delta " * 20)
    scores = index.scores(["alpha"])
    assert scores[0] > scores[1] > 0


def test_an_empty_index_has_no_scores() -> None:
    assert not LexicalIndex().scores(["alpha"]).any()
    assert LexicalIndex.load(LexicalIndex().dump()).slots() == []


def test_more_repetitions_than_a_posting_counts_are_capped() -> None:
    index = _index(Fields("alpha " * 300, "alpha " * 300, "alpha " * 70_000))
    assert np.isfinite(index.scores(["alpha"])).all()
    index.remove(0)
    assert index.vocabulary == 0


def test_a_taken_slot_is_refused_and_keeps_its_event() -> None:
    index = _snippets("alpha")
    with pytest.raises(ValueError, match="slot 0 is taken"):
        index.add(0, Fields("", "", "beta"))
    assert index.scores(["alpha"])[0] > 0
    assert not index.scores(["beta"]).any()


@pytest.mark.parametrize("slot", [-1, SLOTS_MAX])
def test_a_slot_out_of_bounds_is_refused(slot: int) -> None:
    with pytest.raises(ValueError, match="slot"):
        LexicalIndex().add(slot, Fields("", "", "alpha"))


@pytest.mark.parametrize(
    "weights", [{"length": (1.0, 0.0, 0.0)}, {"field": (-1.0, 1.0, 1.0)}, {"saturation": -0.1}]
)
def test_weights_that_the_formula_does_not_bear_are_refused(
    weights: dict[str, tuple[float, float, float]],
) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Weights(**weights)  # type: ignore[arg-type]


@given(st.data())
def test_an_altered_dump_is_refused_or_loads_into_a_sound_index(data: st.DataObject) -> None:
    dump = bytearray(_snippets("alpha beta", "beta read_file", "parseHeader").dump())
    at = data.draw(st.integers(0, len(dump) - 1))
    dump[at] ^= data.draw(st.integers(1, 255))
    try:
        index = LexicalIndex.load(bytes(dump))
    except DamagedIndex:
        return
    assert np.isfinite(index.scores(_QUERY)).all()
    for slot in index.slots():
        index.remove(slot)
    assert index.vocabulary == len(index) == 0


@given(st.integers(min_value=1))
def test_a_truncated_dump_is_refused(cut: int) -> None:
    dump = _snippets("alpha beta", "beta read_file").dump()
    with pytest.raises(DamagedIndex):
        LexicalIndex.load(dump[: -(cut % len(dump)) or -1])
