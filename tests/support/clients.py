"""The real clients: `claude` and `codex` from npm, in a home of their own and with nothing else.

`make clients` installs them into `.clients`; one on PATH serves as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".clients" / "node_modules" / ".bin"
NAMES = ("claude", "codex")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Clients:
    """Both clients, as programs."""

    programs: dict[str, Path]

    @classmethod
    def found(cls) -> Clients | None:
        """The clients of this machine; None if one is missing, or node is, which they need."""
        path = os.pathsep.join((str(FOLDER), os.environ.get("PATH", "")))
        found = {name: shutil.which(name, path=path) for name in (*NAMES, "node")}
        if not all(found.values()):
            return None
        return cls({name: Path(program) for name, program in found.items() if program})

    @property
    def path(self) -> str:
        """A PATH with the clients and the system's programs."""
        folders = [str(program.parent) for program in self.programs.values()]
        return os.pathsep.join(dict.fromkeys([*folders, *SYSTEM_PATH.split(":")]))


@dataclass(frozen=True)
class ClientHome:
    """A user of the clients. `more` goes into the environment of everything that they run."""

    clients: Clients
    home: Path
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the developer's own: no settings, no account, no telemetry."""
        return {
            "PATH": self.clients.path,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ANTHROPIC_API_KEY": "sk-ant-none",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",  # refuses at once, where a network may not
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1",
            **self.more,
        }

    def run(self, program: str, *arguments: str, code: int | None = 0) -> str:
        """Run a client to its end; what it printed. `code` is how it must end, None for anyhow."""
        done = subprocess.run(
            [self.clients.programs[program], *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=90,
            check=False,
        )
        told = done.stdout.decode(errors="replace")
        assert code is None or done.returncode == code, f"{program} {arguments}: {told}"
        return told


@pytest.fixture(scope="session")
def clients() -> Clients:
    """The real clients, or a skipped test; in the gate a failed one."""
    found = Clients.found()
    if found is None:
        reason = "claude, codex or node is missing: make clients"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def client_home(clients: Clients, tmp_path: Path) -> ClientHome:
    """A user with an empty home and an empty folder to work in."""
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return ClientHome(clients, home, folder)
