"""A real hub: the command line's `serve` in a process of its own, on a database in a folder."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localmem_hub.database import open_engine, prepare
from localmem_hub.seams import Kind, Role
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom


class HubProcess:
    """Start it, kill it, start it again. `url` changes with every start."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._options = options  # of the command line
        self._port = 0  # taken at the first start, and kept where asked for
        self.database = folder / "hub.db"
        self.log = folder / "hub.log"
        self.url = ""
        self.transport = "auto"  # how devices are told to reach it
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, file_bytes_max: int | None = None, same_port: bool = False) -> None:
        """Run `localmem-hub serve`; with a limit, writing files beyond it fails."""
        port = self._port if same_port else 0

        def limit() -> None:
            if file_bytes_max is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        command = [sys.executable, "-m", "localmem_hub", "serve", "--json", "--port", str(port)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--database", f"sqlite:///{self.database}", *self._options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=limit,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "url" in line, line + self.log.read_text()
        said = json.loads(line)
        self.url, self._port = said["url"], said["port"]

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def http_url(self) -> str:
        """The same address for single requests."""
        return "http" + self.url.removeprefix("ws")

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
        engine = open_engine(f"sqlite:///{self.database}")
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
        code = self._process.wait(30)
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
