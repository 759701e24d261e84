"""Lexical and dense evidence as one score: a weighted sum of min-max normalised scores.

Fox, Shaw, "Combination of Multiple Searches" (1994): CombSUM, here with weights. On commit subjects
against their hunks it finds more than reciprocal ranks (RRF) and than either part alone; recency is
no evidence, it only decides between equals. Measured in `docs/decisions/0004-retrieval.md`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LEXICAL_WEIGHT: Final = 0.55
"""Share of the lexical score; the dense one has the rest. From 0.5 to 0.6 nothing changes much."""

CANDIDATES_MIN: Final = 200
"""Candidates taken from each side, however few are asked for."""

CANDIDATES_PER_HIT: Final = 4
"""Candidates taken from each side per hit asked for."""

Scores = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]


def candidates_for(k: int) -> int:
    """How many candidates each side gives when k hits are asked for."""
    return max(CANDIDATES_MIN, CANDIDATES_PER_HIT * k)


def best_slots(scores: Scores, count: int) -> Slots:
    """The slots with the `count` highest positive scores, and any that equal the last of them."""
    slots = np.flatnonzero(scores > 0).astype(np.int64)
    if len(slots) > count:
        found = scores[slots]
        slots = slots[found >= np.partition(found, len(found) - count)[len(found) - count]]
    return slots


def combined(
    lexical: Scores,
    dense: Scores | None,
    encoded: npt.NDArray[np.bool_] | None = None,
    *,
    lexical_weight: float = LEXICAL_WEIGHT,
) -> Scores:
    """One score from 0 to 1 per candidate, from its BM25 score and its cosine.

    `encoded` says which candidates have a vector; one without is judged by its lexical score alone
    (it is fresh, not unlike the question). No dense scores: lexical alone.
    """
    by_words = _share_of_best(lexical)
    if dense is None:
        return by_words
    known = np.ones(len(lexical), dtype=np.bool_) if encoded is None else encoded
    by_meaning = by_words.copy()
    by_meaning[known] = _between_extremes(dense[known])
    scores = lexical_weight * by_words + (1 - lexical_weight) * by_meaning
    return scores.astype(np.float32, copy=False)


def order(scores: Scores, newness: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Positions best first; among equals the newer. `newness`: (keys, candidates), first decides."""
    return np.lexsort((*newness[::-1], scores))[::-1]


def _share_of_best(scores: Scores) -> Scores:
    """Min-max with 0 as the minimum: what matches no term has no score."""
    best = scores.max(initial=0)
    return scores / best if best > 0 else np.zeros_like(scores)


def _between_extremes(scores: Scores) -> Scores:
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
