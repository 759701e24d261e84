"""How long does an editor wait for its hooks, and what of that is ours?

A real daemon in a temporary home over edits of a checkout (`bench.edits`). Sessions of each editor
(`bench.hook_payloads`): every event comes once as the HTTP request that Claude Code makes, over a
connection of its own since the daemon keeps none of a hook, and, of other sessions, through the
command that `localmem install` names: the one in Python, and the compiled one, built with Go, or
without it left out. Claude Code makes requests for prompt, edit, command and answer; the rest, and all of Codex and
Cursor, are commands. Between two events is a pause, in which the daemon encodes what it was told.

Beside them, in the same rounds: `python3 -I -S -c pass`; the command against a server that answers
`{}` at once (`client`, and `client, compiled`); `/bin/true` (`nothing`); `GET /healthz` of the daemon over a connection that is kept and over a new one;
the same request against that other server, which keeps the connection (`bare post`); and `fdatasync` of 4 KiB on the store's disk, since an event
is answered when it is durable. `told` is the share of prompts and starts that got an answer.

Then the daemon is stopped, hung (SIGSTOP) or killed with a request under way: what the first and the
following tool events take, above the interpreter's own start for a command. And what the breaker takes
that makes the difference for one that hangs: memory, and how often it runs in 2 s without a hook.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.daemons import daemon, environment
from bench.footprint import arriving
from bench.go_programs import HOOK, GoMissing, built
from bench.hook_calls import INTERPRETER, NOTHING, Caller, Commands, bare_server, commands_of, run
from bench.hook_failures import breaker, failures
from bench.hook_payloads import EDITORS, EVENTS, Turn, payload
from bench.report import print_json, print_progress, print_table
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.daemon.endpoint import make_endpoint
from localmem_node.git_process import git_environment
from localmem_node.project import project_id
from localmem_node.system import SystemRandom

STORED: Final = 10_000
ROUNDS: Final = 100
WARM_UP: Final = 3
PAUSE_S: Final = 0.05
CALL_EVENTS: Final = 250
PROMPT_WORDS: Final = 8
SEED: Final = 20_261_125
CAPTURING: Final = ("edit", "command", "answer")

TARGETS: Final = {
    "prompt_above_bare_ms": 20.0,
    "capture_above_bare_ms": 5.0,
    "client_ratio": 1.6,
    "compiled_ms": 3.0,
    "session_end_p99_ms": 1500.0,
    "first_delay_ms": 300.0,
    "next_delay_hung_ms": 5.0,
}
"""At most; what they are of is in `verdict`."""

Times = dict[str, list[float]]

BARE: Final = {"command": "interpreter", "compiled": "nothing"}
"""The baseline of each that does no work."""


def main(arguments: Sequence[str]) -> None:
    """Print tables, or with `--json` {"baselines", "events", "breaker", "failures", "targets"}."""
    parser = argparse.ArgumentParser(prog="python -m bench hooks", description=__doc__)
    parser.add_argument("--events", type=int, default=STORED, help="in the store (10000)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="sessions of each kind (100)")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="between events, s (0.05)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.events, options.rounds, options.pause)
    if options.json:
        print_json(found)
    else:
        _print(found)


def measure(stored: int, rounds: int, pause_s: float) -> dict[str, Any]:
    """Everything that the benchmark prints."""
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        root = Path(folder).resolve()
        checkout, home, bare_home = root / "checkout", root / "home", root / "bare"
        subprocess.run(["git", "init", "--quiet", checkout], check=True, env=git_environment())
        edits = list(arriving(checkout, stored + 9 * (rounds + WARM_UP) + 2))
        # A home of its own for each launcher, which has no other way to know where to ask.
        program = _compiled()
        ways, bare_ways = commands_of(home, program), commands_of(bare_home, program)
        make_endpoint(load_settings(environment(home)), SystemRandom())  # as `install` does
        with daemon(home) as client, bare_server(bare_home) as bare:
            fill(client, checkout, edits[:stored])
            state = client.ensure_running()
            caller, disk = Caller(state.port, state.token), root / "disk"
            calls = Calls(caller, bare, ways, bare_ways, disk, pause_s)
            turns = turns_of(checkout, edits[:stored], edits[stored:])
            for number in range(rounds + WARM_UP):
                calls.round(turns)
                if number == WARM_UP - 1:
                    calls.forget()
            calls.close()
            found = summary(calls)
            bare_ms = {way: found["baselines"][BARE[way]]["p50_ms"] for way in ways}
            found["breaker"] = breaker(client)
            found["failures"] = failures(client, program, next(turns), bare_ms)
    return found | {"targets": verdict(found)}


class Calls:
    """Times the events of sessions, each by both ways, and the baselines between them."""

    def __init__(
        self,
        caller: Caller,
        bare: Caller,
        commands: Commands,
        bare_commands: Commands,
        disk: Path,
        pause_s: float,
    ) -> None:
        self._caller, self._bare, self._disk, self._pause_s = caller, bare, disk, pause_s
        self._keeping = caller.another()
        self.commands, self._bare_commands = commands, bare_commands
        self._environment = environment(Path("/nowhere"))
        del self._environment["LOCALMEM_HOME"]
        self.times: Times = defaultdict(list)
        self.told: dict[str, int] = defaultdict(int)

    def forget(self) -> None:
        """What was measured so far was to warm up."""
        self.times.clear()
        self.told.clear()

    def close(self) -> None:
        """Give the connections back."""
        self._caller.close()
        self._keeping.close()

    def round(self, turns: Iterator[Turn]) -> None:
        """A session of each editor by each way, and the baselines once for each editor."""
        for editor in EDITORS:
            turn = next(turns)
            self._baselines(json.dumps(payload(editor, "command", turn)).encode())
            for way in ("request", *self.commands):
                turn = turn if way == "request" else next(turns)
                turn.write()
                for event in EVENTS:
                    body = json.dumps(payload(editor, event, turn)).encode()
                    self._event(way, editor, event, body)
                    time.sleep(self._pause_s)

    def _event(self, way: str, editor: str, event: str, body: bytes) -> None:
        name = f"{way} {editor} {event}"
        if way == "request":
            taken, answer = self._caller.call(f"/v1/hook/{editor}", body)
        else:
            taken, answer = run((*self.commands[way], editor), body, self._environment)
        self.times[name].append(taken)
        self.told[name] += answer not in (b"", b"{}")

    def _baselines(self, body: bytes) -> None:
        """Each after a pause, like the events: a processor that rested is slower at first."""
        calls: dict[str, Callable[[], tuple[float, bytes]]] = {
            "interpreter": lambda: run(INTERPRETER, body, self._environment),
            "nothing": lambda: run(NOTHING, body, self._environment),
            "client": lambda: run(
                (*self._bare_commands["command"], "codex"), body, self._environment
            ),
            "healthz": lambda: self._keeping.call("/healthz", method="GET"),
            "healthz, new": self._health_anew,
            "bare post": lambda: self._bare.call("/v1/hook/codex", body),
            "fdatasync": lambda: (synced(self._disk), b""),
        }
        if "compiled" in self._bare_commands:
            way = (*self._bare_commands["compiled"], "codex")
            calls["client, compiled"] = lambda: run(way, body, self._environment)
        for name, call in calls.items():
            self.times[name].append(call()[0])
            time.sleep(self._pause_s)

    def _health_anew(self) -> tuple[float, bytes]:
        taken = self._caller.call("/healthz", method="GET")
        self._caller.close()
        return taken


def fill(client: DaemonClient, checkout: Path, edits: Sequence[Mapping[str, Any]]) -> None:
    """Let the daemon record edits as those of the checkout's project, and wait for their vectors."""
    print_progress(f"{len(edits)} events …")
    project = project_id(checkout)
    for start in range(0, len(edits), CALL_EVENTS):
        batch = [{**edit, "project": project} for edit in edits[start : start + CALL_EVENTS]]
        answer = client.record(batch, str(checkout))
        assert not answer["failed"], answer["failed"][0]
    while not client.status()["settled"]:
        time.sleep(0.2)


