"""What hooks told is what the transcript of the same session has: an import of it adds nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localmem_node.cli.transcripts import imported
from localmem_node.config import load_settings
from localmem_node.editors.captured import Captured, Editor
from localmem_node.editors.drafting import nowhere
from localmem_node.editors.reading import read_hook
from localmem_node.transcripts.records import open_records, records_from
from localmem_node.transcripts.sources import reader_of, sources_of
from support.capturing_daemon import CapturingDaemon
from support.editor_fixtures import CLAUDE_PROJECTS, CODEX_SESSIONS, CURSOR_PROJECTS, payloads

PLACES: dict[Editor, Path] = {
    "claude-code": CLAUDE_PROJECTS,
    "codex": CODEX_SESSIONS,
    "cursor": CURSOR_PROJECTS,
}


def standing(_path: str, text: str) -> tuple[int, int]:
    """A file in which every text stands."""
    return (1, 1 + text.count("\n"))


def hooked(editor: Editor) -> list[Captured]:
    """What the hooks of the session told, each event once."""
    seen: set[str] = set()
    told: list[Captured] = []
    for payload in payloads(editor):
        locate: Callable[[str, str], Any] = standing if editor == "codex" else nowhere
        for one in read_hook(editor, payload, 0, locate).captured:
            if one.key not in seen:
                seen |= {one.key, *one.also}
                told.append(one)
    return told


def written(editor: Editor) -> list[Captured]:
    """What its transcript has."""
    found: list[Captured] = []
    for source in sources_of(editor, PLACES[editor], {}):
        reader = reader_of(editor, source)
        with open_records(source.path) as stream:
            for record in records_from(stream, 0):
                found += [one.captured for one in reader.feed(record.fields or {}, record.offset)]
        found += [one.captured for one in reader.finish()]
    return found


def shown(events: list[Captured]) -> set[tuple[str, str, str, str | None]]:
    return {(one.key, one.draft.kind, one.draft.snippet, one.draft.file_path) for one in events}


def without_slash_commands(events: list[Captured]) -> list[Captured]:
    return [one for one in events if not one.draft.snippet.startswith("/")]


def test_claude_codes_hooks_and_transcript_tell_the_same_under_the_same_keys() -> None:
    told, found = without_slash_commands(hooked("claude-code")), written("claude-code")
    assert len(told) == 13
    assert shown(found) == shown(told)
    lines = {one.key: one.draft.selection_range for one in told}
    assert {one.key: one.draft.selection_range for one in found} == lines
    assert {one.draft.session for one in found} == {one.draft.session for one in told}


def test_codexs_hooks_and_rollout_tell_the_same_but_the_rollout_knows_the_exit_code() -> None:
    told, found = hooked("codex"), written("codex")
    assert len(told) == 7
    failing = "$ ls /nonexistent-dir\n"
    known = shown([one for one in told if not one.draft.snippet.startswith(failing)])
    assert {one.key for one in found} == {one.key for one in told}
    assert shown([one for one in found if not one.draft.snippet.startswith(failing)]) == known
    (error,) = [one.draft for one in found if one.draft.snippet.startswith(failing)]
    assert (error.kind, error.snippet.splitlines()[1]) == ("error", "exit 2")
    edits = [(one.draft.file_path, one.draft.selection_range) for one in found]
    assert ("/home/dev/shop/price.py", (7, 7)) in edits, "the rollout has the lines"


@pytest.mark.parametrize("editor", ["claude-code", "codex", "cursor"])
def test_importing_what_hooks_captured_adds_nothing(editor: Editor, tmp_path: Path) -> None:
    daemon = CapturingDaemon()
    daemon.hooked(hooked(editor))
    settings = load_settings({"LOCALMEM_HOME": str(tmp_path)})
    report = imported(editor, PLACES[editor], settings, {}, daemon)
    assert daemon.texts == []
    assert (report.recorded, report.refused) == (0, 0)
    assert report.known == len(written(editor)) > 0


@pytest.mark.parametrize("editor", ["claude-code", "codex", "cursor"])
def test_without_hooks_an_import_finds_it_all_and_a_second_one_nothing(
    editor: Editor, tmp_path: Path
) -> None:
    daemon = CapturingDaemon()
    settings = load_settings({"LOCALMEM_HOME": str(tmp_path)})
    report = imported(editor, PLACES[editor], settings, {}, daemon)
    assert daemon.texts
    assert report.recorded == len(daemon.texts)
    assert {folder for _, folder in daemon.kept} <= {"/home/dev/shop", None}
    again = imported(editor, PLACES[editor], settings, {}, daemon)
    assert (again.files, again.lines, again.recorded, again.known) == (0, 0, 0, 0)
    anew = imported(editor, PLACES[editor], settings, {}, daemon, again=True)
    assert anew.recorded == 0
    assert anew.known > 0


def test_a_turn_of_cursor_that_was_captured_is_known_as_a_whole(tmp_path: Path) -> None:
    """Its transcript says other words for the same edit than the hook was told."""
    (source,) = sources_of("cursor", CURSOR_PROJECTS, {})
    lines = source.path.read_text().splitlines()
    more = [
        {"role": "user", "message": {"content": [{"type": "text", "text": "and now mine"}]}},
        {"role": "assistant", "message": {"content": [
            {"type": "tool_use", "name": "Shell", "input": {"command": "make"}},
            {"type": "text", "text": "Done."},
        ]}},
    ]  # fmt: skip
    edit = json.loads(lines[2])
    edit["message"]["content"][0]["input"]["new_string"] = "rate=0.19"
    lines[2] = json.dumps(edit)
    copy = tmp_path / "agent-transcripts" / source.path.name
    copy.parent.mkdir()
    copy.write_text("\n".join([*lines, *map(json.dumps, more)]) + "\n")
    daemon = CapturingDaemon()
    daemon.hooked(hooked("cursor"))
    settings = load_settings({"LOCALMEM_HOME": str(tmp_path)})
    imported("cursor", copy, settings, {}, daemon)
    assert daemon.texts == [
        ("prompt", "and now mine"),
        ("command", "$ make"),
        ("answer", "Done."),
    ]
