"""`localmem stats`: what was captured, what models were given, and how much of it was used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from localmem_node.cli.output import json_option, print_json
from localmem_node.cli.times import parse_time
from localmem_node.client import DaemonClient
from localmem_node.system import SystemClock
from localmem_node.usage import Usage, usage_path


@click.command()
@click.option(
    "--since", metavar="TIME", help="Only from that day (UTC) on: 2026-11-25, or 7d for a week."
)
@json_option
def stats(since: str | None, as_json: bool) -> None:
    """Show what editors' hooks captured, what their models were given, and what of it was used.

    "known" are events that had come by another way already; "refused" is what deny lists and git
    keep out. Tokens are an estimate on the high side.

    An injected event counts as used, once, if the same session later edits its file or runs a
    command that names it, or if a model asks for its id. That is a hint: a file that was found
    without help counts too, and what was only read does not.
    """
    moment = parse_time("--since", since, SystemClock().now_ms())
    day = None if moment is None else _day(moment)
    with DaemonClient(start=False) as client:
        if client.running() is not None:
            path = "/v1/stats" if day is None else f"/v1/stats?since={day}"
            report = client.call("GET", path)
        else:
            report = Usage(usage_path(client.settings)).report(day)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _day(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).date().isoformat()


def _print(report: dict[str, Any]) -> None:
    if not report["editors"]:
        click.echo("nothing was captured; wire an editor with: localmem install")
        return
    if report["since"]:
        click.echo(f"since {report['since']}")
    for name, tally in report["editors"].items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(tally["captured"].items()))
        click.echo(f"{name}")
        click.echo(f"  captured    {sum(tally['captured'].values())} ({kinds or 'nothing'})")
        others = [(one, tally[one]) for one in ("known", "refused", "paused", "unreadable")]
        click.echo("  left out    " + ", ".join(f"{one} {count}" for one, count in others))
        click.echo(
            f"  injected    {tally['blocks']} blocks, {tally['events']} events, "
            f"{tally['characters']:,} characters, about {tally['tokens']:,} tokens"
        )
        click.echo(f"  used        {tally['used']} of {tally['events']} events")
