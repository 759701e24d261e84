"""`localmem pause` and `resume`: nothing is captured meanwhile, and no model is told anything unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from localmem_node.cli.output import json_option, print_json
from localmem_node.cli.selecting import project_ids
from localmem_node.client import DaemonClient
from localmem_node.pausing import Pauses, pauses_path
from localmem_node.system import SystemClock

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _what(command: _Command) -> _Command:
    for option in (
        click.option("--session", metavar="ID", help="Only this session of an editor."),
        click.option(
            "--project",
            metavar="[PATH]",
            is_flag=False,
            flag_value=".",
            help="Only this project: a folder of it (by default this one), or an id.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@_what
@json_option
def pause(project: str | None, session: str | None, as_json: bool) -> None:
    """Capture nothing from editors, and tell their models nothing, until `localmem resume`.

    What happens meanwhile is not taken from transcripts later, either. What is asked for, by a person
    or by a model through MCP, is answered all the same.
    """
    _report(_change(paused=True, project=project, session=session), as_json)


@click.command()
@_what
@json_option
def resume(project: str | None, session: str | None, as_json: bool) -> None:
    """End a pause; without a project or session every one."""
    _report(_change(paused=False, project=project, session=session), as_json)


def describe(status: dict[str, Any]) -> str:
    """What is paused, on one line; empty if nothing is."""
    parts = ["everything"] if status["everything"] else []
    parts += [f"project {one}" for one in status["projects"]]
    parts += [f"session {one}" for one in status["sessions"]]
    if status["problem"]:
        parts.append(status["problem"])
    return ", ".join(parts)


def _change(*, paused: bool, project: str | None, session: str | None) -> dict[str, Any]:
    if project is not None and session is not None:
        raise click.UsageError("--session is given beside --project; choose one")
    if session is not None and not session:
        raise click.UsageError("--session: is empty")
    projects = [] if project is None else project_ids(project)
    with DaemonClient(start=False) as client:
        if client.running() is not None:
            body = {"paused": paused, "projects": projects, "session": session}
            return client.call("POST", "/v1/pause", body)
        # Nobody captures now; whoever starts reads what is written here.
        pauses, now_ms = Pauses(pauses_path(client.settings)), SystemClock().now_ms()
        if paused:
            pauses.pause(projects, session, now_ms)
        else:
            pauses.resume(projects, session, now_ms)
        return pauses.status()


def _report(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
    else:
        what = describe(status)
        click.echo(f"paused: {what}; go on with: localmem resume" if what else "nothing is paused")
