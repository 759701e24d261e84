from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.ranking import (
    CANDIDATES_MIN,
    best_slots,
    candidates_for,
    combined,
    order,
)

_SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20)


def _scores(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def test_each_side_counts_between_its_extremes() -> None:
    found = combined(_scores(4, 2, 0), _scores(0.1, 0.5, 0.3), lexical_weight=0.5)
    np.testing.assert_allclose(found, [0.5, 0.75, 0.25], atol=1e-6)


def test_the_weight_says_which_side_counts_more() -> None:
    lexical, dense = _scores(1, 0), _scores(0, 1)
    assert combined(lexical, dense, lexical_weight=0.6).argmax() == 0
    assert combined(lexical, dense, lexical_weight=0.4).argmax() == 1


def test_without_dense_scores_the_order_is_the_lexical_one() -> None:
    np.testing.assert_allclose(combined(_scores(1, 4, 2), None), [0.25, 1, 0.5])


def test_an_event_without_a_vector_is_judged_by_its_words_alone() -> None:
    encoded = np.array([True, True, False])
    found = combined(_scores(2, 0, 4), _scores(0.2, 0.6, 0), encoded)
    assert found[2] == 1
    assert found[0] < found[2]


def test_no_match_at_all_scores_nothing_and_divides_by_nothing() -> None:
    assert combined(_scores(0, 0), None).tolist() == [0, 0]
    assert combined(_scores(), _scores()).tolist() == []


@given(_SCORES, st.data())
def test_scores_are_from_0_to_1_and_better_evidence_never_lowers_one(
    lexical: list[float], data: st.DataObject
) -> None:
    dense = data.draw(st.lists(st.integers(-9, 9), min_size=len(lexical), max_size=len(lexical)))
    found = combined(_scores(*lexical), _scores(*dense))
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()
    for one in range(len(lexical)):
        for other in range(len(lexical)):
            if lexical[one] >= lexical[other] and dense[one] >= dense[other]:
                assert found[one] >= found[other] - 1e-6


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
