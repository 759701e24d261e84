"""The benchmark over a conversation in LoCoMo's format, written for this test."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.locomo import Held, NotLocomo, best_sessions, conversations, measure
from support.hashing_encoder import HashingEncoder


def _turn(name: str, speaker: str, text: str, **more: Any) -> dict[str, Any]:
    return {"dia_id": name, "speaker": speaker, "text": text, **more}


def _asked(question: str, evidence: Any, category: Any = 4) -> dict[str, Any]:
    return {"question": question, "answer": "…", "evidence": evidence, "category": category}


def _sample() -> dict[str, Any]:
    """Sessions out of order, the tenth without turns; as in the published file."""
    return {
        "sample_id": "tiny",
        "conversation": {
            "speaker_a": "Orla",
            "speaker_b": "Piet",
            "session_2_date_time": "9:05 am on 3 March, 2031",
            "session_2": [
                _turn("D2:1", "Orla", "The kiln cracked my blue teapot."),
                _turn("D2:2", "Piet", "Look at mine!", blip_caption="a green vase"),
            ],
            "session_1_date_time": "1:56 pm on 8 May, 2030",
            "session_1": [
                _turn("D1:1", "Orla", "I joined a pottery class."),
                _turn("D1:2", "Piet", "I fixed the tandem bicycle.", blip_caption=None),
                _turn("D1:3", "Orla", "Ravi lent me his telescope."),
            ],
            "session_10_date_time": "12:00 am on 1 April, 2031",
            "session_10": [],
        },
        "qa": [
            _asked("Who lent a telescope?", ["D1:3"]),
            _asked("What did the kiln crack?", ["D2:1"], 1),
            _asked("When was the bicycle fixed?", ["D1:2"], 2),
            _asked("Is pottery fun?", ["D1:1; D2:1", "D9:9", "D:1:2", "D", "(D1:1)"], 3),
            _asked("What is nowhere?", []),
            _asked("What is elsewhere?", ["D7:1", "session 2"]),
            _asked("Who lent Piet a telescope?", ["D1:3"], 5),
        ],
    }


def _file(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "data.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def held(tmp_path: Path) -> list[Held]:
    return conversations(_file(tmp_path, [_sample()]))


def test_turns_are_notes_in_the_order_of_the_sessions(held: list[Held]) -> None:
    (one,) = held
    assert one.name == "tiny"
    assert one.sessions == [1, 1, 1, 2, 2]
    assert [event.snippet for event in one.events] == [
        "Orla: I joined a pottery class.",
        "Piet: I fixed the tandem bicycle.",
        "Orla: Ravi lent me his telescope.",
        "Orla: The kiln cracked my blue teapot.",
        "Piet: Look at mine! [shares a photo of a green vase]",
    ]
    assert {event.kind for event in one.events} == {"note"}
    assert len({event.session for event in one.events}) == 2


def test_a_turn_has_the_time_of_its_session_and_turns_are_a_second_apart(
    held: list[Held],
) -> None:
    first = int(datetime(2030, 5, 8, 13, 56, tzinfo=UTC).timestamp() * 1000)
    times = [event.timestamp for event in held[0].events]
    assert times[:3] == [first, first + 1000, first + 2000]
    assert times[3] == int(datetime(2031, 3, 3, 9, 5, tzinfo=UTC).timestamp() * 1000)


def test_evidence_is_found_in_untidy_strings_and_what_has_none_is_left_out(
    held: list[Held],
) -> None:
    asked = held[0].questions
    assert [each.answers for each in asked] == [(2,), (3,), (1,), (0, 3), (2,)]
    assert [each.category for each in asked] == [4, 1, 2, 3, 5]


def test_the_figures_are_those_of_categories_1_to_4(held: list[Held]) -> None:
    # Five turns: whatever the order, all answers are among the first ten.
    figures = measure(held, HashingEncoder(64))
    assert (figures["questions"], figures["conversations"]) == (4, 1)
    assert figures["turn_recall_at_10"] == figures["turn_hit_at_10"] == 100
    assert figures["session_recall_at_10"] == 100
    assert figures["session_interval"] == [100, 100]
    counts = {name: each["questions"] for name, each in figures["by_category"].items()}
    assert counts == {
        "multi-hop": 1,
        "temporal": 1,
        "open-domain": 1,
        "single-hop": 1,
        "adversarial": 1,
    }
    assert figures["baselines"]["random"]["recall_at_10"] == 100
    json.dumps(figures)


def test_an_answer_beyond_the_tenth_turn_is_not_counted(tmp_path: Path) -> None:
    sample = _sample()
    sample["conversation"]["session_10"] = [
        _turn(f"D10:{at}", "Orla", f"The telescope of Ravi, lent again: {at}") for at in range(30)
    ]
    sample["qa"] = [_asked("telescope of Ravi, lent again", ["D1:2", "D10:1", "D2:2"])]
    figures = measure(conversations(_file(tmp_path, [sample])), HashingEncoder(64))
    assert figures["baselines"]["bm25"]["recall_at_10"] <= 33.4
    assert figures["turn_recall_at_10"] < 100
    assert "adversarial" not in figures["by_category"]


def test_a_session_counts_by_its_three_best_turns() -> None:
    turns = [(1, 0.9), (2, 0.5), (2, 0.4), (2, 0.3), (2, 0.3), (3, 1.0), (1, 0.25)]
    assert best_sessions(turns) == [2, 1, 3]
    assert best_sessions([]) == []


def _without(*path: str | int) -> list[dict[str, Any]]:
    sample = _sample()
    inner: Any = sample
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return [sample]


def _with(value: Any, *path: str | int) -> list[dict[str, Any]]:
    sample = _sample()
    inner: Any = sample
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return [sample]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "no JSON",
        "[1",
        7,
        None,
        [7],
        ["text"],
        {"sample_id": "one"},
        _without("sample_id"),
        _without("qa"),
        _without("conversation"),
        _without("conversation", "session_1_date_time"),
        _without("conversation", "session_1", 0, "dia_id"),
        _without("qa", 0, "question"),
        _without("qa", 0, "category"),
        _without("qa", 0, "evidence"),
        _with("yesterday", "conversation", "session_1_date_time"),
        _with(None, "conversation", "session_1"),
        _with(5, "qa"),
        _with("five", "qa", 0, "category"),
        _with([None], "qa", 0, "evidence"),
        _with([["D1:1"]], "qa", 0, "evidence"),
        _with(7, "conversation", "session_1", 0, "text"),
        _with("11:00 am on 3 March, 0031", "conversation", "session_1_date_time"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, data: Any) -> None:
    path = _file(tmp_path, data)
    with pytest.raises(NotLocomo, match="is not in LoCoMo's format"):
        conversations(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotLocomo, match=r"data\.json: No such file"):
        conversations(tmp_path / "data.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(b"\xff\xfe")
    with pytest.raises(NotLocomo):
        conversations(tmp_path / "data.json")
