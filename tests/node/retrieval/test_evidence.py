"""The features of candidates against a plain computation of the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.evidence import MEANING, dense_features, other_features
from localmem_node.retrieval.lexical import Matches
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.sessions import Sessions
from localmem_node.retrieval.slots import Numbering
from localmem_node.retrieval.traits import Traits, path_hash
from localmem_node.retrieval.words import WORDS, Surroundings, lexical_features
from support import plain_evidence

WIDTH = 60


def _question(chance: np.random.Generator, terms: int) -> Question:
    sizes = chance.integers(1, 5, size=terms)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.intp)
    shares = chance.random(int(sizes.sum()), dtype=np.float32)
    shares[starts] = 1
    return Question(
        characters=0,
        terms=[f"t{number}" for number in range(terms)],
        columns=[f"c{number}" for number in range(len(shares))],
        starts=starts,
        shares=shares,
        quoted=chance.random(terms) < 0.3,
        spans=[],
        asks_when=False,
        asks_how_many=False,
        kinds=frozenset(),
        tools=frozenset(),
    )


def _matches(chance: np.random.Generator, columns: int, density: float) -> Matches:
    terms, slots = np.nonzero(chance.random((columns, WIDTH)) < density)
    return Matches(
        slots=slots,
        terms=terms,
        frequencies=chance.random(len(slots), dtype=np.float32) * 3 + np.float32(0.1),
        in_path=chance.random(len(slots)) < 0.2,
        in_header=chance.random(len(slots)) < 0.2,
        rarity=chance.random(columns, dtype=np.float32) * 5 + np.float32(0.01),
    )


def _sessions(chance: np.random.Generator, labels: int) -> Sessions:
    sessions = Sessions()
    newness = np.zeros((3, WIDTH), np.uint64)
    newness[0] = chance.permutation(WIDTH)
    for slot in range(WIDTH):
        label = None if not labels or chance.random() < 0.2 else str(chance.integers(labels))
        sessions.add(slot, label, newness, is_prompt=bool(chance.random() < 0.3))
    return sessions


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([0, 1, 5]))
def test_words_and_surroundings_count_as_computed_one_by_one(
    seed: int, terms: int, labels: int
) -> None:
    chance = np.random.default_rng(seed)
    question = _question(chance, terms)
    matches = _matches(chance, len(question.columns), float(chance.choice([0.02, 0.2, 0.6])))
    sessions = _sessions(chance, labels)
    slots = np.sort(chance.choice(WIDTH, size=int(chance.integers(1, 30)), replace=False))
    near = Surroundings.of(slots, sessions)
    numbering = Numbering()
    found = lexical_features(question, matches, near, WIDTH, numbering)
    expected = plain_evidence.lexical(question, matches, near)
    for column, name in enumerate(WORDS):
        np.testing.assert_allclose(
            found[column], expected[:, column], rtol=1e-5, atol=1e-6, err_msg=name
        )
    # Nothing of one call is left for the next, and parts give what the whole gives.
    half = len(slots) // 2
    parts = [
        lexical_features(question, matches, Surroundings.of(some, sessions), WIDTH, numbering)
        for some in (slots[:half], slots[half:])
    ]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), found, rtol=1e-6, atol=1e-7)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_sessions_bursts_and_files_count_as_computed_one_by_one(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    rows = np.zeros(count, Traits)
    rows["timestamp"] = 1_760_000_000_000 + chance.integers(0, 3_000_000, size=count)
    files = np.array([path_hash(name) for name in (None, "/a.py", "/b.py", "/c.py")], np.uint64)
    rows["file"] = chance.choice(files, size=count)
    sessions = chance.integers(-1, 4, size=count)
    first = np.round(chance.random(count, dtype=np.float32), 1)  # with equals
    found = other_features(
        _question(chance, 2),
        rows,
        first=first,
        best_first=np.argsort(-first, kind="stable"),
        words=np.zeros((len(WORDS), count), np.float32),
        meaning=np.zeros((len(MEANING), count), np.float32),
        lengths=np.zeros(count, np.int64),
        sessions=sessions,
        asked_before=np.zeros(count, np.bool_),
    )
    expected = plain_evidence.others(
        first.tolist(), sessions.tolist(), rows["file"].tolist(), rows["timestamp"].tolist()
    )
    np.testing.assert_allclose(found[:6].T, expected, rtol=1e-5, atol=1e-6)


def test_a_candidate_without_a_vector_is_as_good_as_its_words_and_nobody_counts_nothing() -> None:
    cosines = np.array([0.2, 0.6, 0.0], np.float32)
    neighbours = np.array([[0.6, 0.9, 0.4]] * 4, np.float32)
    there = np.array([[True, False, True]] * 4)
    encoded = np.array([True, True, False])
    by_words = np.array([0, 0, 0.5], np.float32)
    found = dense_features(cosines, cosines, neighbours, there, encoded, by_words)
    assert found[0].tolist() == pytest.approx([0, 1, 0.5])
    assert found[1].tolist() == pytest.approx([0.2, 0.6, 0.4])
    assert found[4].tolist() == pytest.approx([1, 0, 0.5])
    assert not dense_features(cosines, cosines, neighbours, there, ~encoded & False, by_words).any()


def test_slots_are_numbered_for_as_long_as_it_takes() -> None:
    numbering = Numbering()
    slots = np.array([4, 9, 4, 0])
    distinct, numbers, by_slot = numbering.number(slots, 12)
    assert sorted(distinct.tolist()) == [0, 4, 9]
    assert distinct[numbers - 1].tolist() == slots.tolist()
    assert np.flatnonzero(by_slot).tolist() == [0, 4, 9]
    numbering.done(distinct)
    assert not numbering.number(np.zeros(0, np.int64), 12)[2].any()
