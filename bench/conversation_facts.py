"""What people tell each other, as templates: the topics in `bench/topics/*.txt`, and their filling.

A file holds topics, a topic holds facts; one line, one wording:

    == allotment                      a topic; its lines up to the first fact serve all of its facts
    list plant: leeks ~ alliums; kale values of {plant}, `~` between names of the same thing
    react How are the {plant}?        the other one on the topic, without a fact
    more My boots are still muddy.    the owner on the topic, without a fact
    both Which pastime do {x} and {y} share?
    would Does {x} own a spade?       a question that the first fact answers, in a way
    - plot                            a fact; `- plot repeat` may be told several times, of other values
    say I got a plot {when}.          the owner tells it
    open Any news from the council?   the other one asks for it …
    reply They gave me number forty!  … and the owner answers, mostly without the words of the topic
    ask Where does {x} grow things?   a question that it answers; `when` and `would` as well
    ask+ What did {x} get a plot for? the same, more in the words of the telling; `when+` as well
    ask [few] How many beds are there?  … if the wording that was chosen has this slot

`{x}` owns the fact, `{y}` is the other one; `{when}` and `{soon}` are days (`bench.conversation_dates`),
`{in}` is such a day in a question, or nothing. Values of a topic stay the same for one owner, except
those that a repeated fact names itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from bench.conversation_dates import Said, after, asked, before
from bench.conversation_words import LISTS

FOLDER: Final = Path(__file__).parent / "topics"
SAME_NAME: Final = 0.7
"""Share of questions that call a thing by the name that the turn had used, where it has others."""

DATED: Final = 0.6
"""Share of questions with `{in}` that name the day."""

_SLOT: Final = re.compile(r"\{(\w+)\}")
_NEEDED: Final = re.compile(r"\[([\w ]+)\] ")
_BEGIN: Final = re.compile(r"(?:^|(?<=[.!?] ))[a-zà-ÿ]")
_SECOND_PERSON: Final = (
    (r"\{x\}'s", "your"),
    (r"\b(d|D)oes \{x\}", r"\1o you"),
    (r"\b(i|I)s \{x\}", lambda found: "Are you" if found[1] == "I" else "are you"),
    (r"\b(w)as \{x\}", r"\1ere you"),
    (r"\b(h|H)as \{x\}", r"\1ave you"),
    (r"\{x\}", "you"),
)
_QUESTIONS: Final = ("ask", "when", "would", "ask+", "when+")
_FACT_LINES: Final = ("say", "open", "reply", *_QUESTIONS)
_TOPIC_LINES: Final = ("react", "more", "both", "would")

Values = dict[str, tuple[str, ...]]
"""Slot: the names of the one thing that it stands for."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One kind of fact and its wordings."""

    name: str
    repeats: bool
    lines: Mapping[str, Sequence[str]]

    @property
    def slots(self) -> set[str]:
        """Named by what its owner says."""
        return {slot for text in self.lines["say"] for slot in _SLOT.findall(text)}

    @property
    def dated(self) -> bool:
        """Whether its owner names a day."""
        return bool(self.slots & {"when", "soon"})


@dataclass(frozen=True, slots=True)
class Topic:
    """What belongs together, with the values of its slots."""

    name: str
    lists: Mapping[str, Sequence[tuple[str, ...]]]
    lines: Mapping[str, Sequence[str]]
    facts: Sequence[Fact]


