"""The bench of eviction on a small history whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import eviction
from bench.eviction import EVERYTHING, FIFO, TRUTHS, measure, read, summary
from bench.line_ancestry import Ancestry
from bench.ring_replay import Clairvoyant, LeastRecentlyUsed, Log, Task, Timeline, replay
from localmem_node.errors import HistoryError
from localmem_node.git_history import recent_hunks
from localmem_node.retention import Fifo
from localmem_protocol.events import Event
from support.events import event
from support.git_repository import Repository
from support.hashing_encoder import HashingEncoder

_TOPICS = ["socket timeout", "header parser", "cookie policy", "retry budget", "gzip decoder"]


def _module(topic: str, number: int) -> str:
    filler = "".join(f"    step_{line}()\n" for line in range(8))
    return f"def {topic.replace(' ', '_')}():\n{filler}    return {number}  # {topic}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Five modules, each changed at its last line, in turn; then one of them over and over."""
    folder = tmp_path_factory.mktemp("history") / "project"
    folder.mkdir()
    made = Repository(folder)
    for number in range(60):
        at = number % 5 if number % 3 else 0
        topic = _TOPICS[at]
        made.commit(f"Improve {topic} case{number}", {f"module{at}.py": _module(topic, number)})
    return made


@pytest.fixture(scope="module")
def timeline(repository: Repository) -> Timeline:
    return read(repository.path, 1000, HashingEncoder(256))


def test_work_builds_on_who_wrote_its_lines_and_on_edits_of_its_region(
    tmp_path: Path,
) -> None:
    made = Repository(tmp_path)
    parts = {name: "".join(f"    {name}_{n}()\n" for n in range(15)) for name in ("one", "two")}
    whole = f"def one():\n{parts['one']}\ndef two():\n{parts['two']}"
    made.commit("Begin with two functions", {"app.py": whole})
    made.commit("Change the second", {"app.py": whole.replace("two_9()", "two_9(True)")})
    made.commit("Say it in another file", {"other.py": "x = 1\n"})
    made.commit("Change the first", {"app.py": whole.replace("one_4()", "one_4(True)")})
    again = whole.replace("one_4()", "one_4(None)").replace("two_9()", "two_9(None)")
    made.commit("Change both of them", {"app.py": again})
    hunks = recent_hunks(made.path, 100)
    assert [hunk.subject.split()[0] for hunk in hunks] == [
        "Begin", "Change", "Say", "Change", "Change", "Change", "Change"
    ]  # fmt: skip
    ancestry = Ancestry(made.path, hunks)
    assert ancestry.by_lines(range(1, 2)) == {0}
    assert ancestry.by_lines(range(2, 3)) == set()
    # The fourth commit took back what the second had written, so two hunks; and so the last one.
    assert ancestry.by_lines(range(3, 5)) == {0, 1}
    assert ancestry.by_region(range(3, 5)) == {1}
    assert ancestry.by_lines(range(5, 7)) == {0, 3, 4}
    assert ancestry.by_region(range(5, 7)) == {1, 3, 4}


