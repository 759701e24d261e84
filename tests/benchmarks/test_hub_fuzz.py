"""The attempts of `bench hub-fuzz` in the gate, other ones for every seed, and that it can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bench import hub_fuzz
from bench.mutations import KINDS, draw_kind, mutated, yjs_update
from localmem_hub.plain.structs import examine
from localmem_protocol.frames import Close
from localmem_protocol.simulation import SeededRandom


@pytest.mark.timeout(300)
def test_a_hub_survives_mutated_updates_and_random_frames(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub_fuzz.main(["--attempts", "5000", "--seed", "3", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["seed"], found["tried"]) == (3, 5000)
    assert set(found["tried_by_kind"]) == set(KINDS)
    assert found["accepted"] + sum(found["refused_by_code"].values()) == 5000
    assert {str(code) for code in (Close.BAD_FRAME, Close.REFUSED_UPDATE, Close.GAP)} <= set(
        found["refused_by_code"]
    )
    assert found["attacked_rooms"] == found["survived_rooms"] >= 2


@pytest.mark.parametrize(
    "broken",
    [
        lambda found: found | {"process_alive": False},
        lambda found: found | {"other_rooms_converged": False},
        lambda found: found | {"attacked_rooms": 1},
        lambda found: found | {"codes_that_fit_nothing": [1011]},
    ],
)
def test_what_a_hub_does_not_survive_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    fine = hub_fuzz.Tally().result(1, alive=True, converged=True, seconds=0.0)

    async def attack(hub: hub_fuzz.Hub, attempts: int, seed: int) -> dict[str, Any]:
        return broken(fine)

    class NoHub:
        def __init__(self, folder: object) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr(hub_fuzz, "attack", attack)
    monkeypatch.setattr(hub_fuzz, "Hub", NoHub)
    with pytest.raises(SystemExit, match="did not survive"):
        hub_fuzz.main(["--attempts", "10"])


def test_a_seed_draws_the_same_again_and_updates_are_valid_before_they_are_mutated() -> None:
    first, second = ([yjs_update(SeededRandom(1, str(n))) for n in range(20)] for _ in range(2))
    assert first == second
    for update in first:
        assert examine(update, {}).fits({})
    draw = SeededRandom(2)
    assert any(mutated(update, draw) != update for update in first)
    assert {draw_kind(draw) for _ in range(200)} == set(KINDS)