@dataclass(slots=True)
class Told:
    """A fact of somebody, with its values; `said` is the day that it names, once it is told."""

    topic: Topic
    fact: Fact
    owner: str
    other: str
    values: Values
    said: Said | None = None
    turns: list[int] = field(default_factory=list)
    told_slots: set[str] = field(default_factory=set)

    def line(self, kind: str, deck: Deck) -> str:
        """A wording of the fact or of its topic, its slots not filled; empty if there is none."""
        lines = self.fact.lines.get(kind) or self.topic.lines.get(kind) or ()
        return deck.next(lines) if lines else ""

    def told_on(self, text: str, day: date, chance: np.random.Generator) -> str:
        """A wording as its owner tells it on `day`; remembers what it said, and which day."""
        self.told_slots.update(_SLOT.findall(text))
        text = self.filled(text, chance, 1.0)
        for slot, choose in (("when", before), ("soon", after)):
            if f"{{{slot}}}" in text:
                self.said = choose(day, chance)
                text = text.replace(f"{{{slot}}}", self.said.text)
        return sentences(text)

    def answers(self, text: str, kind: str) -> bool:
        """Whether what was told is enough for this question."""
        condition = _NEEDED.match(text)
        needed = set(condition[1].split()) if condition else set()
        if self.fact.repeats:
            needed |= {slot for slot in _SLOT.findall(text) if slot in self.topic.lists}
        if kind.startswith("when") and self.said is None:
            return False
        return needed <= self.told_slots

    def questions(self, kind: str) -> Sequence[str]:
        """The wordings of a kind of question; those of the topic go with its first fact."""
        own = self.fact.lines.get(kind, ())
        first = self.fact is self.topic.facts[0]
        return [*own, *self.topic.lines.get(kind, ())] if first else own

    def enquiry(self, deck: Deck) -> str:
        """A question of the fact as the other one may ask it of the owner, who has not told yet.

        Empty if all of them name what only the owner knows.
        """
        lines = [
            text
            for kind in ("ask", "ask+", "when")
            for text in self.fact.lines.get(kind, ())
            if set(_SLOT.findall(text)) <= {"x", "in"} and not text.startswith("[")
        ]
        if not lines:
            return ""
        text = deck.next(lines).replace(" {in}", "")
        for third, second in _SECOND_PERSON:
            text = re.sub(third, second, text)
        return text

    def value(self, chance: np.random.Generator) -> str:
        """A value that its owner has named, of the topic; empty if there is none."""
        named = sorted(slot for slot in self.told_slots if slot in self.topic.lists)
        if not named:
            return ""
        slot = named[int(chance.integers(len(named)))]
        return self.filled(f"{{{slot}}}", chance, 1.0)

    def question(self, text: str, chance: np.random.Generator) -> str:
        """The question in words that need not be those of the turn."""
        text = _NEEDED.sub("", text)
        named = "{in}" in text and self.said is not None and chance.random() < DATED
        when = f" {asked(self.said, chance)}" if named and self.said else ""
        text = text.replace(" {in}", "{in}").replace("{in}", when)
        return sentences(self.filled(text, chance, SAME_NAME))

    def filled(self, text: str, chance: np.random.Generator, same: float) -> str:
        """With names and values; a value by its first name with probability `same`."""

        def value(match: re.Match[str]) -> str:
            slot = match[1]
            if slot in ("x", "y"):
                return self.owner if slot == "x" else self.other
            names = self.values.get(slot)
            if names is None:
                return match[0]
            if len(names) == 1 or chance.random() < same:
                return names[0]
            return names[int(chance.integers(1, len(names)))]

        return _SLOT.sub(value, _SLOT.sub(value, text))  # a value may have a slot of its own


@dataclass(slots=True)
class Deck:
    """Draws lines so that none comes again before the others had their turn."""

    chance: np.random.Generator
    _left: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def next(self, lines: Sequence[str]) -> str:
        """One of the lines."""
        left = self._left.setdefault(tuple(lines), [])
        if not left:
            left.extend(int(at) for at in self.chance.permutation(len(lines)))
        return lines[left.pop()]


@cache
def topics() -> tuple[Topic, ...]:
    """All topics, in order of file and line."""
    return tuple(
        topic
        for path in sorted(FOLDER.glob("*.txt"))
        for topic in parsed(path.read_text(encoding="utf-8"))
    )


def parsed(text: str) -> list[Topic]:
    """The topics of one file. Raises ValueError with the line that says nothing known."""
    made: list[Topic] = []
    lists: dict[str, list[tuple[str, ...]]] = {}
    shared: dict[str, list[str]] = {}
    facts: list[Fact] = []
    own: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not word:
            continue
        if word == "==":
            lists, shared, facts, own = {}, {}, [], {}
            made.append(Topic(rest, lists, shared, facts))
        elif word == "-":
            name, _, repeat = rest.partition(" ")
            own = {}
            facts.append(Fact(name, repeat == "repeat", own))
        elif word == "list":
            name, _, values = rest.partition(":")
            lists[name] = [
                tuple(part.strip() for part in value.split("~")) for value in values.split(";")
            ]
        elif word in _TOPIC_LINES and not facts:
            shared.setdefault(word, []).append(rest)
        elif word in _FACT_LINES and facts:
            own.setdefault(word, []).append(rest)
        else:
            raise ValueError(f"not a line of a topic: {line!r}")
    return made


def drawn(
    topic: Topic, owner: str, other: str, chance: np.random.Generator, most: int
) -> Iterable[Told]:
    """Facts of one owner on a topic: most of its facts, a repeated one up to `most` times."""
    values = _values(topic, chance)
    for number, fact in enumerate(topic.facts):
        if number and chance.random() > 0.75:
            continue
        if not fact.repeats:
            yield Told(topic, fact, owner, other, values)
            continue
        own = sorted(slot for slot in fact.slots if slot in topic.lists)
        orders = {slot: chance.permutation(len(topic.lists[slot])) for slot in own}
        least = min((len(order) for order in orders.values()), default=1)
        for at in range(min(int(chance.integers(1, most + 1)), least)):
            changed = {slot: topic.lists[slot][int(orders[slot][at])] for slot in own}
            yield Told(topic, fact, owner, other, {**values, **changed})


def _values(topic: Topic, chance: np.random.Generator) -> Values:
    lists = {**{name: [(value,) for value in values] for name, values in LISTS.items()}}
    return {
        name: values[int(chance.integers(len(values)))]
        for name, values in {**lists, **topic.lists}.items()
    }


def sentences(text: str) -> str:
    """With a capital at the beginning of each."""
    return _BEGIN.sub(lambda match: match[0].upper(), text)
