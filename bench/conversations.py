"""Two people chatting over months, with questions about it: data to train and measure rankers on.

Everything is made from hand-written templates (`bench.conversation_facts`) by a seed. A session is a
greeting and a few topics, each talked about for some turns (`bench.conversation_speech`); topics come
back months later with other facts, of the same or the other one. So neither a shared word, a name, a
length nor a question mark gives an answer away: it takes all of them, the neighbouring turns, and
when it was said. What is asked is in `bench.conversation_questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import numpy as np

from bench import conversation_words as words
from bench.conversation_facts import Deck, Told, Topic, drawn, topics
from bench.conversation_questions import Asked, Kind, questions
from bench.conversation_speech import LONGEST_STRETCH, Session, Stretch

__all__ = ["Asked", "Conversation", "Kind", "Turn", "asked_elsewhere", "conversation"]

SESSIONS: Final = (18, 30)
TURNS: Final = (15, 30)
TOPICS: Final = (12, 17)
BOTH: Final = 0.75
"""Share of topics on which both have something to tell, so that it matters who is asked about."""

MOST_TOLD: Final = 4
FACTS_OF_STRETCH: Final = 2
AROUND: Final = 5
"""Turns of a session that are on none of its topics, about: greetings, farewells, small talk."""

TURNS_OF_TOPIC: Final = 8
TOLD_AGAIN: Final = 0.06
"""How often a fact without a day is told a second time."""

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Turn:
    """What one of the two said."""

    session: int
    speaker: str
    text: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """All turns in order, and what can be asked about them."""

    speakers: tuple[str, str]
    turns: list[Turn]
    questions: list[Asked]
    topics: frozenset[str]


def conversation(chance: np.random.Generator, among: Sequence[Topic] | None = None) -> Conversation:
    """A conversation, the same for the same state of `chance`; about all topics, or about these."""
    first, second = (str(name) for name in chance.choice(words.NAMES, size=2, replace=False))
    sessions = _sessions(topics() if among is None else among, chance)
    told = _told((first, second), sessions, chance)
    turns: list[Turn] = []
    starts = _starts(len(sessions), chance)
    deck = Deck(chance)
    for number, stretches in enumerate(sessions):
        start = starts[number]
        spoken = Session((first, second), start.date(), deck).held(stretches)
        at = int(start.timestamp() * 1000)
        for speaker, text, source in spoken:
            if source is not None:
                source.turns.append(len(turns))
            turns.append(Turn(number, speaker, text, at))
            at += int(chance.integers(8_000, 120_000))
    asked_ms = turns[-1].timestamp_ms + int(chance.integers(_DAY_MS // 4, 30 * _DAY_MS))
    told = [one for one in told if one.turns]
    return Conversation(
        (first, second),
        turns,
        questions(told, asked_ms, chance),
        frozenset(stretch.topic.name for stretches in sessions for stretch in stretches),
    )


def asked_elsewhere(
    asked: Conversation, held: Conversation, *, renamed: bool = True
) -> list[Asked]:
    """Questions of one conversation that another cannot answer, put to it: `answers` is empty.

    What both talk about is left out. With `renamed`, the speakers asked about are those of `held`.
    """
    names = dict(zip(asked.speakers, held.speakers, strict=True))
    made: list[Asked] = []
    for question in asked.questions:
        if not question.topics or question.topics & held.topics:
            continue
        text = question.text
        if renamed:
            pieces = [names.get(piece, piece) for piece in _pieces(text)]
            text = "".join(pieces)
        made.append(replace(question, text=text, answers=(), asked_ms=_after(held)))
    return made


def _after(held: Conversation) -> int:
    return held.turns[-1].timestamp_ms + _DAY_MS


def _pieces(text: str) -> list[str]:
    """The text cut where letters begin or end."""
    return ["".join(group) for _, group in groupby(text, key=str.isalpha)]


def _sessions(known: Sequence[Topic], chance: np.random.Generator) -> list[list[Stretch]]:
    """What each session is about; no topic twice in one session, nothing told yet."""
    chosen = chance.permutation(len(known))[: _between(TOPICS, chance)]
    sessions: list[list[Stretch]] = []
    left: list[Topic] = []
    for _ in range(_between(SESSIONS, chance)):
        length = _between(TURNS, chance) - AROUND
        count = min(max(round(length / TURNS_OF_TOPIC), 2), 4)
        if len(left) < count:
            left += [known[int(at)] for at in chance.permutation(chosen)]
        stretches: list[Stretch] = []
        while len(stretches) < count:
            topic = left.pop(0)
            if any(stretch.topic is topic for stretch in stretches):
                left.append(topic)
                continue
            turns = min(max(length // count + int(chance.integers(-4, 2)), 5), LONGEST_STRETCH)
            stretches.append(Stretch(topic, turns, {}))
        sessions.append(stretches)
    return sessions


def _told(
    speakers: tuple[str, str], sessions: Sequence[Sequence[Stretch]], chance: np.random.Generator
) -> list[Told]:
    """What the two tell, put into the stretches on its topic; what repeats, into different ones."""
    of_topic: dict[str, list[Stretch]] = {}
    for stretches in sessions:
        for stretch in stretches:
            of_topic.setdefault(stretch.topic.name, []).append(stretch)
    told: list[Told] = []
    for places in of_topic.values():
        sides = drawn(places[0].topic, speakers, chance, MOST_TOLD)
        if chance.random() > BOTH:
            sides = (sides[int(chance.integers(2))], [])
        for side in sides:
            told.extend(_placed(side, places, chance))
    return told


def _placed(
    told: Sequence[Told], places: Sequence[Stretch], chance: np.random.Generator
) -> list[Told]:
    """Each fact in a stretch that has room for it, and known to the later ones."""
    placed: list[Told] = []
    for one in told:
        room = [
            at
            for at, place in enumerate(places)
            if len(place.told) < FACTS_OF_STRETCH
            and all(other.fact is not one.fact or other.owner != one.owner for other in place.told)
        ]
        if not room:
            continue
        at = int(chance.choice(room))
        places[at].told.append(one)
        for place in places:
            place.known[one.owner] = one
        for place in places[at + 1 :]:
            place.earlier.append(one)
        later = [place for place in room if place > at]
        if later and not one.fact.dated and chance.random() < TOLD_AGAIN:
            places[int(chance.choice(later))].told.append(one)
        placed.append(one)
    return placed


def _starts(sessions: int, chance: np.random.Generator) -> list[datetime]:
    """When the sessions begin: days to weeks apart, at a time when people chat."""
    day = datetime(int(chance.integers(2019, 2026)), 1, 1, tzinfo=UTC)
    day += timedelta(days=int(chance.integers(365)))
    starts: list[datetime] = []
    for _ in range(sessions):
        starts.append(day + timedelta(minutes=int(chance.integers(8 * 60, 22 * 60))))
        day += timedelta(days=1 + int(chance.exponential(8)))
    return starts


def _between(bounds: tuple[int, int], chance: np.random.Generator) -> int:
    return int(chance.integers(bounds[0], bounds[1] + 1))
