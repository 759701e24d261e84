"""Features of candidates: everything that speaks for or against an event, as numbers.

Pure: arrays in, arrays out, with a row per feature and a column per candidate. Those of words, which do
not need the query's vector, are in `words.py`. What each feature is worth is `model.py`'s; what it
brought is in `docs/retrieval.md`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.dates import nearness
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.traits import kind_code, tool_code
from localmem_node.retrieval.words import WORDS

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

BURST_MS: Final = 300_000
"""Events with a longer pause between them belong to different bursts."""

SPREAD_MIN: Final = 0.25
"""Cosines that differ by less than this from the best to the worst are not drawn further apart."""

LENGTH_SCALE: Final = 6.0
"""log(1 + terms) of some 400 terms."""

MEANING: Final = (
    "meaning", "cosine", "learned", "learned_cosine", "meaning_before", "meaning_after",
    "meaning_before2", "meaning_after2",
)  # fmt: skip
"""Dense features, in the order of `dense_features`."""


def dense_features(
    cosines: Floats,
    learned: Floats,
    neighbours: Floats,
    there: npt.NDArray[np.bool_],
    encoded: npt.NDArray[np.bool_],
    by_words: Floats,
) -> Floats:
    """(len(MEANING), candidates).

    `cosines` and `learned` are those of the candidates, with the query's vector and with what a
    learned map makes of it; `neighbours` (4, candidates) cosines of those before, after, and
    beyond, where `there` says that there is one. A candidate without a vector yet is taken to be as
    good as its words, `by_words`, from 0 to 1: it is fresh, not unlike the question.
    """
    found = np.zeros((len(MEANING), len(cosines)), np.float32)
    all_encoded = bool(encoded.all())
    for row, values in ((0, cosines), (2, learned)):
        known = values if all_encoded else values[encoded]
        if not len(known):
            return found
        low = known.min()
        spread = max(known.max() - low, np.float32(SPREAD_MIN))
        if not all_encoded:
            values = np.where(encoded, values, low + spread * by_words)
        np.divide(values - low, spread, out=found[row])
        found[row + 1] = values
        if row == 0 and there.any():
            np.divide(neighbours - low, spread, out=found[4:], where=there)
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
    best_first: npt.NDArray[np.intp],
    words: Floats,
    meaning: Floats,
    lengths: npt.NDArray[np.int64],
    sessions: npt.NDArray[np.int64],
    asked_before: npt.NDArray[np.bool_],
) -> Floats:
    """(len(OTHER), candidates). `first` is a first score, `best_first` positions in its order; `rows`
    the candidates' traits.

    `sessions` are their sessions' numbers, `asked_before` whether the neighbour before asks.
    """
    found = np.zeros((len(OTHER), len(rows)), np.float32)
    if not len(rows):
        return found
    times, files = rows["timestamp"].copy(), rows["file"].view(np.int64)
    groups = np.stack((sessions, files, burst_numbers(times, sessions)))
    runs = _Runs.of(groups, best_first)
    found[_SESSION_FILE] = _shares(_top_means(first, runs), groups[:2] != _NO_GROUP)
    found[1:5] = _bursts(first, runs)
    if question.spans:
        found[6] = nearness(question.spans, times)
    if question.asks_when:
        found[7] = rows["tells_time"]
    if question.asks_how_many:
        found[8] = rows["tells_number"]
    found[9] = rows["asks"]
    if asked_before.any():
        found[10] = asked_before
        found[11] = asked_before * words[WORDS.index("cover_before")]
        found[12] = asked_before * meaning[MEANING.index("meaning_before")]
    found[13] = np.minimum(np.log1p(lengths) / LENGTH_SCALE, 1)
    if question.kinds:
        found[14] = np.isin(rows["kind"], [kind_code(kind) for kind in question.kinds])
    if question.tools:
        found[15] = np.isin(rows["tool"], [tool_code(tool) for tool in question.tools])
    return found


_SESSION_FILE: Final = slice(0, 6, 5)
"""The rows "session" and "file" of OTHER."""

_NO_GROUP: Final = np.array([[-1], [0]])
"""The number of a session, and of a file, that stands for none."""

SESSION, FILE, BURST = range(3)
"""The ways in which candidates are grouped."""


class _Runs(NamedTuple):
    """Candidates by group, in a given order within each, for several ways of grouping them.

    All have a row for each way, and are for the candidates in `order`, their positions: the size of the
    group, where it begins (counted through all rows), the rank within it. `begins` are the places where
    every group begins, `lengths` their sizes.
    """

    order: Places
    sizes: Places
    starts: Places
    ranks: Places
    begins: Places
    lengths: Places

    @classmethod
    def of(cls, groups: npt.NDArray[np.int64], ordered: Places) -> _Runs:
        """`groups` are (ways, candidates): small numbers, or hashes, of which the lower 50 bits count;
        `ordered` are the positions of all candidates.
        """
        ways, count = groups.shape
        bits = count.bit_length()
        # Sorting keys that carry their place is faster than sorting places by key.
        keys = groups.take(ordered, axis=1) << bits | np.arange(count)
        keys.sort(axis=1)
        order = ordered.take(keys & ((1 << bits) - 1))
        keys >>= bits
        begins_here = np.ones(keys.shape, np.bool_)
        np.not_equal(keys[:, 1:], keys[:, :-1], out=begins_here[:, 1:])
        begins = np.flatnonzero(begins_here)
        lengths = np.append(begins[1:], ways * count) - begins
        starts = np.repeat(begins, lengths)
        sizes, ranks = np.repeat(lengths, lengths), np.arange(ways * count) - starts
        shape = groups.shape
        return cls(
            order,
            sizes.reshape(shape),
            starts.reshape(shape),
            ranks.reshape(shape),
            begins,
            lengths,
        )


def _top_means(scores: Floats, runs: _Runs) -> Floats:
    """(2, candidates): a third of the sum of the three best scores of each one's session, and file."""
    values = scores.take(runs.order)
    values *= runs.ranks < 3
    top = np.add.reduceat(values.ravel(), runs.begins) / 3
    found = np.empty((2, len(scores)), np.float32)
    means = np.repeat(top, runs.lengths).reshape(values.shape)
    for way in (SESSION, FILE):
        found[way, runs.order[way]] = means[way]
    return found


