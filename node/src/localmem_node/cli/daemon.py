"""`localmem up`, `down` and `status`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import click

from localmem_node.cli.output import json_option, print_fields, print_json
from localmem_node.cli.pause import describe
from localmem_node.client import DaemonClient
from localmem_node.sync.troubles import notices_of, problems_of, untold


@click.command()
@json_option
def up(as_json: bool) -> None:
    """Start the daemon, unless it runs already; returns when it answers."""
    with DaemonClient() as client:
        running = client.running()
        state = running or client.ensure_running()
    if as_json:
        print_json(
            {
                "started": running is None,
                "pid": state.pid,
                "port": state.port,
                "socket": state.socket,
                "version": state.version,
            }
        )
    else:
        verb = "started" if running is None else "is running"
        click.echo(f"the daemon {verb}: pid {state.pid}, http://127.0.0.1:{state.port}")


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the daemon; returns when it has finished what it was doing and is gone."""
    stopped = DaemonClient(start=False).stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        click.echo("the daemon stopped" if stopped else "no daemon was running")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what the daemon has and does. Does not start one."""
    with DaemonClient(start=False) as client:
        state = client.running()
        fields = client.status() if state else {}
    if state is None:
        if as_json:
            print_json({"running": False})
        else:
            click.echo("no daemon is running; the first record or query starts one")
    elif as_json:
        print_json({"running": True, "pid": state.pid, "port": state.port} | fields)
    else:
        print_fields({"daemon": f"pid {state.pid}, http://127.0.0.1:{state.port}"} | _lines(fields))


def _lines(fields: dict[str, Any]) -> dict[str, object]:
    store, encoder = fields["store"], fields["encoder"]
    lines: dict[str, object] = {
        "device": fields["device"],
        "events": f"{fields['events']} ({fields['own_events']} of this device)",
        "store": f"{store['path']}, {_mib(store['used_bytes'])} of {_mib(store['size_bytes'])} MiB",
        "key": store["key"],
        "encoder": encoder["model"],
    }
    if store["damaged"]:
        lines["damaged"] = f"{store['damaged']} records could not be read"
    if encoder["replaces"]:
        lines["encoder"] = f"{encoder['model']}, in place of {', '.join(encoder['replaces'])}"
    if encoder["waiting"]:
        lines["waiting"] = _waiting(encoder, fields["events"])
    if encoder["problem"]:
        lines["problem"] = encoder["problem"]
    services = dict(fields["services"])
    paused = describe(services.pop("pause"))
    if paused:
        lines["paused"] = f"{paused}; go on with: localmem resume"
    lines["hooks"] = _hooks(services.pop("hooks"))
    lines |= _pools(services.pop("pools"))
    if "sync" in services:  # a hub without members
        alone = services["sync"] = dict(services["sync"])
        lines |= _numbered("sync problem", problems_of(alone))
        del alone["problems"], alone["epochs_unread"]
    for name, service in services.items():
        lines[name] = ", ".join(f"{key} {value}" for key, value in service.items())
    return lines


def _pools(told: dict[str, Any]) -> dict[str, object]:
    """How each pool is, what is wrong with it, and what waits to be told there."""
    lines: dict[str, object] = {}
    for pool in told["pools"]:
        name = f"pool {pool['pool']}"
        waiting = [untold(told["untold"].get(pool["id"], 0))]
        lines[name] = pool_line(pool)
        lines |= _numbered(f"{name} problem", problems_of(pool))
        lines |= _numbered(f"{name} note", [*notices_of(pool), *filter(None, waiting)])
    for pool, problem in told["damaged"].items():
        waiting = [untold(told["untold"].get(pool, 0))]
        lines[f"pool {pool[:8]}"] = "; ".join(["not in use", problem, *filter(None, waiting)])
    return lines


def _numbered(name: str, said: Iterable[str]) -> dict[str, str]:
    return {f"{name} {number}": line for number, line in enumerate(said, start=1)}


def pool_line(pool: dict[str, Any]) -> str:
    """How a pool is, on one line."""
    state = "in sync" if pool["settled"] else pool["error"] or pool["state"]
    parts = [state, f"{pool['place'] or 'not known yet'} of {pool['members'] or '?'}"]
    parts += [f"epoch {pool['epoch']}"] if pool["epoch"] else []
    if pool["tombstones_waiting"]:
        parts.append(f"{pool['tombstones_waiting']} forgotten, to be told to others")
    if pool["events_gathered"]:
        parts.append(f"{pool['events_gathered']} events about to go")
    if pool["texts_waiting"]:
        parts.append(f"{pool['texts_waiting']} events wait for their text")
    return ", ".join([*parts, f"at {pool['hub']}"])


def _hooks(hooks: dict[str, Any]) -> str:
    counts = [f"{name} {hooks[name]}" for name in ("captured", "known", "refused", "injected")]
    if hooks["unreadable"]:
        counts.append(f"unreadable {hooks['unreadable']}")
    counts += [
        f"{editor} at {time.strftime('%Y-%m-%d %H:%M', time.localtime(last / 1000))}"
        for editor, last in hooks["last"].items()
    ]
    return ", ".join([*counts, *filter(None, [hooks["problem"]])])


def _waiting(encoder: dict[str, Any], events: int) -> str:
    waiting = f"{encoder['waiting']} of {events} events for their vector"
    if encoder["remaining_s"] is None:
        return waiting
    rest = encoder["remaining_s"]
    left = f"{rest} s" if rest < 120 else f"{rest // 60} min"
    return f"{waiting}; {encoder['per_second']:.0f} a second, {left} left"


def _mib(size: int) -> str:
    return f"{size / 2**20:.3g}"
