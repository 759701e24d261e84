"""What does localmem take of a machine when nobody looks? Processor, memory, start.

A real daemon process in a temporary home, its key in a file. Edits (`bench.edits`, 200 characters)
come from a real checkout, four to a file, as a hook sends them: one per call.

- `cpu_ms_per_event`: processor time of an event, its vector and git's answer included, while they
  arrive faster than at the rate asked about, less what the daemon takes when idle;
  `cpu_percent_at_1_per_5s` is that at one event in five seconds, with what it takes when idle: a
  share of one core. `measured_percent_at_1_per_5s` is what it took when they really came so rarely.
- `encoder_share`: of the processor time of events, that of the thread that gives them their vectors;
  `children_share`: that of the git processes.
- `rss_mib` and `pss_mib` (pages shared with other processes count in part), `anonymous_mib` (no pages
  of files): after the start, after queries, with all events and after queries again, and of a daemon
  that was started with these events.
- `cold_start_ms`: from no daemon to the first answer, the model included; `cli_ms` is the wall time
  of `localmem query` with a daemon, `cli_cold_ms` without. Medians.

The baseline beside it is the same daemon without an event. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.daemons import daemon
from bench.edits import CHECKOUT, edits
from bench.report import print_json, print_progress, print_table
from localmem_node.client import DaemonClient
from localmem_node.git_process import git_environment

EVENTS: Final = 10_000
RATE_S: Final = 5.0
ARRIVALS: Final = 160
PAUSE_S: Final = 0.4
RARE_ARRIVALS: Final = 20
IDLE_S: Final = 30.0
QUERIES: Final = 200
STARTS: Final = 5
CLI_RUNS: Final = 10
CALL_EVENTS: Final = 250
EDITS_PER_FILE: Final = 4
MIB: Final = 2**20
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

Edit = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds of a process since it began: by thread, and of its children that ended."""

    threads: Mapping[int, float]
    children: float
    main: int

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.threads.values()) + self.children

    def since(self, before: Cpu) -> Cpu:
        """What was taken after `before`."""
        threads = {
            thread: seconds - before.threads.get(thread, 0.0)
            for thread, seconds in self.threads.items()
        }
        return Cpu(threads, self.children - before.children, self.main)

    @property
    def busiest(self) -> float:
        """Of the busiest thread that is not the main one: while events arrive, the encoder's."""
        return max((s for thread, s in self.threads.items() if thread != self.main), default=0.0)


def cpu_of(pid: int, proc: Path = Path("/proc")) -> Cpu:
    """Processor time of a process (proc_pid_stat(5); proc_pid_schedstat(5) has nanoseconds)."""
    threads: dict[int, float] = {}
    for task in (proc / str(pid) / "task").iterdir():
        try:
            if (precise := task / "schedstat").exists():
                threads[int(task.name)] = int(precise.read_text().split()[0]) / 1e9
            else:
                threads[int(task.name)] = sum(_ticks(task / "stat")[:2]) / TICKS_PER_S
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    children = sum(_ticks(proc / str(pid) / "stat")[2:]) / TICKS_PER_S
    return Cpu(threads, children, pid)


def _ticks(stat: Path) -> list[int]:
    """utime, stime, cutime, cstime."""
    return list(map(int, stat.read_text().rpartition(")")[2].split()[11:15]))


def memory_of(pid: int, proc: Path = Path("/proc")) -> dict[str, float]:
    """MiB by kind (proc_pid_smaps_rollup(5))."""
    lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    names = {"rss_mib": "Rss", "pss_mib": "Pss", "anonymous_mib": "Anonymous"}
    return {name: round(kib[key] * 1024 / MIB, 1) for name, key in names.items()}


def shares(taken: Cpu, seconds: float, events: int, idle_percent: float) -> dict[str, float]:
    """What events took that arrived within so many seconds, and what that is at the slow rate."""
    idle_s = idle_percent / 100 * seconds
    each_s = max(taken.total - idle_s, 0.0) / events
    return {
        "cpu_ms_per_event": round(1000 * each_s, 2),
        "cpu_percent_at_1_per_5s": round(100 * each_s / RATE_S + idle_percent, 3),
        "encoder_share": round(taken.busiest / taken.total, 3),
        "children_share": round(taken.children / taken.total, 3),
    }


def arriving(checkout: Path, count: int) -> Iterator[Edit]:
    """`count` edits in this checkout, four in a row to a file, which is then not edited again."""
    for number, edit in enumerate(edits(count)):
        path = Path(edit["filePath"].replace(CHECKOUT, str(checkout), 1))
        group = number // EDITS_PER_FILE
        yield edit | {"filePath": str(path.with_stem(f"{path.stem}_{group}"))}


