"""What an editor waits for when the daemon is stopped, hangs, or is killed with a request under way.

Tool events through the hook's command and as HTTP requests, which Claude Code gives 0.3 s each, of a
daemon that has a breaker. A request ends without an answer, when its connection is refused or reset, or
when its time is over. A command's time is that above a process that does nothing: the interpreter's own start for the one in
Python, `/bin/true` for the compiled one. What is left of it is reading, spooling or waiting.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench.daemons import is_alive
from bench.hook_calls import Caller, commands_of, run
from bench.hook_payloads import Turn, payload
from localmem_node.client import DaemonClient

NEXT: Final = 20
STARTS: Final = 5
KILLED_AFTER_S: Final = 0.1
IDLE_S: Final = 2.0
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
"""Where a spool may be, if Linux has this in memory."""

ROUTE: Final = "/v1/hook/claude-code"

Delays = dict[str, float]
Broken = Callable[[int], AbstractContextManager[None]]


def failures(
    client: DaemonClient,
    program: Path | None,
    turn: Turn,
    bare_ms: Mapping[str, float],
) -> dict[str, dict[str, Delays]]:
    """{state: {way: {"first_ms", "next_p50_ms", "next_max_ms"}}}, of a daemon that is stopped then.

    "started" are starts of sessions without a daemon, which start one and do not wait for it;
    "spooled" is "stopped" where the runtime folder is in memory.
    """
    body = json.dumps(payload("claude-code", "command", turn)).encode()
    begin = json.dumps(payload("claude-code", "session start", turn)).encode()
    given = {name: value for name, value in client.environment.items() if name != "LOCALMEM_HOME"}

    commands = commands_of(client.settings.config_dir, program)

    def told(way: str, what: bytes = body) -> float:
        return run((*commands[way], "claude-code"), what, given)[0] - bare_ms[way]

    found: dict[str, dict[str, Delays]] = {}
    for state, broken in STATES.items():
        ways = {way: _commands(client, broken, partial(told, way)) for way in commands}
        found[state] = ways | {"request": _requests(client, broken, body)}
    with tempfile.TemporaryDirectory(prefix="lm-", dir=MEMORY if MEMORY.is_dir() else None) as at:
        found["spooled"] = {}
        for way, command in commands_of(Path(at), program).items():
            times = [run((*command, "claude-code"), body, given)[0] for _ in range(1 + NEXT)]
            found["spooled"][way] = _delays([ms - bare_ms[way] for ms in times])
    found["started"] = {}
    for way in commands:
        starts = []
        for _ in range(STARTS):
            client.stop()
            starts.append(told(way, begin))
            client.ensure_running()
        found["started"][way] = _delays(starts)
    client.stop()
    return found


def breaker(client: DaemonClient) -> dict[str, float]:
    """What the process takes that sends hooks away: {"pss_mib", "private_mib", "idle_wakeups"}.

    `idle_wakeups` is how often it ran in IDLE_S without a hook. Empty where there is no /proc.
    """
    client.ensure_running()
    process = Path("/proc") / str(client.status()["services"]["breaker"]["pid"])
    if not process.exists():
        return {}
    threading.Event().wait(IDLE_S)  # it may have to fall asleep
    before = _numbers(process / "status")
    threading.Event().wait(IDLE_S)
    after, memory = _numbers(process / "status"), _numbers(process / "smaps_rollup")
    names = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    private = memory["Private_Clean"] + memory["Private_Dirty"]
    return {
        "pss_mib": round(memory["Pss"] / 1024, 2),
        "private_mib": round(private / 1024, 2),
        "idle_wakeups": sum(after[name] - before[name] for name in names),
    }


def _numbers(path: Path) -> dict[str, int]:
    """The lines of a file of /proc that are a name and a number."""
    lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _commands(client: DaemonClient, broken: Broken, told: Callable[[], float]) -> Delays:
    client.stop()
    with broken(client.ensure_running().pid):
        return _delays([told() for _ in range(1 + NEXT)])


def _requests(client: DaemonClient, broken: Broken, body: bytes) -> Delays:
    client.stop()
    state = client.ensure_running()
    caller = Caller(state.port, state.token)
    try:
        caller.call(ROUTE, body)
        with broken(state.pid):
            return _delays([caller.call(ROUTE, body)[0] for _ in range(1 + NEXT)])
    finally:
        caller.close()


@contextmanager
def _hung(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _killed(pid: int) -> Iterator[None]:
    """It is stopped before it could answer, and then killed."""
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(KILLED_AFTER_S, os.kill, (pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGTERM)
    while is_alive(pid):
        threading.Event().wait(0.01)
    yield


STATES: Final[dict[str, Broken]] = {"stopped": _stopped, "hung": _hung, "killed": _killed}


def _delays(times: list[float]) -> Delays:
    return {
        "first_ms": round(times[0], 3),
        "next_p50_ms": round(float(np.median(times[1:])), 3),
        "next_max_ms": round(max(times[1:]), 3),
    }
