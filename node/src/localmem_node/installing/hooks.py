"""Which hooks each editor gets, and how ours are known again. Pure.

Claude Code calls the daemon itself, by HTTP, for what happens often: no process is started, and while
the daemon is away a refused connection costs nothing. It does not for the start of a session; and at
its end and around a compaction the daemon may be away, which only the command client copes with.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from localmem_node.daemon.endpoint import HookEndpoint

Transport = Literal["http", "command"]
Hooks = dict[str, list[dict[str, Any]]]

LAUNCHER: Final = "localmem-hook"
ROUTE: Final = "/v1/hook/"

HTTP_TIMEOUT_S: Final = 0.3
"""What a daemon that hangs may cost; Claude Code takes fractions of seconds here."""

COMMAND_TIMEOUT_S: Final = 2
"""The client bounds its own waiting; this is for a machine on which not even that works. More than
one second, which a cold interpreter on a slow disk may need. Whole seconds: Codex takes no others."""

CLAUDE_TOOLS: Final = "Bash|PowerShell|Edit|MultiEdit|Write|NotebookEdit"
"""The tools whose successes are remembered; others would only cost a call."""

CLAUDE_HOT: Final[Mapping[str, str | None]] = {
    "UserPromptSubmit": None,
    "PostToolUse": CLAUDE_TOOLS,
    "PostToolUseFailure": None,
    "Stop": None,
    "SubagentStop": None,
}
CLAUDE_COLD: Final = ("SessionStart", "SessionEnd", "PreCompact", "PostCompact")
CLAUDE_BACKGROUND: Final = frozenset({"PostToolUse", "PostToolUseFailure", "SubagentStop"})
"""With command hooks: nobody waits for these. Stop is waited for, or `claude -p` would end first."""

CODEX_EVENTS: Final[Mapping[str, str | None]] = {
    "SessionStart": None,
    "UserPromptSubmit": None,
    "PreToolUse": "Bash",  # a patch inside of a command is told nowhere else
    "PostToolUse": None,
    "PreCompact": None,
    "PostCompact": None,
    "SubagentStop": None,
    "Stop": None,
    "SessionEnd": None,
}
CODEX_BACKGROUND: Final = frozenset({"PostToolUse", "SubagentStop"})

CURSOR_STEPS: Final[Mapping[str, str | None]] = {
    "sessionStart": None,
    "beforeSubmitPrompt": None,
    "afterFileEdit": None,
    "afterTabFileEdit": None,
    "postToolUse": "Shell|Bash|run_terminal_cmd",  # edits come by a step of their own
    "postToolUseFailure": None,
    "afterAgentResponse": None,
    "subagentStop": None,
    "preCompact": None,
    "sessionEnd": None,
}
CURSOR_VERSION: Final = 1

_PROGRAM: Final = re.compile(rf"(?:^|[/\s'\"]){LAUNCHER}(?=$|[\s'\"])")
_URL: Final = re.compile(rf"http://127\.0\.0\.1:(\d+){ROUTE}[a-z-]+")


def claude_hooks(launcher: Path, endpoint: HookEndpoint | None) -> Hooks:
    """For Claude Code: HTTP hooks where there is an endpoint, else commands for all of it."""
    command = _command(launcher, "claude-code")
    hooks: Hooks = {}
    for event in CLAUDE_COLD:
        hooks[event] = [_group(_run(command))]
    for event, matcher in CLAUDE_HOT.items():
        if endpoint is not None:
            handler = _post(endpoint)
        else:
            handler = _run(command, background=event in CLAUDE_BACKGROUND)
        hooks[event] = [_group(handler, matcher)]
    return hooks


def codex_hooks(launcher: Path) -> Hooks:
    """For Codex. Its trust is in the text of these: a change of one asks the user again."""
    command = _command(launcher, "codex")
    return {
        event: [_group(_run(command, background=event in CODEX_BACKGROUND), matcher)]
        for event, matcher in CODEX_EVENTS.items()
    }


def cursor_hooks(launcher: Path) -> Hooks:
    """For Cursor, whose handlers stand in no groups."""
    handler: dict[str, Any] = {
        "command": _command(launcher, "cursor"),
        "timeout": COMMAND_TIMEOUT_S,
    }
    return {
        step: [handler | ({"matcher": matcher} if matcher else {})]
        for step, matcher in CURSOR_STEPS.items()
    }


def is_ours(handler: object) -> bool:
    """Whether a handler calls localmem, of whatever version, from wherever."""
    if not isinstance(handler, Mapping):
        return False
    command, url = handler.get("command"), handler.get("url")
    if isinstance(command, str) and _PROGRAM.search(command):
        return True
    return isinstance(url, str) and _URL.fullmatch(url) is not None


def handlers(document: object) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Every handler of ours in a file of hooks, with the path to it."""
    hooks = document.get("hooks") if isinstance(document, Mapping) else None
    for event, entries in hooks.items() if isinstance(hooks, Mapping) else ():
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            here = ("hooks", event, index)
            if is_ours(entry):
                yield here, entry
            inner = entry.get("hooks") if isinstance(entry, Mapping) else None
            for place, handler in enumerate(inner if isinstance(inner, list) else ()):
                if is_ours(handler):
                    yield (*here, "hooks", place), handler


def program_of(handler: Mapping[str, Any]) -> Path | None:
    """The program that a command hook of ours runs; None for an HTTP hook or one found by PATH."""
    try:
        words = shlex.split(str(handler.get("command", "")))
    except ValueError:
        return None
    return next((Path(one) for one in words if one.startswith("/") and LAUNCHER in one), None)


def port_of(handler: Mapping[str, Any]) -> int | None:
    """The port that an HTTP hook of ours asks."""
    found = _URL.fullmatch(str(handler.get("url", "")))
    return int(found[1]) if found else None


def _command(launcher: Path, editor: str) -> str:
    return f"{shlex.quote(str(launcher))} {editor}"


def _run(command: str, *, background: bool = False) -> dict[str, Any]:
    handler: dict[str, Any] = {"type": "command", "command": command, "timeout": COMMAND_TIMEOUT_S}
    return handler | {"async": True} if background else handler


def _post(endpoint: HookEndpoint) -> dict[str, Any]:
    return {
        "type": "http",
        "url": f"http://127.0.0.1:{endpoint.port}{ROUTE}claude-code",
        "headers": {"Authorization": f"Bearer {endpoint.token}"},
        "timeout": HTTP_TIMEOUT_S,
    }


def _group(handler: dict[str, Any], matcher: str | None = None) -> dict[str, Any]:
    return ({"matcher": matcher} if matcher else {}) | {"hooks": [handler]}
