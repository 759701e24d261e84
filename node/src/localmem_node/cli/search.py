"""`localmem query`, `recent` and `context`."""

from __future__ import annotations

from typing import Any

import click

from localmem_node.cli.output import json_option, print_events, print_json, write_bytes
from localmem_node.cli.selecting import filter_fields, filters
from localmem_node.client import DaemonClient
from localmem_node.results import (
    BUDGET_DEFAULT,
    K_MAX,
    PROMPT_CHARACTERS_MAX,
    RECENT_MAX,
    check_budget,
    check_k,
    check_query,
)


@click.command()
@click.argument("text")
@click.option("-k", "k", type=int, default=10, show_default=True, help=f"How many, up to {K_MAX}.")
@filters()
@click.option("--explain", is_flag=True, help="Show what carried each of them.")
@json_option
def query(text: str, k: int, explain: bool, as_json: bool, **narrowed: Any) -> None:
    """Find the events that answer TEXT best."""
    check_query(text)
    fields = filter_fields(narrowed)
    with DaemonClient() as client:
        answer = client.query(text, check_k(k), explain=explain, **fields)
    _show(answer, as_json, scores=True)


@click.command()
@click.option(
    "-k", "k", type=int, default=10, show_default=True, help=f"How many, up to {RECENT_MAX}."
)
@filters()
@json_option
def recent(k: int, as_json: bool, **narrowed: Any) -> None:
    """Show the newest events, newest first."""
    fields = filter_fields(narrowed)
    with DaemonClient() as client:
        answer = client.recent(check_k(k, RECENT_MAX), **fields)
    _show(answer, as_json, scores=False)


@click.command()
@click.option("--query", "text", metavar="TEXT", help="What it is to answer.")
@click.option(
    "--budget-tokens", type=int, default=BUDGET_DEFAULT, show_default=True, help="At most so many."
)
@click.option("--session", help="Who asks: a session is not given the same again.")
@click.option("--reset", is_flag=True, help="Begin anew for the session, after a compaction.")
@filters(without=("session",))
@json_option
def context(
    text: str | None,
    budget_tokens: int,
    session: str | None,
    reset: bool,
    as_json: bool,
    **narrowed: Any,
) -> None:
    """Print what answers a question as a block of text for a model, or nothing."""
    if text is None and not reset:
        raise click.UsageError("give --query TEXT, or --reset with a --session")
    if reset and session is None:
        raise click.UsageError("--reset needs a --session")
    fields = filter_fields(narrowed) | {
        "query": None if text is None else check_query(text, PROMPT_CHARACTERS_MAX),
        "budget_tokens": check_budget(budget_tokens),
        "session": session,
        "reset": reset,
    }
    with DaemonClient() as client:
        answer = client.context(fields)
    if as_json:
        print_json(answer)
    else:
        write_bytes(answer["text"].encode())


def _show(answer: dict[str, Any], as_json: bool, *, scores: bool) -> None:
    if as_json:
        print_json(answer)
    elif answer["events"]:
        print_events(answer["events"], scores=scores)
    else:
        click.echo("nothing found")
