from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import git_hunks
from bench.git_hunks import Query, compared, measure, moments, newest, queries_of, read
from bench.grading import BASELINES, PRODUCT
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
    assert queries_of(hunks) == [
        ("close idle sockets", range(2)),
        ("Retry uploads that time out", range(4, 5)),
    ]
    assert queries_of([]) == []


def test_every_answer_is_in_the_ring_at_every_moment_drawn() -> None:
    vector = np.zeros(1, dtype=np.float32)
    queries = [Query("q", vector, range(at, at + 3)) for at in range(0, 90, 3)]
    drawn = list(moments(queries, 95, 20, 3, np.random.default_rng(1)))
    assert drawn == sorted(drawn)
    assert {number for _, number in drawn} == set(range(30))
    for now, number in drawn:
        answers = queries[number].answers
        assert 20 <= now <= 95
        assert now - 20 <= answers.start < answers.stop <= now


def test_a_ring_that_holds_everything_is_asked_once() -> None:
    queries = [Query("q", np.zeros(1, dtype=np.float32), range(3, 5))]
    assert list(moments(queries, 10, 50, 3, np.random.default_rng(1))) == [(10, 0)]


def test_a_commit_that_the_first_event_cuts_asks_nothing(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    made.commit("Begin with three files", {f"{name}.py": f"{name} = 1\n" for name in "abc"})
    made.commit("Say something else here", {"d.py": "d = 1\n"})
    for count, texts in ((3, 1), (4, 2), (9, 2)):
        hunks, asked = newest(tmp_path, count)
        assert len(hunks) == min(count, 4)
        assert len(asked) == texts
        assert asked[-1] == ("Say something else here", range(len(hunks) - 1, len(hunks)))


def test_search_finds_what_chance_and_recency_do_not(repository: Repository) -> None:
    history = read(repository.path, 1000, HashingEncoder(256), ablations=True)
    assert (history.name, len(history.events), len(history.queries)) == ("project", 40, 40)
    for ring in (20, 40):
        hits = {name: scores[:, 0].mean() for name, scores in measure(history, ring, 3).items()}
        assert list(hits) == [PRODUCT, *BASELINES, "rrf", "minilm_snippet"]
        assert hits[PRODUCT] == hits["bm25"] == hits["rrf"] == 1
        assert hits["random"] < 0.9 > hits["recency"]
        assert hits["minilm"] > hits["random"] < hits["minilm_snippet"]


def test_two_measurements_agree_to_the_last_bit(repository: Repository) -> None:
    history = read(repository.path, 1000, HashingEncoder())
    first, second = measure(history, 20, 3), measure(history, 20, 3)
    assert list(first) == [PRODUCT, *BASELINES]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_repositories_count_together_query_by_query(repository: Repository) -> None:
    history = read(repository.path, 1000, HashingEncoder())
    fewer = replace(history, name="fewer", queries=history.queries[:10])
    found = compared([history, fewer], [20], 1)
    assert found["queries"] == 50
    assert found["by_repository"]["fewer"]["queries"] == 10
    for name in ("ring20", "all"):
        large, small = (found["by_repository"][one][name] for one in ("project", "fewer"))
        hit = (40 * large["recall_at_10"] + 10 * small["recall_at_10"]) / 50
        assert found[name]["recall_at_10"] == pytest.approx(hit, abs=0.11)


@pytest.mark.parametrize("form", ["worktree", "bare"])
def test_the_result_is_one_json_object_or_a_table(
    form: str,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(git_hunks, "OnnxEncoder", HashingEncoder)
    path = repository.path
    if form == "bare":
        path = tmp_path / "elsewhere" / "repo"
        subprocess.run(["git", "clone", "--quiet", "--bare", repository.path, path], check=True)
    git_hunks.main(["--repo", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["queries"] == 40
    name = "project" if form == "worktree" else "elsewhere"
    assert found["by_repository"][name]["events"] == 40
    for events in ("ring200", "all"):
        assert set(found[events]["baselines"]) == set(BASELINES)
        low, high = found[events]["intervals"]["hit_at_10"]
        assert low <= found[events]["hit_at_10"] <= high
    git_hunks.main(["--repo", str(path), "--ring", "10"])
    table = capsys.readouterr().out
    assert table.startswith("40 queries\n")
    assert sum(line.startswith(("| ring10", "| all")) for line in table.splitlines()) == 10


def test_a_repository_that_asks_nothing_is_named(tmp_path: Path) -> None:
    silent = Repository(tmp_path)
    silent.commit("Begin", {"a.py": "x = 1\n"})
    with pytest.raises(HistoryError, match="no commit of it asks a question"):
        read(tmp_path, 10, HashingEncoder())
