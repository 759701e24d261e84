from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lessons import Asked, Lesson, conversation_events
from support.events import event

_COUNT = 6
_VECTORS = np.eye(_COUNT, dtype=np.float32)
_ANSWERS = st.sets(st.integers(0, _COUNT - 1), min_size=1).map(lambda them: tuple(sorted(them)))


def _lesson(*answers: tuple[int, ...]) -> Lesson:
    return Lesson(
        domain="git",
        name="history",
        events=[event(number) for number in range(1, _COUNT + 1)],
        vectors=_VECTORS,
        questions=[
            Asked(f"question {at}", np.full(_COUNT, at, np.float32), those)
            for at, those in enumerate(answers)
        ],
    )


def test_a_part_has_its_events_their_vectors_and_the_questions_that_it_answers() -> None:
    whole = _lesson((0,), (2,), (2, 4), (3, 1), (5,), (4, 2, 3))
    part = whole.part(2, 5)
    assert (part.domain, part.name) == ("git", "history[2:5]")
    assert list(part.events) == list(whole.events[2:5])
    assert np.array_equal(part.vectors, _VECTORS[2:5])
    assert [(each.text, each.answers) for each in part.questions] == [
        ("question 1", (0,)),
        ("question 2", (0, 2)),
        ("question 5", (2, 0, 1)),
    ]
    assert [each.vector[0] for each in part.questions] == [1, 2, 5]


@given(
    st.lists(_ANSWERS, max_size=6),
    st.integers(0, _COUNT),
    st.integers(0, _COUNT),
)
def test_an_answer_is_the_same_event_in_a_part(
    answers: list[tuple[int, ...]], one: int, other: int
) -> None:
    first, end = min(one, other), max(one, other)
    whole = _lesson(*answers)
    part = whole.part(first, end)
    assert len(part.events) == len(part.vectors) == end - first
    wanted = [each for each in whole.questions if set(each.answers) <= set(range(first, end))]
    assert [each.text for each in part.questions] == [each.text for each in wanted]
    for kept, each in zip(part.questions, wanted, strict=True):
        assert [part.events[at] for at in kept.answers] == [whole.events[at] for at in each.answers]


def test_a_part_of_a_part_is_a_part() -> None:
    whole = _lesson((1,), (2, 3), (3,))
    assert list(whole.part(1, 5).part(1, 3).questions[0].answers) == [0, 1]
    assert [each.answers for each in whole.part(1, 5).part(1, 3).questions] == [
        each.answers for each in whole.part(2, 4).questions
    ]


def test_all_of_it_is_a_part() -> None:
    whole = _lesson((1,), (0, 5))
    part = whole.part(0, _COUNT)
    assert [each.answers for each in part.questions] == [(1,), (0, 5)]
    assert list(part.events) == list(whole.events)


def test_turns_of_a_conversation_are_events_in_their_order() -> None:
    turns = [(1, "Orla", "hello", 5), (1, "Piet", "good day", 3), (2, "Orla", "again", 9)]
    made = conversation_events(turns)
    assert [each.snippet for each in made] == ["Orla: hello", "Piet: good day", "Orla: again"]
    assert [each.timestamp for each in made] == [5, 3, 9]
    assert [each.session for each in made] == ["session 1", "session 1", "session 2"]
    assert [each.order for each in made] == sorted(each.order for each in made)
    assert made[0].kind == "note"


@pytest.mark.parametrize("text", ["x" * 1000, "zwei\nZeilen", "\u4f60\u597d"])
def test_a_turn_is_kept_whole(text: str) -> None:
    assert conversation_events([(1, "Orla", text, 5)])[0].snippet == f"Orla: {text}"
