"""What commands print: JSON for programs, compact lines for people."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec

from localmem_node.plain_text import escape as escape

SNIPPET_LINES: Final = 3
EVIDENCE_LINES: Final = 6
BAR_CHARACTERS: Final = 12

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def print_json(value: object) -> None:
    """One JSON object on one line, in UTF-8 whatever the locale."""
    write_bytes(msgspec.json.encode(value) + b"\n")


def write_bytes(data: bytes) -> None:
    """Bytes to standard output, after everything printed so far."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def print_events(events: list[dict[str, Any]], *, scores: bool) -> None:
    """Each event as a line of what and where, then the beginning of its snippet; and, where it was
    asked for, what carried it.
    """
    width = max(40, shutil.get_terminal_size().columns)
    strengths = [abs(value) for event in events for value in event.get("evidence", {}).values()]
    for event in events:
        score = f"{event['score']:.2f}  " if scores else ""
        click.echo(f"{score}{_heading(event)}"[: 4 * width])
        lines = event["snippet"].expandtabs(4).strip("\n").splitlines()
        for line in lines[:SNIPPET_LINES]:
            click.echo(f"    {_cut(escape(line), width - 4)}")
        if len(lines) > SNIPPET_LINES:
            click.echo(f"    … {len(lines) - SNIPPET_LINES} more lines")
        for line in _evidence(event.get("evidence", {}), max(strengths, default=0.0)):
            click.echo(f"  {line}")


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values in two columns."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {escape(str(value))}")


def _heading(event: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(event["timestamp"] / 1000))
    where = escape(event["filePath"] or "")
    if event["selectionRange"]:
        first, last = event["selectionRange"]
        where += f":{first}" if first == last else f":{first}-{last}"
    more = "  pinned" if event["pinned"] else ""
    if event.get("duplicates"):
        more += f"  ({event['duplicates']} more like it)"
    return f"{when}  {event['kind']}  {where}{more}".rstrip()


def _evidence(evidence: Mapping[str, float], strongest: float) -> Iterator[str]:
    """The strongest features of a hit: how much each adds, and a bar on the scale of the answer."""
    ranked = sorted(evidence.items(), key=lambda one: -abs(one[1]))
    for name, value in ranked[:EVIDENCE_LINES]:
        length = round(BAR_CHARACTERS * abs(value) / strongest) if strongest else 0
        bar = ("+" if value > 0 else "-") * length
        yield f"{value:+6.2f}  {bar:<{BAR_CHARACTERS}}  {escape(name)}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
