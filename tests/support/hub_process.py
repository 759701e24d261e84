"""A real hub: the command line's `serve` in a process of its own, on a database in a folder."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.postgres_server import ends_with_its_parent
from localmem_hub.database import open_engine, prepare
from localmem_hub.seams import Kind, Role
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom


class HubProcess:
    """Start it, kill it, start it again. `url` changes with every start, unless `--port` is told.

    With a `database` it is one replica on that. `options` are of the command line.
    """

    def __init__(self, folder: Path, *options: str, database: str | None = None) -> None:
        self.database = folder / "hub.db"
        self.database_url = database or f"sqlite:///{self.database}"
        self.options = options
        self.prefix: list[str] = []  # a program that runs it, and becomes it
        self.log = folder / "hub.log"
        self.url = ""
        self.transport = "auto"  # how devices are told to reach it
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, file_bytes_max: int | None = None) -> None:
        """Run `localmem-hub serve`, and wait until it listens."""
        self.launch(file_bytes_max=file_bytes_max)
        self.listens()

    def launch(self, *, file_bytes_max: int | None = None) -> None:
        """Run `localmem-hub serve`; with a limit, writing files beyond it fails."""
        die_with_parent = ends_with_its_parent()

        def limit() -> None:
            die_with_parent()
            if file_bytes_max is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        python = [*self.prefix, sys.executable]
        command = [*python, "-m", "localmem_hub", "serve", "--json", "--port", "0"]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--database", self.database_url, *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=limit,
            )

    def listens(self) -> None:
        """Wait for it."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "url" in line, line + self.log.read_text()
        self.url = json.loads(line)["url"]

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def http_url(self) -> str:
        """The same address for single requests."""
        return "http" + self.url.removeprefix("ws")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._finish()

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._finish()

    def token(
        self,
        pool: str,
        device: str | None = None,
        role: Role = "writer",
        kind: Kind = "sealed",
    ) -> str:
        """A new token."""
        with self.store() as store:
            return store.tokens.create(pool, device, role, SystemRandom(), 1, kind=kind).text

    @contextlib.contextmanager
    def store(self) -> Iterator[SqlStore]:
        """The same database, beside the process."""
        engine = open_engine(self.database_url)
        prepare(engine)
        store = SqlStore(engine)
        try:
            yield store
        finally:
            store.close()

    def query(self, statement: str) -> list[Any]:
        """Rows of the database."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(statement).fetchall()

    def _finish(self) -> int:
        assert self._process is not None
        code = self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


@contextlib.contextmanager
def running_hub(
    folder: Path, *options: str, file_bytes_max: int | None = None
) -> Iterator[HubProcess]:
    """A hub that is killed at the end, if it still lives."""
    hub = HubProcess(folder, *options)
    try:
        hub.start(file_bytes_max=file_bytes_max)
        yield hub
    finally:
        hub.kill()
