"""What the words of candidates and of their neighbours say about a question, as features.

Nothing here needs the query's vector, so that most of it is done while that is being encoded. The arrays
have a row per feature and a column per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.lexical import Matches, saturated
from localmem_node.retrieval.question import Question
from localmem_node.retrieval.sessions import AFTER, BEFORE, NUMBER, PROMPT, Sessions
from localmem_node.retrieval.slots import Numbering

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]

K1: Final = 1.2
NEAR_SHARE: Final = np.float32(0.4)
"""What a word of the event just before or after counts, beside one of the event's own."""

FAR_SHARE: Final = np.float32(0.2)
"""The same for the one before or after that."""

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
    """(len(WORDS), candidates); "words", "related", "context" and "around" are BM25 scores.

    Slots are below `width`. What an event's own words give is summed over its postings, whoever its
    neighbour is, and then handed to whom it concerns; only what is saturated over several events
    together needs a table of terms.
    """
    found = np.zeros((len(WORDS), len(near.slots)), np.float32)
    if not len(question.columns) or not len(near.slots):
        return found
    held = _Held.of(matches, near, width, numbering)
    gain, rarity = matches.rarity * question.shares, matches.rarity[question.starts]
    best, here = held.best_of_terms(gain, question.starts)
    own = _own_words(held, matches, question, near.alone)
    own[1], own[5] = best.sum(axis=0), here.sum(axis=0)
    found[:] = own.take(held.rows[0], axis=1)
    if near.alone:
        found[3], found[6], found[7] = found[1], found[5], found[5]
    else:
        found[2], found[3] = _in_context(held, question.starts, gain, rarity)
        nearby = here.take(held.rows[:5], axis=1)
        found[6] = nearby[:, :3].max(axis=1).sum(axis=0)
        found[7] = nearby.max(axis=1).sum(axis=0)
        found[8:11] = own[4].take(held.rows[_BEFORE_AFTER_PROMPT])
    whole = max(float(rarity.sum()), 1e-6)
    found[4:12] /= whole
    found[12] = found[11] > 0
    found[13] /= whole
    return found


_BEFORE_AFTER_PROMPT: Final = [1, 2, 5]


def _own_words(held: _Held, matches: Matches, question: Question, alone: bool) -> Floats:
    """(len(WORDS), members): what the postings of the question's own terms sum up to, whoever is near."""
    columns = len(matches.rarity)
    first = np.zeros(columns, np.float32)
    first[question.starts] = matches.rarity[question.starts]
    rarity = first.take(held.terms)
    own = np.zeros((len(WORDS), held.members), np.float32)
    own[0] = held.sums(saturated(held.frequencies, K1) * rarity)
    if alone:
        own[2] = held.sums(saturated(3 * held.frequencies, K1) * rarity)
    own[4] = held.sums(rarity)
    own[11] = held.sums(rarity * matches.in_header.take(held.places))
    own[13] = held.sums(rarity * matches.in_path.take(held.places))
    if question.quoted.any():
        first[question.starts] = question.quoted / np.count_nonzero(question.quoted)
        own[14] = held.sums(first.take(held.terms))
    return own


def _in_context(held: _Held, starts: Places, gain: Floats, rarity: Floats) -> tuple[Floats, Floats]:
    """Of each candidate BM25 over an event and its neighbours, without and with related terms."""
    own, before, after, before2, after2 = held.table().take(held.rows[:5], axis=0)
    context = (
        saturated((3 * own + before + np.float32(0.5) * after).take(starts, axis=1), K1) * rarity
    )
    wide = own + NEAR_SHARE * (before + after)
    wide += FAR_SHARE * (before2 + after2)
    wide = np.ascontiguousarray(saturated(wide, K1).T) * gain[:, None]
    around = np.zeros(wide.shape[1], np.float32)
    for first, end in zip(starts, (*starts[1:], len(gain)), strict=True):
        around += wide[first:end].max(axis=0)
    return context.sum(axis=1), around


@dataclass(frozen=True, slots=True)
class _Held:
    """The postings of some events. `rows` are (6, candidates): a number from 1 for each event of
    `Surroundings.links`, 0 for nobody, `members` one more than the highest of them; the others run over
    the postings: the event's number, the column, the frequency, and the place in `Matches`.
    """

    rows: Places
    members: int
    columns: int
    at: Places
    terms: Places
    frequencies: Floats
    places: Places

    @classmethod
    def of(cls, matches: Matches, near: Surroundings, width: int, numbering: Numbering) -> _Held:
        """The postings of candidates and of who is beside them."""
        links = near.links[:1] if near.alone else near.links
        distinct, rows, numbers = numbering.number(links, width)
        numbered = numbers.take(matches.slots)
        numbering.done(distinct)
        places = np.flatnonzero(numbered != 0)  # slower of the numbers themselves
        return cls(
            rows=rows,
            members=len(distinct) + 1,
            columns=len(matches.rarity),
            at=numbered.take(places),
            terms=matches.terms.take(places),
            frequencies=matches.frequencies.take(places),
            places=places,
        )

    def sums(self, values: Floats) -> npt.NDArray[np.float64]:
        """Per event the sum of a value per posting."""
        found: npt.NDArray[Any] = np.bincount(self.at, values, minlength=self.members)
        return found

    def table(self) -> Floats:
        """(members, columns): frequencies, 0 where a term is not."""
        table = np.zeros((self.members, self.columns), np.float32)
        table[self.at, self.terms] = self.frequencies
        return table

    def best_of_terms(self, gain: Floats, starts: Places) -> Floats:
        """(2, terms, members): the best of each term and those related to it, by what it gains, and by
        its being there at all.
        """
        best = np.zeros((2, len(starts), self.members), np.float32)
        term = np.repeat(np.arange(len(starts)), np.append(starts[1:], self.columns) - starts)
        places = term.take(self.terms) * self.members + self.at
        value = gain.take(self.terms)
        # Posting by posting: much faster than `reduceat` over a table of all columns.
        np.maximum.at(best[0].ravel(), places, saturated(self.frequencies, K1) * value)
        np.maximum.at(best[1].ravel(), places, value)
        return best
