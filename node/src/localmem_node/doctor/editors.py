"""The checks of the editors: are they wired, do they call, and does what they call answer?"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from localmem_node.config import Settings
from localmem_node.daemon.endpoint import HookEndpoint, is_held, read_endpoint
from localmem_node.daemon.state import DaemonState
from localmem_node.doctor.check import Check
from localmem_node.editors.captured import EDITORS, Editor
from localmem_node.errors import InstallError, NodeError
from localmem_node.hook.compiled import find_compiled, interpreter_of
from localmem_node.hook.launcher import hook_path
from localmem_node.installing.hooks import handlers, port_of, program_of
from localmem_node.installing.parts import SERVER, Part, Refused, is_our_server
from localmem_node.installing.places import (
    Places,
    Scope,
    claude_settings,
    codex_folder,
    cursor_folder,
    targets,
)
from localmem_node.installing.planning import plan_uninstall, read_settings
from localmem_node.installing.record import Record
from localmem_node.installing.trust import HOW, names, trust
from localmem_node.project import find_root

PROGRAMS: Final[Mapping[Editor, tuple[str, ...]]] = {
    "claude-code": ("claude",),
    "codex": ("codex",),
    "cursor": ("cursor", "cursor-agent"),
}
PLUGIN: Final = "localmem@"
"""How the plugin's name begins, whatever the marketplace."""

SCOPES: Final[tuple[Scope, ...]] = ("user", "project")


@dataclass(frozen=True, slots=True)
class _Hooked:
    """A file with hooks of ours: what is in it as JSON, and our handlers."""

    editor: Editor
    scope: Scope
    path: Path
    document: Mapping[str, Any]
    handlers: tuple[Mapping[str, Any], ...]


def editor_checks(
    settings: Settings,
    environment: Mapping[str, str],
    state: DaemonState | None,
    status: Mapping[str, Any] | None,
) -> Iterator[Check]:
    """What is to be said of each editor, and of what they call. Changes nothing."""
    try:
        home, here = Path(environment.get("HOME") or Path.home()), Path.cwd()
    except (RuntimeError, FileNotFoundError):
        return
    places = Places.of(environment, home, find_root(here) or here)
    hooked: list[_Hooked] = []
    for editor in EDITORS:
        found = _hooked(editor, places)
        hooked += found
        yield from _editor(editor, found, settings, environment, places, status)
    if any(program_of(one) is not None for each in hooked for one in each.handlers):
        yield from _client(settings, environment)
    if any(port_of(one) is not None for each in hooked for one in each.handlers):
        yield _port(settings, state, status)
    yield from _replayed(hooked)


def _editor(
    editor: Editor,
    hooked: list[_Hooked],
    settings: Settings,
    environment: Mapping[str, str],
    places: Places,
    status: Mapping[str, Any] | None,
) -> Iterator[Check]:
    unreadable = list(_unreadable(editor, settings, places))
    yield from unreadable
    plugin = _plugin(editor, places)
    if not hooked and not plugin and unreadable:
        return
    if not hooked and not plugin:
        yield Check(editor, True, _absent(editor, environment, places))
        return
    for one in hooked:
        yield _hooks(editor, one, settings, places)
    if len(hooked) > 1 or (hooked and plugin):
        where = [str(one.path) for one in hooked] + ([f"the plugin {plugin}"] if plugin else [])
        yield Check(
            f"{editor} twice",
            False,
            f"hooks in {' and '.join(where)}: each event comes twice and is kept once",
            f"keep one: localmem uninstall {editor} --scope project, or remove the plugin",
        )
    if editor == "codex":
        yield from _codex_trust(hooked, places, plugin)
    if hooked:
        yield _server(editor, places)
    yield Check(f"{editor} last event", True, _last(editor, status))


def _absent(editor: Editor, environment: Mapping[str, str], places: Places) -> str:
    folder = {"claude-code": places.claude, "codex": places.codex, "cursor": places.cursor}[editor]
    there = folder.is_dir() or any(
        shutil.which(one, path=environment.get("PATH")) for one in PROGRAMS[editor]
    )
    if there:
        return f"is here, and remembers nothing yet; to change that: localmem install {editor}"
    return "not found on this machine"


def _hooked(editor: Editor, places: Places) -> list[_Hooked]:
    """The files with hooks of ours, in both scopes."""
    found = []
    for scope in SCOPES:
        path = {
            "claude-code": claude_settings(places, scope),
            "codex": codex_folder(places, scope) / "hooks.json",
            "cursor": cursor_folder(places, scope) / "hooks.json",
        }[editor]
        document = _json(path)
        ours = tuple(handler for _, handler in handlers(document))
        if ours:
            found.append(_Hooked(editor, scope, path, document, ours))
    return found


