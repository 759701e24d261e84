"""The breaker: hooks of a daemon that hangs are sent away, and nobody else's; it ends with the daemon."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from localmem_node.client import DaemonClient
from localmem_node.daemon import breaker, server, watchdog
from localmem_node.daemon.companion import Companion
from localmem_node.daemon.endpoint import HookEndpoint, make_endpoint
from support.daemon import children, daemons_of, environment, is_alive, listens, localmem
from support.seeded import SeededRandom

PATIENCE_S = 60
"""Of whoever waits here: far more than a breaker takes, so that what ends the wait is the breaker."""

HANGING = """
import asyncio, socket, sys, threading
from localmem_node.daemon import watchdog
from localmem_node.daemon.companion import Companion

async def main():
    loop, companion = asyncio.get_running_loop(), Companion()
    listener = socket.create_server(("127.0.0.1", 0))
    async def told(reader, writer):
        await reader.read(1)
        writer.write(b"told")
        writer.close()
    server = await asyncio.start_server(told, sock=listener)
    companion.begin(listener)
    watchdog.STEP_S = float(sys.argv[1])
    watchdog.Watchdog(loop).start()
    print(listener.getsockname()[1], companion.status()["pid"], flush=True)
    while await asyncio.to_thread(sys.stdin.readline) == "hang\\n":
        print("hanging", flush=True)
        sys.stdin.readline()  # by the loop itself
        await asyncio.sleep(0.1)
        print(companion.status()["opened"], flush=True)
    companion.end()

asyncio.run(main())
"""


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(port: int) -> bytes:
    """What a server says to a byte. Raises ConnectionResetError for being sent away."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(b"?")
        return connection.recv(16)


ALONE = """
import sys
sys.path.append(sys.argv[3])
import breaker
breaker.SILENT_STEPS = int(sys.argv[4])
breaker.main()
"""


class Alone:
    """A breaker whose daemon is the test itself, and which waits so long for an answer."""

    def __init__(self, silent_steps: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.control, theirs = socket.socketpair()
        self.control.settimeout(PATIENCE_S)
        with theirs:
            descriptors = (self.listener.fileno(), theirs.fileno())
            folder = Path(breaker.__file__).parent
            arguments = map(str, (*descriptors, folder, silent_steps))
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", ALONE, *arguments], pass_fds=descriptors
            )

    def connect(self) -> socket.socket:
        """Somebody who waits."""
        return socket.create_connection(self.listener.getsockname(), PATIENCE_S)

    def send_away(self) -> None:
        """Somebody who says something, waits, and is reset."""
        with pytest.raises(ConnectionResetError):
            ask(self.listener.getsockname()[1])

    def answer(self, also: bytes = b"") -> None:
        """What a daemon does whose loop turns."""
        assert self.control.recv(16) == breaker.QUESTION
        self.control.sendall(breaker.ANSWER + also)

    def is_silent(self) -> bool:
        """Whether the breaker asks nothing for a while."""
        self.control.settimeout(5 * breaker.STEP_MS / 1000)
        try:
            return not self.control.recv(16)
        except TimeoutError:
            return True
        finally:
            self.control.settimeout(PATIENCE_S)

    def accept(self) -> socket.socket:
        """The next of those who wait, as a daemon takes him."""
        until(lambda: self._accepted() is not None)
        assert self._taken is not None
        return self._taken

    def _accepted(self) -> socket.socket | None:
        try:
            self._taken, _ = self.listener.accept()
        except BlockingIOError:
            return None
        return self._taken


@contextmanager
def watching(silent_steps: int) -> Iterator[Alone]:
    made = Alone(silent_steps)
    yield made
    made.control.close()
    assert made.process.wait(PATIENCE_S) == 0
    made.listener.close()


@pytest.fixture
def alone() -> Iterator[Alone]:
    """As beside a daemon."""
    with watching(breaker.SILENT_STEPS) as made:
        yield made


@pytest.fixture
def patient() -> Iterator[Alone]:
    """One that takes no test on a busy machine for a daemon that hangs."""
    with watching(100 * breaker.SILENT_STEPS) as made:
        yield made


