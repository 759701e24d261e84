"""How a session of two people is spoken: stretches of turns on one topic, facts in their middle.

Every turn is a few sentences, and how many words it has is drawn before what they say: neither the
length nor the words of the topic tell whether a turn holds a fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from bench import conversation_words as words
from bench.conversation_dates import loosely
from bench.conversation_facts import Deck, Told, Topic, sentences

LONGEST_STRETCH: Final = 12
WORDS: Final = (25.0, 7.0)
"""Mean and deviation of the words that a turn aims at."""

FEWEST_WORDS: Final = 13
MOST_WORDS: Final = 42
TOO_FEW: Final = 6
"""A turn that lacks no more words than this gets no further sentence."""

ASKED_FOR: Final = 0.7
"""How often the turn before a fact asks for it."""

BY_THE_OTHER: Final = 0.155
"""How often a fact is told by the one whom it is not about, where there are words for that."""

ECHOED: Final = 0.9
BARE: Final = 0.12
"""How often a fact is all that its turn says: as short as the reactions at the end of a topic."""

ASKING: Final = 0.25
"""How often a turn ends with a question on the topic whatever else it says."""

ELABORATED: Final = 0.6
"""How often its owner says more about a fact, after the reaction to it."""

TAKEN_UP: Final = 0.6
"""How often the topic is called what it was called last."""

UNDATED: Final = 0.3
"""How often a fact is told without its day, where the sentence can do without."""

_LEFT_OUT: Final = re.compile(
    r"^\{when\} (?=I |we |my )|(?<=[a-z}])(?<! was)(?<! since)(?<! opened) \{when\}(?=[,.!]| and )"
)

Spoken = tuple[str, str, Told | None]
"""Speaker, text, and the fact that it tells."""


@dataclass(slots=True)
class Stretch:
    """Some turns on one topic: how many about, who has told of it, and what is told in it.

    `earlier` was told in sessions before, `about` is how the topic was called last.
    """

    topic: Topic
    length: int
    known: dict[str, Told]
    told: list[Told] = field(default_factory=list)
    earlier: list[Told] = field(default_factory=list)
    about: str = ""


class Session:
    """One sitting; the two take turns."""

    def __init__(self, speakers: tuple[str, str], day: date, deck: Deck) -> None:
        self._speakers = speakers
        self._day = day
        self._deck = deck
        self._chance = chance = deck.chance
        self._turn = int(chance.integers(2))
        self.spoken: list[Spoken] = []

    def held(self, stretches: Iterable[Stretch]) -> list[Spoken]:
        """The session: a greeting, its stretches, a farewell."""
        self._chat(words.GREETINGS)
        self._chat(words.GREETED)
        for stretch in stretches:
            self._talk(stretch)
            if self._chance.random() < 0.25:
                self._chat(words.SMALL_TALK)
        self._chat(words.FAREWELLS, small_talk=self._chance.random() < 0.6)
        if self._chance.random() < 0.7:
            self._chat(words.FAREWELLS, small_talk=self._chance.random() < 0.3)
        return self.spoken

    def _talk(self, stretch: Stretch) -> None:
        chance = self._chance
        end = len(self.spoken) + stretch.length
        self._remark(stretch, [self._one(words.SHIFTS, stretch)])
        if stretch.earlier and chance.random() < 0.6:
            self._come_back(stretch)
        for number, told in enumerate(stretch.told):
            left = end - len(self.spoken) - 3 * (len(stretch.told) - number)
            for _ in range(int(chance.integers(0, max(left, 0) // 2 + 1))):
                self._remark(stretch)
            self._tell(told, stretch)
        while len(self.spoken) < end:
            self._remark(stretch)
        if chance.random() < 0.35:
            self._say(self._one(words.ENDS, stretch))

    def _tell(self, told: Told, stretch: Stretch) -> None:
        """The fact, perhaps asked for before it, and the reaction to it."""
        chance = self._chance
        if "other" in told.fact.lines and chance.random() < BY_THE_OTHER:
            if self._speaker == told.owner:
                self._remark(stretch)
            self._fact(told, "other", stretch)
            self._remark(stretch, [self._one(words.AGREEMENTS, stretch)])
            self._elaborate(told, stretch)
            return
        asked = "open" in told.fact.lines and chance.random() < ASKED_FOR
        if (self._speaker == told.owner) == asked:
            self._remark(stretch)
        if asked:
            self._remark(stretch, [self._line(told, "open")])
        reply = asked and "reply" in told.fact.lines and chance.random() < 0.6
        self._fact(told, "reply" if reply else "say", stretch)
        if chance.random() < ECHOED and "echo" in told.fact.lines:
            self._remark(stretch, [self._line(told, "echo")])
        self._elaborate(told, stretch)

    def _elaborate(self, told: Told, stretch: Stretch) -> None:
        """More about the fact by its owner, which does not tell it."""
        if "detail" not in told.fact.lines or self._chance.random() > ELABORATED:
            return
        if self._speaker != told.owner:
            self._remark(stretch)
        self._remark(stretch, [self._line(told, "detail")])

    def _fact(self, told: Told, kind: str, stretch: Stretch) -> None:
        text = told.line(kind, self._deck)
        if self._chance.random() < UNDATED:
            text = _LEFT_OUT.sub("", text, count=1)
        text = told.told_on(text, self._day, self._chance)
        text, bracket, photo = text.partition(" [")
        if not text.endswith(tuple("!?.")):
            text += "."
        if self._chance.random() > BARE:
            text = self._padded([text], stretch)
        self._say(text + bracket + photo, told)

    def _come_back(self, stretch: Stretch) -> None:
        """What was told in an earlier session, asked after by the other one."""
        told = stretch.earlier[int(self._chance.integers(len(stretch.earlier)))]
        if "later" not in told.fact.lines:
            return
        if self._speaker == told.owner:
            self._remark(stretch)
        self._remark(stretch, [self._line(told, "later")])

    def _remark(self, stretch: Stretch, kernel: Sequence[str] = ()) -> None:
        """A turn on the topic without a fact."""
        said = list(kernel)
        if not said and self._chance.random() < 0.5:
            said.append(self._one(words.REACTIONS, stretch))
        text = self._padded(said, stretch, first=not kernel or self._chance.random() < 0.7)
        if self._chance.random() < 0.04:
            text += f" [shares a photo of {self._deck.next(words.PHOTOS)}]"
        self._say(text)

    def _padded(self, kernel: list[str], stretch: Stretch, *, first: bool = False) -> str:
        """With sentences on the topic around it, or after it; a question comes last."""
        chance = self._chance
        aim = min(max(float(chance.normal(*WORDS)), FEWEST_WORDS), MOST_WORDS)
        said, asking = list(kernel), list[str]()
        if chance.random() < ASKING:
            asking.append(self._one(words.QUESTIONS, stretch))
        while _words(said + asking) + TOO_FEW < aim or not said:
            text = self._on(stretch)
            if not text.endswith("?"):
                said.insert(len(said) if first else int(chance.integers(len(said) + 1)), text)
            elif not asking:
                asking.append(text)
        return " ".join(said + asking)

    def _on(self, stretch: Stretch) -> str:
        """A sentence on the topic that the next speaker can say."""
        chance = self._chance
        mine, theirs = (stretch.known.get(name) for name in (self._speaker, self._listener))
        draw = chance.random()
        if mine and draw < 0.2:
            return self._line(mine, "more")
        if theirs and draw < 0.4:
            return self._line(theirs, "react")
        if draw < 0.5:
            return self._one(words.LATELY, stretch)
        if draw < 0.85:
            return sentences(self._one(stretch.topic.lines["talk"], stretch))
        return self._one(words.FRAMES, stretch)

    def _chat(self, lines: Sequence[str], *, small_talk: bool = True) -> None:
        """A turn on nothing in particular."""
        text = self._one(lines)
        if small_talk:
            more = [self._one(words.SMALL_TALK) for _ in range(int(self._chance.integers(1, 3)))]
            text = " ".join([text, *more])
        if self._chance.random() < 0.3:
            text += f" {self._one(words.TAILS)}"
        self._say(text)

    def _line(self, told: Told, kind: str) -> str:
        text = told.line(kind, self._deck).replace("{ago}", loosely(self._chance))
        return sentences(told.filled(text, self._chance, 1.0))

    @property
    def _speaker(self) -> str:
        return self._speakers[self._turn]

    @property
    def _listener(self) -> str:
        return self._speakers[1 - self._turn]

    def _one(self, lines: Sequence[str], stretch: Stretch | None = None) -> str:
        """A line that the next speaker says to the other."""
        text = self._deck.next(lines)
        if "{about}" in text and stretch is not None:
            if not stretch.about or self._chance.random() > TAKEN_UP:
                stretch.about = self._deck.next(stretch.topic.lines["about"])
            text = text.replace("{about}", stretch.about)
        text = text.replace("{ago}", loosely(self._chance)).replace("{y}", self._listener)
        return sentences(text)

    def _say(self, text: str, source: Told | None = None) -> None:
        self.spoken.append((self._speaker, text, source))
        self._turn = 1 - self._turn


def _words(said: Sequence[str]) -> int:
    return sum(len(text.split()) for text in said)
