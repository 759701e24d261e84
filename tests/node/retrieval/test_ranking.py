from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.ranking import (
    CANDIDATES_MIN,
    Group,
    best_slots,
    candidates_for,
    collapsed,
    order,
)
from localmem_node.retrieval.traits import Traits

_SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20)


def _scores(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def test_among_equals_the_newer_comes_first() -> None:
    # Columns are candidates; the clock decides, then the device, then the sequence.
    newness = np.array([[5, 5, 5, 9], [1, 2, 2, 0], [8, 3, 4, 0]], dtype=np.uint64)
    assert order(_scores(1, 1, 1, 0), newness).tolist() == [2, 1, 0, 3]


def test_newness_beyond_signed_integers_still_orders() -> None:
    newness = np.array([[2**64 - 1, 2**63], [0, 0], [0, 0]], dtype=np.uint64)
    assert order(_scores(1, 1), newness).tolist() == [0, 1]


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
    return found


def test_near_copies_stand_together_the_newest_at_the_place_of_the_best() -> None:
    rows = _rows((1, 2, 0b1111), (1, 2, 0b0111), (2, 2, 0b1111), (1, 3, 0b1111), (1, 2, 0xFF00))
    newness = np.array([[9, 1, 1, 1, 1], [0] * 5, [0] * 5], dtype=np.uint64)
    groups = collapsed([1, 0, 2, 3, 4], rows, newness, 10)
    assert groups == [Group(0, 1, 1), Group(2, 2, 0), Group(3, 3, 0), Group(4, 4, 0)]


def test_no_more_than_k_groups() -> None:
    rows = _rows((1, 1, 1), (1, 1, 1), (2, 1, 1 << 40), (1, 1, 1))
    newness = np.array([[4, 3, 2, 1], [0] * 4, [0] * 4], dtype=np.uint64)
    assert collapsed(range(4), rows, newness, 1) == [Group(0, 0, 1)]
