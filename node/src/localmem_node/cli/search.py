"""`localmem query` and `localmem recent`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from localmem_node.cli.output import json_option, print_events, print_json
from localmem_node.client import DaemonClient
from localmem_node.project import project_id
from localmem_node.results import check_k, check_query

_k_option = click.option("-k", "k", type=int, default=10, show_default=True, help="How many.")
_project_option = click.option(
    "--project", help="Only this project: an id, or a folder of it such as '.'."
)


@click.command()
@click.argument("text")
@_k_option
@_project_option
@json_option
def query(text: str, k: int, project: str | None, as_json: bool) -> None:
    """Find the events that answer TEXT best."""
    check_query(text)
    with DaemonClient() as client:
        answer = client.query(text, check_k(k), resolve_project(project))
    _show(answer, as_json, scores=True)


@click.command()
@_k_option
@_project_option
@json_option
def recent(k: int, project: str | None, as_json: bool) -> None:
    """Show the newest events, newest first."""
    with DaemonClient() as client:
        answer = client.recent(check_k(k), resolve_project(project))
    _show(answer, as_json, scores=False)


def resolve_project(text: str | None) -> str | None:
    """The id that an option means: itself, or that of the folder it names."""
    if text is None:
        return None
    if not text:
        raise click.UsageError("--project: is empty; give an id, or a folder such as '.'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError("--project: is not UTF-8 text") from None
    if text in (".", "..") or "/" in text or Path(text).is_dir():
        found = project_id(Path(text))
        if found is None:
            raise click.UsageError(f"--project: {text} is in no git repository")
        return found
    return text


def _show(answer: dict[str, Any], as_json: bool, *, scores: bool) -> None:
    if as_json:
        print_json(answer)
    elif answer["events"]:
        print_events(answer["events"], scores=scores)
    else:
        click.echo("nothing found")
