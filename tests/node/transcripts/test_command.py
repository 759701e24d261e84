"""`localmem import` with the name of an editor, in front of a daemon that is played here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from localmem_node.cli import transcripts
from localmem_node.cli.main import run
from localmem_node.config import load_settings
from support.capturing_daemon import CapturingDaemon
from support.editor_fixtures import CLAUDE_PROJECTS, CODEX_SESSIONS, CURSOR_PROJECTS


class Client:
    """Has of a `DaemonClient` what an import uses."""

    daemon: CapturingDaemon

    def __init__(self, environment: dict[str, str]) -> None:
        self.settings = load_settings(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (method, path) == ("POST", "/v1/capture")
        assert set(body) == {"events", "folder", "imported"}
        assert body["imported"] is True
        return self.daemon(body["events"], body["folder"])


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CapturingDaemon:
    monkeypatch.setattr(transcripts, "DaemonClient", Client)
    monkeypatch.setenv("LOCALMEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "CLAUDE_MEM_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    Client.daemon = CapturingDaemon()
    return Client.daemon


Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(daemon: CapturingDaemon, capsys: pytest.CaptureFixture[str]) -> Said:
    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["import", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


def test_transcripts_are_found_where_the_editors_keep_them(
    tmp_path: Path, daemon: CapturingDaemon, said: Said
) -> None:
    for place, fixture in (
        (".claude/projects", CLAUDE_PROJECTS),
        (".codex/sessions", CODEX_SESSIONS),
        (".cursor/projects", CURSOR_PROJECTS),
    ):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).symlink_to(fixture)
    code, shown = said("claude-code")
    assert code == 0
    assert [line.split() for line in shown.splitlines()] == [
        ["Claude", "Code", "files", "2"],
        ["lines", "52"],
        ["recorded", "13"],
        ["known", "before", "0"],
    ]
    assert json.loads(said("codex", "--json")[1])["recorded"] == 7
    assert json.loads(said("cursor", "--json")[1])["files"] == 1
    again = json.loads(said("cursor", "--json", "--again")[1])
    assert (again["recorded"], again["files"]) == (0, 1)


def test_a_path_and_a_time_narrow_it(daemon: CapturingDaemon, said: Said) -> None:
    code, shown = said("codex", str(CODEX_SESSIONS), "--since", "2026-11-26", "--json")
    report = json.loads(shown)
    assert (code, report["before"], report["recorded"]) == (0, 7, 0)
    assert said("codex", str(CODEX_SESSIONS), "--since", "soon")[0] == 2
    code, shown = said("codex", str(CODEX_SESSIONS), "--since", "2026-11-25T00:00:00Z", "--json")
    assert json.loads(shown)["recorded"] == 7


def test_what_goes_wrong_is_said_in_one_line(
    tmp_path: Path, daemon: CapturingDaemon, said: Said
) -> None:
    code, shown = said("cursor")
    assert code == 1
    assert shown == (
        f"localmem: {tmp_path}/.cursor/projects: nothing of Cursor is there; name a PATH\n"
    )
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "gone.jsonl").symlink_to("nowhere")
    code, shown = said("claude-code", str(tmp_path / "projects"))
    assert code == 1
    assert "gone.jsonl: No such file or directory" in shown
    Client.daemon = CapturingDaemon(denied=["codex"])
    code, shown = said("codex", str(CODEX_SESSIONS))
    assert code == 0
    assert "prompt of 01a214cf" in shown
    assert "refused" in shown


def test_an_export_of_that_name_and_what_belongs_to_transcripts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codex").write_text("no export\n")
    code, shown = said("./codex")
    assert code == 1
    assert "./codex: is not an export of localmem" in shown
    for wrong in (["file", "path"], ["file", "--since", "7d"], ["file", "--again"]):
        code, shown = said(*wrong)
        assert code == 2
        assert "go with one of claude-code, codex, cursor, claude-mem" in shown
