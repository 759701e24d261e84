from __future__ import annotations

import json

import pytest

from bench import crash
from bench.acknowledged import PROBLEMS_SHOWN, Result


def test_kills_are_counted_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    crash.main(["--kills", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["kills"] >= 2
    assert sum(found["moments"].values()) == found["kills"]
    assert (found["lost_acknowledged"], found["corrupt_opens"], found["problems"]) == (0, 0, [])


def test_a_loss_is_reported_and_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[int] = []

    def lossy(kills: int, *, size: int, seed: int, before: int, eviction: str) -> Result:
        rounds.append(seed)
        return Result(kills=kills, lost_acknowledged=len(rounds) - 1, problems=[])

    monkeypatch.setattr(crash, "run", lossy)
    with pytest.raises(SystemExit, match="lost something"):
        crash.main(["--kills", "1000"])
    assert rounds == [0, 1]
    assert "| lost_acknowledged | 1     |" in capsys.readouterr().out


def test_rounds_add_up() -> None:
    total = Result()
    total.moments["working"] += 2
    other = Result(kills=1, problems=["one"] * 2 * PROBLEMS_SHOWN)
    other.moments["working"] += 1
    total.add(other)
    assert total.to_json()["moments"] == {"working": 3}
    assert total.to_json()["problems"] == ["one"] * PROBLEMS_SHOWN
    assert not total.sound
