"""`localmem simulate`: what it prints, its exit codes, and that a broken world is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localmem_node.cli import simulate as module
from localmem_node.cli.main import run
from localmem_protocol.simulation import FAULTS, Report, Settings, simulate


def printed(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    return json.loads(capfdbinary.readouterr().out)


def test_json_is_the_same_twice_and_has_what_is_promised(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    arguments = ["simulate", "--hours", "2", "--seed", "3", "--faults", "crash,loss", "--json"]
    assert run(arguments) == 0
    first = capfdbinary.readouterr().out
    assert run(arguments) == 0
    assert capfdbinary.readouterr().out == first
    report = json.loads(first)
    assert report["converged"] is True
    assert report["lost_acknowledged"] == 0
    assert list(report["faults"]) == list(FAULTS)
    assert {name for name, count in report["faults"].items() if count} <= {"crash", "loss"}
    assert set(report["traffic"]) == {"d1", "d2", "d3"}
    assert len(report["trace_hash"]) == 32


def test_references_are_drawn_on_demand(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    arguments = ["simulate", "--hours", "1", "--faults", "none", "--json"]
    assert run(arguments) == 0
    assert printed(capfdbinary)["referred"] == 0
    assert run([*arguments, "--references"]) == 0
    assert printed(capfdbinary)["referred"] > 0


def test_a_trace_has_every_step(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    trace = tmp_path / "steps.txt"
    arguments = ["simulate", "--hours", "1", "--devices", "2", "--trace", str(trace), "--json"]
    assert run(arguments) == 0
    assert printed(capfdbinary)["steps"] == len(trace.read_text(encoding="utf-8").splitlines())


def test_a_swarm_adds_up_and_one_of_its_worlds_can_be_played_alone(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["simulate", "--swarm", "2", "--hours", "1", "--seed", "8", "--json"]) == 0
    swarm = printed(capfdbinary)
    assert (swarm["worlds"], swarm["failed"], swarm["converged"]) == (2, [], True)
    events = 0
    for seed in ("8", "9"):
        assert run(["simulate", "--swarm", "1", "--hours", "1", "--seed", seed, "--json"]) == 0
        events += printed(capfdbinary)["events"]
    assert swarm["events"] == events


def test_a_swarm_of_minutes_ends(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    arguments = ["simulate", "--swarm-minutes", "0.000001", "--hours", "1", "--json"]
    assert run(arguments) == 0
    assert printed(capfdbinary)["worlds"] <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--faults", "weather"],
        ["--swarm", "2", "--swarm-minutes", "1"],
        ["--swarm", "2", "--trace", "steps.txt"],
        ["--swarm", "2", "--references"],
        ["--devices", "0"],
        ["--seed", "-1"],
    ],
)
def test_wrong_calls_play_nothing(
    arguments: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["simulate", *arguments]) == 2
    assert capfd.readouterr().err.startswith("localmem: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("swarm", [[], ["--swarm", "2"]])
def test_a_world_that_does_not_converge_is_named_with_its_last_steps(
    swarm: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(settings: Settings, **more: Any) -> Report:
        report = simulate(settings, **more)
        return replace(report, converged=False, violations=("a world out of joint",))

    monkeypatch.setattr(module, "simulate", broken)
    assert run(["simulate", "--hours", "1", "--seed", "77", *swarm]) == 1
    error = capfd.readouterr().err
    assert "seed 77: 3 devices, 1 h; faults: " in error
    assert "  a world out of joint\nthe last steps:\n" in error
    again = "again: localmem simulate --swarm 1 --devices 3 --hours 1 --seed 77"
    assert (again in error) is bool(swarm)


def test_other_commands_do_not_import_it() -> None:
    script = (
        "import sys; from localmem_node.cli.main import run; run(['--help']);"
        "assert not [name for name in sys.modules if 'simulat' in name]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
