"""What a transcript is read into, and what its readers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from localmem_node.context import CLOSING, OPENING
from localmem_node.editors.captured import Captured
from localmem_protocol.limits import TIMESTAMP_MS_MAX

PENDING_MAX: Final = 1_024
"""Calls of one session that wait for their result; older ones never got one."""

_OWN: Final = (OPENING.partition(",")[0], CLOSING.strip())
_REMINDER: Final = ("<system-reminder>", "</system-reminder>")
_PUT_THERE: Final = (
    # Claude Code
    "<command-", "<local-command-", "<bash-", "<ide_", "<task-notification>", "<teammate-message",
    "<user-prompt-submit-hook>", "<post-tool-use-hook>", "[Request interrupted by user",
    "This session is being continued from a previous conversation",
    # Codex
    "<environment_context>", "<user_instructions>", "# AGENTS.md instructions", "<INSTRUCTIONS>",
    "<turn_aborted>", "<skill>", "<subagent_notification>", "<user_shell_command>",
    "<codex_internal_context", "<permissions instructions>", "<skills_instructions>",
)  # fmt: skip
"""How messages of the user begin that no user wrote."""


@dataclass(frozen=True, slots=True)
class Found:
    """An event of a transcript; `folder` is where the session worked, by which its project is known.

    `opens` marks the prompt of a turn whose other events have no name that a hook would have given
    them; those are `within`. If the prompt was known already, its turn was captured.
    """

    captured: Captured
    folder: str | None
    opens: bool = False
    within: bool = False


class Reader(Protocol):
    """Reads one transcript, record by record."""

    def head(self, fields: Mapping[str, Any]) -> None:
        """The first record, where reading begins further on."""
        ...

    def feed(self, fields: Mapping[str, Any], offset: int) -> Sequence[Found]:
        """The record that begins at `offset`, and the events that are complete with it."""
        ...

    def finish(self) -> Sequence[Found]:
        """The events that only the end of the transcript completes."""
        ...

    def needed(self) -> int | None:
        """Where the first record begins that what comes later may need; None if none does."""
        ...


def spoken(text: str) -> str:
    """What of a user's message the user wrote: without reminders and our own context; "" where an
    editor wrote it all.
    """
    for opening, closing in (_OWN, _REMINDER):
        while (start := text.find(opening)) >= 0:
            end = text.find(closing, start)
            text = text[:start] + (text[end + len(closing) :] if end >= 0 else "")
    return "" if text.lstrip().startswith(_PUT_THERE) else text


def moment_of(value: object) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time, or None."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = round(datetime.fromisoformat(value).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if 0 <= moment <= TIMESTAMP_MS_MAX else None
