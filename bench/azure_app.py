"""A function app as it is published, in as many processes as there are to be, on one port."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2

from bench.postgres_server import ends_with_its_parent

ROOT: Final = Path(__file__).parents[1]
WORKER: Final = Path(__file__).with_name("azure_worker.py")
ENVIRONMENT: Final = ROOT / ".clients/azure-worker"
MISSING: Final = (
    "Azure's Python worker is not installed; it needs Python 3.13 or 3.14 (in PATH, below PYENV_ROOT, or "
    "named by LOCALMEM_TEST_PYTHON313), then: make clients"
)
STARTS_S: Final = 60.0


def newer_python() -> Path | None:
    """The interpreter of the environment with Azure's own worker library, if it is installed."""
    return ENVIRONMENT / "bin/python" if (ENVIRONMENT / ".installed").exists() else None


def older_python() -> Path:
    """This interpreter, with `azure-functions` 1.x."""
    return Path(sys.executable)


def ask(method: str, url: str) -> httpx2.Response:
    """One request, past any proxy; a process may be starting meanwhile."""
    return httpx2.request(method, url, timeout=STARTS_S, trust_env=False)


@functools.cache
def package() -> Path:
    """The zip that `make azure` makes, once for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="localmem-azure-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(
        ["make", "--silent", "azure", f"PYTHON={sys.executable}", f"AZURE={folder}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder / "localmem-hub-azure.zip"


def publish(zipped: Path, folder: Path) -> None:
    """Unpack the zip, and put its wheels where Azure's build puts them.

    What the lock names beside them is in the interpreter's own environment, which was made of that lock.
    """
    with zipfile.ZipFile(zipped) as packed:
        packed.extractall(folder)
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder / ".python_packages/lib/site-packages")


class FunctionApp:
    """Start it, kill one of its processes, freeze one. All share the port of `url`."""

    def __init__(
        self,
        folder: Path,
        python: Path,
        settings: Mapping[str, str],
        log: Path,
        *,
        processes: int = 2,
    ) -> None:
        self.folder, self.log = folder, log
        self._python = python
        self._settings = dict(settings)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.processes: list[subprocess.Popen[str]] = []
        self._count = processes

    def start(self) -> None:
        """All processes, ready for requests."""
        starting = [self.launch() for _ in range(self._count)]
        for process in starting:
            self.ready(process)

    def launch(self) -> subprocess.Popen[str]:
        """One more process."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "TZ")
        }
        environment["PYTHONPATH"] = str(self.folder / ".python_packages/lib/site-packages")
        environment["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
        descriptor = self._listener.fileno()
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [self._python, "-P", WORKER, self.folder, str(descriptor)],
                env=environment | self._settings,
                pass_fds=[descriptor],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=ends_with_its_parent(),
            )
        self.processes.append(process)
        return process

    def ready(self, process: subprocess.Popen[str]) -> None:
        """Wait until a process serves."""
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip() == str(process.pid), self.log.read_text()

    def kill(self, which: int = 0) -> None:
        """SIGKILL one process; the port stays, so the others serve whoever comes."""
        process = self.processes.pop(which)
        process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()

    @contextlib.contextmanager
    def frozen(self, which: int = 0) -> Iterator[None]:
        """One process does nothing meanwhile."""
        process = self.processes[which]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def functions(self) -> dict[str, list[dict[str, Any]]]:
        """What the host was told that there is."""
        found: dict[str, list[dict[str, Any]]] = ask("GET", f"{self.url}/admin/functions").json()
        return found

    def run_timer(self, name: str = "care") -> int:
        """Have a function's time come; the status."""
        return ask("POST", f"{self.url}/admin/functions/{name}").status_code

    def close(self) -> None:
        """End everything."""
        while self.processes:
            with contextlib.suppress(ProcessLookupError):
                self.processes[0].send_signal(signal.SIGCONT)
            self.kill()
        self._listener.close()


@contextlib.contextmanager
def running(
    folder: Path, python: Path, settings: Mapping[str, str], *, processes: int = 2
) -> Iterator[FunctionApp]:
    """A function app published into a folder."""
    published = folder / "app"
    publish(package(), published)
    app = FunctionApp(published, python, settings, folder / "app.log", processes=processes)
    try:
        app.start()
        yield app
    finally:
        app.close()


def cold_start(folder: Path, python: Path, settings: Mapping[str, str]) -> dict[str, float]:
    """Seconds until a new process serves, and until its first answer after that."""
    app = FunctionApp(folder, python, settings, folder.parent / "cold.log", processes=1)
    try:
        since = time.perf_counter()
        app.start()
        loaded = time.perf_counter()
        ask("GET", f"{app.url}/readyz").raise_for_status()
        return {"load_s": loaded - since, "first_request_s": time.perf_counter() - loaded}
    finally:
        app.close()
