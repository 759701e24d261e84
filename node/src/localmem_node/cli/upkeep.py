"""`localmem pin`, `forget` and `resize`."""

from __future__ import annotations

from typing import Any

import click

from localmem_node.cli.output import escape, json_option, print_events, print_json
from localmem_node.cli.progress import with_progress
from localmem_node.cli.selecting import filter_fields, filters
from localmem_node.client import DaemonClient
from localmem_node.config import parse_size


@click.command()
@click.argument("event_id", metavar="ID")
@click.option("--off", is_flag=True, help="Let it go again.")
@json_option
def pin(event_id: str, off: bool, as_json: bool) -> None:
    """Keep an event whatever else is evicted. IDs are in the output of query and recent --json."""
    with DaemonClient() as client:
        answer = client.pin(event_id, pinned=not off)
    if as_json:
        print_json(answer)
    else:
        click.echo("let go" if off else "pinned")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@filters()
@click.option("--query", "text", metavar="TEXT", help="What this question finds.")
@click.option("-k", "k", type=int, default=10, show_default=True, help="With --query: how many.")
@click.option("--dry-run", is_flag=True, help="Only show what would be forgotten.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget(ids: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool, **narrowed: Any) -> None:
    """Forget events for good: they leave the file, and no import or sync brings them back.

    Conditions narrow each other down. Without --yes it shows what is meant, and asks.
    """
    fields = _fields(ids, narrowed)
    with DaemonClient(answer_s=None) as client:
        shown = client.forget({**fields, "dry_run": True})
        if not as_json:
            print_events(shown["events"], scores=False)
            click.echo(f"{shown['count']} events" + (" would be forgotten" if dry_run else ""))
        if dry_run:
            answer = shown
        else:
            if not yes and shown["count"]:
                click.confirm("Forget them for good?", abort=True, err=True)
            found = [event["id"] for event in shown["events"]]
            if text_is_given(fields) and found:
                fields = {"ids": found}  # what was shown, not what the same question finds now
            answer = with_progress(client, "forgetting", lambda: client.forget(fields))
    if as_json:
        print_json(answer)
    elif not dry_run:
        click.echo(f"{answer['count']} forgotten")
        for copy in answer["copies"]:
            click.echo(f"{escape(copy)} is from an older release and still has them; remove it")


@click.command()
@click.argument("size", metavar="SIZE")
@json_option
def resize(size: str, as_json: bool) -> None:
    """Make the store larger or smaller: SIZE is bytes, or such as "128 MiB".

    In a smaller one the newest and the pinned events stay.
    """
    try:
        wanted = parse_size(size)
    except ValueError as error:
        raise click.UsageError(f"SIZE: {error}") from None
    with DaemonClient(answer_s=None) as client:
        body = {"size": wanted}
        answer = with_progress(client, "resizing", lambda: client.call("POST", "/v1/resize", body))
    if as_json:
        print_json(answer)
    else:
        left = f", {answer['evicted']} had no room" if answer["evicted"] else ""
        click.echo(f"{answer['size_bytes']} bytes, {answer['events']} events{left}")


def text_is_given(fields: dict[str, Any]) -> bool:
    """Whether the events are those that a question finds."""
    return "query" in fields


def _fields(ids: tuple[str, ...], narrowed: dict[str, Any]) -> dict[str, Any]:
    fields = filter_fields(narrowed)
    if ids:
        fields["ids"] = list(ids)
    if narrowed["text"] is not None:
        fields["query"] = narrowed["text"]
    if not fields:
        raise click.UsageError("give an ID, --query, or what they have in common, such as --file")
    return fields | ({"k": narrowed["k"]} if "query" in fields else {})
