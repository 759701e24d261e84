"""Generated coding sessions, and the benchmark over them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench import sessions as bench_sessions
from bench.coding_sessions import Session, Workshop
from bench.coding_texts import act_of, name_words, reworded
from bench.functions import Function, functions
from bench.grading import PRODUCT, graded, result
from bench.sessions import (
    Encoded,
    Unsuitable,
    check_apart,
    clustered,
    measure,
    moments,
    recorded,
    standard_library,
)
from localmem_node.retrieval.index import text_for_encoding
from support.hashing_encoder import HashingEncoder

FUNCTIONS = 300
SESSIONS = 400


@pytest.fixture(scope="module")
def known() -> list[Function]:
    return functions([standard_library()], FUNCTIONS, 7)


@pytest.fixture(scope="module")
def made(known: list[Function]) -> list[Session]:
    return list(Workshop(known, np.random.default_rng(7)).sessions(SESSIONS))


def test_a_seed_makes_the_same_sessions(known: list[Function], made: list[Session]) -> None:
    again = Workshop(known[::-1], np.random.default_rng(7))
    assert list(again.sessions(50)) == made[:50]
    other = Workshop(known, np.random.default_rng(8))
    assert list(other.sessions(50)) != made[:50]


def test_a_session_is_a_burst_of_every_kind_of_event(made: list[Session]) -> None:
    last = 0
    for session in made:
        times = [one.draft.timestamp for one in session.happenings]
        assert times == sorted(times)
        assert times[-1] - times[0] < 300_000
        assert times[0] > last
        last = times[-1]
        assert len({one.draft.session for one in session.happenings}) == 1
        assert session.happenings[0].draft.kind == "prompt"
    kinds = Counter(one.draft.kind for session in made for one in session.happenings)
    assert set(kinds) == {"prompt", "read", "edit", "command", "error", "answer"}


def test_edits_are_pieces_of_real_functions(known: list[Function], made: list[Session]) -> None:
    sources = {(each.path, each.first): each for each in known}
    for session in made:
        for one in session.happenings:
            if one.draft.kind != "edit":
                continue
            assert one.draft.file_path is not None
            assert one.draft.selection_range is not None
            first, last = one.draft.selection_range
            assert first <= last
            assert len(one.draft.snippet) <= 400
            sharing = [each for (path, _), each in sources.items() if path == one.draft.file_path]
            assert any(one.draft.snippet in each.source for each in sharing)


def test_relevant_is_what_concerns_the_function_and_never_a_command(made: list[Session]) -> None:
    for session in made:
        assert session.relevant
        for at in session.relevant:
            assert session.question.function in session.happenings[at].functions
        kinds = {session.happenings[at].draft.kind for at in session.relevant}
        assert "edit" in kinds
        assert "command" not in kinds
    others = [len(session.happenings) - len(session.relevant) for session in made]
    assert np.mean(others) > 2


def test_questions_are_in_other_words(known: list[Function], made: list[Session]) -> None:
    named = 0
    by_path = sorted(known, key=lambda each: (each.path, each.first))
    for session in made:
        question = session.question
        told = [session.happenings[at].draft.snippet for at in session.relevant]
        assert not any(question.text in text or text in question.text for text in told)
        name = by_path[question.function].name
        named += "_" in name.strip("_") and name in question.text
    assert named < 0.05 * len(made)
    forms = Counter(session.question.form for session in made)
    assert set(forms) == {"act", "name", "error", "file"}


def test_the_texts_do_not_grow_with_the_sessions(known: list[Function]) -> None:
    def texts(count: int) -> set[str]:
        sessions = list(Workshop(known, np.random.default_rng(7)).sessions(count))
        events, asked = recorded(sessions)
        return {text_for_encoding(event) for event in events} | {one.text for one in asked}

    assert len(texts(4 * SESSIONS)) < 7 * FUNCTIONS


def test_sessions_of_a_task_are_far_apart(known: list[Function]) -> None:
    workshop = Workshop(known, np.random.default_rng(7))
    last: dict[int, int] = {}
    gaps: list[int] = []
    for number, session in enumerate(workshop.sessions(1500)):
        concerned = {at for one in session.happenings for at in one.functions}
        gaps += [number - last[at] for at in concerned if at in last]
        last |= dict.fromkeys(concerned, number)
    assert min(gaps) > workshop.gap > 50
    sessions = list(workshop.sessions(500))
    check_apart(sessions, 3 * workshop.gap, workshop.gap)
    with pytest.raises(Unsuitable, match="ask for more functions"):
        check_apart(sessions, 20 * workshop.gap, workshop.gap)


def test_words_for_the_same(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    assert reworded("parse the header", 0.0, chance) == "parse the header"
    said = {reworded("deletes the headers", 1.0, chance) for _ in range(50)}
    assert said <= {"deletes the headings", "deletes the preambles"}
    assert reworded("queries", 1.0, chance) == "queries"
    assert name_words("_parseHTTPHdr2") == "parse http header 2"
    file = tmp_path / "root" / "a.py"
    file.parent.mkdir()
    body = "    x = 1\n    y = 2\n    return x + y\n"
    texts = ("Fetches one row of a table.", "It is what it is here.", "The text of one single row.")
    parts = [f'def f{at}():\n    """{text}"""\n{body}{at}\n' for at, text in enumerate(texts)]
    file.write_text("\n".join(parts))
    acts = {act_of(each) for each in functions([file.parent], 3, 1)}
    assert acts == {"fetch one row of a table", "", "handle the text of one single row"}


def test_all_events_of_a_session_are_in_the_ring_when_it_is_asked_for(made: list[Session]) -> None:
    events, asked = recorded(made)
    for now, number in moments(asked, len(events), 200, np.random.default_rng(1)):
        assert now - 200 <= asked[number].session.start < asked[number].session.stop <= now
        assert asked[number].answers <= set(asked[number].session)
    with pytest.raises(Unsuitable, match="does not hold a session"):
        moments(asked, len(events), 3, np.random.default_rng(1))


def test_intervals_over_clusters_are_wider_where_their_questions_agree() -> None:
    chance = np.random.default_rng(3)
    hits = np.repeat(chance.random(40) < 0.5, 20).astype(float)
    scores = {PRODUCT: np.stack([hits] * 3, axis=1), "random": np.zeros((800, 3))}
    low, high = clustered(scores, np.repeat(np.arange(40), 20))["intervals"]["hit_at_10"]
    plain_low, plain_high = result(scores)["intervals"]["hit_at_10"]
    assert high - low > 2 * (plain_high - plain_low)
    assert low < 100 * hits.mean() < high


def test_too_many_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sessions, "TEXTS_MAX", 2)
    assert len(Encoded(["a", "b", "a"], HashingEncoder(8))) == 2
    with pytest.raises(Unsuitable, match="3 texts"):
        Encoded(["a", "b", "c"], HashingEncoder(8))


def test_every_question_is_graded_against_its_own_session(made: list[Session]) -> None:
    found = measure(made, 300, HashingEncoder(64), 5)
    assert found["sessions"] == sum(form["questions"] for form in found["by_form"].values())
    assert found["sessions"] == sum(part["questions"] for part in found["by_prompt"].values())
    assert set(found["by_prompt"]) == {"prompted", "only edited"}
    assert found["events"] == sum(len(session.happenings) for session in made)
    baselines = found["baselines"]
    assert set(baselines) == {"random", "recency", "bm25", "minilm"}
    assert found["hit_at_10"] > 50 > 30 > baselines["random"]["hit_at_10"]
    assert baselines["bm25"]["hit_at_10"] > baselines["recency"]["hit_at_10"]
    assert 0 < found["words_shared"] < 0.9
    assert graded([1, 2], {2}) == (1.0, 1.0, 0.5)


def test_the_result_is_one_json_object_or_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_sessions, "OnnxEncoder", HashingEncoder)
    arguments = ["--sessions", "60", "--functions", "200", "--ring", "200"]
    bench_sessions.main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"hit_at_10", "recall_at_10", "intervals", "baselines", "sessions"} <= set(found)
    bench_sessions.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| localmem ") for line in lines) == 1
