"""The start of a session starts the daemon: one, detached, and without waiting for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.files import try_lock
from localmem_node.hook.launcher import write_launcher
from support.daemon import children, daemons_of, environment
from support.hook_command import START, TOOL, client, hook, in_memory, records, run

WAIT_S = 60

pytestmark = pytest.mark.usefixtures("each_client")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home in memory whose daemons do not outlive the test."""
    with in_memory() as folder:
        home = folder / "home"
        home.mkdir()
        yield home
        for pid in daemons_of(home):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not daemons_of(home))


def until(holds: Callable[[], object]) -> None:
    """Wait for what is bound to happen."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes(home: Path) -> list[int]:
    """Every process that was started with this home."""
    mine, found = f"LOCALMEM_HOME={home}\0".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mine in environ.read_bytes():
                found.append(int(environ.parent.name))
    return found


def test_ten_sessions_that_start_at_once_start_one_daemon(home: Path) -> None:
    given = environment(home)
    path = write_launcher(load_settings(given), given, client().find)
    others = {name: value for name, value in given.items() if name != "LOCALMEM_HOME"}
    with ThreadPoolExecutor(10) as pool:
        done = [
            pool.submit(run, [editor], others, START, command=(str(path),))
            for editor in ("claude-code", "codex") * 5
        ]
        assert [each.result().stdout for each in done] == [b""] * 10
    with DaemonClient(given, start=False) as daemon:
        until(daemon.running)
        until(lambda: len(processes(home)) == 1)  # the others have joined it, and ended
        [pid] = daemons_of(home)
        assert daemon.status()["events"] >= 0
        assert os.getsid(pid) != os.getsid(0)
        descriptors = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert not any(link.startswith("pipe:") for link in descriptors)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nSigBlk:\t0000000000000000\n" in status
        assert not {pid} & set(children(os.getpid()))
        daemon.stop()
    assert daemons_of(home) == []


def test_nothing_of_the_editor_is_held_by_what_was_started(home: Path) -> None:
    """An editor that reads its hook's output to the end is not kept by a daemon that inherited it."""
    given = environment(home)
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    done = subprocess.run(
        [write_launcher(load_settings(given), given, client().find), "codex"],
        input=START,
        env=given,
        capture_output=True,
        pass_fds=(writing,),
        timeout=WAIT_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    os.close(writing)
    assert os.read(reading, 1) == b""  # at its end: nobody else has it
    os.close(reading)
    with DaemonClient(given, start=False) as daemon:
        until(daemon.running)
        daemon.stop()


def test_other_events_start_none_and_one_that_starts_is_not_started_again(home: Path) -> None:
    given = environment(home)
    hook(home, TOOL)
    assert processes(home) == []
    for name in ("launch.lock", "daemon.lock"):
        lock = try_lock(home / "run" / name)
        assert lock is not None
        run(["codex"], given, START)
        assert processes(home) == []
        os.close(lock)
    assert [body for _, _, body in records(home / "run" / "spool")] == [TOOL, START, START]


def test_a_runtime_folder_that_others_may_read_is_closed_by_the_daemon_that_starts(
    home: Path,
) -> None:
    given = environment(home)
    (home / "run").mkdir()
    (home / "run").chmod(0o755)
    run(["cursor"], given, START)
    with DaemonClient(given, start=False) as daemon:
        until(daemon.running)
        daemon.stop()
    assert not (home / "run" / "spool").exists()
