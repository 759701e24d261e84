"""Long work, with a line that says how far it is while somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Final, Self

import click

from localmem_node.client import DaemonClient
from localmem_node.errors import NodeError
from localmem_node.system import SystemClock

EVERY_S: Final = 0.3
COUNTED_S: Final = 0.2


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


class Counter:
    """A line on a terminal that counts; nothing where nobody looks."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._clock = SystemClock()
        self._shown_s = self._clock.monotonic_s()
        self._shown = False

    def __call__(self, count: int) -> None:
        """So many are done; shown now and then."""
        now_s = self._clock.monotonic_s()
        if now_s - self._shown_s >= COUNTED_S and sys.stderr.isatty():
            self._shown_s, self._shown = now_s, True
            click.echo(f"\r{self._verb} {count} events", err=True, nl=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
