"""What does a hub at Azure cost in a month, by how many devices it has?

The requests of a day come from `azure_day`, what each asks of the storage from `bench azure`; prices are
published ones that change with time and place, so each is an option. A function is billed for the time in
which an instance is at work, a second at least for each request that comes alone; many at a time share it,
so no instance costs more than the whole month. A month has 30 days.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from bench.azure_day import requests_in_a_day
from bench.report import print_json, print_table

DEVICES: Final = (3, 30, 300)
DAYS: Final = 30
DAY_S: Final = 24 * 3600


@dataclass(frozen=True)
class Assumptions:
    """In US dollars, seconds and gigabytes: list prices of Flex Consumption on demand, and of Standard LRS
    in the hot tier, to be replaced by those of one's own place and day; and what a request takes."""

    per_gb_second: float = 0.000026
    per_million_executions: float = 0.40
    free_gb_seconds: float = 100_000
    free_executions: float = 250_000
    per_10000_writes: float = 0.055
    per_10000_reads: float = 0.0044
    per_gb_month: float = 0.02
    stored_mb_per_device: float = 1.0
    memory_gb: float = 0.5
    billed_s: float = 1.0
    instances: float = 1
    reads_per_post: float = 1
    writes_per_post: float = 1
    reads_per_poll: float = 2
    timer_per_day: float = 48


def month(devices: int, posts: float, polls: float, given: Assumptions) -> dict[str, float]:
    """Dollars of one month; `posts` and `polls` are those of a device in a day."""
    requests = DAYS * (devices * (posts + polls) + given.timer_per_day)
    busy_s = min(requests * given.billed_s, DAYS * DAY_S * given.instances)
    gb_s = max(0.0, busy_s * given.memory_gb - given.free_gb_seconds)
    executions = max(0.0, requests - given.free_executions)
    writes = DAYS * devices * posts * given.writes_per_post
    reads = DAYS * devices * (posts * given.reads_per_post + polls * given.reads_per_poll)
    function = gb_s * given.per_gb_second + executions * given.per_million_executions / 1e6
    storage = writes * given.per_10000_writes / 1e4 + reads * given.per_10000_reads / 1e4
    storage += devices * given.stored_mb_per_device / 1000 * given.per_gb_month
    return {
        "devices": devices,
        "requests": round(requests),
        "function": round(function, 2),
        "storage": round(storage, 2),
        "together": round(function + storage, 2),
    }


def main(arguments: Sequence[str]) -> None:
    """Compute, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench azure-costs", description=__doc__)
    for one in fields(Assumptions):
        name = "--" + one.name.replace("_", "-")
        parser.add_argument(name, type=float, default=one.default)
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    given = Assumptions(**{one.name: getattr(options, one.name) for one in fields(Assumptions)})
    day = requests_in_a_day()
    rows = [month(count, day["posts"], day["polls"], given) for count in options.devices]
    if options.json:
        print_json({"day": day, "months": rows})
        return
    print_table(list(rows[0]), [[f"{value:,}" for value in row.values()] for row in rows])
