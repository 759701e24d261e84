from __future__ import annotations

import numpy as np
import pytest

from bench.grading import (
    BASELINES,
    HEADINGS,
    METRICS,
    PRODUCT,
    Contest,
    graded,
    interval,
    result,
    rows,
)
from localmem_node.retrieval.index import text_for_encoding
from localmem_protocol.events import parse_draft, stamp
from support.hashing_encoder import HashingEncoder

_SNIPPETS = [
    "socket timeout handling", "parse the header", "cookie policy", "retry budget", "header again"
]  # fmt: skip


@pytest.fixture
def contest() -> Contest:
    encoder = HashingEncoder(256)
    made = Contest(256)
    for slot, snippet in enumerate(_SNIPPETS):
        fields = {"timestamp": slot, "filePath": f"{slot}.py", "snippet": snippet}
        draft = parse_draft(fields | {"selectionRange": (1, 1)})
        event = stamp(draft, device="0" * 16, clock=slot + 1, sequence=slot + 1)
        made.add(slot, event, encoder.encode([text_for_encoding(event)])[0])
    return made


def _asked(contest: Contest, text: str, k: int = 10, seed: int = 1) -> dict[str, list[int]]:
    vector = HashingEncoder(256).encode([text])[0]
    return contest.rankings(text, vector, np.random.default_rng(seed), k)


def test_every_method_ranks_the_same_live_events(contest: Contest) -> None:
    found = _asked(contest, "the header")
    assert list(found) == [PRODUCT, *BASELINES]
    assert found["recency"] == [4, 3, 2, 1, 0]
    assert sorted(found["random"]) == sorted(found["minilm"]) == [0, 1, 2, 3, 4]
    assert set(found["bm25"]) == {1, 4} == set(found[PRODUCT][:2])
    contest.remove(4)
    contest.remove(9)
    for name, slots in _asked(contest, "the header").items():
        assert 4 not in slots, name
    assert _asked(contest, "the header")["bm25"] == [1]


def test_words_that_score_the_same_give_the_newer_first(contest: Contest) -> None:
    fields = {"timestamp": 9, "filePath": "0.py", "snippet": _SNIPPETS[0]}
    draft = parse_draft(fields | {"selectionRange": (1, 1)})
    event = stamp(draft, device="0" * 16, clock=9, sequence=9)
    contest.remove(2)
    contest.add(2, event, HashingEncoder(256).encode([text_for_encoding(event)])[0])
    assert _asked(contest, "socket timeout")["bm25"] == [2, 0]
    assert _asked(contest, "socket timeout", 1)["recency"] == [2]


def test_chance_is_that_of_the_seed(contest: Contest) -> None:
    drawn = [_asked(contest, "x", 3, seed)["random"] for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(map(tuple, drawn))) > 1
    assert all(len(set(slots)) == 3 for slots in drawn)


def test_hit_recall_and_rank_are_those_of_the_answers_found() -> None:
    assert graded([7, 3, 9, 4], range(3, 5)) == (1, 1, 0.5)
    assert graded([3], range(3, 7)) == (1, 0.25, 1)
    assert graded([1, 2], range(3, 5)) == (0, 0, 0)
    assert graded([], range(3, 5)) == (0, 0, 0)


def test_an_interval_holds_the_mean_and_narrows_with_more_questions() -> None:
    few, many = (np.tile([0.0, 1.0, 1.0, 1.0], count) for count in (10, 1000))
    assert interval(few) == interval(few)
    for values in (few, many):
        low, high = interval(values)
        assert low < 0.75 < high
    assert interval(many)[1] - interval(many)[0] < 0.2 * (interval(few)[1] - interval(few)[0])
    assert interval(np.ones(5)) == (1, 1)


def test_a_result_has_the_product_on_top_and_the_baselines_below() -> None:
    ours = np.array([[1, 1, 1], [1, 0.5, 0.5], [0, 0, 0], [1, 1, 1]], dtype=np.float64)
    theirs = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 0, 1]], dtype=np.float64)
    found = result({PRODUCT: ours, "bm25": theirs})
    assert [found[name] for name in METRICS] == [75, 62.5, 62.5]
    bm25 = found["baselines"]["bm25"]
    assert (bm25["hit_at_10"], bm25["recall_at_10"], bm25["behind"]) == (50, 25, 25)
    assert bm25["intervals"]["behind"][0] <= 25 <= bm25["intervals"]["behind"][1]
    low, high = found["intervals"]["hit_at_10"]
    assert 0 <= low < 75 < high <= 100
    table = rows(found)
    assert [row[0] for row in table] == ["bm25", PRODUCT]
    assert all(len(row) == len(HEADINGS) for row in table)
