"""Features of candidates: everything that speaks for or against an event, as numbers.

Pure: arrays in, arrays out. Lexical features do not need the query's vector, so that they can be
computed while it is being encoded. What each feature is worth is `model.py`'s; what it brought is in
`docs/retrieval.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.dates import nearness
from localmem_node.retrieval.lexical import Matches, saturated
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.sessions import AFTER, BEFORE, NUMBER, PROMPT, Sessions
from localmem_node.retrieval.slots import Numbering
from localmem_node.retrieval.traits import kind_code, tool_code

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]

K1: Final = 1.2
NEAR_SHARE: Final = 0.4
"""What a word of the event just before or after counts, beside one of the event's own."""

FAR_SHARE: Final = 0.2
"""The same for the one before or after that."""

BURST_MS: Final = 300_000
"""Events with a longer pause between them belong to different bursts."""

SPREAD_MIN: Final = 0.25
"""Cosines that differ by less than this from the best to the worst are not drawn further apart."""

LENGTH_SCALE: Final = 6.0
"""log(1 + terms) of some 400 terms."""

WORDS: Final = (
    "words", "related", "context", "around", "cover", "cover_related", "cover_near", "cover_far",
    "cover_before", "cover_after", "cover_prompt", "header", "header_any", "path", "quoted",
)  # fmt: skip
"""Lexical features, in the order of `lexical_features`."""


BESIDE: Final = slice(1, 5)
"""The rows of `Surroundings.links` that are neighbours: before, after, before2, after2."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Candidates and their neighbours in their sessions, -1 for nobody.

    `links` are (6, candidates): themselves, before, after, before2, after2, prompt; `sessions` the
    numbers of their sessions. `alone` says that no event has a session.
    """

    links: Slots
    sessions: Slots
    alone: bool

    @property
    def slots(self) -> Slots:
        """The candidates."""
        found: Slots = self.links[0]
        return found

    @property
    def before(self) -> Slots:
        """Who comes before each."""
        found: Slots = self.links[1]
        return found

    @classmethod
    def of(cls, slots: Slots, sessions: Sessions) -> Surroundings:
        """Look them up."""
        links = np.full((6, len(slots)), -1, np.int64)
        links[0] = slots
        if sessions.empty:
            return cls(links, links[1], alone=True)
        found = sessions.links(slots)
        links[1:3] = found[:2]
        links[3] = sessions.neighbours(links[1], which=BEFORE)
        links[4] = sessions.neighbours(links[2], which=AFTER)
        links[5] = found[PROMPT]
        return cls(links, found[NUMBER], alone=False)

    def and_these(self, others: Surroundings) -> Surroundings:
        """Both, one after the other."""
        links = np.concatenate((self.links, others.links), axis=1)
        sessions = np.concatenate((self.sessions, others.sessions))
        return Surroundings(links, sessions, self.alone and others.alone)


def lexical_features(
    question: Question, matches: Matches, near: Surroundings, width: int, numbering: Numbering
) -> Floats:
    """(candidates, len(WORDS)); "words", "related", "context" and "around" are BM25 scores.

    Slots are below `width`. What an event's own words give is summed over its postings, whoever its
    neighbour is, and then handed to whom it concerns; only what is saturated over several events
    together needs a table of terms.
    """
    count, columns = len(near.slots), len(question.columns)
    found = np.zeros((count, len(WORDS)), np.float32)
    if not columns or not count:
        return found
    held = _postings(matches, near, width, numbering)
    starts = question.starts
    worth, rarity = matches.rarity * question.shares, matches.rarity[starts]
    own, before, after, before2, after2, _ = held.rows
    asked = _first_columns(held, question)
    gains = saturated(asked.frequencies, K1)
    words = asked.sums(gains * matches.rarity[asked.terms])
    covered = asked.sums(matches.rarity[asked.terms])
    best, here = held.best_of_groups(worth, starts)
    related = best.sum(axis=0)
    found[:, 0] = words[own]
    found[:, 1] = related[own]
    found[:, 4] = covered[own]
    found[:, 5] = here.sum(axis=0)[own]
    if near.alone:
        found[:, 2] = asked.sums(
            saturated(3 * asked.frequencies, K1) * matches.rarity[asked.terms]
        )[own]
        found[:, 3] = found[:, 1]
        found[:, 6] = found[:, 7] = found[:, 5]
    else:
        table = held.table()
        first = table[:, starts]
        context = 3 * first[own] + first[before] + 0.5 * first[after]
        found[:, 2] = saturated(context, K1) @ rarity
        beside = table[before] + table[after]
        wide = table[own] + NEAR_SHARE * beside
        wide += FAR_SHARE * (table[before2] + table[after2])
        wide = np.ascontiguousarray(saturated(wide, K1).T) * worth[:, None]
        for first_column, length in zip(starts, _lengths_of(starts, columns), strict=True):
            found[:, 3] += wide[first_column : first_column + length].max(axis=0)
        nearby = np.maximum(np.maximum(here[:, own], here[:, before]), here[:, after])
        found[:, 6] = nearby.sum(axis=0)
        np.maximum(nearby, np.maximum(here[:, before2], here[:, after2]), out=nearby)
        found[:, 7] = nearby.sum(axis=0)
        found[:, 8:11] = covered[held.rows[[1, 2, 5]]].T
    for column, in_field in ((11, matches.in_header), (13, matches.in_path)):
        found[:, column] = asked.sums(matches.rarity[asked.terms] * in_field[asked.places])[own]
    found[:, 12] = found[:, 11] > 0
    found[:, 4:12] /= max(float(rarity.sum()), 1e-6)
    found[:, 13] /= max(float(rarity.sum()), 1e-6)
    if question.quoted.any():
        quoted = np.zeros(columns, np.float32)
        quoted[starts] = question.quoted
        found[:, 14] = asked.sums(quoted[asked.terms])[own] / int(question.quoted.sum())
    return found


