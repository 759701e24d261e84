"""A real process, a real file, SIGKILL at a random moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from support import recorder
from support.events import event
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore


@pytest.mark.parametrize("size", [16 * 1024, 2 * 1024 * 1024])
def test_what_a_killed_process_acknowledged_is_there(tmp_path: Path, size: int) -> None:
    path = tmp_path / "ring"
    random = SeededRandom(size)
    kept: dict[int, int] = {}
    number = 1
    for _ in range(4):
        lines = _run_and_kill(path, number, size, after_lines=5 + random.below(400))
        for line in lines:
            if line.startswith("-"):
                kept.pop(int(line[1:]), None)
            else:
                ordinal, sequence = map(int, line[1:].split())
                kept[ordinal] = sequence
                number = max(number, sequence + 1)
        with open_event_store(path, FixedKeyStore(), SystemRandom()) as store:
            found = dict(store.scan())
            assert {ordinal: found[ordinal].sequence for ordinal in kept} == kept
            assert all(present == event(present.sequence) for present in found.values())
            assert store.stats().damaged == 0
        number = max([number, *(present.sequence + 1 for present in found.values())])
        kept = {ordinal: present.sequence for ordinal, present in found.items()}
    assert len(kept) > 20


def _run_and_kill(path: Path, first: int, size: int, *, after_lines: int) -> list[str]:
    """The whole lines that the process wrote before it was killed."""
    command = [sys.executable, recorder.__file__, str(path), str(first), str(size)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        taken = b"".join(process.stdout.readline() for _ in range(after_lines))
        process.send_signal(signal.SIGKILL)
        taken += process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return taken.decode()[: taken.rfind(b"\n") + 1].splitlines()
