"""How every benchmark of search is scored, and what it is compared with.

The same events stand in the product's index and in those of four baselines, the same questions are
asked of all, and every ranking is graded against the same answers:

- `localmem`: `SearchIndex.search`, with the words and the vector of the question;
- `random`: live events in an order drawn from a seed;
- `recency`: the newest first;
- `bm25`: `LexicalIndex` over the fields of the events, no other evidence;
- `minilm`: the cosine of what is embedded of an event with the question, no other evidence.

hit@10: the share of questions with an answer among the first ten; recall@10: the share of answers
that are there; MRR: the mean of 1 / rank of the first (0 beyond ten). Questions count alike. All are
percentages. Intervals are at 95 %, by the bootstrap over questions (Efron, Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13: percentiles).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.fields import fields
from localmem_node.retrieval.index import SearchIndex
from localmem_node.retrieval.lexical import LexicalIndex
from localmem_node.retrieval.tokens import query_terms
from localmem_protocol.events import Event

K: Final = 10
SEED: Final = 20_261_123
RESAMPLES: Final = 1000
RESAMPLES_AT_ONCE: Final = 50
"""Together they would take hundreds of megabytes for a few ten thousand questions."""

PRODUCT: Final = "localmem"
BASELINES: Final = ("random", "recency", "bm25", "minilm")
METRICS: Final = ("hit_at_10", "recall_at_10", "mrr")
HEADINGS: Final = ("method", "hit@10", "95 %", "recall@10", "95 %", "MRR", "behind by", "95 %")

Vector = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
"""(questions, 3): hit, recall and reciprocal rank of each question, from 0 to 1."""


class Contest:
    """Live events by slot, as the product's index and the baselines hold them."""

    def __init__(self, dimensions: int) -> None:
        self.product = SearchIndex(dimensions)
        self.words = LexicalIndex()
        self.meanings = ExactIndex(dimensions)
        self._added: dict[int, int] = {}  # slot: number of the addition, oldest first
        self._additions = 0

    def add(self, slot: int, event: Event, vector: Vector) -> None:
        """Index an event and the vector of its `text_for_encoding`; the newest is added last."""
        self.product.add(slot, event)
        self.product.put_vector(slot, vector)
        self.words.add(slot, fields(event))
        self.meanings.put(slot, vector)
        self._added[slot] = self._additions
        self._additions += 1

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        self.product.remove(slot)
        self.words.remove(slot)
        self.meanings.remove(slot)
        self._added.pop(slot, None)

    def rankings(
        self, text: str, vector: Vector, chance: np.random.Generator, k: int = K
    ) -> dict[str, list[int]]:
        """Per method its k best slots, best first."""
        return {
            PRODUCT: [hit.slot for hit in self.product.search(text, vector, k)],
            "random": self._random(chance, k),
            "recency": list(reversed(self._added))[:k],
            "bm25": self.by_words(text, k),
            "minilm": self.by_meaning(vector, k),
        }

    def by_meaning(self, vector: Vector, k: int) -> list[int]:
        """The k slots with the highest cosine, best first."""
        nearest: list[int] = self.meanings.search(vector, k)[0].tolist()
        return nearest

    def by_words(self, text: str, k: int) -> list[int]:
        """The k slots with the highest BM25 score, best first; the newer first among equals."""
        scores = self.words.scores(query_terms(text))
        matching = np.flatnonzero(scores > 0).tolist()
        return sorted(matching, key=lambda slot: (-float(scores[slot]), -self._added[slot]))[:k]

    def _random(self, chance: np.random.Generator, k: int) -> list[int]:
        slots = list(self._added)
        picked = chance.choice(len(slots), size=min(k, len(slots)), replace=False)
        return [slots[pick] for pick in picked.tolist()]


def graded(found: Sequence[int], answers: Collection[int]) -> tuple[float, float, float]:
    """Hit, recall and reciprocal rank of what was found, best first. `answers` is not empty."""
    ranks = [rank for rank, one in enumerate(found, start=1) if one in answers]
    return (float(bool(ranks)), len(ranks) / len(answers), 1 / ranks[0] if ranks else 0.0)


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The bounds at 95 % of the mean of `values`, one per question (bootstrap)."""
    chance = np.random.default_rng(SEED)
    size = (RESAMPLES_AT_ONCE, len(values))
    rounds = RESAMPLES // RESAMPLES_AT_ONCE
    means = [values[chance.integers(0, len(values), size)].mean(axis=1) for _ in range(rounds)]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def summary(scores: Scores) -> dict[str, Any]:
    """{hit_at_10, recall_at_10, mrr, intervals: {hit_at_10: [low, high], recall_at_10: …}}."""
    means = dict(zip(METRICS, map(_percent, scores.mean(axis=0)), strict=True))
    bounds = {
        name: list(map(_percent, interval(scores[:, METRICS.index(name)])))
        for name in ("hit_at_10", "recall_at_10")
    }
    return {**means, "intervals": bounds}


def result(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """The summary of the product, and under `baselines` those of the other methods.

    `behind` of a baseline: the points of hit@10 that it is behind the product, and under `intervals`
    their bounds (the same questions of both are drawn).
    """
    ours = scores[PRODUCT]
    baselines: dict[str, Any] = {}
    for name, theirs in scores.items():
        if name == PRODUCT:
            continue
        lead = ours[:, 0] - theirs[:, 0]
        baselines[name] = summary(theirs) | {"behind": _percent(lead.mean())}
        baselines[name]["intervals"]["behind"] = list(map(_percent, interval(lead)))
    return {**summary(ours), "baselines": baselines}


def rows(found: Mapping[str, Any]) -> list[list[object]]:
    """A result as rows below HEADINGS, the product last."""
    return [
        *(_row(name, row) for name, row in found["baselines"].items()),
        _row(PRODUCT, found),
    ]


def _row(name: str, row: Mapping[str, Any]) -> list[object]:
    bounds = row["intervals"]
    return [
        name,
        f"{row['hit_at_10']:.1f}",
        "–".join(f"{bound:.1f}" for bound in bounds["hit_at_10"]),
        f"{row['recall_at_10']:.1f}",
        "–".join(f"{bound:.1f}" for bound in bounds["recall_at_10"]),
        f"{row['mrr']:.1f}",
        f"{row['behind']:+.1f}" if "behind" in row else "",
        " to ".join(f"{bound:+.1f}" for bound in bounds.get("behind", ())),
    ]


def _percent(share: float) -> float:
    return round(100 * float(share), 1)
