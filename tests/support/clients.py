"""The real clients: `claude` and `codex` from npm, in a home of their own and with nothing else.

`make clients` installs them into `.clients`; one on PATH serves as well.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.clients import BINARIES, Client, ClientMissing, find
from support.missing import missing

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"
"""The model of a client that asks none: it refuses at once, where a network may not."""


@dataclass(frozen=True)
class ClientHome:
    """A user of both clients. `more` goes into the environment of everything that they run."""

    home: Path
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    def run(self, program: str, *arguments: str) -> str:
        """Run `claude` or `codex` to its good end; what it printed."""
        name = next(name for name, binary in BINARIES.items() if binary == program)
        return Client(name, self.home, self.folder, NOWHERE, self.more).run(arguments)


@pytest.fixture(scope="session")
def clients() -> None:
    """The real clients, and node, which they need; or a skipped test, and in the gate a failed one."""
    try:
        for name in BINARIES:
            find(name)
        if shutil.which("node") is None:
            raise ClientMissing("node is not installed; run: make system")
    except ClientMissing as error:
        missing(str(error))


@pytest.fixture
def client_home(clients: None, tmp_path: Path) -> ClientHome:
    """A user with an empty home and an empty folder to work in."""
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return ClientHome(home, folder)
