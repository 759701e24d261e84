"""The stdio pump: whatever happens to the daemon, its client gets an answer for each request."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Event as Flag
from typing import Any, Protocol

import pytest

from localmem_node.client import DaemonClient
from localmem_node.mcp_server.shim import LINE_BYTES_MAX, Shim, working_folder
from localmem_node.mcp_server.tools import TOOL_NAMES
from support.daemon import children, daemons_of, environment, localmem
from support.git_repository import Repository
from support.mcp_pump import Pump, pump
from support.node import StandingClock


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


class Start(Protocol):
    def __call__(self, *arguments: str, **more: str) -> Pump: ...


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts pumps, which do not outlive the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(
            pump(environment(home, **more), home.parent, *arguments)
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonClient]:
    """A client of a daemon for tests that leave it as it was."""
    with DaemonClient(environment(tmp_path_factory.mktemp("shared") / "home")) as client:
        client.ensure_running()
        yield client
        assert client.stop()


@pytest.fixture
def at_shared(shared: DaemonClient, tmp_path: Path) -> Iterator[Pump]:
    with pump(shared.environment, tmp_path) as one:
        yield one


def gone(pid: int) -> bool:
    """Wait for the end of a process of somebody else's."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def test_it_starts_the_daemon_and_ends_with_its_stdin(home: Path, start: Start) -> None:
    one = start()
    assert one.handshake()["serverInfo"]["name"] == "localmem"
    assert one.call("record_event", text="we retry five times")["isError"] is False
    assert "retry five" in one.call("query_recent", query="retry")["content"][0]["text"]
    assert len(daemons_of(home)) == 1
    assert children(one.process.pid) == []
    assert one.close() == (0, b"", b"")
    assert len(daemons_of(home)) == 1  # it is nobody's child


def test_what_is_under_way_when_stdin_ends_is_still_answered(at_shared: Pump) -> None:
    numbers = {at_shared.say("tools/list") for _ in range(10)}
    code, rest, errors = at_shared.close()
    assert (code, errors) == (0, b"")
    assert {json.loads(line)["id"] for line in rest.splitlines()} == numbers


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_version_with_a_handshake_is_spoken(at_shared: Pump, version: str) -> None:
    assert at_shared.handshake(version)["protocolVersion"] == version
    tools = at_shared.ask("tools/list")["result"]["tools"]
    assert [tool["name"] for tool in tools] == list(TOOL_NAMES)
    result = at_shared.call("query_recent")
    assert result["content"][0]["text"] == result["structuredContent"]["text"]


def test_a_version_that_nobody_knows_is_answered_with_one_that_is_known(at_shared: Pump) -> None:
    assert at_shared.handshake("1999-01-01")["protocolVersion"] == "2025-11-25"


