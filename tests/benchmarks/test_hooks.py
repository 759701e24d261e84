from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from bench import hook_failures, hooks
from bench.hook_calls import INTERPRETER, bare_server, run
from bench.hook_payloads import EDITORS, EVENTS, Turn, payload
from localmem_node.config import load_settings
from localmem_node.editors.captured import EDITORS as KNOWN
from localmem_node.editors.reading import read_hook
from localmem_node.hook.launcher import write_launcher

_KINDS = {
    "session start": [],
    "prompt": ["prompt"],
    "edit": ["edit"],
    "command": ["command"],
    "answer": ["answer"],
    "session end": [],
}


def turn(number: int, folder: Path = Path("/home/dev/shop")) -> Turn:
    return Turn(number, folder, f"Why {number}?", "rate = 1", f"rate = {number}\nname = 2")


@pytest.mark.parametrize("editor", KNOWN)
@pytest.mark.parametrize("event", EVENTS)
def test_every_shape_is_read_as_what_it_stands_for(editor: str, event: str) -> None:
    told = [
        read_hook(name, payload(editor, event, turn(number)), 1, lambda path, text: (3, 4))
        for name in KNOWN
        if name == editor
        for number in (7, 8)
    ]
    assert [one.editor for one in told] == [editor] * 2
    assert {one.step for one in told} == {"tool" if event in ("edit", "command") else event}
    for one in told:
        assert [each.draft.kind for each in one.captured] == _KINDS[event]
        assert one.folder == "/home/dev/shop"
    for first, second in pairwise(told):
        assert first.session != second.session
        assert {each.key for each in first.captured}.isdisjoint(
            each.key for each in second.captured
        )


def test_the_shapes_are_of_every_editor() -> None:
    assert EDITORS == KNOWN


def test_the_server_that_does_nothing_answers_both_ways(tmp_path: Path) -> None:
    given = {"LOCALMEM_HOME": str(tmp_path)}
    command = (str(write_launcher(load_settings(given), given)), "codex")
    with bare_server(tmp_path) as caller:
        for _ in range(2):
            taken, answer = caller.call("/v1/hook/codex", b"{}")
            assert (taken > 0, answer) == (True, b"{}")
        assert run(command, b"{}", {})[1] == b""
        assert not (tmp_path / "run" / "hook.hung").exists()
    assert caller.call("/v1/hook/codex", b"{}")[1] == b""  # it is gone
    assert run(INTERPRETER, b"", {})[1] == b""


@pytest.mark.timeout(300)
def test_everything_is_measured_with_a_real_daemon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hooks, "WARM_UP", 1)
    monkeypatch.setattr(hook_failures, "NEXT", 2)
    monkeypatch.setattr(hook_failures, "STARTS", 2)
    monkeypatch.setattr(hook_failures, "IDLE_S", 0.5)
    hooks.main(["--events", "40", "--rounds", "1", "--pause", "0", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"baselines", "events", "breaker", "failures", "targets"}
    assert found["breaker"]["idle_wakeups"] == 0
    assert found["breaker"]["pss_mib"] >= found["breaker"]["private_mib"] > 0
    for editor in EDITORS:
        assert tuple(found["events"][editor]) == EVENTS
        for event, times in found["events"][editor].items():
            assert times["request"]["p99_ms"] >= times["request"]["p50_ms"] > 0
            assert event in ("session start", "prompt") or times["told"] == 0
        assert found["events"][editor]["session start"]["told"] == 1
    assert found["failures"].keys() == {"stopped", "hung", "killed", "spooled", "started"}
    assert found["targets"].keys() == hooks.TARGETS.keys()
    for target in found["targets"].values():
        assert target["met"] == (target["measured"] <= target["at_most"])
    hooks._print(found)
    assert "| compiled_ms" in capsys.readouterr().out
