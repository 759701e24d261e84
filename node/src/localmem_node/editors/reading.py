"""One door to the adapters: whose payload this is, and how that editor is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmem_node.editors import claude_code, codex, cursor
from localmem_node.editors.captured import Editor, Told
from localmem_node.editors.drafting import Locate


def read_hook(editor: Editor, payload: object, now_ms: int, locate: Locate) -> Told:
    """What a payload told that came to `editor`'s hook. Never raises, whatever JSON it is.

    Cursor runs the hooks of Claude Code as well, and then it is Cursor that tells.
    """
    fields: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
    if editor == "cursor" or cursor.is_cursor(fields):
        return cursor.read(fields, now_ms, locate)
    if editor == "codex":
        return codex.read(fields, now_ms, locate)
    return claude_code.read(fields, now_ms, locate)


def reply_to(told: Told, text: str) -> dict[str, Any]:
    """The JSON that gives `text` to the model in answer to what was told; {} if it takes none."""
    if told.editor == "cursor":
        return cursor.reply(told.name, text)
    if told.editor == "codex":
        return codex.reply(told.name, text)
    return claude_code.reply(told.name, text)
