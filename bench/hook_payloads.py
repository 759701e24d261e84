"""What the hooks of a session are given, in the shapes that Claude Code 2.1, Codex 0.169 and Cursor have.

One session after the other: start, prompt, edit, command, answer, end. No two have an id or a text in
common, so that every event is a new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

EDITORS: Final = ("claude-code", "codex", "cursor")
EVENTS: Final = ("session start", "prompt", "edit", "command", "answer", "session end")
OUTPUT_LINES: Final = 20
ANSWER_WORDS: Final = 60
FILE_EDITS: Final = 4
"""Turns that edit the same file."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A session of one turn, by its number: what is asked about, and what is edited where."""

    number: int
    folder: Path
    prompt: str
    before: str
    after: str

    @property
    def session(self) -> str:
        """Its id."""
        return f"00000000-0000-4000-8000-{self.number:012d}"

    @property
    def file(self) -> Path:
        """The file that is edited, which has the new text by then."""
        return self.folder / "src" / f"module_{self.number // FILE_EDITS}.py"

    @property
    def command(self) -> str:
        """What is run."""
        return f"python -m pytest -q tests/test_{self.number}.py"

    @property
    def output(self) -> str:
        """What it prints."""
        lines = [f"tests/test_{self.number}.py .... line {line}" for line in range(OUTPUT_LINES)]
        return "\n".join([*lines, f"{self.number} passed in 0.12s", ""])

    @property
    def answer(self) -> str:
        """What the model says in the end."""
        words = self.after.split() or ["done"]
        told = " ".join(words[at % len(words)] for at in range(ANSWER_WORDS))
        return f"Change {self.number} is made, and its tests pass. {told}"

    def write(self) -> None:
        """Put the file there, as the editor did before it told."""
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(f'"""Module {self.number}."""\n\n{self.after}\n')


def payload(editor: str, event: str, turn: Turn) -> dict[str, Any]:
    """What the editor gives its hook for this event of EVENTS."""
    shapes = {"claude-code": _claude_code, "codex": _codex, "cursor": _cursor}
    return {key: value for key, value in shapes[editor](event, turn).items() if value is not None}


def _claude_code(event: str, turn: Turn) -> Mapping[str, Any]:
    shared = {
        "session_id": turn.session,
        "transcript_path": f"{turn.folder}/.claude/projects/-checkout/{turn.session}.jsonl",
        "cwd": str(turn.folder),
        "prompt_id": None if event == "session start" else f"prompt-{turn.session}",
        "permission_mode": "default",
    }
    if event == "session start":
        return shared | {"hook_event_name": "SessionStart", "source": "startup"}
    if event == "prompt":
        return shared | {"hook_event_name": "UserPromptSubmit", "prompt": turn.prompt}
    if event == "answer":
        return shared | {
            "hook_event_name": "Stop",
            "stop_hook_active": False,
            "last_assistant_message": turn.answer,
            "background_tasks": [],
        }
    if event == "session end":
        return shared | {"hook_event_name": "SessionEnd", "reason": "other"}
    return (
        shared
        | {"hook_event_name": "PostToolUse", "tool_use_id": f"toolu_{event}_{turn.number}"}
        | (_claude_edit(turn) if event == "edit" else _claude_command(turn))
    )


def _claude_edit(turn: Turn) -> dict[str, Any]:
    removed, added = turn.before.split("\n"), turn.after.split("\n")
    return {
        "tool_name": "Edit",
        "tool_input": {
            "file_path": str(turn.file),
            "old_string": turn.before,
            "new_string": turn.after,
            "replace_all": False,
        },
        "tool_response": {
            "filePath": str(turn.file),
            "oldString": turn.before,
            "newString": turn.after,
            "originalFile": f'"""Module {turn.number}."""\n\n{turn.before}\n',
            "structuredPatch": [
                {
                    "oldStart": 3,
                    "oldLines": len(removed),
                    "newStart": 3,
                    "newLines": len(added),
                    "lines": [f"-{line}" for line in removed] + [f"+{line}" for line in added],
                }
            ],
            "userModified": False,
        },
        "duration_ms": 3,
    }


def _claude_command(turn: Turn) -> dict[str, Any]:
    return {
        "tool_name": "Bash",
        "tool_input": {"command": turn.command, "description": "run the tests"},
        "tool_response": {"stdout": turn.output, "stderr": "", "interrupted": False},
        "duration_ms": 400,
    }


def _codex(event: str, turn: Turn) -> Mapping[str, Any]:
    shared = {
        "session_id": turn.session,
        "turn_id": None if event.startswith("session") else f"turn-{turn.session}",
        "transcript_path": f"{turn.folder}/.codex/sessions/rollout-{turn.session}.jsonl",
        "cwd": str(turn.folder),
        "model": "gpt-5",
        "permission_mode": "default",
    }
    if event == "session start":
        return shared | {"hook_event_name": "SessionStart", "source": "startup"}
    if event == "prompt":
        return shared | {"hook_event_name": "UserPromptSubmit", "prompt": turn.prompt}
    if event == "answer":
        return shared | {"hook_event_name": "Stop", "last_assistant_message": turn.answer}
    if event == "session end":
        return shared | {"hook_event_name": "SessionEnd", "reason": "other"}
    shared |= {"hook_event_name": "PostToolUse", "tool_use_id": f"call_{event}_{turn.number}"}
    if event == "command":
        return shared | {
            "tool_name": "Bash",
            "tool_input": {"command": turn.command},
            "tool_response": turn.output,
        }
    removed = "".join(f"-{line}\n" for line in turn.before.split("\n"))
    added = "".join(f"+{line}\n" for line in turn.after.split("\n"))
    name = turn.file.relative_to(turn.folder)
    return shared | {
        "tool_name": "apply_patch",
        "tool_input": {
            "command": f"*** Begin Patch\n*** Update File: {name}\n@@\n{removed}{added}*** End Patch\n"
        },
        "tool_response": f"Exit code: 0\nWall time: 0 seconds\nOutput:\nSuccess.\nM {name}\n",
    }


def _cursor(event: str, turn: Turn) -> Mapping[str, Any]:
    shared = {
        "conversation_id": turn.session,
        "generation_id": f"generation-{turn.session}",
        "model": "composer-2",
        "session_id": turn.session,
        "cursor_version": "3.4.1",
        "workspace_roots": [str(turn.folder)],
    }
    if event == "session start":
        return shared | {"hook_event_name": "sessionStart", "composer_mode": "agent"}
    if event == "prompt":
        return shared | {"hook_event_name": "beforeSubmitPrompt", "prompt": turn.prompt}
    if event == "answer":
        return shared | {"hook_event_name": "afterAgentResponse", "text": turn.answer}
    if event == "session end":
        return shared | {"hook_event_name": "sessionEnd", "reason": "completed"}
    if event == "edit":
        return shared | {
            "hook_event_name": "afterFileEdit",
            "file_path": str(turn.file),
            "edits": [{"old_string": turn.before, "new_string": turn.after}],
        }
    return shared | {
        "hook_event_name": "postToolUse",
        "tool_name": "Shell",
        "tool_input": {"command": turn.command, "cwd": str(turn.folder)},
        "tool_output": json.dumps({"output": turn.output, "exitCode": 0}),
        "tool_use_id": f"tool_{turn.number}",
        "duration": 400,
    }
