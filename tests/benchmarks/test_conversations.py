"""Generated conversations: what a ranker that is trained on them may take for granted."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import get_args

import numpy as np
import pytest

from bench.conversation_dates import Said, after, asked, before, day_of, months_back
from bench.conversation_facts import Deck, Told, parsed, topics
from bench.conversations import Conversation, Kind, asked_elsewhere, conversation
from localmem_node.retrieval.tokens import query_terms

SEEDS = range(12)


@pytest.fixture(scope="module")
def made() -> list[Conversation]:
    return [conversation(np.random.default_rng(seed)) for seed in SEEDS]


def test_a_seed_makes_one_conversation_and_another_makes_another(made: list[Conversation]) -> None:
    assert conversation(np.random.default_rng(SEEDS[3])) == made[3]
    assert made[0].turns != made[1].turns


def test_two_people_speak_in_turn_in_sessions_over_months(made: list[Conversation]) -> None:
    for one in made:
        assert {turn.speaker for turn in one.turns} == set(one.speakers)
        sessions = Counter(turn.session for turn in one.turns)
        assert list(sessions) == list(range(len(sessions)))
        assert 15 <= len(sessions) <= 30
        assert 15 <= np.mean(list(sessions.values())) <= 35
        for before_it, turn in zip(one.turns, one.turns[1:], strict=False):
            assert before_it.timestamp_ms < turn.timestamp_ms
            if before_it.session == turn.session:
                assert before_it.speaker != turn.speaker
        days = (one.turns[-1].timestamp_ms - one.turns[0].timestamp_ms) / 86_400_000
        assert days > 45


def test_every_template_is_filled(made: list[Conversation]) -> None:
    texts = [turn.text for one in made for turn in one.turns]
    texts += [question.text for one in made for question in one.questions]
    assert not [text for text in texts if "{" in text or "}" in text or "  " in text]
    assert not [text for text in texts if text != text.strip() or text[:1].islower()]


def test_questions_name_who_is_asked_about_and_their_answers_are_turns(
    made: list[Conversation],
) -> None:
    kinds: Counter[str] = Counter()
    for one in made:
        assert 60 <= len(one.questions) <= 150
        assert len({question.text for question in one.questions}) == len(one.questions)
        for question in one.questions:
            kinds[question.kind] += 1
            assert 1 <= len(question.answers) <= 4
            assert list(question.answers) == sorted(set(question.answers))
            assert 0 <= question.answers[0] <= question.answers[-1] < len(one.turns)
            assert question.asked_ms > one.turns[-1].timestamp_ms
            named = {name for name in one.speakers if name in question.text}
            assert {one.turns[at].speaker for at in question.answers} <= named
            if question.kind == "multi":
                assert len(question.answers) > 1
    assert set(kinds) == set(get_args(Kind))
    assert min(kinds.values()) > 0.05 * kinds.total()


def test_a_question_does_not_repeat_its_answer_and_often_shares_nothing(
    made: list[Conversation],
) -> None:
    shared: list[int] = []
    for one in made:
        names = {term for name in one.speakers for term in query_terms(name)}
        for question in one.questions:
            asked_terms = set(query_terms(question.text)) - names
            for at in question.answers:
                assert question.text.rstrip("?") not in one.turns[at].text
                told = set(query_terms(one.turns[at].text))
                shared.append(len(asked_terms & told))
    assert 0.3 < np.mean(np.array(shared) == 0) < 0.8


def test_neither_length_nor_punctuation_tells_the_turns_that_answer(
    made: list[Conversation],
) -> None:
    answers = [{at for question in one.questions for at in question.answers} for one in made]
    groups: dict[bool, list[str]] = {True: [], False: []}
    for one, those in zip(made, answers, strict=True):
        for at, turn in enumerate(one.turns):
            groups[at in those].append(turn.text)
    lengths = {group: np.array(list(map(len, texts))) for group, texts in groups.items()}
    longer = np.mean(lengths[True][:, None] > lengths[False][None, :])
    assert 0.4 < longer < 0.75  # 0.5 is what equal lengths give
    for mark in "?!.,":
        shares = {group: np.mean([mark in text for text in each]) for group, each in groups.items()}
        assert abs(shares[True] - shares[False]) < 0.4, mark


def test_turns_that_answer_nothing_name_what_is_asked_for(made: list[Conversation]) -> None:
    misled = []
    for one in made:
        words = [set(query_terms(turn.text)) for turn in one.turns]
        names = {term for name in one.speakers for term in query_terms(name)}
        for question in one.questions:
            asked_terms = set(query_terms(question.text)) - names
            best = max(len(asked_terms & words[at]) for at in question.answers)
            others = (len(asked_terms & each) for at, each in enumerate(words))
            misled.append(max(others) > best)
    assert np.mean(misled) > 0.2


def test_both_have_something_to_tell_on_many_topics(made: list[Conversation]) -> None:
    for one in made:
        owners: dict[str, set[str]] = {}
        for question in one.questions:
            for topic in question.topics if question.kind == "single" else ():
                owners.setdefault(topic, set()).update(
                    one.turns[at].speaker for at in question.answers
                )
        assert sum(len(names) == 2 for names in owners.values()) >= 3


@pytest.mark.parametrize("renamed", [True, False])
def test_questions_put_to_another_conversation_have_no_answer_there(
    made: list[Conversation], renamed: bool
) -> None:
    theirs = asked_elsewhere(made[0], made[1], renamed=renamed)
    assert len(theirs) > 20
    for question in theirs:
        assert question.answers == ()
        assert question.topics.isdisjoint(made[1].topics)
        assert question.asked_ms > made[1].turns[-1].timestamp_ms
        speakers = made[1 if renamed else 0].speakers
        assert any(name in question.text for name in speakers)


def test_there_are_many_topics_each_with_wordings_to_choose_from() -> None:
    assert len(topics()) >= 60
    assert len({topic.name for topic in topics()}) == len(topics())
    for topic in topics():
        assert len(topic.lines["react"]) >= 2, topic.name
        assert topic.lines["more"], topic.name
        for fact in topic.facts:
            assert len(fact.lines["say"]) >= 2, (topic.name, fact.name)
            assert ("open" in fact.lines) == ("reply" in fact.lines), (topic.name, fact.name)
            assert any(fact.lines.get(kind) for kind in ("ask", "when")), (topic.name, fact.name)


def test_an_unknown_line_of_a_topic_is_named() -> None:
    with pytest.raises(ValueError, match="sey hello"):
        parsed("== greeting\n- hello\nsey hello\n")
    with pytest.raises(ValueError, match="say hello"):
        parsed("== greeting\nsay hello\n")


def test_a_day_is_said_and_asked_for_as_the_same_day() -> None:
    chance = np.random.default_rng(1)
    today = date(2023, 5, 10)  # a Wednesday
    said = {one.text: one.day for one in (before(today, chance) for _ in range(500))}
    assert said["yesterday"] == date(2023, 5, 9)
    assert said["last Saturday"] == date(2023, 5, 6)
    assert said["last Wednesday"] == date(2023, 5, 3)
    assert said["two weeks ago"] == date(2023, 4, 26)
    assert (said["last month"].year, said["last month"].month) == (2023, 4)
    planned = {one.text: one.day for one in (after(today, chance) for _ in range(500))}
    assert planned["tomorrow"] == date(2023, 5, 11)
    assert planned["next Wednesday"] == date(2023, 5, 17)
    assert planned["next month"].month == 6
    exact = Said("yesterday", date(2023, 5, 9), "day")
    vague = Said("last month", date(2023, 4, 16), "month")
    assert {"on 9 May 2023", "in May 2023", "in May"} <= {asked(exact, chance) for _ in range(500)}
    assert {asked(vague, chance).split()[1] for _ in range(100)} == {"April"}
    assert months_back(date(2024, 1, 31), 1) == (2023, 12)
    assert day_of(1_683_720_000_000) == today


def test_what_is_asked_later_may_be_asked_in_the_chat_as_well() -> None:
    topic = parsed(
        "== dog\nlist breed: a pug; a hound\n- got\nsay I got {breed}.\n"
        "ask Where does {x}'s dog sleep {in}?\nask What is the {breed} of {x}?\n"
        "ask+ Is {x} glad, and has {x} a leash?\n"
    )[0]
    told = Told(topic, topic.facts[0], "Ann", "Bo", {"breed": ("a pug",)})
    deck = Deck(np.random.default_rng(0))
    assert {told.enquiry(deck) for _ in range(20)} == {
        "Where does your dog sleep?",
        "Are you glad, and have you a leash?",
    }
    silent = parsed("== cat\n- got\nsay A cat!\nask Who has {y}?\n")[0]
    assert Told(silent, silent.facts[0], "Ann", "Bo", {}).enquiry(deck) == ""
