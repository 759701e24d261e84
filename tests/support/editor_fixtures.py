"""Payloads and transcripts of the editors: real ones of Claude Code and Codex, Cursor's as its shapes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures" / "editors"
CLAUDE_PROJECTS = FOLDER / "claude-projects"
CODEX_SESSIONS = FOLDER / "codex-sessions"
CURSOR_PROJECTS = FOLDER / "cursor-projects"


@cache
def _lines(editor: str) -> tuple[str, ...]:
    return tuple((FOLDER / f"{editor}-hooks.jsonl").read_text("utf-8").splitlines())


def payloads(editor: str) -> list[dict[str, Any]]:
    """What the hooks of a session were given, in order."""
    return [json.loads(line) for line in _lines(editor)]


def payload(editor: str, name: str, **fields: Any) -> dict[str, Any]:
    """The first payload of the event called `name` with these fields, which may be dotted."""
    for one in payloads(editor):
        if one["hook_event_name"] == name and all(one.get(k) == v for k, v in fields.items()):
            return one
    raise LookupError(f"{editor} told no {name} with {fields}")
