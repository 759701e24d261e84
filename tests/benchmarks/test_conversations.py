from __future__ import annotations

import re
from collections import Counter
from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from bench import conversation_words as words
from bench.conversation_dates import MONTHS, day_of, spelled
from bench.conversation_facts import Deck, drawn, parsed, topics, varied
from bench.conversation_questions import MOST_ANSWERS, SHARES
from bench.conversations import Conversation, asked_elsewhere, conversation
from localmem_node.retrieval.tokens import terms

_SLOT = re.compile(r"\{(\w+)\}")
_OPEN = re.compile(r"[{}|]")


@pytest.fixture(scope="module")
def some() -> list[Conversation]:
    return [conversation(np.random.default_rng(seed)) for seed in range(6)]


def _told(one: Conversation) -> set[int]:
    return {turn for question in one.questions for turn in question.answers}


def test_a_seed_makes_the_same_conversation_again(some: list[Conversation]) -> None:
    assert conversation(np.random.default_rng(0)) == some[0]
    assert some[0] != some[1]


def test_two_take_turns_in_sessions_that_follow_each_other(some: list[Conversation]) -> None:
    for one in some:
        assert {turn.speaker for turn in one.turns} == set(one.speakers)
        for before, after in pairwise(one.turns):
            assert before.timestamp_ms < after.timestamp_ms
            assert 0 <= after.session - before.session <= 1
            if before.session == after.session:
                assert before.speaker != after.speaker
        sessions = Counter(turn.session for turn in one.turns)
        assert 18 <= len(sessions) <= 30
        assert 15 <= np.median(list(sessions.values())) <= 30


def test_no_slot_or_choice_stays_open(some: list[Conversation]) -> None:
    for one in some:
        texts = [turn.text for turn in one.turns] + [asked.text for asked in one.questions]
        assert not [text for text in texts if _OPEN.search(text)]


def test_questions_differ_and_are_answered_by_turns_before_them(some: list[Conversation]) -> None:
    for one in some:
        assert 70 <= len(one.questions) <= 150
        assert len({asked.text for asked in one.questions}) == len(one.questions)
        for asked in one.questions:
            assert 0 < len(asked.answers) <= MOST_ANSWERS
            assert list(asked.answers) == sorted(set(asked.answers))
            assert asked.asked_ms > one.turns[asked.answers[-1]].timestamp_ms
            assert asked.topics <= one.topics


def test_kinds_of_questions_have_their_shares(some: list[Conversation]) -> None:
    kinds = Counter(asked.kind for one in some for asked in one.questions)
    of_all = {kind: count / kinds.total() for kind, count in kinds.items()}
    for kind in ("multi", "inference", "adversarial"):
        assert of_all[kind] == pytest.approx(SHARES[kind], abs=0.02)
    assert 0.18 < of_all["temporal"] < 0.3
    several = [asked for one in some for asked in one.questions if asked.kind == "multi"]
    assert all(len(asked.answers) > 1 for asked in several)


def test_adversarial_questions_name_the_one_who_did_not_tell(some: list[Conversation]) -> None:
    by_named = [
        one.turns[asked.answers[0]].speaker in asked.text
        for one in some
        for asked in one.questions
        if asked.kind == "adversarial"
    ]
    assert by_named
    assert np.mean(by_named) < 0.3  # told about the other one, who is the wrong one to name


def test_some_answers_are_told_by_the_one_who_is_not_asked_about(some: list[Conversation]) -> None:
    by_other = [
        one.turns[asked.answers[0]].speaker not in asked.text
        for one in some
        for asked in one.questions
        if asked.kind in ("single", "temporal")
    ]
    assert 0.05 < np.mean(by_other) < 0.25


def test_length_does_not_tell_facts_from_the_rest(some: list[Conversation]) -> None:
    facts: list[int] = []
    others: list[int] = []
    for one in some:
        told = _told(one)
        for at, turn in enumerate(one.turns):
            (facts if at in told else others).append(len(turn.text.split()))
    fact, other = np.array(facts), np.array(others)
    assert fact.mean() == pytest.approx(other.mean(), rel=0.15)
    above = [(length > other).mean() + (length == other).mean() / 2 for length in fact]
    assert 0.4 < np.mean(above) < 0.6


