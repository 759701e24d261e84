from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.ranking import (
    CANDIDATES_MIN,
    COPY_MS,
    Group,
    best_slots,
    candidates_for,
    collapsed,
    order,
    prices,
    spread_out,
)
from localmem_node.retrieval.traits import Traits

_SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20)


def _scores(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def test_among_equals_the_newer_comes_first() -> None:
    # Columns are candidates; the clock decides, then the device, then the sequence.
    newness = np.array([[5, 5, 5, 9], [1, 2, 2, 0], [8, 3, 4, 0]], dtype=np.uint64)
    assert order(_scores(1, 1, 1, 0), newness, np.arange(4)).tolist() == [2, 1, 0, 3]


def test_newness_beyond_signed_integers_still_orders() -> None:
    newness = np.array([[2**64 - 1, 2**63], [0, 0], [0, 0]], dtype=np.uint64)
    assert order(_scores(1, 1), newness, np.arange(2)).tolist() == [0, 1]


@given(_SCORES, st.integers(1, 10))
def test_the_best_slots_are_no_worse_than_any_left_out(scores: list[float], count: int) -> None:
    chosen = set(best_slots(_scores(*scores), count).tolist())
    left = [score for slot, score in enumerate(scores) if slot not in chosen and score > 0]
    worst = min((scores[slot] for slot in chosen), default=0.0)
    assert all(scores[slot] > 0 for slot in chosen)
    assert len(chosen) >= min(count, sum(score > 0 for score in scores))
    assert all(score < worst for score in left)


def test_more_hits_need_more_candidates() -> None:
    assert candidates_for(1) == CANDIDATES_MIN
    assert candidates_for(1000) > 1000


def _rows(*rows: tuple[int, int, int]) -> npt.NDArray[np.void]:
    found = np.zeros(len(rows), Traits)
    for at, (file, kind, sketch) in enumerate(rows):
        found[at]["file"], found[at]["kind"], found[at]["sketch"] = file, kind, sketch
        found[at]["timestamp"] = 1000 * at
    return found


def test_near_copies_stand_together_the_newest_at_the_place_of_the_best() -> None:
    rows = _rows((1, 2, 0b1111), (1, 2, 0b0111), (2, 2, 0b1111), (1, 3, 0b1111), (1, 2, 0xFF00))
    newness = np.array([[9, 1, 1, 1, 1], [0] * 5, [0] * 5], dtype=np.uint64)
    groups = collapsed([1, 0, 2, 3, 4], rows, newness, 10)
    assert groups == [Group(0, 1, 1), Group(2, 2, 0), Group(3, 3, 0), Group(4, 4, 0)]


def test_no_more_than_k_groups() -> None:
    rows = _rows((1, 1, 1), (1, 1, 1), (2, 1, 1 << 40), (1, 1, 1))
    newness = np.array([[4, 3, 2, 1], [0] * 4, [0] * 4], dtype=np.uint64)
    assert collapsed(range(4), rows, newness, 1) == [Group(0, 0, 2)]


@given(st.lists(st.tuples(st.integers(-1, 4), st.booleans()), max_size=12))
def test_hits_cost_in_bursts_in_which_something_was_done(made: list[tuple[int, bool]]) -> None:
    bursts = np.array([burst for burst, _ in made], np.int64)
    said = np.array([each for _, each in made], np.bool_)
    at_work = {burst for burst, each in made if not each}
    found = prices(bursts, said, 0.5).tolist()
    assert found == [0.5 if burst in at_work else 0.0 for burst in bursts.tolist()]


_SPREAD = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 3), st.sampled_from([0, 0, 5])), max_size=25
)
"""Score, burst and penalty of candidates: whole numbers, so that no sum is rounded."""


def _spread(rows: list[tuple[int, int, int]]) -> list[tuple[int, float]]:
    scores = _scores(*(float(score) for score, _, _ in rows))
    return spread_out(
        order(scores, np.zeros((3, len(rows)), np.uint64), np.arange(len(rows))),
        scores,
        np.array([burst for _, burst, _ in rows], np.int64),
        _scores(*(float(penalty) for _, _, penalty in rows)),
    )


def _greedy(rows: list[tuple[int, int, int]], ranked: list[int]) -> list[tuple[int, float]]:
    """Of all that are left the one that is best now, the first in `ranked` among equals."""
    left, found = list(ranked), list[tuple[int, float]]()
    while left:
        taken = [rows[at][1] for at, _ in found]
        now = {at: rows[at][0] - rows[at][2] * taken.count(rows[at][1]) for at in left}
        best = max(left, key=lambda at: (now[at], -ranked.index(at)))
        left.remove(best)
        found.append((best, float(now[best])))
    return found


@given(_SPREAD)
def test_of_one_burst_not_all_at_once_is_the_plain_greedy_choice(
    rows: list[tuple[int, int, int]],
) -> None:
    scores = _scores(*(float(score) for score, _, _ in rows))
    ranked = order(scores, np.zeros((3, len(rows)), np.uint64), np.arange(len(rows))).tolist()
    assert _spread(rows) == _greedy(rows, ranked)


@given(_SPREAD)
def test_hits_that_are_spread_out_come_best_first(rows: list[tuple[int, int, int]]) -> None:
    paid = [score for _, score in _spread(rows)]
    assert paid == sorted(paid, reverse=True)


@given(_SPREAD)
def test_without_a_penalty_the_order_stays(rows: list[tuple[int, int, int]]) -> None:
    free = [(score, burst, 0) for score, burst, _ in rows]
    scores = _scores(*(float(score) for score, _, _ in free))
    ranked = order(scores, np.zeros((3, len(rows)), np.uint64), np.arange(len(rows))).tolist()
    assert _spread(free) == [(at, float(scores[at])) for at in ranked]


def test_each_of_a_burst_pays_for_those_before_it() -> None:
    rows = [(20, 1, 5), (19, 1, 5), (18, 1, 5), (12, 2, 5), (7, 3, 5)]
    assert _spread(rows) == [(0, 20), (1, 14), (3, 12), (2, 8), (4, 7)]


def test_what_was_said_pays_nothing_and_waits_for_nothing_of_its_burst_that_pays() -> None:
    rows = [(20, 1, 5), (19, 1, 5), (18, 1, 0), (16, 2, 5)]
    assert _spread(rows) == [(0, 20), (2, 18), (3, 16), (1, 9)]


@pytest.mark.parametrize("ranked", [[], [2, 0]])
def test_only_what_is_ranked_is_spread_out(ranked: list[int]) -> None:
    found = spread_out(
        np.array(ranked, np.intp), _scores(1, 5, 3), np.zeros(3, np.int64), _scores(0, 0, 0)
    )
    assert [at for at, _ in found] == ranked


def test_what_was_recorded_at_once_or_much_later_is_no_copy() -> None:
    rows = _rows((1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1))
    rows["timestamp"] = [0, 0, COPY_MS + 1, 0, COPY_MS + 1]
    newness = np.zeros((3, 5), dtype=np.uint64)
    groups = collapsed(range(5), rows, newness, 9)
    assert [group.best for group in groups] == [0, 1, 2, 3]  # without a file at any time
    assert groups[-1].copies == 1
