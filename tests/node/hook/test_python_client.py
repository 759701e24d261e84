"""What holds for the client in Python alone: what it imports, and a lock that comes late."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localmem_node.hook import client
from support.hook_command import CLIENT, TOOL, in_memory, records


def test_it_imports_nothing_but_modules_in_c(tmp_path: Path) -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        f"exec(compile(open({str(CLIENT)!r}).read(), 'client', 'exec'), {{'__name__': 'client'}})\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"_socket", "select", "time", "posix"}


def test_a_spool_that_is_taken_away_meanwhile_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon renames it between a client's opening and locking it."""
    with in_memory() as run:
        lose_nothing(run, monkeypatch)


def lose_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = client._lock
    taken: list[bytes] = []

    def late(file: int) -> bool:
        if not taken:
            (run / "spool").rename(run / "spool.draining")
            taken.append((run / "spool.draining").read_bytes())
        return locks(file)

    monkeypatch.setattr(client, "_lock", late)
    folder = os.open(run, os.O_RDONLY)
    try:
        client.keep(folder, b"codex", TOOL)
    finally:
        os.close(folder)
    assert taken == [b""]
    assert (run / "spool.draining").read_bytes() == b""
    assert [body for _, _, body in records(run / "spool")] == [TOOL]
