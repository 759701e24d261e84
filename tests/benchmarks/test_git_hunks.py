from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import git_hunks
from bench.git_hunks import METHODS, Question, graded, measure, moments, questions_of, read
from localmem_node.errors import HistoryError
from localmem_node.git_history import Hunk
from support.events import draft
from support.git_repository import Repository
from support.hashing_encoder import HashingEncoder

_TOPICS = ["socket timeout", "header parser", "cookie policy", "retry budget", "gzip decoder"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Forty commits, each about a topic that its subject names and its file says."""
    folder = tmp_path / "project"
    folder.mkdir()
    made = Repository(folder)
    for number in range(40):
        topic = f"{_TOPICS[number % 5]} case{number}"
        made.commit(f"Improve {topic}", {f"module{number}.py": f"# {topic}\nvalue = {number}\n"})
    return made


def _hunk(commit: str, subject: str) -> Hunk:
    return Hunk(commit, subject, draft())


def test_subjects_that_ask_for_something_are_questions_about_their_own_hunks() -> None:
    hunks = [
        _hunk("a", "fix: close idle sockets (#3)"),
        _hunk("a", "fix: close idle sockets (#3)"),
        _hunk("b", "Bump the parser version"),
        _hunk("c", "Tidy up"),
        _hunk("d", "Retry uploads that time out"),
        *(_hunk("e", "Reformat everything at once") for _ in range(11)),
    ]
    assert questions_of(hunks) == [
        ("close idle sockets", range(2)),
        ("Retry uploads that time out", range(4, 5)),
    ]
    assert questions_of([]) == []


def test_every_answer_is_in_the_ring_at_every_moment_drawn() -> None:
    vector = np.zeros(1, dtype=np.float32)
    questions = [Question("q", vector, range(at, at + 3)) for at in range(0, 90, 3)]
    drawn = list(moments(questions, 95, 20, 3, np.random.default_rng(1)))
    assert drawn == sorted(drawn)
    assert {number for _, number in drawn} == set(range(30))
    for now, number in drawn:
        answers = questions[number].answers
        assert 20 <= now <= 95
        assert now - 20 <= answers.start < answers.stop <= now


def test_a_ring_that_holds_everything_is_asked_once() -> None:
    questions = [Question("q", np.zeros(1, dtype=np.float32), range(3, 5))]
    assert list(moments(questions, 10, 50, 3, np.random.default_rng(1))) == [(10, 0)]


def test_hit_recall_and_rank_are_those_of_the_answers_found() -> None:
    assert graded([7, 3, 9, 4], range(3, 5)) == (1, 1, 0.5)
    assert graded([3], range(3, 7)) == (1, 0.25, 1)
    assert graded([1, 2], range(3, 5)) == (0, 0, 0)
    assert graded([], range(3, 5)) == (0, 0, 0)


def test_search_finds_what_chance_and_recency_do_not(repository: Repository) -> None:
    history = read(repository.path, 1000, HashingEncoder(256), snippets=True)
    assert (history.name, len(history.events), len(history.questions)) == ("project", 40, 40)
    for ring in (20, 40):
        hits = {name: scores[:, 0].mean() for name, scores in measure(history, ring, 3).items()}
        assert list(hits) == list(METHODS)
        assert hits["hybrid"] == hits["BM25"] == 1
        assert hits["random"] < 0.9 > hits["recency"]
        assert hits["MiniLM"] > hits["random"]


def test_two_measurements_agree_to_the_last_bit(repository: Repository) -> None:
    history = read(repository.path, 1000, HashingEncoder(), snippets=False)
    first, second = measure(history, 20, 3), measure(history, 20, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_result_is_one_json_object_or_a_table(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(git_hunks, "OnnxEncoder", HashingEncoder)
    arguments = ["--repo", str(repository.path), "--ring", "10,40"]
    git_hunks.main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["repositories"] == {"project": {"events": 40, "questions": 40}}
    hybrid = result["rings"]["10"]["hybrid"]
    assert hybrid["low"] <= hybrid["hit_at_10"] <= hybrid["high"]
    git_hunks.main(arguments)
    table = capsys.readouterr().out
    assert len(table.splitlines()) == 2 + 2 * (len(METHODS) - 1)


def test_a_repository_that_asks_nothing_is_named(tmp_path: Path) -> None:
    silent = Repository(tmp_path)
    silent.commit("Begin", {"a.py": "x = 1\n"})
    with pytest.raises(HistoryError, match="no commit of it asks a question"):
        read(tmp_path, 10, HashingEncoder(), snippets=False)
