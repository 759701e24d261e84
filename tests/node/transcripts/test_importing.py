"""Imports that are repeated, cut short, of damaged files, or of files that grew or were replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from localmem_node.cli.transcripts import imported
from localmem_node.config import Settings, load_settings
from localmem_node.context import CLOSING, OPENING
from localmem_node.errors import DaemonError, TransferError
from localmem_node.transcripts import records
from localmem_node.transcripts.sending import Imported
from localmem_node.transcripts.sources import Kind
from support.capturing_daemon import CapturingDaemon
from support.editor_fixtures import CODEX_SESSIONS

SESSION = "0b0e7b52-0000-4000-8000-000000000001"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"LOCALMEM_HOME": str(tmp_path / "home")})


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "projects" / "-home-dev-shop" / f"{SESSION}.jsonl"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def daemon() -> CapturingDaemon:
    return CapturingDaemon()


def minute(number: int) -> str:
    return f"2026-11-{1 + number // 1440:02}T{number // 60 % 24:02}:{number % 60:02}:00.000Z"


def line(kind: str, content: object, number: int = 0, **fields: Any) -> str:
    """A record of Claude Code."""
    common = {"sessionId": SESSION, "cwd": "/home/dev/shop", "timestamp": minute(number)}
    message = {"role": kind, "content": content}
    return json.dumps({"type": kind, "message": message, **common, **fields}) + "\n"


def asked(number: int, text: str | None = None) -> str:
    return line("user", text or f"question {number}", number, promptId=f"p{number}")


def said(number: int, text: str | None = None) -> str:
    return line("assistant", [{"type": "text", "text": text or f"answer {number}"}], number)


def ran(number: int, command: str, output: str | None) -> str:
    call = {"type": "tool_use", "id": f"t{number}", "name": "Bash", "input": {"command": command}}
    if output is None:
        return line("assistant", [call], number)
    result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": output}
    return line("assistant", [call], number) + line("user", [result], number)


def take(
    path: Path, settings: Settings, daemon: CapturingDaemon, kind: Kind = "claude-code", **how: Any
) -> Imported:
    return imported(kind, path, settings, {}, daemon, **how)


def test_what_was_added_since_is_read_from_where_the_last_import_ended(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text("".join(asked(n) + said(n) for n in range(3)))
    first = take(transcript.parent, settings, daemon)
    assert (first.files, first.lines, first.recorded, first.known) == (1, 6, 6, 0)
    with transcript.open("a") as file:
        file.write(asked(3) + said(3))
    second = take(transcript.parent, settings, daemon)
    assert (second.files, second.lines, second.recorded, second.known) == (1, 2, 2, 0)
    assert take(transcript.parent, settings, daemon).lines == 0
    assert daemon.texts[-2:] == [("prompt", "question 3"), ("answer", "answer 3")]
    marks = list((settings.state_dir / "imports" / "claude-code").iterdir())
    assert len(marks) == 1
    assert marks[0].stat().st_mode & 0o777 == 0o600
    assert "shop" not in marks[0].name + marks[0].read_text()


def test_a_call_whose_result_comes_after_the_first_import_is_read_with_it(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text(asked(0) + ran(1, "make", None))
    assert take(transcript, settings, daemon).recorded == 1
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "built"}
    with transcript.open("a") as file:
        file.write(line("user", [result], 2)[:-20])
    assert take(transcript, settings, daemon).recorded == 0, "half a line"
    transcript.write_text(asked(0) + ran(1, "make", None) + line("user", [result], 2))
    assert take(transcript, settings, daemon).recorded == 1
    assert daemon.texts == [("prompt", "question 0"), ("command", "$ make\nbuilt")]


def test_a_file_that_was_written_anew_is_read_anew(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text("".join(asked(n) for n in range(4)))
    take(transcript, settings, daemon)
    transcript.write_text("".join(asked(n, f"other {n} " + "x" * 99) for n in range(4, 9)))
    report = take(transcript, settings, daemon)
    assert (report.lines, report.recorded) == (5, 5)
    os.truncate(transcript, 0)
    transcript.write_text(asked(0))
    assert (take(transcript, settings, daemon).known, len(daemon.kept)) == (1, 9)


def test_an_import_that_breaks_off_goes_on_where_it_was(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text("".join(asked(n) + said(n) for n in range(500)))
    daemon.calls_left = 2
    with pytest.raises(DaemonError):
        take(transcript, settings, daemon)
    before = len(daemon.kept)
    assert 0 < before < 1_000
    daemon.calls_left = 1_000
    report = take(transcript, settings, daemon)
    assert report.recorded == 1_000 - before
    assert report.known <= 2
    assert report.lines < 1_000 - before + 5
    assert daemon.texts == [
        one for n in range(500) for one in (("prompt", f"question {n}"), ("answer", f"answer {n}"))
    ]
    assert max(daemon.calls) <= 256


def test_broken_and_unknown_lines_are_counted_and_passed_over(
    settings: Settings, transcript: Path, daemon: CapturingDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 2_000)
    odd = [
        "{not json\n",
        "[1, 2]\n",
        "\n",
        json.dumps({"type": "hologram", "x": [{}]}) + "\n",
        json.dumps({"type": "user", "message": None}) + "\n",
        json.dumps({"type": "assistant", "message": {"content": [None, {"type": "tool_use"}]}}) + "\n",
        asked(1, "x" * 5_000),
        '{"type":"user","message":{"content":"half \\ud83d"},"sessionId":"s"}\n',
        "\x00\xff\n",
        "[" * 100_000 + "\n",
    ]  # fmt: skip
    transcript.write_text(asked(0) + "".join(odd) + asked(2), "latin-1")
    report = take(transcript, settings, daemon)
    assert [text for _, text in daemon.texts] == ["question 0", "half �", "question 2"]
    assert (report.lines, report.skipped) == (11, 5)


def test_what_is_older_than_asked_for_is_left_out_and_found_by_a_later_import(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text("".join(asked(n) for n in range(10)))
    since = 1_793_491_200_000 + 7 * 60_000
    report = take(transcript, settings, daemon, since_ms=since)
    assert (report.before, report.recorded) == (7, 3)
    assert take(transcript, settings, daemon, since_ms=since + 1).lines == 0
    report = take(transcript, settings, daemon)
    assert (report.recorded, report.known) == (7, 3)


def test_what_no_user_wrote_and_what_we_put_there_is_not_imported(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    ours = OPENING + "[1] edit price.py\n" + CLOSING
    attachment = {"type": "hook_additional_context", "content": [ours], "hookEvent": "Stop"}
    own = {"type": "tool_use", "id": "m1", "name": "mcp__localmem__query_recent", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "m1", "content": ours, "is_error": True}
    refused = {"type": "tool_use", "id": "e1", "name": "Edit", "input": {"file_path": "/a"}}
    error = {"type": "tool_result", "tool_use_id": "e1", "is_error": True}
    copied = {"sessionId": "another", "messageUuid": "m"}
    transcript.write_text(
        line("attachment", "", attachment=attachment)
        + asked(1, "<command-name>/model</command-name>")
        + asked(2, "<local-command-stdout>ok</local-command-stdout>")
        + asked(3, "[Request interrupted by user]")
        + line("user", "Continue from where you left off.", isMeta=True)
        + asked(4, "really asked\n<system-reminder>\nbe brief\n</system-reminder>")
        + asked(5, f"{ours}and this")
        + line("assistant", [own]) + line("user", [result])
        + line("assistant", [refused])
        + line("user", [{**error, "content": "<tool_use_error>not read yet</tool_use_error>"}])
        + line("user", "copied by a fork", forkedFrom=copied)
        + line("assistant", "an API error", isApiErrorMessage=True)
        + line("summary", "")
        + line("attachment", "", attachment={"type": "queued_command", "prompt": "while it runs"})
    )  # fmt: skip
    report = take(transcript, settings, daemon)
    texts = [text.strip() for _, text in daemon.texts]
    assert texts == ["really asked", "and this", "while it runs"]
    assert report.skipped == 0


def test_an_answer_is_what_the_model_said_last_in_a_turn(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text(
        asked(0) + said(0, "Let me look.") + ran(1, "ls", "price.py") + said(2, "It is there.")
        + asked(3) + said(3, "Unfinished, then")
    )  # fmt: skip
    take(transcript, settings, daemon)
    answers = [text for kind, text in daemon.texts if kind == "answer"]
    assert answers == ["It is there.", "Unfinished, then"]
    (draft,) = [draft for draft, _ in daemon.kept if draft.snippet == "It is there."]
    assert draft.timestamp == 1_793_491_200_000 + 2 * 60_000


def test_packed_rollouts_are_read(
    tmp_path: Path, settings: Settings, daemon: CapturingDaemon
) -> None:
    (source,) = CODEX_SESSIONS.rglob("rollout-*.jsonl")
    packed = tmp_path / "archived_sessions" / f"{source.name}.zst"
    packed.parent.mkdir()
    compressor = zstandard.ZstdCompressor()
    packed.write_bytes(compressor.compress(source.read_bytes()))
    environment = {"CODEX_HOME": str(tmp_path)}
    report = imported("codex", None, settings, environment, daemon)
    assert (report.files, report.recorded) == (1, 7)
    assert imported("codex", None, settings, environment, daemon).lines == 0
    (packed.parent / "rollout-x.jsonl.zst").write_bytes(packed.read_bytes()[:-30] + b"x" * 30)
    damaged = imported("codex", None, settings, environment, daemon)
    assert len(damaged.unreadable) == 1
    assert "rollout-x.jsonl.zst: damaged" in damaged.unreadable[0]


def test_what_cannot_be_opened_is_listed_and_the_rest_is_imported(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text(asked(0))
    (transcript.parent / "gone.jsonl").symlink_to("nowhere")
    report = take(transcript.parent, settings, daemon)
    assert report.recorded == 1
    assert report.unreadable == [f"{transcript.parent}/gone.jsonl: No such file or directory"]


@pytest.mark.parametrize("folder", ["C:\\Users\\dev\\shop", "shop"])
def test_a_folder_that_this_machine_cannot_have_is_no_project(
    folder: str, settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    transcript.write_text(line("user", "why", 0, promptId="p", cwd=folder) + asked(1))
    assert take(transcript, settings, daemon).recorded == 2
    assert [where for _, where in daemon.kept] == [None, "/home/dev/shop"]


def test_refused_and_too_old_events_are_told(settings: Settings, transcript: Path) -> None:
    transcript.write_text(asked(0) + asked(5))
    denying = CapturingDaemon(denied=["claude-code"], oldest_ms=1_793_491_200_000 + 60_000)
    report = take(transcript, settings, denying)
    assert (report.recorded, report.too_old, report.refused) == (0, 1, 1)
    assert report.refusals == [
        {"session": SESSION, "timestamp": 1_793_491_500_000, "kind": "prompt",
         "reason": "tool: is denied"}
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["claude-code", "codex", "cursor", "claude-mem"])
def test_where_nothing_is_says_so(
    kind: Kind, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TransferError, match="name a PATH"):
        imported(kind, None, settings, {}, CapturingDaemon())
    with pytest.raises(TransferError, match="no transcript of"):
        imported(kind, tmp_path, settings, {}, CapturingDaemon())


def test_a_subagents_report_is_under_its_type_and_its_commands_are_in_its_session(
    settings: Settings, transcript: Path, daemon: CapturingDaemon
) -> None:
    inner = transcript.parent / SESSION / "subagents" / "agent-a1.jsonl"
    inner.parent.mkdir(parents=True)
    side: dict[str, Any] = {"isSidechain": True, "agentId": "a1"}
    call = {"type": "tool_use", "id": "t9", "name": "Bash", "input": {"command": "rg tax"}}
    result = {"type": "tool_result", "tool_use_id": "t9", "content": "price.py:5"}
    inner.write_text(
        line("user", "look for tax", **side)
        + line("assistant", [call], **side) + line("user", [result], **side)
        + line("assistant", [{"type": "text", "text": "Only price.py."}], **side)
    )  # fmt: skip
    inner.with_suffix(".meta.json").write_text('{"agentType":"Explore"}')
    take(transcript.parent, settings, daemon)
    assert daemon.texts == [
        ("command", "$ rg tax\nprice.py:5"),
        ("answer", "[Explore] Only price.py."),
    ]
    assert {draft.session for draft, _ in daemon.kept} == {SESSION}
