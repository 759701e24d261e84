"""Who may answer a question, and what speaks for and against each: the two halves of a search.

`prepared` needs no vector, and can run while the query is being encoded; `gathered` adds the candidates
and the evidence of the vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.contents import Contents, Floats, Mask, Slots
from localmem_node.retrieval.evidence import MEANING, OTHER, dense_features, other_features
from localmem_node.retrieval.lexical import Matches
from localmem_node.retrieval.model import FEATURES, Model
from localmem_node.retrieval.question import Question, parse_question
from localmem_node.retrieval.ranking import best_slots, candidates_for, order
from localmem_node.retrieval.related import RelatedTerms
from localmem_node.retrieval.sessions import AFTER, BEFORE
from localmem_node.retrieval.slots import Numbering
from localmem_node.retrieval.words import BESIDE, WORDS, Surroundings, lexical_features

NEIGHBOURS_OF: Final = 80
"""Of so many of the best by words the neighbours are candidates too."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A search before the query's vector is known; worthless once the index has changed."""

    change: int
    question: Question
    matches: Matches
    lexical: Floats
    near: Surroundings
    words: Floats
    allowed: Mask | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """`slots`, the numbers of their `sessions`, their `rows` of traits, and their `features`,
    (len(FEATURES), candidates).
    """

    slots: Slots
    sessions: Slots
    rows: npt.NDArray[np.void]
    features: Floats


def prepared(
    contents: Contents,
    related: RelatedTerms,
    numbering: Numbering,
    query: str,
    k: int,
    *,
    change: int,
    among: Mask | None,
    now: datetime | None,
) -> Prepared:
    """The candidates by words, and what words say of them."""
    lexical = contents.lexical
    question = parse_question(
        query,
        related=related.of,
        known=lambda term: lexical.holders(term) > 0,
        now=now,
        oldest=contents.oldest,
        newest=contents.newest,
    )
    matches = lexical.matches(question.columns)
    # A word and all that are related to it would outvote one that is rare and exact.
    scores = matches.scores(lexical.width, lexical.weights.saturation, question.shares**2)
    allowed = contents.allowed(among)
    if allowed is not None:
        scores = np.where(allowed, scores, np.float32(0))
    slots = _with_neighbours(contents, best_slots(scores, candidates_for(k)), scores, allowed)
    near = Surroundings.of(slots, contents.sessions)
    words = lexical_features(question, matches, near, lexical.width, numbering)
    return Prepared(change, question, matches, scores, near, words, allowed)


def gathered(
    contents: Contents,
    model: Model,
    numbering: Numbering,
    prepared: Prepared,
    vector: Floats | None,
    k: int,
) -> Candidates:
    """All candidates, those of the vector too, with their features."""
    question, near, words = prepared.question, prepared.near, prepared.words
    learned = None if vector is None else model.learned(vector)
    if learned is not None and len(more := _nearest(contents, prepared, learned, k)):
        added = Surroundings.of(more, contents.sessions)
        width = contents.lexical.width
        of_added = lexical_features(question, prepared.matches, added, width, numbering)
        words = np.concatenate((words, of_added), axis=1)
        near = near.and_these(added)
    slots = near.slots
    rows = contents.traits.rows.take(slots)
    features = np.ones((len(FEATURES), len(slots)), np.float32)  # the bias stays 1
    if not len(slots):
        return Candidates(slots, near.sessions, rows, features)
    features[: len(WORDS)] = words
    words = features[: len(WORDS)]
    words[:4] /= np.maximum(words[:4].max(axis=1, keepdims=True), np.float32(1e-9))
    meaning = _meaning(contents, numbering, vector, learned, near, rows["said"], words[1])
    features[_MEANING] = meaning
    first = _FIRST_WORDS[0] * words[0] + _FIRST_WORDS[1] * words[1] + _FIRST_MEANING * meaning[2]
    features[_OTHER] = other_features(
        question,
        rows,
        first=first,
        best_first=order(first, contents.newness, slots),
        words=words,
        meaning=meaning,
        lengths=contents.lexical.lengths(slots),
        sessions=near.sessions,
        asked_before=(near.before >= 0) & contents.traits.rows["asks"][np.maximum(near.before, 0)],
    )
    return Candidates(slots, near.sessions, rows, features)


_FIRST_WORDS: Final = np.array([0.3, 0.25], np.float32)
_FIRST_MEANING: Final = np.float32(0.45)
"""A first score, by which sessions, bursts and files are judged: words, related words, meaning."""

_MEANING: Final = slice(len(WORDS), len(WORDS) + len(MEANING))
_OTHER: Final = slice(_MEANING.stop, _MEANING.stop + len(OTHER))
"""Rows of `Candidates.features`."""


def _nearest(contents: Contents, prepared: Prepared, learned: Floats, k: int) -> Slots:
    """The slots nearest to what the maps make of the query that are no candidates yet."""
    between = learned.sum(axis=0)
    between /= max(float(np.linalg.norm(between)), 1e-9)
    nearest = contents.vectors.search(between, candidates_for(k), prepared.allowed)[0]
    known = np.zeros(max(contents.lexical.width, len(contents.encoded)), np.bool_)
    known[prepared.near.slots] = True
    return nearest[~known[nearest]]


def _meaning(
    contents: Contents,
    numbering: Numbering,
    vector: Floats | None,
    learned: Floats | None,
    near: Surroundings,
    said: Mask,
    by_words: Floats,
) -> Floats:
    """(len(MEANING), candidates)."""
    slots = near.slots
    if vector is None or learned is None:
        return np.zeros((len(MEANING), len(slots)), np.float32)
    queries = np.concatenate((vector[None], learned))
    beside = near.links[BESIDE]
    there = (beside >= 0) & said  # of code, what is beside it says nothing
    if near.alone or not there.any():
        products = contents.vectors.scores_of(queries, slots)
        neighbours = np.zeros(beside.shape, np.float32)
    else:
        beside = np.where(there, beside, slots)
        there &= contents.encoded[beside]
        mentioned = np.concatenate((slots[None], beside))
        distinct, numbers, _ = numbering.number(mentioned, len(contents.encoded))
        numbering.done(distinct)
        found = contents.vectors.scores_of(queries, distinct)
        products = found[:, numbers[0] - 1]
        neighbours = found[0, numbers[1:] - 1]
    cosines, done, by_said = products
    by_map = np.where(said, by_said, done)
    return dense_features(cosines, by_map, neighbours, there, contents.encoded[slots], by_words)


def _with_neighbours(
    contents: Contents, slots: Slots, scores: Floats, allowed: Mask | None
) -> Slots:
    """These slots and the neighbours of the best: an answer may lack the words of its question."""
    if not len(slots):
        return slots
    best = slots[np.argsort(-scores[slots], kind="stable")[:NEIGHBOURS_OF]]
    beside = contents.sessions.links(best)[[BEFORE, AFTER]].ravel()
    beside = beside[beside >= 0]
    if allowed is not None:
        beside = beside[allowed[beside]]
    return np.unique(np.concatenate((slots, beside)))