@dataclass(frozen=True, slots=True)
class _Held:
    """The postings of some events. `rows` are (6, candidates): a number from 1 for each event of
    `Surroundings.links`, 0 for nobody, `members` one more than the highest of them; the others run over
    the postings: the event's number, the column, the frequency, and the place in `Matches`.
    """

    rows: npt.NDArray[np.intp]
    members: int
    columns: int
    at: npt.NDArray[np.intp]
    terms: npt.NDArray[np.intp]
    frequencies: Floats
    places: npt.NDArray[np.intp]

    def sums(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Per event the sum of a value per posting."""
        return np.bincount(self.at, values, minlength=self.members).astype(np.float64)

    def table(self) -> Floats:
        """(members, columns): frequencies, 0 where a term is not."""
        table = np.zeros((self.members, self.columns), np.float32)
        table[self.at, self.terms] = self.frequencies
        return table

    def best_of_groups(
        self, worth: Floats, starts: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """(2, terms, members): the best of each term and those related to it, by what it gains, and by
        its being there at all.
        """
        best = np.zeros((2, len(starts), self.members), np.float32)
        group = np.repeat(np.arange(len(starts)), _lengths_of(starts, self.columns))
        places = group[self.terms] * self.members + self.at
        value = worth[self.terms]
        # Posting by posting: much faster than `reduceat` over a table of all columns.
        np.maximum.at(best[0].ravel(), places, saturated(self.frequencies, K1) * value)
        np.maximum.at(best[1].ravel(), places, value)
        return best


def _postings(matches: Matches, near: Surroundings, width: int, numbering: Numbering) -> _Held:
    """The postings of candidates and of who is beside them."""
    links = near.links[:1] if near.alone else near.links
    there = links >= 0
    distinct, found, numbers = numbering.number(links[there], width)
    try:
        numbered = numbers[matches.slots]
    finally:
        numbering.done(distinct)
    rows = np.zeros((len(near.links), links.shape[1]), np.intp)
    rows[: len(links)][there] = found
    places = np.flatnonzero(numbered != 0)  # slower of the numbers themselves
    return _Held(
        rows=rows,
        members=len(distinct) + 1,
        columns=len(matches.rarity),
        at=numbered[places],
        terms=matches.terms[places],
        frequencies=matches.frequencies[places],
        places=places,
    )


def _lengths_of(starts: npt.NDArray[np.intp], columns: int) -> npt.NDArray[np.intp]:
    """How many columns each term has."""
    lengths: npt.NDArray[np.intp] = np.append(starts[1:], columns) - starts
    return lengths


def _first_columns(held: _Held, question: Question) -> _Held:
    """Only the terms of the question itself, without what is related to them."""
    if len(question.starts) == held.columns:
        return held
    is_first = np.zeros(held.columns, np.bool_)
    is_first[question.starts] = True
    chosen = np.flatnonzero(is_first[held.terms])
    return replace(
        held,
        at=held.at[chosen],
        terms=held.terms[chosen],
        frequencies=held.frequencies[chosen],
        places=held.places[chosen],
    )


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
    """(candidates, len(MEANING)).

    `cosines` and `learned` are those of the candidates, with the query's vector and with what a
    learned map makes of it; `neighbours` (4, candidates) cosines of those before, after, and
    beyond, where `there` says that there is one. A candidate without a vector yet is taken to be as
    good as its words, `by_words`, from 0 to 1: it is fresh, not unlike the question.
    """
    found = np.zeros((len(cosines), len(MEANING)), np.float32)
    all_encoded = bool(encoded.all())
    for column, values in ((0, cosines), (2, learned)):
        known = values if all_encoded else values[encoded]
        if not len(known):
            return found
        low = known.min()
        spread = max(float(known.max() - low), SPREAD_MIN)
        if not all_encoded:
            values = np.where(encoded, values, low + np.float32(spread) * by_words)
        found[:, column] = (values - low) / spread
        found[:, column + 1] = values
        if column == 0 and there.any():
            found[:, 4:] = np.where(there, (neighbours - low) / spread, np.float32(0)).T
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
    """(candidates, len(OTHER)). `first` is a first score, `best_first` positions in its order; `rows`
    the candidates' traits.

    `sessions` are their sessions' numbers, `asked_before` whether the neighbour before asks.
    """
    found = np.zeros((len(rows), len(OTHER)), np.float32)
    if not len(rows):
        return found
    found[:, 0] = _share(_top_mean(first, best_first, sessions, sessions >= 0))
    found[:, 1:5] = _bursts(first, best_first, burst_numbers(rows["timestamp"], sessions))
    files = rows["file"].view(np.int64)
    found[:, 5] = _share(_top_mean(first, best_first, files, files != 0))
    if question.spans:
        found[:, 6] = nearness(question.spans, rows["timestamp"])
    if question.asks_when:
        found[:, 7] = rows["tells_time"]
    if question.asks_how_many:
        found[:, 8] = rows["tells_number"]
    found[:, 9] = rows["asks"]
    if asked_before.any():
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


class _Runs(NamedTuple):
    """Candidates by group, in a given order within each.

    `order` are their positions; then for each of these the group, its size, where it begins, and the
    rank within it; and where every group begins.
    """

    order: npt.NDArray[np.intp]
    groups: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    ranks: npt.NDArray[np.intp]
    begins: npt.NDArray[np.intp]

    @classmethod
    def of(cls, groups: npt.NDArray[np.int64], ordered: npt.NDArray[np.intp]) -> _Runs:
        """`ordered` are the positions of all candidates; `groups` small numbers, or hashes, of which
        the lower 50 bits count.
        """
        count = len(ordered)
        bits = count.bit_length()
        places = np.arange(count)
        # Sorting keys that carry their place is faster than sorting places by key.
        keys = groups[ordered] << bits | places
        keys.sort()
        order = ordered[keys & ((1 << bits) - 1)]
        keys >>= bits
        begins = np.flatnonzero(np.concatenate((_TRUE, keys[1:] != keys[:-1])))
        lengths = np.append(begins[1:], count) - begins
        starts = np.repeat(begins, lengths)
        return cls(order, keys, np.repeat(lengths, lengths), starts, places - starts, begins)


_TRUE: Final = np.ones(1, np.bool_)


def _top_mean(
    scores: Floats,
    best_first: npt.NDArray[np.intp],
    groups: npt.NDArray[np.int64],
    counted: npt.NDArray[np.bool_],
) -> Floats:
    """Per candidate a third of the sum of the three best scores of its group; 0 if not counted."""
    found = np.zeros(len(scores), np.float32)
    if not counted.any():
        return found
    runs = _Runs.of(groups, best_first)
    values = np.where(runs.ranks < 3, scores[runs.order], np.float32(0))
    top = np.add.reduceat(values, runs.begins) / 3
    found[runs.order] = np.repeat(top, runs.sizes[runs.begins])
    found[~counted] = 0
    return found


def burst_numbers(
    timestamps: npt.NDArray[np.int64], sessions: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A number for each run of candidates of one session without a pause of more than BURST_MS."""
    runs = _Runs.of(sessions, np.argsort(timestamps))
    times = timestamps[runs.order]
    breaks = (runs.ranks[1:] == 0) | (times[1:] - times[:-1] > BURST_MS)
    numbers = np.zeros(len(times), np.int64)
    numbers[runs.order[1:]] = np.cumsum(breaks)
    return numbers


def _bursts(
    scores: Floats, best_first: npt.NDArray[np.intp], bursts: npt.NDArray[np.int64]
) -> Floats:
    """(candidates, 4): best and mean score of the others in the burst, log size, own rank in it."""
    runs = _Runs.of(bursts, best_first)
    values = scores[runs.order]
    others = runs.sizes > 1
    second = values[np.minimum(runs.starts + 1, len(values) - 1)]
    total = np.add.reduceat(values, runs.begins)
    rest = np.repeat(total, runs.sizes[runs.begins]) - values
    rows = np.empty((len(scores), 4), np.float32)
    rows[:, 0] = np.where(runs.ranks == 0, second, values[runs.starts]) * others
    rows[:, 1] = rest / np.maximum(runs.sizes - 1, 1) * others
    rows[:, 2] = np.log1p(runs.sizes) / 3
    rows[:, 3] = np.minimum(runs.ranks, 5) / 5
    found = np.empty_like(rows)
    found[runs.order] = rows
    return found
