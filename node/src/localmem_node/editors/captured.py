"""What an editor told: a step of its session, and the events in it.

A real-world event has one key, whatever the way it came by: a hook, the same hook replayed by another
editor, a spooled hook, or a transcript that is imported later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from localmem_protocol.events import Draft

Editor = Literal["claude-code", "codex", "cursor"]
EDITORS: Final[tuple[Editor, ...]] = get_args(Editor)

Step = Literal[
    "session start",
    "prompt",
    "tool",
    "answer",
    "subagent end",
    "before compaction",
    "after compaction",
    "session end",
    "other",
]


@dataclass(frozen=True, slots=True)
class Captured:
    """An event as an editor told it, not yet redacted.

    `key` names the real-world event; it counts as known if this key was seen before. `also` are
    weaker names of the same event, remembered with it, under which a source that knows less (a
    transcript without ids) will find it. `unless` are keys of what tells the same in another way: it
    counts as known if one of them was seen, and leaves none of them behind.
    """

    draft: Draft
    key: str
    also: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """One call of a hook.

    `editor` is who really runs: Cursor replays the hooks of Claude Code. `name` is the event as the
    caller called it, which the answer has to repeat. `folder` is the absolute path of where the session
    works; `source` how it began (startup, resume, clear, compact, fork), `prompt` what the user
    wrote.
    """

    editor: Editor
    name: str
    step: Step
    session: str | None
    folder: str | None
    source: str | None = None
    prompt: str | None = None
    captured: tuple[Captured, ...] = ()


def key_of(session: str | None, kind: str, *parts: str) -> str:
    """The key of an event of a session: its kind, and what tells it from its like."""
    return "\0".join((session or "", kind, *parts))
