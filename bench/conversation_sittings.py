"""How two people chat for a while: `bench.conversations` says about what and when.

They speak in turn. A fact is told or asked for; reactions repeat the words of its topic and at times
its values; small talk fills the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from bench import conversation_words as words
from bench.conversation_facts import Deck, Told, sentences

ENQUIRED: Final = 0.3
"""How often a fact is asked for in words that may come again in a question about it."""

INVITED: Final = 0.25
"""How often it is asked for in other words."""

ELLIPTIC: Final = 0.8
"""How often the answer then leaves out what was asked, where there is such a wording."""

FRUITLESS: Final = 0.15
"""How often a return to a topic asks again and gets no answer."""

ECHOES: Final = 0.3
"""How often what is said around a fact, or on a return to it, names its values."""

TURNS_OF_BEAT: Final = 3
"""Turns that a beat takes up with what is said around it."""

Spoken = tuple[str, str, "Told | None"]
"""Speaker, text, and the fact that it tells."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A stretch of a session: a fact told, told again, or its topic without it."""

    told: Told
    carries: bool


class Sitting:
    """One sitting; the two take turns."""

    def __init__(self, speakers: tuple[str, str], day: date, deck: Deck) -> None:
        self._speakers = speakers
        self._day = day
        self._deck = deck
        self._chance = chance = deck.chance
        self._turn = int(chance.integers(2))
        self.spoken: list[Spoken] = []

    def held(self, beats: Sequence[Beat], length: int) -> list[Spoken]:
        """The session with all beats, about `length` turns."""
        for lines in (words.GREETINGS, words.GREETED):
            talk = f" {self._one(words.SMALL_TALK)}" if self._chance.random() < 0.4 else ""
            self._say(self._one(lines) + talk)
        idle = max(length - 4 - int(TURNS_OF_BEAT * len(beats)), 0)
        pauses = self._chance.multinomial(idle, [1 / (len(beats) + 1)] * (len(beats) + 1))
        for beat, pause in zip(beats, pauses.tolist(), strict=False):
            for _ in range(pause):
                self._small_talk()
            if beat.carries:
                self._tell(beat.told)
            else:
                self._return_to(beat.told)
        while len(self.spoken) < length - 2:
            self._small_talk()
        self._say(self._one(words.FAREWELLS))
        self._say(self._one(words.FAREWELLS))
        return self.spoken

    def _tell(self, told: Told) -> None:
        """The fact, either said or asked for, and what follows it."""
        chance = self._chance
        draw = chance.random()
        asking = told.enquiry(self._deck) if draw < ENQUIRED else ""
        if not asking and draw < ENQUIRED + INVITED:
            asking = self._line(told, "open")
        if asking:
            if self._speaker == told.owner:
                self._small_talk()
            self._say(self._led(sentences(asking)))
            answer = told.line("reply", self._deck) if chance.random() < ELLIPTIC else ""
            self._fact(told, answer or told.line("say", self._deck), led=False)
        else:
            if self._speaker != told.owner:
                self._small_talk()
            self._fact(told, told.line("say", self._deck), led=True)
        if chance.random() < 0.85:
            self._react(told)
            if chance.random() < 0.6:
                self._elaborate(told)

    def _fact(self, told: Told, text: str, *, led: bool) -> None:
        chance = self._chance
        text = told.told_on(text, self._day, chance)
        photo = ""
        if "[" in text:
            text, _, photo = text.partition(" [")
            text = text if text.endswith(tuple("!?.,")) else f"{text}!"
            photo = f" [{photo}"
        if led:
            text = self._led(text)
        if chance.random() < 0.2:
            text = f"{text} {self._line(told, 'more')}"
        if chance.random() < 0.3:
            text = f"{text} {self._one(words.TAILS)}"
        self._say(text.strip() + photo, told)

    def _react(self, told: Told) -> None:
        chance = self._chance
        parts = [self._one(words.REACTIONS)] if chance.random() < 0.75 else []
        if chance.random() < 0.7 or not parts:
            parts.append(self._line(told, "react"))
        parts.append(self._echo(told, words.ECHOES))
        if chance.random() < 0.35:
            parts.append(self._one(words.FOLLOW_UPS))
        self._say(" ".join(filter(None, parts)))

    def _elaborate(self, told: Told) -> None:
        chance = self._chance
        parts = [self._one(words.ANSWERS)] if chance.random() < 0.7 else []
        if chance.random() < 0.75 or not parts:
            parts.append(self._line(told, "more"))
        parts.append(self._echo(told, words.OWN_ECHOES))
        if chance.random() < 0.25:
            parts.append(self._one(words.TAILS))
        self._say(" ".join(filter(None, parts)))

    def _return_to(self, told: Told) -> None:
        """The topic again, by either of them, with its words but not its fact."""
        chance = self._chance
        if self._speaker == told.owner:
            echo = self._echo(told, words.OWN_ECHOES)
            self._say(self._led(f"{self._line(told, 'more')} {echo}".strip()))
            self._react(told)
            return
        opening = ""
        draw = chance.random()
        if draw < FRUITLESS:
            opening = sentences(told.enquiry(self._deck))
        elif draw < 3 * FRUITLESS:
            opening = self._line(told, "open")
        opening = opening or self._echo(told, words.ECHOES) or self._line(told, "react")
        self._say(self._led(opening))
        self._elaborate(told)

    def _echo(self, told: Told, lines: Sequence[str]) -> str:
        """A remark that names a value of the fact, or nothing."""
        if self._chance.random() > ECHOES:
            return ""
        value = told.value(self._chance)
        return sentences(self._one(lines).replace("{v}", value)) if value else ""

    def _small_talk(self) -> None:
        chance = self._chance
        parts = [self._one(words.SMALL_TALK)]
        if chance.random() < 0.55:
            parts.append(self._one(words.SMALL_TALK))
        if chance.random() < 0.4:
            parts.insert(0, self._one(words.REACTIONS))
        if chance.random() < 0.35:
            parts.append(self._one(words.TAILS))
        text = " ".join(parts)
        if chance.random() < 0.05:
            text += f" [shares a photo of {self._one(words.PHOTOS)}]"
        self._say(text)

    def _led(self, text: str) -> str:
        """With a word before it: a reaction to the other one, or an opening phrase."""
        draw = self._chance.random()
        if draw < 0.3:
            return f"{self._one(words.REACTIONS)} {text}"
        if draw < 0.45:
            lead = self._one(words.LEADS)
            return lead + (text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:])
        return text

    def _line(self, told: Told, kind: str) -> str:
        return sentences(told.filled(told.line(kind, self._deck), self._chance, 1.0))

    @property
    def _speaker(self) -> str:
        return self._speakers[self._turn]

    def _one(self, lines: Sequence[str]) -> str:
        """A line that the next speaker says to the other."""
        return self._deck.next(lines).replace("{y}", self._speakers[1 - self._turn])

    def _say(self, text: str, source: Told | None = None) -> None:
        self.spoken.append((self._speaker, text, source))
        self._turn = 1 - self._turn