def test_nobody_is_asked_while_nobody_comes(patient: Alone) -> None:
    assert patient.is_silent()


def test_who_waits_for_a_busy_daemon_is_left_patient(patient: Alone) -> None:
    with patient.connect() as client:  # taken after many a question, each of which is answered
        for _ in range(4):
            patient.answer()
        with patient.accept() as taken:
            taken.sendall(b"y")
            assert client.recv(1) == b"y"


def test_who_waits_in_vain_is_sent_away_and_who_comes_then_at_once(alone: Alone) -> None:
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(alone.send_away) for _ in range(2)]:
            one.result()
    for _ in range(3):
        alone.send_away()
    # One question: the others were not waited for.
    assert alone.control.recv(16) == breaker.QUESTION + breaker.OPENED
    alone.control.sendall(breaker.ANSWER)
    with alone.connect() as client, alone.accept() as taken:
        taken.sendall(b"y")
        assert client.recv(1) == b"y"


def test_a_hook_that_has_begun_is_watched_until_it_has_ended(patient: Alone) -> None:
    patient.control.sendall(breaker.BEGUN)
    for _ in range(3):
        patient.answer(also=breaker.BEGUN)
    patient.answer()
    assert patient.is_silent()


def test_a_daemon_that_hangs_with_a_hook_hangs_for_the_next_at_once(alone: Alone) -> None:
    alone.control.sendall(breaker.BEGUN)
    said = b""
    while breaker.OPENED not in said:
        said += alone.control.recv(16)
    alone.send_away()
    assert said == breaker.QUESTION + breaker.OPENED
    alone.control.sendall(breaker.ANSWER + breaker.BEGUN)
    assert alone.control.recv(1) == breaker.QUESTION


def test_many_hooks_at_once_are_no_silence(patient: Alone) -> None:
    patient.control.sendall(breaker.BEGUN)
    assert patient.control.recv(16) == breaker.QUESTION
    for _ in range(20):
        patient.control.sendall(breaker.BEGUN)
        time.sleep(breaker.STEP_MS / 10_000)
    patient.control.sendall(breaker.ANSWER)
    patient.answer()  # for those that came after the question
    assert patient.is_silent()


def test_signals_that_end_a_group_of_processes_leave_it_to_the_daemon(alone: Alone) -> None:
    alone.send_away()  # it has begun
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        alone.process.send_signal(number)
    alone.send_away()
    assert alone.process.poll() is None


def test_it_ends_when_the_port_is_no_longer_listened_at(alone: Alone) -> None:
    alone.send_away()
    alone.listener.shutdown(socket.SHUT_RDWR)
    assert alone.process.wait(PATIENCE_S) == 0


