"""Features of candidates: everything that speaks for or against an event, as numbers.

Pure: arrays in, arrays out. Lexical features do not need the query's vector, so that they can be
computed while it is being encoded. What each feature is worth is `model.py`'s; what it brought is in
`docs/retrieval.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.dates import nearness
from localmem_node.retrieval.lexical import Matches, saturated
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.sessions import AFTER, BEFORE, PROMPT, Sessions
from localmem_node.retrieval.traits import kind_code, tool_code

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]

K1: Final = 1.2
NEAR_SHARE: Final = np.float32(0.4)
"""What a word of the event just before or after counts, beside one of the event's own."""

FAR_SHARE: Final = np.float32(0.2)
"""The same for the one before or after that."""

BURST_MS: Final = 300_000
"""Events with a longer pause between them belong to different bursts."""

LENGTH_SCALE: Final = np.float32(6)
"""log(1 + terms) of some 400 terms."""

WORDS: Final = (
    "words", "related", "context", "around", "cover", "cover_related", "cover_near", "cover_far",
    "cover_before", "cover_after", "cover_prompt", "header", "header_any", "path", "quoted",
)  # fmt: skip
"""Lexical features, in the order of `lexical_features`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The neighbours of candidates in their sessions, -1 for nobody."""

    slots: Slots
    before: Slots
    after: Slots
    before2: Slots
    after2: Slots
    prompt: Slots

    @classmethod
    def of(cls, slots: Slots, sessions: Sessions) -> Surroundings:
        """Look them up."""
        before = sessions.neighbours(slots, which=BEFORE)
        after = sessions.neighbours(slots, which=AFTER)
        return cls(
            slots=slots,
            before=before,
            after=after,
            before2=sessions.neighbours(before, which=BEFORE),
            after2=sessions.neighbours(after, which=AFTER),
            prompt=sessions.neighbours(slots, which=PROMPT),
        )


def lexical_features(
    question: Question, matches: Matches, near: Surroundings, width: int
) -> Floats:
    """(candidates, len(WORDS)); "words", "related", "context" and "around" are BM25 scores."""
    count, columns = len(near.slots), len(question.columns)
    found = np.zeros((count, len(WORDS)), np.float32)
    if not columns or not count:
        return found
    groups = (near.slots, near.before, near.after, near.before2, near.after2, near.prompt)
    row_of = np.full(width + 1, -1, np.int64)  # the last is for nobody
    mentioned = np.concatenate(groups)
    row_of[mentioned[mentioned >= 0]] = 0
    members = np.flatnonzero(row_of == 0)
    row_of[members] = np.arange(len(members))
    rows = row_of[matches.slots]
    here = rows >= 0
    at, term = rows[here], matches.terms[here]
    table = np.zeros((len(members) + 1, columns), np.float32)
    table[at, term] = matches.frequencies[here]
    own, before, after, before2, after2, prompt = (table[row_of[group]] for group in groups)
    wide = own + NEAR_SHARE * (before + after) + FAR_SHARE * (before2 + after2)
    starts, worth = question.starts, matches.rarity * question.shares
    rarity = matches.rarity[starts]
    total = max(float(rarity.sum()), 1e-6)
    first_before, first_after = before[:, starts], after[:, starts]
    context = 3 * own[:, starts] + first_before + np.float32(0.5) * first_after
    nearby = own + before + after
    found[:, 0] = saturated(own[:, starts], K1) @ rarity
    found[:, 1] = _best_of_groups(saturated(own, K1), worth, starts)
    found[:, 2] = saturated(context, K1) @ rarity
    found[:, 3] = _best_of_groups(saturated(wide, K1), worth, starts)
    found[:, 4] = _covered(own[:, starts], rarity)
    found[:, 5] = _best_of_groups(own > 0, worth, starts)
    found[:, 6] = _best_of_groups(nearby > 0, worth, starts)
    found[:, 7] = _best_of_groups(wide > 0, worth, starts)
    found[:, 8] = _covered(first_before, rarity)
    found[:, 9] = _covered(first_after, rarity)
    found[:, 10] = _covered(prompt[:, starts], rarity)
    own_rows = row_of[near.slots]
    for column, in_field in ((11, matches.in_header), (13, matches.in_path)):
        hits = np.zeros((len(members) + 1, columns), np.bool_)
        hits[at, term] = in_field[here]
        hits = hits[own_rows][:, starts]
        found[:, column] = hits @ rarity
        if column == 11:
            found[:, 12] = hits.any(axis=1)
    found[:, 14] = _covered(own[:, starts], question.quoted.astype(np.float32))
    found[:, 4:12] /= total
    found[:, 13] /= total
    found[:, 14] /= max(int(question.quoted.sum()), 1)
    return found


def _covered(frequencies: Floats, rarity: Floats) -> Floats:
    covered: Floats = (frequencies > 0) @ rarity
    return covered


def _best_of_groups(
    found: npt.NDArray[np.float32] | npt.NDArray[np.bool_],
    worth: Floats,
    starts: npt.NDArray[np.intp],
) -> Floats:
    """Per row the sum over terms of the best of each term and its related ones."""
    best: Floats = np.maximum.reduceat(found * worth, starts, axis=1).sum(axis=1)
    return best


