"""What the user wants unseen stays unseen: by project, by session, after a restart, from transcripts."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from localmem_node import pausing
from localmem_node.errors import QueryError
from localmem_node.pausing import Pauses

ONE, TWO = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "paused.json"


def test_everything_a_project_or_a_session(path: Path) -> None:
    pauses = Pauses(path)
    assert not pauses.covers((ONE,), "s", 10)
    pauses.pause((ONE, TWO), None, 10)
    assert pauses.covers((TWO,), "s", 10)
    assert not pauses.covers((), "s", 10)
    pauses.pause((), "s", 20)
    assert pauses.covers((), "s", 20)
    assert not pauses.covers((), "other", 20)
    pauses.pause((), None, 30)
    assert pauses.covers((), None, 30)
    assert pauses.status() == {
        "everything": True,
        "projects": [ONE],
        "sessions": ["s"],
        "problem": None,
    }


def test_what_happened_in_a_pause_stays_unseen_after_it(path: Path) -> None:
    pauses = Pauses(path)
    pauses.pause((), None, 10)
    assert pauses.resume((), None, 20) == 1
    assert [pauses.covers((), None, at) for at in (9, 10, 19, 20)] == [False, True, True, False]
    assert not pauses.status()["everything"]


def test_ending_one_pause_leaves_the_others_and_ending_all_none(path: Path) -> None:
    pauses = Pauses(path)
    pauses.pause((ONE,), None, 10)
    pauses.pause((), "s", 10)
    pauses.pause((), None, 10)
    assert pauses.resume((ONE,), None, 20) == 1
    assert pauses.resume((ONE,), None, 20) == 0
    assert pauses.status()["projects"] == []
    assert pauses.status()["sessions"] == ["s"]
    assert pauses.resume((), None, 30) == 2
    assert not pauses.covers((ONE,), "s", 30)


def test_a_pause_twice_is_one(path: Path) -> None:
    pauses = Pauses(path)
    for at in (10, 11):
        pauses.pause((), "s", at)
    assert pauses.resume((), "s", 20) == 1


def test_another_process_sees_it_at_once_and_so_does_the_next(path: Path) -> None:
    here, there = Pauses(path), Pauses(path)
    assert not there.covers((), None, 10)
    here.pause((), None, 10)
    assert there.covers((), None, 10)
    there.resume((), None, 20)
    assert not here.covers((), None, 20)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"{}", b"[{}]", b"\xff", b'[{"since": "x"}]'])
def test_a_damaged_file_is_a_pause_of_everything_until_it_is_ended(path: Path, data: bytes) -> None:
    Pauses(path).pause((), "s", 10)
    path.write_bytes(data)
    pauses = Pauses(path)
    assert pauses.covers((), None, 50)
    assert "resume" in pauses.status()["problem"]
    pauses.resume((), None, 60)
    assert not pauses.covers((), None, 60)
    assert pauses.status()["problem"] is None


def test_a_file_that_others_may_read_is_not_believed(path: Path) -> None:
    Pauses(path).pause((), "s", 10)
    path.chmod(0o644)
    assert Pauses(path).covers((), None, 10)


def test_ended_pauses_are_given_up_before_lasting_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "SPANS_MAX", 3)
    pauses = Pauses(path)
    pauses.pause((), "first", 1)
    pauses.resume((), "first", 2)
    for number in range(3):
        pauses.pause((), f"{number}", 10)
    assert pauses.status()["sessions"] == ["0", "1", "2"]
    assert not pauses.covers((), "first", 1)
    with pytest.raises(QueryError, match="resume"):
        pauses.pause((), "fourth", 10)