def test_neighbours_share_the_words_of_their_topic(some: list[Conversation]) -> None:
    near, far = [], []
    for one in some:
        bags = [set(terms(turn.text)) for turn in one.turns]
        for at, bag in enumerate(bags[:-1]):
            near.append(len(bag & bags[at + 1]))
            far.append(len(bag & bags[(at + len(bags) // 2) % len(bags)]))
    assert np.mean(near) > 1.8 * np.mean(far)


def test_topics_come_back_in_other_sessions(some: list[Conversation]) -> None:
    for one in some:
        sessions: dict[str, set[int]] = {}
        for asked in one.questions:
            if len(asked.topics) == 1:
                own = sessions.setdefault(next(iter(asked.topics)), set())
                own.update(one.turns[at].session for at in asked.answers)
        assert np.mean([len(own) for own in sessions.values()]) > 2


def test_questions_elsewhere_share_no_topic_and_have_no_answer(some: list[Conversation]) -> None:
    asked = asked_elsewhere(some[0], some[1])
    assert asked
    for question in asked:
        assert question.answers == ()
        assert not question.topics & some[1].topics
        assert question.asked_ms > some[1].turns[-1].timestamp_ms
        assert not set(some[0].speakers) - set(some[1].speakers) & set(question.text.split())
    kept = asked_elsewhere(some[0], some[1], renamed=False)
    assert {one.text for one in kept} <= {one.text for one in some[0].questions}


def test_every_topic_has_enough_to_say() -> None:
    for topic in topics():
        lines = topic.lines
        assert sum(len(lines[kind]) for kind in ("talk", "more", "react")) >= 12, topic.name
        assert len(lines["about"]) >= 5, topic.name
        for fact in topic.facts:
            assert {"say", "ask"} <= set(fact.lines), (topic.name, fact.name)
            assert set(fact.lines.get("tag", ())) <= set(words.TAGS), (topic.name, fact.name)


def test_every_slot_of_a_topic_is_known() -> None:
    common = {*words.LISTS, "x", "y", "when", "soon", "in", "ago"}
    for topic in topics():
        known = common | set(topic.lists)
        lines = [text for kind in topic.lines.values() for text in kind]
        lines += [text for fact in topic.facts for kind in fact.lines.values() for text in kind]
        named = {slot for text in lines for slot in _SLOT.findall(text)}
        assert named <= known, (topic.name, named - known)


def test_the_two_do_not_share_what_is_told_of_a_repeated_fact() -> None:
    text = "\n".join(
        [
            "== shed",
            "about the shed",
            "list tool: a saw; a rake; a spade; a hoe",
            "talk I like sheds.",
            "- tool repeat",
            "say I bought {tool} {when}.",
            "ask Which tools does {x} have?",
        ]
    )
    topic = parsed(text)[0]
    for seed in range(20):
        first, second = drawn(topic, ("Ada", "Ben"), np.random.default_rng(seed), 4)
        told = [[one.values["tool"] for one in side] for side in (first, second)]
        assert not set(told[0]) & set(told[1])
        assert all(len(set(side)) == len(side) for side in told)


def test_a_line_that_says_nothing_known_is_named() -> None:
    with pytest.raises(ValueError, match="shout"):
        parsed("== shed\nshout Hello!")


def test_alternatives_are_all_taken_and_lines_come_in_turn() -> None:
    chance = np.random.default_rng(1)
    assert {varied("a {dog|cat} sat", chance) for _ in range(50)} == {"a dog sat", "a cat sat"}
    deck = Deck(chance)
    lines = ("one", "two", "three")
    assert sorted(deck.next(lines) for _ in lines) == sorted(lines)


def test_a_day_is_said_once_told_and_asked_for_as_it_is_meant() -> None:
    text = "== shed\nabout the shed\ntalk Sheds!\n- built\nsay I built it {when}.\nask Who {in}?"
    told = drawn(parsed(text)[0], ("Ada", "Ben"), np.random.default_rng(4), 4)[0]
    assert told
    one, day = told[0], date(2024, 3, 20)
    chance = np.random.default_rng(2)
    said = one.told_on("I built it {when}.", day, chance)
    assert one.said is not None
    assert said == f"I built it {one.said.text}."
    assert 0 <= (day - one.said.day).days <= 50
    when = f"on {spelled(one.said.day, chance)}"
    assert one.question("Who {in}?", "ask", when, chance) == f"Who {when}?"
    assert one.question("Who {in}?", "ask", "", chance) == "Who?"


def test_some_questions_name_a_month_or_a_day(some: list[Conversation]) -> None:
    month = re.compile("|".join([*MONTHS, r"\d{4}-\d\d-\d\d"]))
    named = [bool(month.search(asked.text)) for one in some for asked in one.questions]
    assert 0.05 < np.mean(named) < 0.15
    assert all(day_of(one.turns[0].timestamp_ms).year >= 2019 for one in some)
