"""One daemon for everybody, whoever starts, crashes or stops; afterwards nothing is left of it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from localmem_node.client import DaemonClient
from localmem_node.daemon.state import daemon_lock_path, launch_lock_path, read_state
from localmem_node.errors import DaemonError
from localmem_node.files import lock_owner, private_directory, try_lock
from localmem_node.memory import Memory
from localmem_node.store.keys import PassphraseStore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from support.daemon import (
    PASSPHRASE,
    ROOT,
    daemons_of,
    environment,
    is_alive,
    left_behind,
    listens,
    localmem,
    open_sockets,
)
from support.events import fields

CLIENTS = 16
WAIT_S = 60


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def client(home: Path) -> Iterator[DaemonClient]:
    with DaemonClient(environment(home)) as client:
        yield client


def until(holds: Callable[[], object]) -> None:
    """Wait for what is bound to happen."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> None:
    """Wait for the end of a process."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], WAIT_S)[0]
    finally:
        os.close(descriptor)


def python(home: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """A Python process of this user, which can import what the tests can."""
    variables = environment(home)
    variables["PYTHONPATH"] += os.pathsep + str(ROOT / "tests")
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def daemon_process(home: Path) -> subprocess.Popen[bytes]:
    """A daemon started by hand, as a child of this process."""
    return python(home, "-P", "-m", "localmem_node.daemon")


def test_sixteen_processes_at_once_write_and_read_without_an_error_or_a_lost_event(
    home: Path,
) -> None:
    names = [f"client{'abcdefghijklmnop'[number]}" for number in range(CLIENTS)]
    processes = [python(home, "-m", "support.busy_client", name, "8") for name in names]
    outputs = [process.communicate(timeout=110) for process in processes]
    assert [process.returncode for process in processes] == [0] * CLIENTS, outputs
    answers = [json.loads(output) for output, _ in outputs]
    assert [answer["wrong"] for answer in answers] == [[]] * CLIENTS
    acknowledged = {id: text for answer in answers for id, text in answer["acknowledged"].items()}
    assert len(acknowledged) == CLIENTS * (1 + 2 + 3 + 1 + 2 + 3 + 1 + 2)
    assert len(daemons_of(home)) == 1
    with DaemonClient(environment(home), start=False) as client:
        kept = client.recent(1000)["events"]
        assert client.stop()
    with open_event_store(
        client.settings.store_path, PassphraseStore(PASSPHRASE), SystemRandom(), create=False
    ) as store:
        stored = Counter(event.id for _, event in store.scan())
        contents = {event.id: event.snippet for _, event in store.scan()}
    assert stored == Counter(acknowledged.keys())  # each exactly once, and nothing else
    assert contents == acknowledged
    assert {event["id"]: event["snippet"] for event in kept} == acknowledged


def test_a_second_daemon_is_refused_at_once_with_the_process_id_of_the_first(
    home: Path, client: DaemonClient
) -> None:
    pid = client.ensure_running().pid
    second = daemon_process(home)
    output, errors = second.communicate(timeout=WAIT_S)
    assert second.returncode == 1, output
    assert f"process {pid} is the daemon already; stop it: localmem down".encode() in errors
    assert daemons_of(home) == [pid]
    assert client.recent(1)["events"] == []


def test_an_embedded_memory_is_refused_with_the_process_id_of_the_daemon(
    home: Path, client: DaemonClient
) -> None:
    pid = client.ensure_running().pid
    done = subprocess.run(
        [sys.executable, "-c", "from localmem_node import Memory; Memory.embedded()"],
        env=environment(home),
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert f"is in use by process {pid}; stop it or use its daemon".encode() in done.stderr


@pytest.mark.parametrize("noted", ["dead", "alive", "nothing", "nonsense"])
def test_locks_of_a_daemon_that_was_killed_hold_nobody_up(
    home: Path, client: DaemonClient, noted: str
) -> None:
    recorded = client.record([fields(snippet="kept")])["recorded"]
    pid = client.ensure_running().pid
    locks = (
        daemon_lock_path(client.settings),
        client.settings.store_path.with_suffix(".localmem.lock"),
    )
    assert [lock_owner(lock) for lock in locks] == [pid, pid]
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    note = {"dead": f"{pid}\n", "alive": f"{os.getpid()}\n", "nothing": "", "nonsense": "x" * 99}
    for lock in locks:
        lock.write_text(note[noted])
    assert client.recent(5)["events"][0]["id"] == recorded[0]["id"]
    assert [lock_owner(lock) for lock in locks] == daemons_of(home) * 2


def test_a_daemon_waits_for_the_one_before_it_to_end(home: Path, client: DaemonClient) -> None:
    private_directory(client.settings.runtime_dir)
    ending = try_lock(daemon_lock_path(client.settings))  # has the lock and no daemon.json
    assert ending is not None
    second = daemon_process(home)
    try:
        until(lambda: b"localmem_node.daemon" in Path(f"/proc/{second.pid}/cmdline").read_bytes())
        os.close(ending)
        until(lambda: read_state(client.settings))
        assert client.recent(1)["events"] == []
    finally:
        second.terminate()
        second.communicate(timeout=WAIT_S)
    assert second.returncode == 0


def test_a_client_that_waits_to_start_a_daemon_takes_one_that_another_has_started(
    home: Path, client: DaemonClient
) -> None:
    private_directory(client.settings.runtime_dir)
    starting = try_lock(launch_lock_path(client.settings))  # and it keeps it
    assert starting is not None
    answers: list[dict[str, Any]] = []
    waiting = Thread(target=lambda: answers.append(client.recent(1)))
    waiting.start()
    daemon = daemon_process(home)
    try:
        waiting.join(WAIT_S)
        assert [answer["events"] for answer in answers] == [[]]
    finally:
        os.close(starting)
        daemon.terminate()
        daemon.communicate(timeout=WAIT_S)


@pytest.mark.parametrize("end", ["down", "SIGTERM", "SIGINT", "idleness"])
def test_nothing_is_left_of_a_daemon_that_has_ended(home: Path, end: str) -> None:
    idle = {"LOCALMEM_IDLE_EXIT_S": "1"} if end == "idleness" else {}
    with (
        DaemonClient(environment(home, **idle)) as client,
        DaemonClient(environment(home)) as other,
    ):
        client.record([fields()])
        other.recent(1)
        state = client.ensure_running()
        assert len(left_behind(home)) > 1  # the process, its socket, and connections to it
        assert listens(state.port)
        if end == "down":
            assert json.loads(localmem(home, "down", "--json").stdout) == {"stopped": True}
        elif end != "idleness":
            os.kill(state.pid, getattr(signal, end))
        gone(state.pid)
        assert left_behind(home) == []
        assert not listens(state.port)
        assert sorted(os.listdir(client.settings.runtime_dir)) == ["daemon.lock", "launch.lock"]


def test_down_tidies_up_after_a_daemon_that_was_killed(home: Path, client: DaemonClient) -> None:
    state = client.ensure_running()
    os.kill(state.pid, signal.SIGKILL)
    gone(state.pid)
    assert Path(state.socket).exists()
    assert json.loads(localmem(home, "down", "--json").stdout) == {"stopped": False}
    assert left_behind(home) == []
    assert sorted(os.listdir(client.settings.runtime_dir)) == ["daemon.lock", "launch.lock"]


def test_down_stops_a_daemon_whose_socket_somebody_removed(
    home: Path, client: DaemonClient
) -> None:
    state = client.ensure_running()
    Path(state.socket).unlink()
    with pytest.raises(DaemonError, match=f"process {state.pid} is the daemon already"):
        DaemonClient(environment(home)).recent(1)
    assert json.loads(localmem(home, "down", "--json").stdout) == {"stopped": True}
    assert not is_alive(state.pid)
    assert left_behind(home) == []


def test_clients_that_crash_leave_no_process_and_no_connection(
    home: Path, client: DaemonClient
) -> None:
    pid = client.ensure_running().pid
    client.recent(1)
    before = open_sockets(pid)
    crash = (
        "import os, signal; from localmem_node.client import DaemonClient; client = DaemonClient();"
        "client.recent(1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    crashed = [python(home, "-c", crash) for _ in range(4)]
    for process in crashed:
        process.communicate(timeout=WAIT_S)
        assert process.returncode == -signal.SIGKILL
    until(lambda: open_sockets(pid) == before)
    assert daemons_of(home) == [pid]
    assert client.recent(1)["events"] == []


def test_a_client_that_crashes_in_the_middle_of_a_request_takes_nobody_along(
    home: Path, client: DaemonClient
) -> None:
    state = client.ensure_running()
    client.recent(1)
    before = open_sockets(state.pid)
    head = (
        "POST /v1/record HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {state.token}\r\nContent-Length: 1000\r\n\r\n"
    )
    for sent in (head[:40], head, head + '{"events": [{'):
        with socket.socket(socket.AF_UNIX) as half:
            half.connect(state.socket)
            half.sendall(sent.encode())
            until(lambda: open_sockets(state.pid) == before + 1)
        until(lambda: open_sockets(state.pid) == before)
    assert len(client.record([fields()])["recorded"]) == 1
    assert client.stop()
    assert left_behind(home) == []


def test_of_a_client_that_is_killed_while_it_starts_a_daemon_at_most_one_is_left(
    home: Path, client: DaemonClient
) -> None:
    for number in range(6):
        starter = python(home, "-m", "localmem_node.cli.main", "up", start_new_session=True)
        lock = launch_lock_path(client.settings)
        until(lambda: (lock.exists() and _held(lock)) or starter.poll() is not None)  # noqa: B023
        time.sleep(0.05 * number)  # at various moments of the start
        starter.kill()
        starter.communicate(timeout=WAIT_S)
        client.record([fields(snippet=f"after crash {number}")])
        until(lambda: len(daemons_of(home)) == 1)  # a second one makes way
        assert client.stop()
        assert left_behind(home) == []
    assert len(client.recent(10)["events"]) == 6


def _held(lock: Path) -> bool:
    descriptor = try_lock(lock)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def test_an_embedded_memory_leaves_no_process_and_no_socket(home: Path) -> None:
    with Memory.embedded(environment=environment(home)) as memory:
        memory.record_event(fields())
        assert left_behind(home) == []
    assert left_behind(home) == []
