"""`localmem sync`, and `localmem sync setup`."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import Any

import click

from localmem_node.cli.output import json_option, print_fields, print_json
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.errors import ConfigError, SyncError
from localmem_node.sync.extension import NOT_SET_UP, WAIT_MAX_S
from localmem_node.sync.pool_files import has_pools
from localmem_node.sync.troubles import notices_of, problems_of


@click.group(invoke_without_command=True)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, WAIT_MAX_S),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until everything is exchanged.",
)
@json_option
@click.pass_context
def sync(context: click.Context, wait_s: float, as_json: bool) -> None:
    """Synchronise now, and wait until it is done. (The daemon does so by itself as well.)"""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(os.environ)
    if settings.hub is None and not has_pools(settings):
        raise ConfigError(NOT_SET_UP)
    status = DaemonClient(answer_s=wait_s + 30).call("POST", "/v1/sync", {"wait_s": wait_s})
    every = [*([status] if "pool" in status else []), *status["pools"]]
    late = [one for one in every if not one["settled"]]
    if late:
        said = late[0]["error"] or f"not finished after {wait_s:g} s; it goes on"
        raise SyncError(f"{late[0]['pool']}: {said}" if len(every) > 1 else said)
    if as_json:
        print_json(status)
        return
    for one in every:
        print_fields(_lines(one))


@sync.command()
@click.option("--hub", "url", metavar="URL", help="Such as wss://hub.example.org.")
@click.option("--pool", help="The pool's name at that hub.")
@click.option(
    "--key",
    metavar="KEY|-",
    help="The pool's key, as another device showed it; '-' asks. Without it a new one is made.",
)
@click.option("--replace", is_flag=True, help="Only take a new token for the hub that is set up.")
@json_option
def setup(url: str | None, pool: str | None, key: str | None, replace: bool, as_json: bool) -> None:
    """Join a pool. The token is taken from LOCALMEM_HUB_TOKEN, or asked for.

    Token and key go into private files beside config.toml.
    """
    from localmem_node.sync.setup import join, replace_token
    from localmem_node.system import SystemRandom

    if replace and (url or pool or key):
        raise click.UsageError("--replace changes the token alone: leave --hub, --pool, --key out")
    environment = dict(os.environ)
    token = environment.pop("LOCALMEM_HUB_TOKEN", None)
    settings = load_settings(environment)
    if replace:
        path = replace_token(settings, token or _ask_token())
        DaemonClient(environment, start=False).stop()  # the next command starts it with the token
        if as_json:
            print_json({"token_file": str(path)})
        else:
            click.echo(f"{path} has the token; try: localmem sync")
        return
    if url is None or pool is None:
        raise click.UsageError("give --hub and --pool")
    token = token or _ask_token()
    key = _ask_key() if key == "-" else key
    joined = join(settings, url=url, pool=pool, token=token, key=key, random=SystemRandom())
    DaemonClient(environment, start=False).stop()  # the next command starts it with the hub
    if as_json:
        print_json({"config": str(joined.config), "key": joined.key})
        return
    click.echo(f"{joined.config} has the hub; try: localmem sync")
    if joined.key is not None:
        click.echo("This is the pool's key. Every other device needs it, and nobody else:")
        click.echo(f"  {joined.key}")


def _ask_token() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the token at: set LOCALMEM_HUB_TOKEN to it")
    answer: str = click.prompt("Token", hide_input=True, err=True)
    return answer


def _ask_key() -> str:
    """The pool's key: from the terminal, or a line of standard input where there is none."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    answer: str = click.prompt("Pool key", hide_input=True, err=True)
    return answer


def _lines(status: dict[str, Any]) -> dict[str, object]:
    when = datetime.fromtimestamp(status["settled_ms"] / 1000).astimezone()
    lines: dict[str, object] = {
        "in sync": f"with pool {status['pool']} at {status['hub']}, {when:%H:%M:%S}",
        "bytes": f"{status['bytes_sent']} sent, {status['bytes_received']} received",
    }
    if status["read_only"]:
        lines["read only"] = "this token may only read; what is recorded here stays here"
    if status["tombstones_waiting"]:
        lines["forgotten"] = f"{status['tombstones_waiting']} that the others have yet to hear of"
    if status["texts_waiting"]:
        lines["texts"] = (
            f"{status['texts_waiting']} events wait for theirs: no checkout here has it"
        )
    if status["erasing"]:
        lines["erasing"] = "what others forgot is hidden; it is being taken out of the store's file"
    if status["unreadable"]:
        lines["unreadable"] = f"{status['unreadable']} batches: another pool key, or altered"
    if status["provisional"]:
        lines["provisional"] = (
            f"{status['provisional']} batches that their devices have yet to sign"
        )
    lines |= {f"problem {n}": said for n, said in enumerate(problems_of(status), start=1)}
    return lines | {f"note {n}": said for n, said in enumerate(notices_of(status), start=1)}
