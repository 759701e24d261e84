"""What can be asked about a conversation, and which of it is asked.

Questions are drawn from all that the facts allow, by share of each kind: most in the words of the
turn or of its neighbours, others in their own; some name the wrong one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import numpy as np

from bench import conversation_words as words
from bench.conversation_dates import MONTHS, Said, asked, day_of, months_back, spelled
from bench.conversation_facts import Told, sentences, varied

Kind = Literal["single", "temporal", "multi", "inference", "adversarial"]

QUESTIONS: Final = (85, 150)
MOST_ANSWERS: Final = 5
SHARES: Final = {
    "near": 0.38,
    "far": 0.05,
    "when": 0.18,
    "late": 0.03,
    "dated": 0.06,
    "on day": 0.02,
    "multi": 0.15,
    "inference": 0.05,
    "adversarial": 0.08,
}
"""Of all questions. In the words of the turns or in others; for the day, likewise; naming the day of a
fact, or only a day; with several answers; that need a conclusion; that name the wrong one."""

NAMED_DAY: Final = 0.08
"""How often a question that is not about a day names it all the same, if it leaves room for that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the positions of the turns that answer it, ascending."""

    text: str
    answers: tuple[int, ...]
    kind: Kind
    asked_ms: int
    topics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Candidate:
    share: str
    text: str
    kind: Kind
    turns: frozenset[int]
    topics: frozenset[str]


def questions(told: Sequence[Told], asked_ms: int, chance: np.random.Generator) -> list[Asked]:
    """Questions about what was told, by SHARES, in random order; each text once."""
    pools: dict[str, list[_Candidate]] = {share: [] for share in SHARES}
    candidates = [
        *_of_facts(told, chance),
        *_over_topics(told, chance),
        *_of_both(told),
        *_by_date(told, day_of(asked_ms), chance),
    ]
    for at in chance.permutation(len(candidates)):
        candidate = candidates[int(at)]
        if 0 < len(candidate.turns) <= MOST_ANSWERS:
            pools[candidate.share].append(candidate)
    count = int(chance.integers(QUESTIONS[0], QUESTIONS[1] + 1))
    texts: set[str] = set()
    made: list[Asked] = []
    for share, pool in pools.items():
        left = round(count * SHARES[share])
        for one in pool:
            if left and one.text not in texts:
                left -= 1
                texts.add(one.text)
                made.append(
                    Asked(one.text, tuple(sorted(one.turns)), one.kind, asked_ms, one.topics)
                )
    return [made[int(at)] for at in chance.permutation(len(made))]


def _of_facts(told: Sequence[Told], chance: np.random.Generator) -> Iterable[_Candidate]:
    """What the lines of each fact ask, about its owner or about the wrong one."""
    alike: dict[tuple[str, str, str], list[Told]] = {}
    for one in told:
        alike.setdefault((one.owner, one.topic.name, one.fact.name), []).append(one)
    shares: dict[str, tuple[str, Kind]] = {
        "ask": ("near", "single"),
        "para": ("far", "single"),
        "when": ("when", "temporal"),
        "parawhen": ("late", "temporal"),
        "would": ("inference", "inference"),
    }
    for one in told:
        same = alike[one.owner, one.topic.name, one.fact.name]
        swapped = (one.other, one.topic.name, one.fact.name) not in alike
        for line, (share, kind) in shares.items():
            for text in one.fact.lines.get(line, ()):
                if not one.answers(text):
                    continue
                yield _asked(one, text, line, share, kind, same, chance)
                if "{in}" in text:
                    yield _asked(one, text, line, "dated", kind, same, chance)
                if swapped and share in ("near", "when") and text.count("{x}") == 1:
                    wrong = text.replace("{x}", one.other)
                    yield _asked(one, wrong, line, "adversarial", "adversarial", same, chance)


def _asked(
    one: Told,
    text: str,
    line: str,
    share: str,
    kind: Kind,
    same: Sequence[Told],
    chance: np.random.Generator,
) -> _Candidate:
    """A question with the turns that answer it as it is put.

    One that neither names a value of its own nor a day asks for all that was told alike.
    """
    when, those = "", same
    if share == "dated" or ("{in}" in text and chance.random() < NAMED_DAY):
        said = _meant(one)
        when = asked(said, chance)
        whole = when.startswith(("in " + MONTHS[said.day.month - 1], "during "))
        those = [other for other in same if whole and _month(other) == _month(one)] or [one]
    slots = {slot for slot in one.fact.slots if slot in one.topic.lists}
    if one.fact.repeats and any(f"{{{slot}}}" in text for slot in slots):
        those = [other for other in those if other.values == one.values]
    turns = frozenset(turn for other in those if other.answers(text) for turn in other.turns)
    if kind in ("single", "temporal") and len({id(other) for other in those}) > 1:
        share, kind = "multi", "multi"
    asked_text = one.question(text, line, when, chance)
    return _Candidate(share, asked_text, kind, turns, frozenset({one.topic.name}))


def _meant(one: Told) -> Said:
    """The day that was named, or the week of the session."""
    assert one.day is not None
    return one.said or Said("", one.day, "week")


def _month(one: Told) -> tuple[int, int]:
    day = _meant(one).day
    return day.year, day.month


def _over_topics(told: Sequence[Told], chance: np.random.Generator) -> Iterable[_Candidate]:
    """What facts of several topics answer together."""
    tagged: dict[tuple[str, str], list[Told]] = {}
    for one in told:
        for tag in one.fact.lines.get("tag", ()):
            tagged.setdefault((one.owner, tag), []).append(one)
    for (owner, tag), those in tagged.items():
        turns = frozenset(turn for one in those for turn in one.turns)
        names = frozenset(one.topic.name for one in those)
        if len(turns) > 1:
            for text in words.TAGS[tag]:
                yield _Candidate("multi", text.replace("{x}", owner), "multi", turns, names)


def _of_both(told: Sequence[Told]) -> Iterable[_Candidate]:
    """What the two share."""
    first: dict[tuple[str, str], Told] = {}
    for one in told:
        first.setdefault((one.topic.name, one.owner), one)
    for (name, owner), one in first.items():
        mirrored = first.get((name, one.other))
        if mirrored is None or owner > one.other:
            continue
        for text in one.topic.lines.get("both", ()):
            both = text.replace("{x}", one.owner).replace("{y}", one.other)
            turns = frozenset({one.turns[0], mirrored.turns[0]})
            yield _Candidate("multi", both, "multi", turns, frozenset({name}))


def _by_date(
    told: Sequence[Told], today: date, chance: np.random.Generator
) -> Iterable[_Candidate]:
    """What somebody did on a day or in a month, or last month."""
    days: dict[tuple[str, date], list[Told]] = {}
    months: dict[tuple[str, int, int], list[Told]] = {}
    for one in told:
        if one.said is not None:
            months.setdefault((one.owner, *_month(one)), []).append(one)
            if one.said.precision == "day":
                days.setdefault((one.owner, one.said.day), []).append(one)
    for (owner, day), those in days.items():
        yield _happened(owner, f"on {spelled(day, chance)}", those, chance)
    for (owner, year, month), those in months.items():
        last = (year, month) == months_back(today, 1)
        when = "last month" if last else f"in {MONTHS[month - 1]} {year}"
        yield _happened(owner, when, those, chance)


def _happened(
    owner: str, when: str, those: Sequence[Told], chance: np.random.Generator
) -> _Candidate:
    text = varied("What {did|happened to|was} ", chance)
    rest = {"What did ": f"{owner} do", "What was ": f"{owner} up to"}.get(text, owner)
    turns = frozenset(turn for one in those for turn in one.turns)
    names = frozenset(one.topic.name for one in those)
    return _Candidate("on day", sentences(f"{text}{rest} {when}?"), "temporal", turns, names)
