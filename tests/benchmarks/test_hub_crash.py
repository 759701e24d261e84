"""A few kills of `bench hub-crash` in the gate, and that it can fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import hub_crash
from bench.hub_writers import Told, Writer, compare
from bench.postgres_server import MISSING, find_binaries
from support.missing import missing

SOUND: dict[str, Any] = {"kills": 1, "lost_acknowledged": 0}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_hubs_are_killed_and_nothing_is_lost(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "postgresql" and find_binaries() is None:
        missing(MISSING)
    hub_crash.main(["--kills", "4", "--engine", engine, "--json", "--seed", "2"])
    found = json.loads(capsys.readouterr().out)[engine]
    assert (found["kills"], found["rounds"]) == (4, 1)
    assert sum(found["moments"].values()) == 4
    assert found["compared"] >= found["acknowledged"] > 0
    assert found["welcomed"] > len(found["moments"])
    wrong = ("lost_acknowledged", "lost_shown", "altered", "wrong_ends", "problems")
    assert [found[name] for name in wrong] == [0, 0, 0, 0, []]


@pytest.mark.parametrize("lossy", [1, 2])
def test_a_loss_on_either_engine_ends_the_run(
    lossy: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def measure(engine: str, kills: int, seed: int) -> dict[str, Any]:
        measured.append(engine)
        return SOUND | {"kills": kills, "sound": len(measured) != lossy}

    monkeypatch.setattr(hub_crash, "measure", measure)
    monkeypatch.setattr(hub_crash, "find_binaries", lambda: "there")
    with pytest.raises(SystemExit, match="lost something"):
        hub_crash.main(["--kills", "7", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found == dict.fromkeys(("sqlite", "postgresql"), SOUND | {"kills": 7})


def written(told: Told, sent: int) -> Writer:
    """A device that has written so much, under client id 7."""
    writer = Writer(1, "room", "0a" * 8, "no token", told)
    writer.client, writer.sent = 7, sent
    return writer


@pytest.mark.parametrize(
    ("held", "confirmed", "shown", "wrong"),
    [
        (5, 5, 5, (0, 0, 0)),
        (5, 3, 0, (0, 0, 0)),
        (4, 5, 4, (1, 0, 0)),
        (4, 2, 5, (0, 1, 0)),
        (0, 5, 5, (5, 5, 0)),
        (7, 5, 5, (0, 0, 1)),  # more than was ever sent
    ],
)
def test_what_is_found_is_held_against_what_was_said(
    held: int, confirmed: int, shown: int, wrong: tuple[int, int, int]
) -> None:
    told = Told()
    writer = written(told, 6)
    found = {7: [writer.batch(number) for number in range(held)]}
    compared = compare([writer], {writer.name: confirmed}, {7: shown}, found, told)
    assert compared == held
    assert (told.lost_acknowledged, told.lost_shown, told.altered) == wrong


def test_a_byte_that_differs_and_a_batch_of_nobody_are_seen() -> None:
    told = Told()
    writer = written(told, 2)
    first, second = bytearray(writer.batch(0)), writer.batch(1)
    first[3] ^= 1
    compare([writer], {writer.name: 2}, {}, {7: [bytes(first), second]}, told)
    assert told.altered == 1
    compare([writer], {writer.name: 2}, {}, {7: [None, second]}, told)
    assert told.altered == 2
    compare([writer], {writer.name: 0}, {}, {8: [second]}, told)
    assert (told.altered, told.lost_acknowledged) == (3, 0)
