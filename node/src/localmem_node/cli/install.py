"""`localmem install` and `localmem uninstall`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from localmem_node.cli.output import escape, json_option, print_json
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.editors.captured import EDITORS, Editor
from localmem_node.errors import ConfigError, NodeError
from localmem_node.git_process import git_environment
from localmem_node.installing import wiring
from localmem_node.installing.hooks import Transport
from localmem_node.installing.places import Places, Scope, claude_settings
from localmem_node.installing.planning import Change, diff
from localmem_node.installing.record import backup_of, read_record
from localmem_node.installing.rules import ADVICE
from localmem_node.installing.trust import HOW
from localmem_node.project import find_root
from localmem_node.system import SystemRandom

NAMES: Final = (*EDITORS, "all", "plugin")
GIT_S: Final = 5.0

_DONE: Final = {"none": "is as it should be", "create": "made", "change": "changed",
                "remove": "removed"}  # fmt: skip

_PLUGIN: Final = (
    "the launchers are written; the plugin itself: "
    "claude plugin marketplace add <folder integrations/plugin>, then "
    "claude plugin install localmem@localmem; with codex: codex plugin marketplace add <the same>, "
    "then codex plugin add localmem@localmem"
)


def _arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    for add in (
        json_option,
        click.option("--print", "only_print", is_flag=True, help="Show the diff; change nothing."),
        click.option(
            "--scope",
            type=click.Choice(["user", "project"]),
            default="user",
            show_default=True,
            help="Everywhere, or in the project of this folder only (for this user).",
        ),
        click.argument("editor", type=click.Choice(NAMES)),
    ):
        command = add(command)
    return command


@click.command()
@_arguments
@click.option(
    "--transport",
    type=click.Choice(["http", "command"]),
    help="How Claude Code calls: the daemon itself (http), or a command for every event.",
)
def install(
    editor: str, scope: Scope, transport: Transport | None, only_print: bool, as_json: bool
) -> None:
    """Let EDITOR remember: its hooks, the MCP server, and rules where it has a place for them.

    Settings stay as they are outside of our entries; beside each changed file a backup is kept, for
    `localmem uninstall`. `plugin` only writes the launchers that the plugin of Claude Code and Codex
    looks for.
    """
    environment = dict(os.environ)
    settings = load_settings(environment)
    if editor == "plugin":
        if not only_print:
            wiring.install_plugin(settings, environment)
        _tell([], [_PLUGIN], only_print, as_json)
        return
    if scope == "project" and transport == "http":
        raise click.UsageError("--transport http needs a token, which no project may hold")
    places, editors = _places(environment, scope), _editors(editor)
    way = wiring.transport_for(transport, scope, places)
    if only_print:
        outcome = wiring.preview_install(settings, editors, scope, places, way)
        restarted = False
    else:
        outcome = wiring.install(
            settings,
            environment,
            SystemRandom(),
            editors,
            scope,
            places,
            way,
            _listening(environment),
        )
        restarted = _started(environment, outcome.port, made=outcome.made)
    notes = [change.note for change in outcome.changes if change.note]
    notes += _notes(editors, scope, places, way, transport, outcome.changes)
    narrowed = [path for path, one in read_record(settings).files.items() if one.mode is not None]
    if any(change.secret and str(change.path) in narrowed for change in outcome.changes):
        notes.append("the settings of Claude Code hold a token: from now on only you can read them")
    if restarted:
        notes.append(f"the daemon was restarted: it listens on port {outcome.port} now")
    _tell(outcome.changes, notes, only_print, as_json)


@click.command()
@_arguments
def uninstall(editor: str, scope: Scope, only_print: bool, as_json: bool) -> None:
    """Take localmem out of EDITOR: what install wrote, and nothing else. The memory stays.

    A file that was not changed since gets back the very bytes that it had.
    """
    environment = dict(os.environ)
    settings = load_settings(environment)
    places, editors = _places(environment, scope), _editors(editor)
    plugin = editor in ("plugin", "all") and scope == "user"
    if only_print:
        outcome = wiring.preview_uninstall(settings, editors, scope, places)
    else:
        outcome = wiring.uninstall(settings, editors, scope, places, plugin=plugin)
    notes = [change.note for change in outcome.changes if change.note]
    left = list(read_record(settings).files)
    if left and not only_print:
        notes.append(f"still installed, and why the launchers stay: {', '.join(left)}")
    _tell(outcome.changes, notes, only_print, as_json)


def _editors(name: str) -> Sequence[Editor]:
    return EDITORS if name == "all" else [one for one in EDITORS if one == name]


def _places(environment: dict[str, str], scope: Scope) -> Places:
    try:
        home = Path.home()
        here = Path.cwd()
    except (RuntimeError, FileNotFoundError) as error:
        raise ConfigError(f"no home folder, or no current one: {error}") from None
    project = find_root(here) or here
    if scope == "project" and project == Path(os.path.realpath(home)):
        raise ConfigError(f"{project} is your home folder, not a project; leave --scope away")
    return Places.of(environment, home, project)


def _listening(environment: dict[str, str]) -> int | None:
    """The port of the daemon that runs, if one does."""
    with DaemonClient(environment, start=False) as client:
        try:
            state = client.running()
        except NodeError:
            return None
        return state.port if state is not None else None


def _started(environment: dict[str, str], port: int | None, *, made: bool) -> bool:
    """Have a daemon listen where the hooks ask: nobody starts it for one that calls by HTTP.

    One that runs knows of no endpoint that was `made` since. Whether it had to be restarted for that.
    """
    try:
        with DaemonClient(environment) as client:
            state = client.running()
            moves = state is not None and port is not None and (made or state.port != port)
            if moves:
                client.stop()
            client.ensure_running()
            return moves
    except NodeError as error:
        click.echo(f"localmem: {escape(str(error))}; run: localmem doctor", err=True)
        return False


def _notes(
    editors: Sequence[Editor],
    scope: Scope,
    places: Places,
    way: Transport,
    asked: Transport | None,
    changes: Iterable[Change],
) -> list[str]:
    """What to know, and what is left to do."""
    notes = []
    if "claude-code" in editors and scope == "user" and way == "command" and asked is None:
        notes.append(
            f"{claude_settings(places, scope)} is inside of a git repository, where a token could be "
            "committed: Claude Code gets command hooks, which need none"
        )
    if "codex" in editors:
        notes.append(f"Codex runs no hook before you trust it: {HOW}")
        if scope == "project":
            notes.append("Codex reads the settings of a project only if you trust the project")
    if "cursor" in editors and scope == "user":
        notes.append(
            "Cursor keeps rules of a user in no file; paste into Settings > Rules:\n"
            + "\n".join(f"    {line}".rstrip() for line in ADVICE.splitlines())
        )
    if scope == "project":
        notes += _committed(places.project, [change.path for change in changes])
    return notes


def _committed(project: Path, paths: Sequence[Path]) -> list[str]:
    """Notes on the files that git would commit: they name a path of this machine, and backups have
    in them whatever the user had, which may be a secret that only the file's own name keeps out.
    """
    notes = []
    if named := _not_ignored(project, paths):
        notes.append(
            f"git does not ignore {named}; they name a path of this machine and no secret: "
            "list them in .git/info/exclude, and share localmem as a plugin instead"
        )
    if named := _not_ignored(project, [one for one in map(backup_of, paths) if one.exists()]):
        notes.append(
            f"git does not ignore {named}; they are your settings as they were, secrets included: "
            "list them in .git/info/exclude, or run: localmem uninstall"
        )
    return notes


def _not_ignored(project: Path, paths: Iterable[Path]) -> str:
    """Those of the paths inside of the project that git does not ignore, as a list for people."""
    inside = [str(path) for path in paths if path.is_relative_to(project)]
    if not inside or not (project / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(project), "check-ignore", "-z", "--stdin"],
            input="\0".join(inside).encode(errors="surrogateescape"),
            capture_output=True,
            env=git_environment(),
            timeout=GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode not in (0, 1):
        return ""
    ignored = set(done.stdout.decode(errors="surrogateescape").split("\0"))
    return ", ".join(str(Path(path).relative_to(project)) for path in inside if path not in ignored)


def _tell(changes: Sequence[Change], notes: Sequence[str], only_print: bool, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(change.path), "does": change.does}
            | ({"diff": "\n".join(diff(change))} if only_print else {})
            for change in changes
        ]
        print_json({"files": files, "notes": notes, "written": not only_print})
        return
    for change in changes:
        if only_print:
            for line in diff(change):
                click.echo(escape(line))
        else:
            click.echo(escape(f"{change.path} {_DONE[change.does]}"))
    if only_print and all(change.does == "none" for change in changes):
        click.echo("nothing would change")
    for note in notes:
        click.echo("\n".join(escape(line) for line in note.split("\n")), err=only_print)