def _hooks(editor: Editor, one: _Hooked, settings: Settings, places: Places) -> Check:
    """Whether a file has the hooks of this version, and whether what they run is there."""
    name = _named(editor, one.scope, "hooks")
    again = f"run: localmem install {editor} --scope {one.scope}"
    for program in {program_of(handler) for handler in one.handlers} - {None}:
        assert program is not None
        if not os.access(program, os.X_OK):
            return Check(name, False, f"{program} is missing or cannot be run", again)
    if one.document.get("disableAllHooks") is True:
        return Check(name, False, f"{one.path} turns all hooks off", "remove disableAllHooks")
    ports = {port_of(handler) for handler in one.handlers} - {None}
    try:
        if ports and one.path.stat().st_mode & 0o077:
            detail = f"{one.path} holds a token, and others can read it"
            return Check(name, False, detail, f"run: chmod 600 {one.path}")
        endpoint = read_endpoint(settings) if ports else None
        if endpoint is not None and ports != {endpoint.port}:
            detail = f"{one.path} asks port {ports.pop()}, and not {endpoint.port}"
            return Check(name, False, detail, again)
        text = one.path.read_bytes().decode("utf-8-sig")
        if not _wanted(editor, one, settings, places, endpoint).holds(text):
            detail = f"{one.path} has hooks of another version, or some were changed"
            return Check(name, False, detail, again)
    except (NodeError, Refused, OSError) as error:
        return Check(name, False, f"{one.path}: {error}", again)
    return Check(name, True, f"{one.path}: {len(one.handlers)}, as this version writes them")


def _named(editor: Editor, scope: Scope, what: str) -> str:
    return f"{editor} {what}" if scope == "user" else f"{editor} project {what}"


def _wanted(
    editor: Editor,
    one: _Hooked,
    settings: Settings,
    places: Places,
    endpoint: HookEndpoint | None,
) -> Part:
    programs = hook_path(settings).parent
    found = targets(editor, one.scope, places, programs, endpoint)
    return next(target.part for target in found if target.path == one.path)


def _unreadable(editor: Editor, settings: Settings, places: Places) -> Iterator[Check]:
    """The settings that neither install nor, likely, the editor understands."""
    for scope in SCOPES:
        for target in targets(editor, scope, places, hook_path(settings).parent, None):
            try:
                plan_uninstall([target], Record(), read_settings)
            except InstallError as error:
                advice = f"correct it; until then localmem can be neither installed nor removed in {editor}"
                yield Check(f"{editor} settings", False, str(error).split(";")[0], advice)


def _server(editor: Editor, places: Places) -> Check:
    """Whether the MCP server is registered, and its launcher there."""
    found: list[tuple[Path, object]] = []
    if editor == "claude-code":
        state = _json(places.claude_state)
        projects = state.get("projects")
        project = projects.get(str(places.project)) if isinstance(projects, Mapping) else None
        found = [
            (places.claude_state, _at(state, "mcpServers", SERVER)),
            (places.claude_state, _at(project, "mcpServers", SERVER)),
        ]
    for scope in SCOPES:
        if editor == "codex":
            path = codex_folder(places, scope) / "config.toml"
            found.append((path, _at(_toml(path), "mcp_servers", SERVER)))
        elif editor == "cursor":
            path = cursor_folder(places, scope) / "mcp.json"
            found.append((path, _at(_json(path), "mcpServers", SERVER)))
    again = f"run: localmem install {editor}"
    for path, server in found:
        if isinstance(server, Mapping) and is_our_server(server):
            if not os.access(str(server["command"]), os.X_OK):
                detail = f"{server['command']} is missing or cannot be run"
                return Check(f"{editor} mcp", False, detail, again)
            if server.get("enabled") is False:
                return Check(f"{editor} mcp", False, f"{path} turns it off", "remove that")
            return Check(f"{editor} mcp", True, f"{path}: registered")
    return Check(f"{editor} mcp", False, "the MCP server is not registered", again)


def _codex_trust(hooked: list[_Hooked], places: Places, plugin: str) -> Iterator[Check]:
    """Codex runs a hook only if its user has looked at it, and says nothing otherwise."""
    states = _at(_toml(places.codex / "config.toml"), "hooks", "state")
    states = states if isinstance(states, Mapping) else {}
    for one in hooked:
        found: dict[str, int] = {}
        for name, digest in names(one.path, one.document).items():
            real = name.replace(str(one.path), os.path.realpath(one.path), 1)
            told = trust(states.get(name, states.get(real)), digest)
            found[told] = found.get(told, 0) + 1
        told_all = ", ".join(f"{number} {name}" for name, number in sorted(found.items()))
        if set(found) == {"trusted"}:
            yield Check(_named("codex", one.scope, "trust"), True, f"{one.path}: {told_all}")
        else:
            yield Check(
                _named("codex", one.scope, "trust"),
                False,
                f"{one.path}: {told_all}; Codex skips, without a word, what is not trusted",
                HOW,
            )
    if plugin and not any(str(name).startswith(f"{plugin}:") for name in states):
        yield Check("codex plugin trust", False, f"the hooks of {plugin} are not trusted", HOW)


