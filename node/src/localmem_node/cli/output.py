"""What commands print: JSON for programs, compact lines for people."""

from __future__ import annotations

import shutil
import sys
import time
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

SNIPPET_LINES: Final = 3
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def print_json(value: object) -> None:
    """One JSON object on one line, in UTF-8 whatever the locale."""
    write_bytes(msgspec.json.encode(value) + b"\n")


def write_bytes(data: bytes) -> None:
    """Bytes to standard output, after everything printed so far."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def escape(text: str) -> str:
    """Text that cannot move the cursor, colour the terminal or reverse its direction.

    Tabs become spaces; other control and format characters their Python escapes.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        "    "
        if character == "\t"
        else character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSAFE
        else character
        for character in text
    )


def print_events(events: list[dict[str, Any]], *, scores: bool) -> None:
    """Each event as a line of what and where, then the beginning of its snippet."""
    width = max(40, shutil.get_terminal_size().columns)
    for event in events:
        score = f"{event['score']:.2f}  " if scores else ""
        click.echo(f"{score}{_heading(event)}"[: 4 * width])
        lines = event["snippet"].expandtabs(4).strip("\n").splitlines()
        for line in lines[:SNIPPET_LINES]:
            click.echo(f"    {_cut(escape(line), width - 4)}")
        if len(lines) > SNIPPET_LINES:
            click.echo(f"    … {len(lines) - SNIPPET_LINES} more lines")


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
    pinned = "  pinned" if event["pinned"] else ""
    return f"{when}  {event['kind']}  {where}{pinned}".rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