def _shares(values: Floats, counted: npt.NDArray[np.bool_]) -> Floats:
    """Of what counts the share of the best in each row; 0 for the rest, and if the best is not above 0."""
    values = values * counted
    best = values.max(axis=1, keepdims=True)
    best[best <= 0] = np.inf
    values /= best
    return values


def burst_numbers(
    timestamps: npt.NDArray[np.int64], sessions: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A number for each run of candidates of one session without a pause of more than BURST_MS."""
    ordered = np.lexsort((timestamps, sessions))
    times, sessions = timestamps[ordered], sessions[ordered]
    breaks = (sessions[1:] != sessions[:-1]) | (times[1:] - times[:-1] > BURST_MS)
    numbers = np.zeros(len(times), np.int64)
    numbers[ordered[1:]] = breaks.cumsum()
    return numbers


def _bursts(scores: Floats, runs: _Runs) -> Floats:
    """(4, candidates): best and mean score of the others in the burst, log size, own rank in it."""
    order, sizes, ranks = runs.order[BURST], runs.sizes[BURST], runs.ranks[BURST]
    starts = runs.starts[BURST] - BURST * len(scores)
    values = scores.take(order)
    second = values.take(np.minimum(starts + 1, len(values) - 1))
    total = np.bincount(starts, values).take(starts)
    others = sizes - 1
    rows = np.empty((4, len(scores)), np.float32)
    rows[0] = np.where(ranks == 0, second, values.take(starts)) * (others > 0)
    rows[1] = (total - values) / np.maximum(others, 1) * (others > 0)
    rows[2] = np.log1p(sizes) / 3
    rows[3] = np.minimum(ranks, 5) / 5
    found = np.empty_like(rows)
    found[:, order] = rows
    return found