def _client(settings: Settings, environment: Mapping[str, str]) -> Iterator[Check]:
    """Which of both clients the editors run; that there is none is told with their hooks."""
    name, path = "hook client", hook_path(settings)
    try:
        interpreter = interpreter_of(path.read_bytes())
    except OSError:
        return
    if interpreter is not None and not os.access(interpreter, os.X_OK):
        detail = f"{path} would start the daemon with {interpreter}, which is gone"
        yield Check(name, False, detail, "run: localmem install all")
    elif interpreter is not None:
        yield Check(name, True, f"{path}: the compiled one")
    elif (found := find_compiled(environment, sys.executable)) is not None:
        detail = f"{path}: the one in Python; {found} is faster, and taken by: localmem install all"
        yield Check(name, True, detail)
    else:
        yield Check(name, True, f"{path}: the one in Python")


def _port(settings: Settings, state: DaemonState | None, status: Mapping[str, Any] | None) -> Check:
    """Whether HTTP hooks reach the daemon. A stranger at the port is not spoken to at all: who it is
    does not matter, and nothing that it said would prove anything.
    """
    name = "hook port"
    try:
        endpoint = read_endpoint(settings)
    except NodeError as error:
        return Check(name, False, str(error), "run: localmem install claude-code")
    if endpoint is None:
        detail = "the settings of Claude Code name a port that localmem knows nothing of"
        return Check(name, False, detail, "run: localmem install claude-code")
    if state is not None and state.port == endpoint.port:
        return _breaker(name, endpoint.port, status)
    if is_held(endpoint.port):
        return Check(
            name,
            False,
            f"{endpoint.port} is held by another program, which gets what Claude Code sends there",
            "run: localmem install claude-code, which takes another port and another token",
        )
    if state is None:
        return Check(name, True, f"{endpoint.port}: free; the daemon listens there once it runs")
    problem = _at(status, "services", "hooks", "problem")
    detail = f"the daemon listens on {state.port}, not on {endpoint.port}"
    detail += f": {problem}" if isinstance(problem, str) and problem else ""
    return Check(name, False, detail, "run: localmem down, then localmem up")


def _breaker(name: str, port: int, status: Mapping[str, Any] | None) -> Check:
    """Whether a daemon that hangs would delay an editor once, or again and again."""
    detail = f"{port}: the daemon listens there"
    problem = _at(status, "services", "breaker", "problem")
    if isinstance(problem, str):
        detail += f"; its breaker {problem}, so that a hang would delay every hook"
        return Check(name, False, detail, "run: localmem down, then localmem up")
    pid = _at(status, "services", "breaker", "pid")
    return Check(name, True, f"{detail}, with its breaker (pid {pid})" if pid else detail)


def _replayed(hooked: list[_Hooked]) -> Iterator[Check]:
    """Cursor runs the hooks of Claude Code as well as its own."""
    editors = {one.editor for one in hooked}
    if {"claude-code", "cursor"} <= editors:
        yield Check(
            "cursor and claude-code",
            True,
            "Cursor runs the hooks of Claude Code, too: each event comes twice, and is kept once",
        )


def _plugin(editor: Editor, places: Places) -> str:
    """The name of our plugin, if it is installed and turned on."""
    if editor == "claude-code":
        found = _at(_json(places.claude / "settings.json"), "enabledPlugins")
        on = [name for name, value in found.items() if value] if isinstance(found, Mapping) else []
    elif editor == "codex":
        found = _at(_toml(places.codex / "config.toml"), "plugins")
        on = (
            [name for name in found if _at(found, name, "enabled") is not False]
            if isinstance(found, Mapping)
            else []
        )
    else:
        on = []
    return next((str(name) for name in on if str(name).startswith(PLUGIN)), "")


def _last(editor: Editor, status: Mapping[str, Any] | None) -> str:
    if status is None:
        return "the daemon knows, and is not running"
    ms = _at(status, "services", "hooks", "last", editor)
    if not isinstance(ms, int):
        return "none since the daemon started"
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _at(document: object, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _json(path: Path) -> dict[str, Any]:
    """A file's object; an empty one for what is none, which is for other checks to say."""
    try:
        found = json.loads((read_settings(path) or b"").decode("utf-8-sig"))
    except (InstallError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((read_settings(path) or b"").decode("utf-8-sig"))
    except (InstallError, ValueError, RecursionError):
        return {}