def synced(path: Path) -> float:
    """Milliseconds of making 4 KiB durable, at the end of a file."""
    with path.open("ab") as file:
        file.write(bytes(4096))
        file.flush()
        began = time.perf_counter()
        os.fdatasync(file.fileno())
        return 1000 * (time.perf_counter() - began)


def turns_of(
    checkout: Path, stored: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[Turn]:
    """Sessions that ask about something stored and edit something new."""
    chance = np.random.default_rng(SEED)
    for number, (before, after) in enumerate(pairwise(new)):
        asked = stored[int(chance.integers(len(stored)))]
        words = " ".join(asked["snippet"].split()[:PROMPT_WORDS])
        prompt = f"Why did I change {Path(asked['filePath']).name}: {words}"
        yield Turn(number, checkout, prompt, before["snippet"], after["snippet"])


def summary(calls: Calls) -> dict[str, Any]:
    """Percentiles of everything, by way, editor and event."""
    ways = ("request", *calls.commands)
    baselines = {
        n: percentiles(t) for n, t in calls.times.items() if n.partition(" ")[0] not in ways
    }
    events: dict[str, Any] = {}
    for editor in EDITORS:
        events[editor] = {}
        for event in EVENTS:
            names = {way: f"{way} {editor} {event}" for way in ways}
            told = sum(calls.told[name] for name in names.values())
            times = {way: calls.times[name] for way, name in names.items()}
            events[editor][event] = {way: percentiles(each) for way, each in times.items()} | {
                "told": round(told / sum(map(len, times.values())), 3)
            }
    return {"baselines": baselines, "events": events}


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in ms."""
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def verdict(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the targets are about, of the worst editor each: {"measured", "at_most", "met"}."""
    events, baselines = found["events"], found["baselines"]
    bare = baselines["bare post"]["p50_ms"]

    def above(names: Sequence[str]) -> float:
        p50s = (events[editor][name]["request"]["p50_ms"] for editor in EDITORS for name in names)
        return float(max(p50s) - bare)

    delays = [ways for state in found["failures"].values() for ways in state.values()]
    measured = {
        "prompt_above_bare_ms": above(["prompt"]),
        "capture_above_bare_ms": above(CAPTURING),
        "client_ratio": baselines["client"]["p50_ms"] / baselines["interpreter"]["p50_ms"],
        "compiled_ms": baselines.get("client, compiled", {}).get("p50_ms"),
        "session_end_p99_ms": max(
            events[editor]["session end"]["command"]["p99_ms"] for editor in EDITORS
        ),
        "first_delay_ms": max(each["first_ms"] for each in delays),
        "next_delay_hung_ms": max(
            each["next_p50_ms"] for each in found["failures"]["hung"].values()
        ),
    }
    return {
        name: {
            "measured": round(measured[name], 3),
            "at_most": limit,
            "met": measured[name] <= limit,
        }
        for name, limit in TARGETS.items()
        if measured[name] is not None
    }


def _compiled() -> Path | None:
    try:
        return built(HOOK)
    except GoMissing as error:
        print_progress(f"the compiled client is left out: {error}")
        return None


def _print(found: Mapping[str, Any]) -> None:
    print_table(["ms", "p50", "p99"], [[n, *v.values()] for n, v in found["baselines"].items()])
    print()
    ways = [way for way in ("request", *BARE) if way in found["events"]["codex"]["prompt"]]
    rows = [
        [editor, event, *(ms for way in ways for ms in each[way].values()), each["told"]]
        for editor, events in found["events"].items()
        for event, each in events.items()
    ]
    headings = [
        "editor",
        "event",
        *(name for way in ways for name in (f"{way} p50", "p99")),
        "told",
    ]
    print_table(headings, rows)
    print()
    rows = [
        [state, way, *times.values()]
        for state, ways in found["failures"].items()
        for way, times in ways.items()
    ]
    print_table(["daemon", "ms above", "first", "next p50", "next max"], rows)
    print()
    print_table(["breaker", ""], [[name, value] for name, value in found["breaker"].items()])
    print()
    print_table(["target", "measured", "at most", "met"], [
        [name, *each.values()] for name, each in found["targets"].items()
    ])  # fmt: skip
