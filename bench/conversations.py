"""Two people chatting over months, with questions about it: data to train and measure rankers on.

Everything is made from hand-written templates (`bench.conversation_facts`) by a seed. Sessions are
greetings, small talk, facts told or asked for, reactions that repeat their words, and returns to old
topics that say nothing new, so that neither a shared word, a name, a length nor a question mark gives
an answer away: mostly who said it, what was asked just before, and when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Final, Literal

import numpy as np

from bench import conversation_words as words
from bench.conversation_dates import MONTHS, day_of, months_back, spelled
from bench.conversation_facts import Deck, Told, drawn, topics
from bench.conversation_sittings import Beat, Sitting

Kind = Literal["single", "temporal", "multi", "inference"]

SESSIONS: Final = (15, 30)
TURNS: Final = (15, 30)
TOPICS: Final = (24, 36)
BOTH: Final = 0.5
"""Share of topics on which both have something to tell, so that it matters who is asked about."""

MOST_TOLD: Final = 4
MOST_ANSWERS: Final = 4
MOST_QUESTIONS: Final = 150
TURNS_OF_FACT: Final = 4.2
"""Turns that a fact takes up with what is said around it; the rest is small talk."""

RETURNS: Final = 0.45
"""How often a topic comes back later, per fact, with nothing new."""

TOLD_AGAIN: Final = 0.1
"""How often a fact without a day is told a second time."""

_LINES: Final[dict[str, tuple[Kind, float]]] = {
    "ask": ("single", 0.2),
    "when": ("temporal", 0.2),
    "ask+": ("single", 0.7),
    "when+": ("temporal", 0.6),
    "would": ("inference", 0.2),
}
"""By line of a topic the kind of question, and how many of those that could be asked are."""

UNLIKE: Final = 0.3
"""How often a question is kept that has no word in common with the turn that answers it."""

_COMMON: Final = frozenset(
    [
        "what",
        "when",
        "where",
        "which",
        "whom",
        "with",
        "does",
        "have",
        "that",
        "this",
        "from",
        "they",
        "about",
    ]
)
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Turn:
    """What one of the two said."""

    session: int
    speaker: str
    text: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the positions of the turns that answer it, ascending."""

    text: str
    answers: tuple[int, ...]
    kind: Kind
    asked_ms: int
    topics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Conversation:
    """All turns in order, and what can be asked about them."""

    speakers: tuple[str, str]
    turns: list[Turn]
    questions: list[Asked]
    topics: frozenset[str]


