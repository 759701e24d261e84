from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval import related
from localmem_node.retrieval.question import (
    RELATED_MAX,
    RELATED_TOTAL,
    TERMS_MAX,
    Question,
    parse_question,
)
from localmem_node.retrieval.related import Related
from localmem_node.retrieval.tokens import query_terms
from localmem_protocol.events import KINDS


def _many(term: str) -> list[Related]:
    return [Related(f"{term}-{number}", 0.9 - number / 100) for number in range(20)]


def _nothing(term: str) -> list[Related]:
    return []


def _parsed(text: str) -> Question:
    return parse_question(text, related=_nothing, known=lambda term: True)


def _groups(question: Question) -> list[list[str]]:
    ends = [*question.starts.tolist(), len(question.columns)][1:]
    return [
        question.columns[first:end]
        for first, end in zip(question.starts.tolist(), ends, strict=True)
    ]


def test_each_term_is_followed_by_those_related_to_it() -> None:
    table = {"fast": [Related("quick", 0.8), Related("swift", 0.5)], "car": [Related("auto", 0.6)]}
    question = parse_question(
        "fast red car", related=lambda term: table.get(term, []), known=lambda term: True
    )
    assert question.terms == ["fast", "red", "car"]
    assert _groups(question) == [["fast", "quick", "swift"], ["red"], ["car", "auto"]]
    assert question.shares.tolist() == pytest.approx([1, 0.8, 0.5, 1, 1, 0.6])


def test_what_no_event_has_and_what_is_asked_for_itself_is_no_related_term() -> None:
    def of(term: str) -> list[Related]:
        return [Related("car", 0.9), Related("absent", 0.8), Related("auto", 0.7)]

    question = parse_question("fast car", related=of, known=lambda term: term == "auto")
    assert _groups(question) == [["fast", "auto"], ["car", "auto"]]


def test_a_term_has_no_more_than_its_nearest_related_ones() -> None:
    (group,) = _groups(parse_question("fast", related=_many, known=lambda term: True))
    assert group == ["fast", *(f"fast-{number}" for number in range(RELATED_MAX))]


@given(st.integers(1, 200))
def test_a_long_query_has_fewer_related_terms_and_no_more_terms_than_count(words: int) -> None:
    text = " ".join(f"w{number}" for number in range(words))
    question = parse_question(text, related=_many, known=lambda term: True)
    assert question.terms == query_terms(text)[:TERMS_MAX]
    assert len(question.terms) <= TERMS_MAX
    assert len(question.columns) - len(question.terms) <= RELATED_TOTAL
    assert max(map(len, _groups(question))) - 1 <= RELATED_MAX
    assert question.characters == len(text)


@pytest.mark.parametrize("phrase", ['"red car"', "\u201cred car\u201d", "`red car`"])
def test_the_terms_of_a_quoted_phrase_are_marked(phrase: str) -> None:
    question = _parsed(f"where did I park {phrase} today")
    marked = [term for term, quoted in zip(question.terms, question.quoted, strict=True) if quoted]
    assert marked == ["red", "car"]


@pytest.mark.parametrize("text", ['red "', '"" car', 'a "red\ncar"', "the dog's car's door"])
def test_other_marks_quote_nothing(text: str) -> None:
    assert not _parsed(text).quoted.any()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("which error did I see", {"error"}),
        ("The COMMAND that failed", {"command", "error"}),
        ("what I asked and what it answered", {"prompt", "answer"}),
        ("who edited the note?", {"edit", "note"}),
        ("errors_total, terror, commander", set()),
        ("the parser", set()),
    ],
)
def test_words_say_which_kinds_are_meant(text: str, kinds: set[str]) -> None:
    assert _parsed(text).kinds == kinds
    assert kinds <= set(KINDS)


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("what did Claude suggest", {"claude-code"}),
        ("in cursor, not codex", {"cursor", "codex"}),
        ("precursor", set()),
    ],
)
def test_words_say_which_tools_are_meant(text: str, tools: set[str]) -> None:
    assert _parsed(text).tools == tools


@pytest.mark.parametrize(
    ("text", "when", "how_many"),
    [
        ("When did it rain?", True, False),
        ("In what year was that?", True, False),
        ("which day suits", True, False),
        ("how long is the wait", True, False),
        ("How many dogs", False, True),
        ("and how old is she", False, True),
        ("what happens when it rains", False, False),
        ("how is it", False, False),
    ],
)
def test_what_is_asked_for_is_a_time_or_a_number(text: str, when: bool, how_many: bool) -> None:
    question = _parsed(text)
    assert (question.asks_when, question.asks_how_many) == (when, how_many)


def test_dates_are_those_of_the_query_seen_from_now() -> None:
    now = datetime(2023, 5, 10, tzinfo=UTC)
    moment = int(now.timestamp() * 1000)
    question = parse_question(
        "yesterday or in June",
        related=_nothing,
        known=lambda term: True,
        now=now,
        oldest=moment,
        newest=moment,
    )
    assert len(question.spans) == 2
    assert not _parsed("yesterday").spans


_LONG = [
    "word " * 2000,
    "x" * 10_000,
    "May 3 2021, " * 833,
    '"' * 10_000,
    "`a" * 5_000,
    "\u4f60\u597d\u4e16\u754c" * 2_500,
    "\u0645\u0631\u062d\u0628\u0627 " * 1_600,
    "\U0001f980" * 10_000,
    "\0" * 10_000,
    "a\0b when? \0",
    "\ufb03\u0130\u1e9e\u00b2",
    "\ud800 lone",
    "",
    " \n\t",
]


@given(st.sampled_from(_LONG) | st.text(max_size=200))
def test_no_query_is_an_error(text: str) -> None:
    question = parse_question(
        text,
        related=related.shipped().of,
        known=lambda term: True,
        now=datetime(2023, 5, 10, tzinfo=UTC),
        newest=2**47 - 1,
    )
    terms, columns = len(question.terms), len(question.columns)
    assert len(question.starts) == len(question.quoted) == terms <= TERMS_MAX
    assert len(question.shares) == columns <= terms + RELATED_TOTAL
    assert [group[0] for group in _groups(question)] == question.terms
    own = question.starts.tolist()
    assert all((share == 1) == (at in own) for at, share in enumerate(question.shares.tolist()))


def test_a_query_in_another_script_has_terms() -> None:
    assert _parsed("\u4f60\u597d\u4e16\u754c").terms
    assert _parsed("\u043f\u0440\u0438\u0432\u0435\u0442").terms
    assert _parsed("socket\0timeout").terms == ["socket", "timeout"]
