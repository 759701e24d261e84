"""Long work of the daemon, with a line that says how far it is while somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Final

import click

from localmem_node.client import DaemonClient
from localmem_node.errors import NodeError

EVERY_S: Final = 0.3


def with_progress(
    client: DaemonClient, name: str, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `work` returns. On a terminal, progress is shown on standard error meanwhile."""
    if not sys.stderr.isatty():
        return work()
    done = Event()
    watcher = Thread(target=_watch, args=(client, name, done), daemon=True)
    watcher.start()
    try:
        return work()
    finally:
        done.set()
        watcher.join()


def _watch(client: DaemonClient, name: str, done: Event) -> None:
    shown = False
    with DaemonClient(client.environment, start=False) as own:
        while not done.wait(EVERY_S):
            try:
                state = own.status()["maintenance"]
            except NodeError:
                continue
            if state is not None:
                click.echo(
                    f"\r{name}: {state['done']} of {state['total']} events", err=True, nl=False
                )
                shown = True
    if shown:
        click.echo("\r\033[K", err=True, nl=False)
