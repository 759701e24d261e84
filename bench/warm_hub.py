"""Hubs that start by fork: `python -m bench.warm_hub`, a process that has imported everything.

What it forks runs the command line's `serve`, with a store, threads and an event loop of its own: only
the import of its modules, most of what a start takes, was done before. So a bench can afford a thousand.
Lines of JSON on standard input, each answered by one on standard output:

    {"serve": [arguments]}  ->  {"pid": n}
    {"wait": pid}           ->  {"status": its exit code, or less than 0 for a signal}

At the end of the input, and when whoever started it dies, all that it forked is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench.postgres_server import ends_with_its_parent

_MODULES: Final = (
    "localmem_hub.app",
    "localmem_hub.cli",
    "localmem_hub.database",
    "localmem_hub.replication",
    "localmem_hub.server",
    "localmem_hub.store",
    "localmem_hub.system",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.websockets.auto",
)


class WarmHub:
    """One hub at a time, started by such a process; what it logs goes to a file."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            self._template = subprocess.Popen(
                [sys.executable, "-m", "bench.warm_hub"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "LOCALMEM_HUB_LOG_LEVEL": "error"},
                preexec_fn=ends_with_its_parent(),
                text=True,
            )
        self.pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._template.stdin is not None
        assert self._template.stdout is not None
        self._template.stdin.close()
        self._template.wait(60)
        self._template.stdout.close()

    def start(self, arguments: Sequence[str]) -> None:
        """Begin to serve; returns before it listens."""
        self.pid = self._ask({"serve": ["serve", *arguments]})["pid"]

    def signal(self, number: signal.Signals) -> None:
        """Send the hub a signal; it is there until somebody has waited for it."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its end; the exit code, or less than 0 for a signal."""
        return int(self._ask({"wait": self.pid})["status"])

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        assert self._template.stdin is not None
        assert self._template.stdout is not None
        self._template.stdin.write(json.dumps(request) + "\n")
        self._template.stdin.flush()
        line = self._template.stdout.readline()
        if not line:
            raise SystemExit("bench: the process that starts hubs is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Fork on demand."""
    for name in _MODULES:
        __import__(name)
    forked: set[int] = set()
    inherit = ends_with_its_parent()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            forked.discard(request["wait"])
            print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            inherit()
            _serve(request["serve"])
        forked.add(pid)
        print(json.dumps({"pid": pid}), flush=True)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)


def _serve(arguments: list[str]) -> None:
    """Be `localmem-hub serve`; ends the process as that does."""
    from localmem_hub.cli import main as command_line

    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # it says where it listens; its port was given
    sys.argv = ["localmem-hub", *arguments]
    command_line()


if __name__ == "__main__":
    main()