def hanging(step_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HANGING, str(step_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def test_a_loop_that_is_blocked_sends_away_until_it_turns_again() -> None:
    with hanging(step_s=1000) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port, companion = map(int, process.stdout.readline().split())
        for hangs in (1, 2):
            assert ask(port) == b"told"
            process.stdin.write("hang\n")
            assert process.stdout.readline() == "hanging\n"
            for _ in range(3):
                with pytest.raises(ConnectionResetError):
                    ask(port)
            process.stdin.write("\n")
            assert process.stdout.readline() == f"{hangs}\n"
        assert ask(port) == b"told"
        process.stdin.write("end\n")
        assert process.wait(PATIENCE_S) == 0
    assert not is_alive(companion)


def test_it_ends_with_a_daemon_that_its_watchdog_ended() -> None:
    with hanging(step_s=0.2) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port, companion = map(int, process.stdout.readline().split())
        process.stdin.write("hang\n")
        assert process.stdout.readline() == "hanging\n"
        with pytest.raises(ConnectionResetError):
            ask(port)
        assert process.wait(PATIENCE_S) == watchdog.EXIT_CODE
    until(lambda: not is_alive(companion))
    assert not listens(port)


async def test_a_daemon_goes_on_without_one_that_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    companion = Companion()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        companion.begin(listener)
        assert companion.status() == {"problem": "could not be started: No such file or directory"}
        companion.on_hook(1)
        companion.on_hook(-1)
        companion.end()


@contextmanager
def wired(home: Path) -> Iterator[tuple[DaemonClient, HookEndpoint]]:
    """A daemon that an editor calls by HTTP."""
    with DaemonClient(environment(home)) as client:
        yield client, make_endpoint(client.settings, SeededRandom(os.getpid()))
        client.stop()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def hook(endpoint: HookEndpoint) -> int:
    """The status that a hook gets. Raises ConnectionResetError for being sent away."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=PATIENCE_S)
    try:
        headers = {"Authorization": f"Bearer {endpoint.token}", "Connection": "keep-alive"}
        connection.request("POST", "/v1/hook/claude-code", b"{}", headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.headers["Connection"] == "close"
        assert connection.sock is None  # nothing is kept that could be waited at
        return answer.status
    finally:
        connection.close()


def test_a_daemon_that_is_stopped_delays_once_and_goes_on(home: Path) -> None:
    with wired(home) as (client, endpoint):
        pid = client.ensure_running().pid
        assert hook(endpoint) == 200
        os.kill(pid, signal.SIGSTOP)
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                hook(endpoint)
        os.kill(pid, signal.SIGCONT)
        until(lambda: client.status()["services"]["breaker"]["opened"] == 1)
        assert [hook(endpoint) for _ in range(3)] == [200, 200, 200]
        assert client.status()["services"]["breaker"]["opened"] == 1
        assert client.settings.log_path.read_text().count("hooks were sent away") == 1


def test_it_is_told_and_a_normal_end_leaves_nothing(home: Path) -> None:
    with wired(home) as (client, endpoint):
        state = client.ensure_running()
        (companion,) = children(state.pid)
        assert client.status()["services"]["breaker"] == {"pid": companion, "opened": 0}
        assert f"pid {companion}" in localmem(home, "status").stdout.decode()
        with open(f"/proc/{companion}/environ", "rb") as variables:
            assert b"LOCALMEM_" not in variables.read()
        assert localmem(home, "down").returncode == 0
        # It ends before the daemon, so that the next one has the port.
        assert not is_alive(companion)
        assert not listens(endpoint.port)
        assert "the breaker ended" not in client.settings.log_path.read_text()


def test_without_an_endpoint_there_is_none(home: Path) -> None:
    with DaemonClient(environment(home)) as client:
        assert children(client.ensure_running().pid) == []
        assert "breaker" not in client.status()["services"]
        client.stop()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_daemon_that_is_killed_takes_it_along_and_the_next_has_the_port(
    home: Path, stopped: bool
) -> None:
    with wired(home) as (client, endpoint):
        state = client.ensure_running()
        (companion,) = children(state.pid)
        if stopped:
            os.kill(state.pid, signal.SIGSTOP)
            with pytest.raises(ConnectionResetError):
                hook(endpoint)
        os.kill(state.pid, signal.SIGKILL)
        # Both: the client still has its connection until the last of the daemon's files is closed.
        until(lambda: not is_alive(state.pid) and not is_alive(companion))
        assert client.ensure_running().port == endpoint.port
        assert hook(endpoint) == 200


def test_a_daemon_whose_breaker_was_killed_goes_on_and_says_so_once(home: Path) -> None:
    with wired(home) as (client, endpoint):
        state = client.ensure_running()
        (companion,) = children(state.pid)
        os.kill(companion, signal.SIGKILL)
        until(lambda: "problem" in client.status()["services"]["breaker"])
        assert client.status()["services"]["breaker"] == {"problem": "ended with -9"}
        assert [hook(endpoint) for _ in range(3)] == [200, 200, 200]
        assert children(state.pid) == []  # not even a zombie
        assert client.settings.log_path.read_text().count("the breaker ended with -9") == 1
        assert client.stop()
    assert not listens(endpoint.port)


def test_a_port_is_waited_for_that_a_breaker_is_about_to_give_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    port, pauses = holder.getsockname()[1], []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.close()

    monkeypatch.setattr(time, "sleep", pause)
    with socket.socket() as loopback:
        server._bind_loopback(loopback, 0, HookEndpoint(port, "ab" * 32))
        assert loopback.getsockname()[1] == port
    assert len(pauses) == 3
