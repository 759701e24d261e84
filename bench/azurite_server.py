"""A real Azurite, Microsoft's own emulator of Azure Storage, in a folder of its own.

It listens on a loopback port, and ends with the process that started it, also when that is killed.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from bench.postgres_server import ends_with_its_parent

MISSING: Final = "Azurite is not installed; run: make system clients"
ACCOUNT: Final = "hub"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108
PROGRAM: Final = Path(__file__).parents[1] / (
    ".clients/azurite/node_modules/azurite/dist/src/blob/main.js"
)
_REQUEST: Final = re.compile(r'"([A-Z]+) (/[^ "]*) HTTP/1\.[01]" ([0-9]{3}) ')
_NUMBERS = count(1)


class AzuriteServer:
    """One server, with an account and a key of its own; with `noting` every request is in its log."""

    def __init__(self, *, port: int = 0, noting: bool = False) -> None:
        self._noting = noting
        # In memory where there is such a folder: a disk that is busy would be no storage that is.
        within = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="localmem-azurite-", dir=within))
        self.port = port or _free_port()
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._log = (self.folder / "log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it answers."""
        program = ["node", str(PROGRAM), "--location", str(self.folder / "data")]
        program += ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        program += [] if self._noting else ["--silent"]
        program += ["--skipApiVersionCheck", "--disableTelemetry"]
        self._process = subprocess.Popen(
            program,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}"},
            preexec_fn=ends_with_its_parent(),
        )
        for _ in range(1500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("Azurite did not start:\n" + (self.folder / "log").read_text())

    def noted(self) -> list[tuple[str, str, int]]:
        """Method, path with query, and status of every request that was answered so far."""
        return [
            (found[1], found[2], int(found[3]))
            for found in _REQUEST.finditer((self.folder / "log").read_text("utf-8", "replace"))
        ]

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connection(self, port: int = 0) -> str:
        """The connection string of its account, or the same through another port."""
        endpoint = f"http://127.0.0.1:{port or self.port}/{ACCOUNT}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.key};"
            f"BlobEndpoint={endpoint};"
        )

    @staticmethod
    def container() -> str:
        """A name that no container has yet."""
        return f"hub{next(_NUMBERS)}"


def is_installed() -> bool:
    """Whether there is one to start."""
    return PROGRAM.exists() and shutil.which("node") is not None


@contextmanager
def running_azurite(*, noting: bool = False) -> Iterator[AzuriteServer]:
    """A server that is gone afterwards. Raises FileNotFoundError when none is installed."""
    if not is_installed():
        raise FileNotFoundError(MISSING)
    server = AzuriteServer(noting=noting)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