def test_lines_that_are_no_messages_are_answered_and_the_rest_goes_on(at_shared: Pump) -> None:
    at_shared.write(b"\n  \n{nonsense\n\xff\xfe\n")
    assert [at_shared.hear()["error"]["code"] for _ in range(2)] == [-32700, -32700]
    at_shared.write(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n')
    assert at_shared.hear()["error"]["code"] == -32600
    at_shared.write(b'{"jsonrpc":"2.0","id":7,"result":{}}\n')  # an answer to nothing
    assert at_shared.ask("ping")["result"] == {}
    assert at_shared.ask("no/such")["error"]["code"] == -32601


def test_lines_of_some_mebibytes_pass_and_longer_ones_are_refused(at_shared: Pump) -> None:
    at_shared.handshake()
    text = "größer " * 300_000
    assert 2**21 < len(text.encode()) < LINE_BYTES_MAX
    result = at_shared.call("record_event", text=text)
    assert result["isError"]
    assert result["content"][0]["text"].startswith("text: 2700000 bytes, over the limit")
    at_shared.write(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * LINE_BYTES_MAX + b'"}\n')
    answer = at_shared.hear()
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert "4194304 bytes" in answer["error"]["message"]
    assert at_shared.ask("ping")["result"] == {}


def test_requests_run_beside_each_other_and_each_is_answered_once(at_shared: Pump) -> None:
    at_shared.handshake()
    numbers = [
        at_shared.say("tools/call", {"name": "query_recent", "arguments": {"query": f"word{at}"}})
        for at in range(100)
    ]
    assert sorted(at_shared.hear()["id"] for _ in numbers) == numbers


def test_the_folder_is_the_current_one_unless_it_is_told(
    shared: DaemonClient, tmp_path: Path
) -> None:
    for name in ("here", "told", "said"):
        (tmp_path / name).mkdir()
        Repository(tmp_path / name)
    found: list[str | None] = []
    here, told = tmp_path / "here", str(tmp_path / "told")
    variable = {**shared.environment, "CLAUDE_PROJECT_DIR": str(tmp_path / "said")}
    for env, arguments in (
        (shared.environment, ()),
        (shared.environment, ("--folder", told)),
        (shared.environment, ("--folder", "${workspaceFolder}")),
        (variable, ()),
        (variable, ("--folder", told)),
    ):
        with pump(env, here, *arguments) as one:
            one.handshake(client="claude-code")
            one.call("record_event", text="where?")
        newest = shared.recent(1)["events"][0]
        assert newest["tool"] == "claude-code"
        found.append(newest["project"])
    assert None not in found
    assert found[0] == found[2]
    assert found[1] == found[4]
    assert len(set(found)) == 3
    shared.forget({"kind": "note"})


def test_a_folder_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert working_folder(None, {}) is None
    assert working_folder("relative", {"CLAUDE_PROJECT_DIR": ""}) is None


def test_a_daemon_that_is_stopped_or_killed_is_not_noticed(home: Path, start: Start) -> None:
    one = start()
    one.handshake()
    one.call("record_event", text="before")
    for number in (signal.SIGTERM, signal.SIGKILL):
        (daemon,) = daemons_of(home)
        os.kill(daemon, number)
        assert gone(daemon)
        assert "before" in one.call("query_recent")["content"][0]["text"]
        assert daemons_of(home) != [daemon]
        assert one.call("record_event", text=f"after {number}")["isError"] is False
    assert one.close() == (0, b"", b"")


def test_without_a_daemon_every_request_gets_an_error_that_says_what_to_do(
    home: Path, start: Start
) -> None:
    assert localmem(home, "up").returncode == 0
    assert localmem(home, "down").returncode == 0
    one = start(LOCALMEM_PASSPHRASE="wrong")
    for _ in range(2):
        error = one.ask("tools/call", {"name": "query_recent"})["error"]
        assert error["code"] == -32000
        assert error["message"].startswith("localmem: ")
        assert "key" in error["message"]
    one.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    assert one.close() == (0, b"", b"")


def test_wrong_settings_are_an_error_of_each_request(home: Path, start: Start) -> None:
    error = start(LOCALMEM_SIZE="a lot").ask("ping")["error"]
    assert error["message"].startswith("localmem: store.size (from the environment)")


def test_a_daemon_that_hangs_is_given_up(home: Path) -> None:
    env = environment(home)
    with DaemonClient(env) as client:
        client.ensure_running()
    (daemon,) = daemons_of(home)
    lines: list[bytes] = []
    written = Flag()

    def write(line: bytes) -> None:
        lines.append(line)
        written.set()

    shim = Shim(
        lambda: DaemonClient(env, answer_s=0.2), write, None, clock=StandingClock(), greeting_s=60
    )
    os.kill(daemon, signal.SIGSTOP)
    try:
        shim.take(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert written.wait(60)
    finally:
        os.kill(daemon, signal.SIGCONT)
    error = json.loads(lines[0])["error"]
    assert "did not answer within" in error["message"]
    assert "localmem doctor" in error["message"]


class HeldDaemon:
    """Implements `shim.Daemon`; answers once it is let go."""

    def __init__(self) -> None:
        self.asked, self.gate = Flag(), Flag()

    def send(
        self, method: str, path: str, data: bytes, headers: Mapping[str, str], *, repeatable: bool
    ) -> tuple[int, bytes]:
        self.asked.set()
        assert self.gate.wait(60)
        return 200, b'{"jsonrpc":"2.0","id":%d,"result":{}}' % json.loads(data).get("id", 0)

    def close(self) -> None:
        pass


GREETED: list[tuple[str, dict[str, Any]]] = [
    ("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}),
    ("initialize", {"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {}}),
    ("ping", {}),
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
]


def lines_about(requests: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    for number, (method, params) in enumerate(requests):
        fields = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        yield json.dumps(fields).encode()


def test_a_daemon_that_is_slow_to_come_is_spoken_for_in_its_own_words(at_shared: Pump) -> None:
    daemon = HeldDaemon()
    answers: Queue[bytes] = Queue()
    shim = Shim(lambda: daemon, answers.put, None, clock=StandingClock(), greeting_s=0)
    for (method, params), line in zip(GREETED, lines_about(GREETED), strict=True):
        params = params | ({"clientInfo": {"name": "x", "version": "1"}} if params else {})
        expected = at_shared.ask(method, params)["result"]
        shim.take(line)
        assert json.loads(answers.get(timeout=60))["result"] == expected
    daemon.gate.set()
    shim.finish(60)
    assert answers.empty()  # and its own answers come too late


def test_what_only_the_daemon_can_say_waits_for_it() -> None:
    daemon = HeldDaemon()
    lines: list[bytes] = []
    shim = Shim(lambda: daemon, lines.append, None, clock=StandingClock(), greeting_s=0)
    meta = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "pin"}),
        ("tools/list", meta),
        ("initialize", {}),
    ]
    for line in lines_about(asked):
        shim.take(line)
    shim.finish(0.05)
    assert lines == []
    daemon.gate.set()
    shim.finish(60)
    assert sorted(json.loads(line)["id"] for line in lines) == [0, 1, 2]


def test_once_the_daemon_has_answered_nobody_speaks_for_it() -> None:
    daemon = HeldDaemon()
    daemon.gate.set()
    lines: list[bytes] = []
    shim = Shim(lambda: daemon, lines.append, None, clock=StandingClock(), greeting_s=0)
    shim.take(b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}')
    shim.finish(60)
    shim.take(b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}')
    shim.finish(60)
    assert [json.loads(line)["result"] for line in lines] == [{}, {}]


def test_what_was_cancelled_is_not_answered_any_more() -> None:
    daemon = HeldDaemon()
    lines: list[bytes] = []
    shim = Shim(lambda: daemon, lines.append, None, clock=StandingClock(), greeting_s=60)
    shim.take(b'{"jsonrpc":"2.0","id":1,"method":"held"}')
    assert daemon.asked.wait(60)
    shim.take(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
    shim.take(b'{"jsonrpc":"2.0","id":2,"method":"held"}')
    daemon.gate.set()
    shim.finish(60)
    assert [json.loads(line)["id"] for line in lines] == [2]


def test_the_end_does_not_wait_for_ever() -> None:
    daemon = HeldDaemon()
    lines: list[bytes] = []
    shim = Shim(lambda: daemon, lines.append, None, clock=StandingClock(), greeting_s=60)
    shim.take(b'{"jsonrpc":"2.0","id":1,"method":"held"}')
    assert daemon.asked.wait(60)
    shim.finish(0.01)
    assert lines == []
    daemon.gate.set()
    shim.finish(60)
    assert len(lines) == 1


def test_a_client_that_reads_no_more_ends_it(at_shared: Pump) -> None:
    assert at_shared.process.stdout is not None
    at_shared.process.stdout.close()
    at_shared.say("ping")
    assert at_shared.process.wait(60) == 0


def test_the_command_of_the_command_line_is_the_same(home: Path) -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'
    done = localmem(home, "mcp", "--folder", "/", stdin=line)
    assert (done.returncode, done.stderr) == (0, b"")
    names = [tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]]
    assert names == list(TOOL_NAMES)
