"""Which files an editor's settings are in, and what of ours belongs into each. Reads nothing.

Project scope means: in this project, for this user. Hooks and servers name a launcher by its path on
this machine, since an editor has a PATH of its own, so they go where the editor keeps what is not
shared: `.claude/settings.local.json` and the project's entry in `.claude.json`. Codex and Cursor have
no such place; install says so when git does not ignore their files. No file of a project ever holds a
token. What a team shares is the plugin, which looks for the launcher and is silent without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from localmem_node.daemon.endpoint import HookEndpoint
from localmem_node.editors.captured import Editor
from localmem_node.installing.hooks import (
    CURSOR_VERSION,
    LAUNCHER,
    claude_hooks,
    codex_hooks,
    cursor_hooks,
)
from localmem_node.installing.parts import (
    SERVER_PROGRAM,
    FilePart,
    HooksPart,
    Part,
    ServerPart,
    TomlServerPart,
)
from localmem_node.installing.rules import CURSOR_RULES
from localmem_node.installing.toml_text import Table

Scope = Literal["user", "project"]

APPROVAL: Final = "approve"
"""Without it `codex exec` refuses every call: there is nobody to ask."""

ASKED: Final[Table] = {"forget": {"approval_mode": "prompt"}}
"""What is erased does not come back: about that Codex asks all the same."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of a user, as the editors see them, and the root of the project at hand."""

    home: Path
    claude: Path
    claude_state: Path
    codex: Path
    cursor: Path
    project: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], home: Path, project: Path) -> Places:
        """By the variables that the editors themselves go by."""
        claude = environment.get("CLAUDE_CONFIG_DIR")
        codex = environment.get("CODEX_HOME")
        return cls(
            home=home,
            claude=Path(claude).absolute() if claude else home / ".claude",
            claude_state=(Path(claude).absolute() if claude else home) / ".claude.json",
            codex=Path(codex).absolute() if codex else home / ".codex",
            cursor=home / ".cursor",
            project=project,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A file, and what of ours belongs into it; `secret` if that is a token.

    `name` tells it from other parts of ours in the same file.
    """

    name: str
    path: Path
    part: Part
    secret: bool = False


def claude_settings(places: Places, scope: Scope) -> Path:
    """Where the hooks of Claude Code go."""
    if scope == "user":
        return places.claude / "settings.json"
    return places.project / ".claude" / "settings.local.json"


def codex_folder(places: Places, scope: Scope) -> Path:
    """Where hooks.json and config.toml of Codex are."""
    return places.codex if scope == "user" else places.project / ".codex"


def cursor_folder(places: Places, scope: Scope) -> Path:
    """Where hooks.json and mcp.json of Cursor are."""
    return places.cursor if scope == "user" else places.project / ".cursor"


def targets(
    editor: Editor,
    scope: Scope,
    places: Places,
    programs: Path,
    endpoint: HookEndpoint | None,
    trusted: frozenset[str] = frozenset(),
) -> list[Target]:
    """What an editor is told, file by file.

    `programs` is the folder of the launchers; without an `endpoint` Claude Code gets command hooks;
    `trusted` are names in Codex's config that go together with our hooks.
    """
    if scope == "project":
        endpoint = None
    name = editor if scope == "user" else f"{editor} {places.project}"
    hook, server = programs / LAUNCHER, programs / SERVER_PROGRAM
    if editor == "claude-code":
        path = ("mcpServers",)
        if scope == "project":
            path = ("projects", str(places.project), *path)  # type: ignore[assignment]
        hooks = HooksPart(claude_hooks(hook, endpoint))
        return [
            Target(name, claude_settings(places, scope), hooks, secret=endpoint is not None),
            Target(name, places.claude_state, ServerPart(path, _stdio(server))),
        ]
    if editor == "codex":
        folder = codex_folder(places, scope)
        values: Table = {
            "command": str(server),
            "default_tools_approval_mode": APPROVAL,
            "tools": ASKED,
        }
        return [
            Target(name, folder / "hooks.json", HooksPart(codex_hooks(hook))),
            Target(name, folder / "config.toml", TomlServerPart(values, trusted)),
        ]
    folder = cursor_folder(places, scope)
    found = [
        Target(
            name,
            folder / "hooks.json",
            HooksPart(cursor_hooks(hook), {"version": CURSOR_VERSION}),
        ),
        Target(name, folder / "mcp.json", ServerPart(("mcpServers",), {"command": str(server)})),
    ]
    if scope == "project":
        found.append(Target(name, folder / "rules" / "localmem.mdc", FilePart(CURSOR_RULES)))
    return found


def _stdio(server: Path) -> dict[str, Any]:
    """As `claude mcp add` writes it."""
    return {"type": "stdio", "command": str(server), "args": [], "env": {}}
