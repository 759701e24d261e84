"""`localmem simulate`: days of devices and a hub in virtual time, with faults and an oracle.

Nothing of this machine takes part: no store, no hub, no network. What a seed gives is the same
everywhere; only `--swarm-minutes` looks at a clock, to know when to end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import click

from localmem_node.cli.output import json_option, print_fields, print_json
from localmem_node.system import SystemClock
from localmem_protocol.simulation import FAULTS, Report, Settings, drawn, simulate

DEVICES_MAX: Final = 50
HOURS_MAX: Final = 24 * 366


def _fault_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """`all`, `none`, or names with commas between them, in the order in which they are planned."""
    if value in ("all", "none"):
        return tuple(FAULTS) if value == "all" else ()
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in FAULTS:
            raise click.BadParameter(f"{name!r} is none of: all, none, {', '.join(FAULTS)}")
    return tuple(name for name in FAULTS if name in names)


@click.command("simulate")
@click.option("--devices", type=click.IntRange(1, DEVICES_MAX), default=3, show_default=True)
@click.option(
    "--hours",
    type=click.IntRange(1, HOURS_MAX),
    default=24,
    show_default=True,
    help="Virtual ones.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True)
@click.option(
    "--faults",
    callback=_fault_names,
    metavar="all|none|NAME,...",
    default="all",
    show_default=True,
    help="Which may strike: " + ", ".join(FAULTS) + ".",
)
@click.option(
    "--references", is_flag=True, help="Devices have clones of a repository, and send references."
)
@click.option(
    "--swarm",
    type=click.IntRange(1),
    help="Play that many worlds, from --seed on, each with a drawn half of the faults, drawn limits, and "
    "references in half of them.",
)
@click.option(
    "--swarm-minutes", type=click.FloatRange(0, min_open=True), help="The same, for so long."
)
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every step to a file."
)
@json_option
def simulate_(
    devices: int,
    hours: int,
    seed: int,
    faults: tuple[str, ...],
    references: bool,
    swarm: int | None,
    swarm_minutes: float | None,
    trace: Path | None,
    as_json: bool,
) -> int:
    """Play days of developers' work on several devices and a hub, in virtual time.

    Devices and hub are the state machines of production. In the end everything heals, and all must
    hold the same; the exit code is 1 unless they do and nothing acknowledged is lost. The same seed
    gives the same history.
    """
    if swarm is not None and swarm_minutes is not None:
        raise click.UsageError("--swarm and --swarm-minutes exclude each other")
    if swarm is None and swarm_minutes is None:
        settings = Settings(seed, devices, hours, faults, references=references)
        return _one(settings, trace, as_json)
    if references:
        raise click.UsageError("--references is of one world: a swarm draws it")
    if trace is not None and swarm != 1:
        raise click.UsageError("--trace is of one world: leave the swarm out, or use --swarm 1")
    if swarm == 1:
        return _one(drawn(seed, devices, hours, faults), trace, as_json)
    worlds = (
        drawn(number, devices, hours, faults) for number in _seeds(seed, swarm, swarm_minutes)
    )
    return _swarm(worlds, as_json)


def _seeds(first: int, number: int | None, minutes: float | None) -> Iterator[int]:
    clock = SystemClock()
    start = clock.monotonic_s()
    for seed in count(first):
        over = number is not None and seed - first >= number
        late = minutes is not None and clock.monotonic_s() - start >= 60 * minutes
        if over or late:
            return
        yield seed


def _one(settings: Settings, trace: Path | None, as_json: bool) -> int:
    if trace is None:
        report = simulate(settings)
    else:
        with trace.open("w", encoding="utf-8", newline="\n") as file:
            report = simulate(settings, sink=lambda line: file.write(line + "\n"))
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    return 0 if report.passed else 1


def _show(report: Report) -> None:
    traffic = report.traffic.values()
    frames = sum(device["frames_up"] + device["frames_down"] for device in traffic)
    print_fields(
        {
            "seed": report.seed,
            "world": f"{report.devices} devices, {report.hours} h, {report.events} events",
            "faults": _counts(report.faults),
            "traffic": f"{frames} frames, "
            f"{sum(device['bytes_up'] for device in traffic)} B up, "
            f"{sum(device['bytes_down'] for device in traffic)} B down",
            "converged": "yes" if report.converged else "NO",
            "epochs": report.epochs,
            "forgotten": report.forgotten,
            "lost acknowledged": report.lost_acknowledged,
            "evicted undelivered": report.evicted_undelivered,
            "lost with the hub": report.lost_with_hub,
            "referred": report.referred,
            "texts missing": report.texts_missing,
            "document": f"{report.document_bytes} B, {report.document}",
            "trace": f"{report.steps} steps, {report.trace_hash}",
        }
    )
    if not report.passed:
        click.echo(report.explanation(), err=True)


def _swarm(worlds: Iterator[Settings], as_json: bool) -> int:
    faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    played = events = forgotten = epochs = lost = evicted = with_hub = referred = missing = 0
    failed: list[Report] = []
    traces = hashlib.blake2b(digest_size=16)
    for settings in worlds:
        report = simulate(settings)
        played += 1
        events += report.events
        forgotten += report.forgotten
        epochs += report.epochs
        lost += report.lost_acknowledged
        evicted += report.evicted_undelivered
        with_hub += report.lost_with_hub
        referred += report.referred
        missing += report.texts_missing
        faults.update(report.faults)
        traces.update(report.trace_hash.encode())
        if not report.passed:
            failed.append(report)
            if not as_json:
                click.echo(report.explanation(), err=True)
                again = f"--devices {report.devices} --hours {report.hours} --seed {report.seed}"
                click.echo(f"again: localmem simulate --swarm 1 {again}", err=True)
    result = {
        "converged": not failed,
        "lost_acknowledged": lost,
        "worlds": played,
        "failed": [report.as_dict() for report in failed],
        "faults": dict(faults),
        "events": events,
        "forgotten": forgotten,
        "epochs": epochs,
        "evicted_undelivered": evicted,
        "lost_with_hub": with_hub,
        "referred": referred,
        "texts_missing": missing,
        "trace_hash": traces.hexdigest(),
    }
    if as_json:
        print_json(result)
    else:
        shown = {"failed": ", ".join(str(r.seed) for r in failed) or "none"}
        print_fields(result | {"faults": _counts(faults)} | shown)
    return 1 if failed else 0


def _counts(faults: Any) -> str:
    return ", ".join(f"{name} {number}" for name, number in faults.items() if number) or "none"