def measure(
    events: int, arrivals: int, pause_s: float, rate_s: float, idle_s: float
) -> dict[str, Any]:
    """Everything that the benchmark prints."""
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        checkout, home = Path(folder, "checkout"), Path(folder, "home")
        subprocess.run(["git", "init", "--quiet", checkout], check=True, env=git_environment())
        (checkout / ".gitignore").write_text("build/\n*.log\n")
        source = arriving(checkout, events + arrivals + RARE_ARRIVALS)
        with daemon(home, LOCALMEM_KEY_FILE=str(home / "key")) as client:
            found: dict[str, Any] = {"empty": _empty(client, idle_s)}
            _fill(client, list(islice(source, events)))
            full: dict[str, Any] = {"events": client.status()["events"]}
            full["filled"] = memory_of(_pid(client))
            _ask(client, QUERIES)
            full["after_queries"] = memory_of(_pid(client))
            idle = full["idle_cpu_percent"] = _idle(client, idle_s)
            taken, seconds = _arrivals(client, list(islice(source, arrivals)), pause_s)
            full |= shares(taken, seconds, arrivals, idle)
            rare, seconds = _arrivals(client, list(source), rate_s)
            full["measured_percent_at_1_per_5s"] = round(100 * rare.total / seconds, 3)
            full["cold_start_ms"] = _starts(client)
            full["started"] = memory_of(_pid(client))
            _ask(client, QUERIES)
            full["started_after_queries"] = memory_of(_pid(client))
            full |= _command(client)
    return found | {"full": full}


def _empty(client: DaemonClient, idle_s: float) -> dict[str, Any]:
    client.ensure_running()
    found: dict[str, Any] = {"started": memory_of(_pid(client))}
    found["cold_start_ms"] = _starts(client)
    _ask(client, QUERIES)
    return found | {
        "after_queries": memory_of(_pid(client)),
        "idle_cpu_percent": _idle(client, idle_s),
    }


def _fill(client: DaemonClient, batch: Sequence[Edit]) -> None:
    print_progress(f"{len(batch)} events …")
    for start in range(0, len(batch), CALL_EVENTS):
        answer = client.record(batch[start : start + CALL_EVENTS])
        assert not answer["failed"], answer["failed"][0]
    _settle(client)


def _arrivals(client: DaemonClient, batch: Sequence[Edit], pause_s: float) -> tuple[Cpu, float]:
    """Processor time while events arrive one by one, and for how long that was."""
    print_progress(f"{len(batch)} events, one every {pause_s:g} s …")
    pid = _pid(client)
    before, began = cpu_of(pid), time.monotonic()
    for number, edit in enumerate(batch, start=1):
        answer = client.record([edit], str(Path(edit["filePath"]).parent))
        assert not answer["failed"], answer["failed"][0]
        time.sleep(max(began + number * pause_s - time.monotonic(), 0))
    _settle(client)
    return cpu_of(pid).since(before), time.monotonic() - began


def _idle(client: DaemonClient, seconds: float) -> float:
    """Percent of a core that the daemon takes when nothing is asked."""
    print_progress(f"{seconds:g} s idle …")
    pid = _pid(client)
    time.sleep(min(seconds, 1.0))  # what it was asked last is over
    before, began = cpu_of(pid), time.monotonic()
    time.sleep(seconds)
    return round(100 * cpu_of(pid).since(before).total / (time.monotonic() - began), 4)


def _starts(client: DaemonClient) -> float:
    """Milliseconds from no daemon to an answer."""
    taken: list[float] = []
    for _ in range(STARTS):
        client.stop()
        began = time.perf_counter()
        client.query("where is the timeout of a socket set", 10)
        taken.append(1000 * (time.perf_counter() - began))
    return round(float(np.median(taken)), 1)


def _command(client: DaemonClient) -> dict[str, float]:
    """Milliseconds of wall time of a query on the command line."""
    cold: list[float] = []
    for _ in range(STARTS):
        client.stop()
        cold.append(_run(client))
    warm = [_run(client) for _ in range(CLI_RUNS)]
    return {
        "cli_ms": round(float(np.median(warm)), 1),
        "cli_cold_ms": round(float(np.median(cold)), 1),
    }


def _run(client: DaemonClient) -> float:
    code = "import sys; from localmem_node.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "query", "where is the timeout of a socket set"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=client.environment)
    return 1000 * (time.perf_counter() - began)


def _ask(client: DaemonClient, count: int) -> None:
    for edit in edits(count):
        client.query(" ".join(edit["snippet"].split()[:8]) or "nothing", 10)


def _settle(client: DaemonClient) -> None:
    while client.status()["encoder"]["waiting"]:
        time.sleep(0.2)


def _pid(client: DaemonClient) -> int:
    return client.ensure_running().pid


def main(arguments: Sequence[str]) -> None:
    """Print a table, or with `--json` {"empty": {…}, "full": {…}}."""
    parser = argparse.ArgumentParser(prog="python -m bench footprint", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="in the store (10000)")
    parser.add_argument("--arrivals", type=int, default=ARRIVALS, help="events timed (160)")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="seconds between them (0.4)")
    parser.add_argument("--rate", type=float, default=RATE_S, help="those that come rarely (5)")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds of rest (30)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.events, options.arrivals, options.pause, options.rate, options.idle)
    if options.json:
        print_json(found)
        return
    flat = {name: _flat(each) for name, each in found.items()}
    names = dict.fromkeys(name for each in flat.values() for name in each)
    print_table(
        ["", *flat], [[name, *(each.get(name, "") for each in flat.values())] for name in names]
    )


def _flat(found: Mapping[str, Any], above: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name} ")
        else:
            flat[above + name] = value
    return flat
