"""Events from what an editor told: the one place where drafts are made, so that all are valid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from localmem_node.editors.captured import Captured, Editor, key_of
from localmem_node.editors.texts import (
    COMMAND_MAX,
    bounded,
    clean,
    digest_of,
    message_text,
    output_of,
    path_of,
)
from localmem_protocol.errors import EventError
from localmem_protocol.events import parse_draft
from localmem_protocol.limits import LINE_MAX, TIMESTAMP_MS_MAX

Locate = Callable[[str, str], tuple[int, int] | None]
"""(absolute path, text) → the first and last line, 1-based, at which the text stands in the file
now, or None."""

Events = tuple[Captured, ...]

OWN_TOOLS: Final = (
    "mcp__localmem__",
    "mcp__plugin_localmem",
    "localmem-",
    "localmem_",
    "localmem/",
)
"""How editors begin the names of our own tools; what those answer is not remembered again."""

_OWN_COMMAND: Final = re.compile(r"\s*(?:[^\s;&|]*/)?localmem\s")
"""Nor is what our own command prints."""


def is_own_tool(name: str) -> bool:
    """Whether this is a tool of our own MCP server."""
    return name.lower().removeprefix("mcp:").startswith(OWN_TOOLS)


def nowhere(_path: str, _text: str) -> tuple[int, int] | None:
    """A `Locate` for what happened long ago: the file is not what it was."""
    return None


@dataclass(frozen=True, slots=True)
class Drafting:
    """Makes events of one session; `folder` is where it works, `time_ms` when they happened.

    Every method takes the event's keys, the strongest first, and returns one event, or none where
    nothing is left to remember.
    """

    editor: Editor
    session: str | None
    folder: str | None
    time_ms: int

    def key(self, kind: str, *parts: str) -> str:
        """The key of an event of this session."""
        return key_of(self.session, kind, *parts)

    def prompt(self, text: str, *keys: str) -> Events:
        """What the user wrote."""
        return self._event({"kind": "prompt", "snippet": bounded(text)}, keys)

    def answer(self, text: str, *keys: str, agent: str | None = None) -> Events:
        """What the model answered; `agent` is the type of the subagent that did."""
        said = bounded(text.strip())
        snippet = f"[{agent}] {said}" if agent and said.strip() else said
        fields = {"kind": "answer", "snippet": snippet, "modelResponseHash": digest_of(text)}
        return self._event(fields, keys)

    def note(self, text: str, *keys: str) -> Events:
        """A summary, a plan or a decision."""
        return self._event({"kind": "note", "snippet": bounded(text.strip())}, keys)

    def command(
        self, command: str, output: str, *keys: str, code: int | None = None, failed: bool = False
    ) -> Events:
        """A command with what it printed; an error if its exit code says so, or `failed` does."""
        if not command.strip() or _OWN_COMMAND.match(f"{command} "):
            return ()
        wrong = failed or code not in (None, 0)
        lines = [f"$ {bounded(command.strip(), COMMAND_MAX)}"]
        if wrong and code is not None:
            lines.append(f"exit {code}")
        if printed := output_of(output):
            lines.append(printed)
        kind = "error" if wrong else "command"
        return self._event({"kind": kind, "snippet": "\n".join(lines)}, keys)

    def failure(self, tool: str, error: str, *keys: str, path: object = None) -> Events:
        """A tool that failed, and the file that it was to work on."""
        name = clean(tool[:200]).strip() or "tool"
        fields = {"kind": "error", "snippet": f"{name}\n{output_of(error)}".strip()}
        return self._event({**fields, "filePath": path_of(path, self.folder)}, keys)

    def edit(
        self, path: object, text: str, *keys: str, lines: tuple[int, int] | None = None
    ) -> Events:
        """New text in a file; without `lines`, as if it were the whole file."""
        if lines is None or not 1 <= lines[0] <= lines[1] <= LINE_MAX:
            lines = (1, 1 + text.rstrip("\n").count("\n"))
        fields = {"kind": "edit", "snippet": bounded(text), "selectionRange": lines}
        return self._event({**fields, "filePath": path_of(path, self.folder)}, keys)

    def _event(self, fields: Mapping[str, Any], keys: tuple[str, ...]) -> Events:
        stamped = {
            **fields,
            "timestamp": max(0, min(self.time_ms, TIMESTAMP_MS_MAX)),
            "tool": self.editor,
            "session": self.session,
        }
        try:
            draft = parse_draft(stamped)
        except EventError:  # blank, or nowhere
            return ()
        key, *also = keys
        return (Captured(draft, key, tuple(also)),)


def answered(drafting: Drafting, turn: str | None, text: str) -> Events:
    """The last thing that the model said in a turn."""
    weak = drafting.key("answer", digest_of(text))
    keys = (drafting.key("answer", turn, digest_of(text)), weak) if turn else (weak,)
    return drafting.answer(text, *keys)


def subagent_answered(drafting: Drafting, id_: str | None, agent: str | None, text: str) -> Events:
    """What a subagent reported at its end."""
    weak = drafting.key("subagent", digest_of(text))
    keys = (drafting.key("subagent", id_, digest_of(text)), weak) if id_ else (weak,)
    return drafting.answer(text, *keys, agent=agent or "subagent")


def joined(value: object) -> str:
    """What a tool returned, as text: its output, its message, or its blocks."""
    if isinstance(value, Mapping):
        parts = [value.get(name) for name in ("stdout", "stderr", "output", "error")]
        texts = [part for part in parts if isinstance(part, str) and part.strip()]
        return "\n".join(text.rstrip("\n") for text in texts) or message_text(value)
    return message_text(value)