def test_a_line_that_the_kept_text_lacks_is_no_answer(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    lines = [f"line number {n} of a long file\n" for n in range(200)]
    made.commit("Begin with a long file", {"long.txt": "".join(lines)})
    lines[150] = "another\n"
    made.commit("Change what was cut off", {"long.txt": "".join(lines)})
    lines[10] = "another\n"
    made.commit("Change what was kept", {"long.txt": "".join(lines)})
    ancestry = Ancestry(made.path, recent_hunks(made.path, 100))
    assert ancestry.by_lines(range(1, 2)) == set()
    assert ancestry.by_lines(range(2, 3)) == {0}


def test_every_policy_is_asked_the_same_and_none_beats_the_one_that_knows(
    timeline: Timeline,
) -> None:
    measured = measure(timeline, 20, ablations=True)
    assert next(iter(measured)) == FIFO
    tasks = {len(scores) for scores, _ in measured.values()}
    assert len(tasks) == 1
    assert 30 < tasks.pop() <= 40
    held = {name: np.nanmean(scores[:, 0, 2]) for name, (scores, _) in measured.items()}
    assert held[EVERYTHING] == 1
    assert all(held["clairvoyant"] >= share for name, share in held.items() if name != EVERYTHING)
    assert measured[FIFO][1] == {"copied": 0, "rounds": 0}
    assert 0 < measured["relevance"][1]["copied"] <= 0.5


def test_two_measurements_agree(timeline: Timeline) -> None:
    first, second = measure(timeline, 20), measure(timeline, 20)
    for name, (scores, copying) in first.items():
        assert np.array_equal(scores, second[name][0], equal_nan=True)
        assert copying == second[name][1]


def _timeline(answers: dict[int, set[int]]) -> Timeline:
    """Ten events without a word in common; before each of some, what it builds on is asked for."""
    events: list[Event] = [event(number, snippet=f"word{number}") for number in range(10)]
    encoder = HashingEncoder(8)
    tasks = [
        Task(
            f"word{min(right)}",
            encoder.encode(["x"])[0],
            at,
            dict.fromkeys(TRUTHS, frozenset(right)),
        )
        for at, right in answers.items()
    ]
    vectors = encoder.encode(["x"] * 10)
    return Timeline("ten", events, vectors, np.full(10, 100), tasks)


def test_a_ring_holds_the_newest_and_counts_what_has_left() -> None:
    timeline = _timeline({4: {0}, 9: {1, 8}})
    early, late = replay(timeline, Log(timeline, Fifo()), 500)
    assert early.held == {0, 1, 2, 3}
    assert early.found[0] == 0
    assert late.held == {4, 5, 6, 7, 8}
    assert eviction.scored(late)[0] == (1.0, 0.5, 1.0)
    (answered,) = replay(_timeline({9: {0}}), Log(timeline, Fifo()), 500)
    assert eviction.scored(answered)[0] == (0.0, 0.0, 0.0)


def test_the_one_that_knows_keeps_what_will_be_built_on() -> None:
    timeline = _timeline({8: {0}, 9: {1}})
    answered = replay(timeline, Clairvoyant(timeline, TRUTHS[0]), 300)
    assert [min(one.held) for one in answered] == [0, 1]


def test_the_one_that_was_an_answer_stays_longest() -> None:
    policy = LeastRecentlyUsed()
    for slot in range(3):
        policy.added(slot, slot)
    policy.used([0, 2])
    assert [policy.leaving() for _ in range(3)] == [1, 2, 0]


def test_a_gain_is_the_difference_to_first_in_first_out() -> None:
    fifo = np.array([[1, 1, 1], [0, 0, 0], [np.nan] * 3, [0, 0, 1]], dtype=float)
    better = np.array([[1, 1, 1], [1, 0.5, 1], [np.nan] * 3, [0, 0, 1]], dtype=float)
    row = summary(better, fifo)
    assert (row["tasks"], row["hit_at_10"], row["gain"]) == (3, 66.7, 33.3)
    assert row["gain_low"] <= row["gain"] <= row["gain_high"]
    assert summary(better[2:3], fifo[2:3]) == {"tasks": 0}


def test_the_result_is_one_json_object_or_tables(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(eviction, "OnnxEncoder", HashingEncoder)
    arguments = ["--repo", str(repository.path), "--ring", "8,20"]
    eviction.main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["repositories"]["project"]["tasks"] == 60
    relevance = result["rings"]["8"]["relevance"]
    assert set(relevance) == {*TRUTHS, "copied", "rounds"}
    assert relevance["lines"]["by_repository"]["project"]["gain"] == relevance["lines"]["gain"]
    eviction.main(arguments)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 8 ")]
    assert len(rows) == len(TRUTHS) * len(result["rings"]["8"])


def test_a_repository_that_asks_nothing_is_named(tmp_path: Path) -> None:
    silent = Repository(tmp_path)
    silent.commit("Begin", {"a.py": "x = 1\n"})
    with pytest.raises(HistoryError, match="no commit of it asks a question"):
        read(tmp_path, 10, HashingEncoder())
