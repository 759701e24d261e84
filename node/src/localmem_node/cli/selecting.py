"""The options that narrow a command down, the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from localmem_node.cli.times import parse_time
from localmem_node.project import find_root, project_at
from localmem_node.system import SystemClock
from localmem_protocol.events import KINDS

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = {
    "project": click.option(
        "--project", help="Only this project: an id, or a folder of it such as '.'."
    ),
    "file": click.option(
        "--file", "path", help="Only this file or folder; a relative one is the path's end."
    ),
    "kind": click.option(
        "--kind", multiple=True, type=click.Choice(KINDS), help="Only this kind; may be repeated."
    ),
    "tool": click.option("--tool", multiple=True, help="Only from this tool; may be repeated."),
    "device": click.option("--device", metavar="ID", help="Only from this device, by its full id."),
    "session": click.option("--session", help="Only from this session."),
    "since": click.option(
        "--since", metavar="TIME", help="Only from then on: 2026-11-25, or 7d for a week."
    ),
    "before": click.option("--before", metavar="TIME", help="Only what is older."),
}
"""By the fields of a `Selection` that they are."""


def filters(*, without: tuple[str, ...] = ()) -> Callable[[_Command], _Command]:
    """Adds the options to a command, which gets them as keywords for `filter_fields`."""

    def add(command: _Command) -> _Command:
        for name in reversed(_OPTIONS):
            if name not in without:
                command = _OPTIONS[name](command)
        return command

    return add


def filter_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Selection` that options give, checked. Raises UsageError, QueryError."""
    from localmem_node.selection import parse_selection

    now_ms = SystemClock().now_ms()
    given = {**options, "file": options.get("path")}
    fields = {name: given[name] for name in _OPTIONS if given.get(name) not in (None, ())}
    if "project" in fields:
        fields["project"] = project_ids(fields["project"])
    for name in ("since", "before"):
        if name in fields:
            fields[name] = parse_time(f"--{name}", fields[name], now_ms)
    parse_selection(fields)
    return fields


def resolve_project(text: str | None) -> str | None:
    """The id that an option means: itself, or that of the folder it names."""
    return None if text is None else project_ids(text)[0]


def project_ids(text: str) -> list[str]:
    """The ids that an option means: itself, or those that the project of a folder has and had."""
    if not text:
        raise click.UsageError("--project: is empty; give an id, or a folder such as '.'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError("--project: is not UTF-8 text") from None
    if text in (".", "..") or "/" in text or Path(text).is_dir():
        root = find_root(Path(text))
        if root is None:
            raise click.UsageError(f"--project: {text} is in no git repository")
        return list(project_at(root).ids)
    return [text]
