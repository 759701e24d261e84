"""A worker process: reads calls on stdin, answers on stdout, and ends with its hub.

Whatever comes in may hang the CRDT library, crash it, or make it ask for all memory there is. So this
process may use so much address space and no more; each call may use so much processor time, after
which the process ends itself, even in the midst of the library; and when the hub is gone it goes.
The process is a fresh interpreter, not a fork: it has no socket, no database and no secret.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Final

from localmem_hub.plain.calls import LENGTH_BYTES, Call, Compact, Forget, Load, pack, read_call
from localmem_hub.plain.limits import (
    WORKER_BYTES,
    WORKER_CPU_SECONDS,
    WORKER_CPU_SECONDS_PER_MIB,
)
from localmem_hub.plain.scratch import Scratch

_PR_SET_PDEATHSIG: Final = 1
_MIB: Final = 1024 * 1024


def cpu_seconds(call: Call, held: int) -> float:
    """Processor time that a call may take; `held` are the encoded bytes of its document."""
    match call:
        case Load(updates=updates) | Compact(updates):
            size = 2 * sum(map(len, updates))
        case Forget():
            size = 0
        case _:
            size = held + sum(map(len, call.updates)) + held * len(call.vectors)
    return WORKER_CPU_SECONDS + WORKER_CPU_SECONDS_PER_MIB * size / _MIB


def main() -> None:
    """Serve until stdin ends. The one argument is the process id of the hub."""
    _die_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing that a library prints gets among the answers
    _limit()
    calls = os.fdopen(0, "rb", buffering=1024 * 1024)
    scratch = Scratch()
    while len(length := calls.read(LENGTH_BYTES)) == LENGTH_BYTES:
        call = read_call(calls.read(int.from_bytes(length, "big")))
        room = "" if isinstance(call, Compact) else call.room
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds(call, scratch.size(room)))
        answer = pack(scratch.handle(call))
        signal.setitimer(signal.ITIMER_PROF, 0)
        left = memoryview(answer)
        while left:
            left = left[answers.write(left) :]


def _limit() -> None:
    """Bounds on what this process may use; a system that lacks one of them has the others."""
    for kind, most in (
        (resource.RLIMIT_AS, WORKER_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the hub, which ends this one


def _die_with(hub: int) -> None:
    """End when the hub's process does, even while the library runs (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != hub:  # it went before that was said
        sys.exit(1)


if __name__ == "__main__":
    main()
