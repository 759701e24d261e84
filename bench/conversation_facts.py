"""What people tell each other, as templates: the topics in `bench/topics/*.txt`, and their filling.

A file holds topics, a topic holds facts; one line, one wording:

    == allotment                      a topic; its lines up to the first fact serve all of its facts
    about the plot; digging           noun phrases of the topic, for the frames of conversation_words
    list plant: leeks ~ alliums; kale values of {plant}, `~` between names of the same thing
    talk Soil {calms|soothes} me.     anybody on the topic, without a fact
    more My boots are still muddy.    somebody who has told of the topic, without a fact
    react Let me see the beds!        to somebody who has told of it
    both Which pastime do {x} and {y} share?
    - plot                            a fact; `- plot repeat` may be told several times, of other values
    tag hobby                         questions over many topics (`bench.conversation_words.TAGS`)
    say I got a plot {when}.          the owner tells it
    other You got a plot {when}!      the other one tells it, to the owner
    open Any news about the plot?     the other one asks for it …
    reply They gave me number forty!  … and the owner answers (or says one of `say`)
    echo Number forty, that's large!  the turn after it
    detail The gate of the plot sticks. the owner, some turns after it
    later How is the plot?            the other one, in a later session
    ask Which plot does {x} have?     a question in the words of the turn or its neighbours
    para Where does {x} grow things?  a question in other words
    when When did {x} get the plot?   `parawhen` in other words; `would` needs a conclusion
    ask [few] How many beds are there?  … if the wording that was chosen has this slot

`{x}` owns the fact, `{y}` is the other one; `{when}` and `{soon}` are days (`bench.conversation_dates`),
`{in}` is such a day in a question, or nothing; of `{a|b}` one is taken. Values of a topic stay the
same for one owner, except those that a repeated fact names itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.conversation_dates import Said, after, before
from bench.conversation_words import LISTS

FOLDER: Final = Path(__file__).parent / "topics"
SAME_NAME: Final = {"ask": 0.92, "when": 0.92, "para": 0.35, "parawhen": 0.35, "would": 0.5}
"""Share of questions that call a thing by the name that the turn had used, where it has others."""

_SLOT: Final = re.compile(r"\{(\w+)\}")
_CHOICE: Final = re.compile(r"\{([^{}|]*\|[^{}]*)\}")
_NEEDED: Final = re.compile(r"\[([\w ]+)\] ")
_BEGIN: Final = re.compile(r"(?:^|(?<=[.!?] ))[a-zà-ÿ]")
TOLD_SHARE: Final = 0.75
"""Share of the facts of a topic that an owner tells."""

_QUESTIONS: Final = ("ask", "para", "when", "parawhen", "would")
_FACT_LINES: Final = (
    "say",
    "other",
    "open",
    "reply",
    "echo",
    "detail",
    "later",
    "tag",
    *_QUESTIONS,
)
_TOPIC_LINES: Final = ("talk", "react", "more", "both")
_TELLING: Final = ("say", "reply", "other")

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
        """Named where it is told."""
        return {
            slot
            for kind in _TELLING
            for text in self.lines.get(kind, ())
            for slot in _SLOT.findall(text)
        }

    @property
    def dated(self) -> bool:
        """Whether it is told with a day."""
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
    """A fact of somebody, with its values.

    `said` is the day that it names, `day` the day of the session, once it is told.
    """

    topic: Topic
    fact: Fact
    owner: str
    other: str
    values: Values
    said: Said | None = None
    day: date | None = None
    turns: list[int] = field(default_factory=list)
    told_slots: set[str] = field(default_factory=set)

    def line(self, kind: str, deck: Deck) -> str:
        """A wording of the fact or of its topic, its slots not filled; empty if there is none."""
        lines = self.fact.lines.get(kind) or self.topic.lines.get(kind) or ()
        return deck.next(lines) if lines else ""

    def told_on(self, text: str, day: date, chance: np.random.Generator) -> str:
        """A wording as it is told on `day`; remembers what it said, and which day."""
        self.told_slots.update(_SLOT.findall(text))
        text = self.filled(text, chance, 1.0)
        self.day = day
        for slot, choose in (("when", before), ("soon", after)):
            if f"{{{slot}}}" in text:
                self.said = choose(day, chance)
                text = text.replace(f"{{{slot}}}", self.said.text)
        return sentences(text)

    def answers(self, text: str) -> bool:
        """Whether what was told is enough for this question."""
        condition = _NEEDED.match(text)
        needed = set(condition[1].split()) if condition else set()
        if self.fact.repeats:
            needed |= {slot for slot in _SLOT.findall(text) if slot in self.topic.lists}
        return needed <= self.told_slots

    def question(self, text: str, kind: str, when: str, chance: np.random.Generator) -> str:
        """The question in words that need not be those of the turn; `when` stands for `{in}`."""
        text = varied(_NEEDED.sub("", text), chance)
        text = text.replace(" {in}", "{in}").replace("{in}", when and f" {when}")
        return sentences(self.filled(text, chance, SAME_NAME[kind]))

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
        """One of the lines, one of its alternatives taken each."""
        left = self._left.setdefault(tuple(lines), [])
        if not left:
            left.extend(int(at) for at in self.chance.permutation(len(lines)))
        return varied(lines[left.pop()], self.chance)


def varied(text: str, chance: np.random.Generator) -> str:
    """With one of the alternatives of each `{a|b}`."""

    def one(match: re.Match[str]) -> str:
        choices = match[1].split("|")
        return choices[int(chance.integers(len(choices)))]

    return _CHOICE.sub(one, text)


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
        elif word == "about":
            shared["about"] = [part.strip() for part in rest.split(";")]
        elif word in _TOPIC_LINES:
            shared.setdefault(word, []).append(rest)
        elif word in _FACT_LINES and facts:
            own.setdefault(word, []).append(rest)
        else:
            raise ValueError(f"not a line of a topic: {line!r}")
    return made


def drawn(
    topic: Topic, owners: tuple[str, str], chance: np.random.Generator, most: int
) -> tuple[list[Told], list[Told]]:
    """Facts of each owner on a topic: most of its facts, a repeated one up to `most` times.

    The two never share a value of the topic where its list is long enough.
    """
    orders = {name: chance.permutation(len(values)) for name, values in topic.lists.items()}
    first = _of_owner(topic, owners, orders, chance, most)
    backwards = {name: order[::-1] for name, order in orders.items()}
    return first, _of_owner(topic, (owners[1], owners[0]), backwards, chance, most)


def _of_owner(
    topic: Topic,
    names: tuple[str, str],
    orders: Mapping[str, npt.NDArray[np.int64]],
    chance: np.random.Generator,
    most: int,
) -> list[Told]:
    values = {name: (str(chance.choice(choices)),) for name, choices in LISTS.items()} | {
        name: topic.lists[name][int(order[0])] for name, order in orders.items()
    }
    told: list[Told] = []
    for fact in topic.facts:
        if chance.random() > TOLD_SHARE:
            continue
        own = sorted(slot for slot in fact.slots if slot in topic.lists)
        half = min(((len(orders[slot]) + 1) // 2 for slot in own), default=1)
        times = min(int(chance.integers(2, most + 1)), half) if fact.repeats else 1
        for at in range(times):
            changed = {slot: topic.lists[slot][int(orders[slot][at])] for slot in own}
            if fact.repeats:
                changed["friend"] = (str(chance.choice(LISTS["friend"])),)
            told.append(Told(topic, fact, *names, {**values, **changed}))
    return told


def sentences(text: str) -> str:
    """With a capital at the beginning of each."""
    return _BEGIN.sub(lambda match: match[0].upper(), text)