def conversation(chance: np.random.Generator) -> Conversation:
    """A conversation, the same for the same state of `chance`."""
    first, second = (str(name) for name in chance.choice(words.NAMES, size=2, replace=False))
    lengths = chance.integers(TURNS[0], TURNS[1] + 1, size=_between(SESSIONS, chance))
    told = _facts(first, second, int(lengths.sum() / TURNS_OF_FACT), chance)
    beats = _spread(told, len(lengths), chance)
    turns: list[Turn] = []
    starts = _starts(len(lengths), chance)
    deck = Deck(chance)
    for session, length in enumerate(lengths):
        start = starts[session]
        spoken = Sitting((first, second), start.date(), deck).held(beats[session], int(length))
        at = int(start.timestamp() * 1000)
        for speaker, text, source in spoken:
            if source is not None:
                source.turns.append(len(turns))
            turns.append(Turn(session, speaker, text, at))
            at += int(chance.integers(8_000, 120_000))
    asked_ms = turns[-1].timestamp_ms + int(chance.integers(_DAY_MS // 4, 30 * _DAY_MS))
    told = [one for one in told if one.turns]
    questions = _questions(told, turns, asked_ms, chance)
    return Conversation(
        (first, second), turns, questions, frozenset(one.topic.name for one in told)
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


def _facts(first: str, second: str, count: int, chance: np.random.Generator) -> list[Told]:
    """What the two will tell, at most `count`."""
    known = topics()
    told: list[Told] = []
    for number in chance.permutation(len(known))[: _between(TOPICS, chance)]:
        topic = known[int(number)]
        owners = [(first, second), (second, first)]
        if chance.random() > BOTH:
            owners = [owners[int(chance.integers(2))]]
        for owner, other in owners:
            told.extend(drawn(topic, owner, other, chance, MOST_TOLD))
        if len(told) >= count:
            break
    return told[:count]


def _spread(told: Sequence[Told], sessions: int, chance: np.random.Generator) -> list[list[Beat]]:
    """What comes up in which session; a return to a topic comes after its fact."""
    beats: list[list[Beat]] = [[] for _ in range(sessions)]
    for one in told:
        at = int(chance.integers(sessions))
        beats[at].append(Beat(one, carries=True))
        later = range(at + 1, sessions)
        if later and chance.random() < RETURNS:
            beats[int(chance.choice(later))].append(Beat(one, carries=False))
        if later and not one.fact.dated and chance.random() < TOLD_AGAIN:
            beats[int(chance.choice(later))].append(Beat(one, carries=True))
    for session in beats:
        chance.shuffle(session)
    return beats


def _starts(sessions: int, chance: np.random.Generator) -> list[datetime]:
    """When the sessions begin: days to weeks apart, at a time when people chat."""
    day = datetime(int(chance.integers(2019, 2026)), 1, 1, tzinfo=UTC)
    day += timedelta(days=int(chance.integers(365)))
    starts: list[datetime] = []
    for _ in range(sessions):
        starts.append(day + timedelta(minutes=int(chance.integers(8 * 60, 22 * 60))))
        day += timedelta(days=1 + int(chance.exponential(8)))
    return starts


def _questions(
    told: Sequence[Told], turns: Sequence[Turn], asked_ms: int, chance: np.random.Generator
) -> list[Asked]:
    """At most MOST_QUESTIONS, in random order."""
    answers: dict[tuple[str, Kind], set[int]] = {}
    about: dict[str, set[str]] = {}

    def add(text: str, kind: Kind, those: Iterable[int], topic: Iterable[str]) -> None:
        answers.setdefault((text, kind), set()).update(those)
        about.setdefault(text, set()).update(topic)

    alike = _alike(told)
    told_in = {
        id(one): _beginnings(" ".join(turns[at].text for at in one.turns), one) for one in told
    }
    for one in told:
        for line, (kind, share) in _LINES.items():
            for text in one.questions(line):
                if not one.answers(text, line):
                    continue
                asked, kind_asked, answering = _answered(one, text, kind, alike, chance)
                alien = kind != "inference" and not _beginnings(asked, one) & told_in[id(one)]
                if chance.random() < share * (UNLIKE if alien else 1):
                    add(asked, kind_asked, answering, (one.topic.name,))
    for text, those, topic in _common(told):
        add(text, "multi", those, (topic,))
    for text, those, names in _by_date(told, day_of(asked_ms), chance):
        add(text, "temporal", those, names)
    facts = {turn: number for number, one in enumerate(told) for turn in one.turns}
    made = [
        Asked(
            text,
            tuple(sorted(those)),
            "multi" if kind == "single" and len({facts[at] for at in those}) > 1 else kind,
            asked_ms,
            frozenset(about[text]),
        )
        for (text, kind), those in answers.items()
        if 0 < len(those) <= MOST_ANSWERS
    ]
    order = chance.permutation(len(made))[:MOST_QUESTIONS]
    return [made[int(at)] for at in order]


def _beginnings(text: str, told: Told) -> set[str]:
    """What its longer words begin with, names aside: about what a stemmer would make of them."""
    names = {told.owner.lower(), told.other.lower()}
    words_in = set("".join(c if c.isalpha() else " " for c in text.lower()).split()) - names
    return {word[:5] for word in words_in if len(word) > 3} - _COMMON


def _alike(told: Sequence[Told]) -> dict[tuple[str, str, str], list[Told]]:
    """The tellings of one kind of fact by one owner."""
    alike: dict[tuple[str, str, str], list[Told]] = {}
    for one in told:
        alike.setdefault((one.owner, one.topic.name, one.fact.name), []).append(one)
    return alike


def _answered(
    one: Told,
    text: str,
    kind: Kind,
    alike: dict[tuple[str, str, str], list[Told]],
    chance: np.random.Generator,
) -> tuple[str, Kind, list[int]]:
    """A question, and the turns that answer it as it is put.

    A question that neither names a value of its own nor a day asks for all that was told alike.
    """
    asked = one.question(text, chance)
    named = any(f"{{{slot}}}" in text for slot in one.fact.slots if slot in one.topic.lists)
    dated = "{in}" in text and asked != one.question(text.replace(" {in}", ""), chance)
    same = alike[one.owner, one.topic.name, one.fact.name]
    if named or dated:
        return asked, kind, one.turns
    return asked, kind, [turn for other in same if other.answers(text, "") for turn in other.turns]


def _common(told: Sequence[Told]) -> Iterable[tuple[str, list[int], str]]:
    """What both have told of: questions about what they share."""
    first: dict[tuple[str, str], Told] = {}
    for one in told:
        first.setdefault((one.topic.name, one.owner), one)
    for (name, owner), one in first.items():
        mirrored = first.get((name, one.other))
        if mirrored is None or owner > one.other:
            continue
        for text in one.topic.lines.get("both", ()):
            asked = text.replace("{x}", one.owner).replace("{y}", one.other)
            yield asked, [one.turns[0], mirrored.turns[0]], name


def _by_date(
    told: Sequence[Told], today: date, chance: np.random.Generator
) -> Iterable[tuple[str, list[int], set[str]]]:
    """What somebody did on a day or in a month, or last month."""
    days: dict[tuple[str, date], list[Told]] = {}
    months: dict[tuple[str, int, int], list[Told]] = {}
    for one in told:
        if one.said is not None:
            day = one.said.day
            months.setdefault((one.owner, day.year, day.month), []).append(one)
            if one.said.precision == "day":
                days.setdefault((one.owner, day), []).append(one)
    verbs = ("What did {x} do {in}?", "What happened to {x} {in}?", "What was {x} up to {in}?")

    def asked(owner: str, when: str) -> str:
        return verbs[int(chance.integers(len(verbs)))].replace("{x}", owner).replace("{in}", when)

    def sources(told: Sequence[Told]) -> tuple[list[int], set[str]]:
        return [turn for one in told for turn in one.turns], {one.topic.name for one in told}

    for (owner, day), those in days.items():
        if chance.random() < 0.25:
            yield asked(owner, f"on {spelled(day, chance)}"), *sources(those)
    for (owner, year, month), those in months.items():
        if len(those) > MOST_ANSWERS:
            continue
        if (year, month) == months_back(today, 1):
            yield asked(owner, "last month"), *sources(those)
        elif chance.random() < 0.6:
            yield asked(owner, f"in {MONTHS[month - 1]} {year}"), *sources(those)


def _between(bounds: tuple[int, int], chance: np.random.Generator) -> int:
    return int(chance.integers(bounds[0], bounds[1] + 1))