MEANING: Final = (
    "meaning", "cosine", "learned", "learned_cosine", "meaning_before", "meaning_after",
    "meaning_before2", "meaning_after2",
)  # fmt: skip
"""Dense features, in the order of `dense_features`."""


def dense_features(
    cosines: Floats, learned: Floats, neighbours: Floats, encoded: npt.NDArray[np.bool_]
) -> Floats:
    """(candidates, len(MEANING)).

    `cosines` and `learned` are those of the candidates, with the query's vector and with what a
    learned map makes of it; `neighbours` (4, candidates) cosines of the events before,
    after, and beyond, NaN where there is nobody. A candidate without a vector yet is taken as an average one.
    """
    found = np.zeros((len(cosines), len(MEANING)), np.float32)
    for column, values in ((0, cosines), (2, learned)):
        known = values[encoded]
        if not len(known):
            return found
        low, spread = known.min(), max(float(known.max() - known.min()), 1e-6)
        values = np.where(encoded, values, known.mean())
        found[:, column] = (values - low) / spread
        found[:, column + 1] = values
        if column == 0:
            found[:, 4:] = np.nan_to_num((neighbours.T - low) / spread, nan=0.0)
    return found


OTHER: Final = (
    "session", "burst_best", "burst_mean", "burst_size", "burst_rank", "file", "date", "when",
    "how_many", "asks", "after_question", "after_question_cover", "after_question_meaning", "length",
    "kind", "tool",
)  # fmt: skip
"""The other features, in the order of `other_features`."""


def other_features(
    question: Question,
    rows: npt.NDArray[np.void],
    *,
    first: Floats,
    words: Floats,
    meaning: Floats,
    lengths: npt.NDArray[np.int64],
    sessions: npt.NDArray[np.int64],
    asked_before: npt.NDArray[np.bool_],
) -> Floats:
    """(candidates, len(OTHER)). `first` is a first score; `rows` the candidates' traits.

    `sessions` are their sessions' numbers, `asked_before` whether the neighbour before asks.
    """
    found = np.zeros((len(rows), len(OTHER)), np.float32)
    if not len(rows):
        return found
    found[:, 0] = _share(_top_mean(first, sessions, sessions >= 0))
    found[:, 1:5] = _bursts(first, _burst_numbers(rows["timestamp"], sessions))
    files = rows["file"]
    found[:, 5] = _share(_top_mean(first, files, files > 0))
    if question.spans:
        found[:, 6] = nearness(question.spans, rows["timestamp"])
    if question.asks_when:
        found[:, 7] = rows["tells_time"]
    if question.asks_how_many:
        found[:, 8] = rows["tells_number"]
    found[:, 9] = rows["asks"]
    found[:, 10] = asked_before
    found[:, 11] = asked_before * words[:, WORDS.index("cover_before")]
    found[:, 12] = asked_before * meaning[:, MEANING.index("meaning_before")]
    found[:, 13] = np.minimum(np.log1p(lengths) / LENGTH_SCALE, 1)
    if question.kinds:
        found[:, 14] = np.isin(rows["kind"], [kind_code(kind) for kind in question.kinds])
    if question.tools:
        found[:, 15] = np.isin(rows["tool"], [tool_code(tool) for tool in question.tools])
    return found


def _share(values: Floats) -> Floats:
    best = values.max(initial=0)
    return values / best if best > 0 else np.zeros_like(values)


def _top_mean(
    scores: Floats, groups: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_]
) -> Floats:
    """Per candidate a third of the sum of the three best scores of its group; 0 if not counted."""
    order = np.lexsort((-scores, groups))
    ordered = groups[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[begins, len(order)])
    rank = np.arange(len(order)) - np.repeat(begins, sizes)
    top = np.add.reduceat(np.where(rank < 3, scores[order], 0), begins) / 3
    found = np.zeros(len(scores), np.float32)
    found[order] = np.repeat(top, sizes)
    return np.where(counted, found, np.float32(0))


def _burst_numbers(
    timestamps: npt.NDArray[np.int64], sessions: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A number for each run of candidates of one session without a pause of more than BURST_MS."""
    order = np.lexsort((timestamps, sessions))
    breaks = (np.diff(sessions[order]) != 0) | (np.diff(timestamps[order]) > BURST_MS)
    numbers = np.zeros(len(order), np.int64)
    numbers[order] = np.r_[0, np.cumsum(breaks)]
    return numbers


def _bursts(scores: Floats, bursts: npt.NDArray[np.int64]) -> Floats:
    """(candidates, 4): best and mean score of the others in the burst, log size, own rank in it."""
    found = np.zeros((len(scores), 4), np.float32)
    order = np.lexsort((-scores, bursts))
    ordered, values = bursts[order], scores[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[begins, len(order)])
    size = np.repeat(sizes, sizes)
    start = np.repeat(begins, sizes)
    rank = np.arange(len(order)) - start
    second = values[np.minimum(start + 1, len(order) - 1)]
    others = size > 1
    total = np.repeat(np.add.reduceat(values, begins), sizes)
    found[order, 0] = np.where(others, np.where(rank == 0, second, values[start]), 0)
    found[order, 1] = np.where(others, (total - values) / np.maximum(size - 1, 1), 0)
    found[order, 2] = np.log1p(size) / 3
    found[order, 3] = np.minimum(rank, 5) / 5
    return found
