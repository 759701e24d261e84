"""The daemon: one process, started by whoever needs it, and nothing lost when it dies."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import pytest

from localmem_node.client import DaemonClient
from localmem_node.daemon.state import DaemonState, read_state, state_path
from localmem_node.errors import (
    ConfigError,
    DaemonError,
    ForeignFile,
    QueryError,
    StoreBusy,
    WrongKey,
)
from localmem_node.memory import Memory
from localmem_protocol.errors import EventError
from support.daemon import (
    children,
    command,
    daemons_of,
    environment,
    is_alive,
    localmem,
    thread_heaps,
)
from support.events import fields
from support.git_repository import Repository


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


class Connect(Protocol):
    def __call__(self, home: Path, *, start: bool = True, **more: str) -> DaemonClient: ...


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients of a home's daemon, which are closed after the test."""
    with ExitStack() as stack:
        yield lambda home, *, start=True, **more: stack.enter_context(
            DaemonClient(environment(home, **more), start=start)
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonClient]:
    """A client of a daemon for tests that leave it as it was."""
    client = DaemonClient(environment(tmp_path_factory.mktemp("shared") / "home"))
    client.ensure_running()
    with client:
        yield client
        assert client.stop()


def state_of(client: DaemonClient) -> DaemonState:
    state = client.running()
    assert state is not None
    return state


def gone(pid: int) -> bool:
    """Wait for the end of a process of somebody else's."""
    descriptor = os.pidfd_open(pid)
    try:
        import select

        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def loopback(
    client: DaemonClient, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    state = state_of(client)
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            method,
            path,
            body if isinstance(body, bytes) else json.dumps(body),
            {"Authorization": f"Bearer {state.token}"} | named,
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_record_and_query_over_the_socket(shared: DaemonClient) -> None:
    answer = shared.record([fields(snippet="retry_limit = 5"), fields(snippet="")])
    assert [event["snippet"] for event in answer["recorded"]] == ["retry_limit = 5"]
    assert answer["failed"] == [{"index": 1, "field": "snippet", "message": "is empty"}]
    found = shared.query("retry limit", 3)
    assert found["events"][0]["id"] == answer["recorded"][0]["id"]
    assert found["took_ms"] > 0
    assert list(found["events"][0]) == [
        "id", "timestamp", "filePath", "selectionRange", "snippet", "modelResponseHash", "device",
        "project", "kind", "tool", "session", "pinned", "clock", "sequence", "score",
        "duplicates",
    ]  # fmt: skip
    assert shared.recent(1)["events"][0]["score"] == 0.0


def test_relative_paths_are_looked_for_in_the_callers_folder(
    shared: DaemonClient, tmp_path: Path
) -> None:
    repository = Repository(tmp_path)
    repository.write(".gitignore", "*.log\n")
    events = [
        fields(filePath="x.log"),
        fields(filePath="x.py"),
        fields(filePath=f"{tmp_path}/y.log"),
    ]
    answer = shared.record(events, folder=str(tmp_path))
    assert [one["index"] for one in answer["failed"]] == [0, 2]
    assert [one["filePath"] for one in answer["recorded"]] == ["x.py"]
    assert [one["index"] for one in shared.record(events)["failed"]] == [2]
    assert children(state_of(shared).pid) == []


@pytest.mark.parametrize("folder", ["", "src", 3, "/a\0b", ["/"]])
def test_a_folder_that_is_no_absolute_path_is_refused(shared: DaemonClient, folder: object) -> None:
    with pytest.raises(EventError) as caught:
        shared.call("POST", "/v1/record", {"events": [fields()], "folder": folder})
    assert caught.value.field == "folder"


def test_long_questions_and_several_at_once_are_answered_too(
    shared: DaemonClient, connect: Connect
) -> None:
    shared.record([fields(snippet="a_rare_word = 5")])
    question = "where is a_rare_word " + "and what else " * 50
    clients = [connect(shared.settings.config_dir) for _ in range(4)]
    answers: list[dict[str, Any]] = []
    threads = [
        Thread(target=lambda one=one: answers.extend(one.query(question, 1) for _ in range(5)))
        for one in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one["events"][0]["snippet"] for one in answers] == ["a_rare_word = 5"] * 20


def test_the_same_is_served_on_loopback(shared: DaemonClient) -> None:
    status, answer = loopback(shared, "POST", "/v1/recent", {"k": 1})
    assert (status, len(answer["events"])) == (200, 1)
    assert loopback(shared, "GET", "/healthz") == (200, {"ok": True})
    status, answer = loopback(shared, "GET", "/v1/status")
    assert answer["device"] == shared.status()["device"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code", "field"),
    [
        ("POST", "/v1/query", {"query": "x"}, {"Authorization": "Bearer x"}, 401, "unauthorized", None),
        ("POST", "/v1/query", {"query": "x"}, {"Host": "evil.example"}, 403, "forbidden", None),
        ("POST", "/v1/query", {"query": "x"}, {"Origin": "https://evil.example"}, 403, "forbidden", None),
        ("POST", "/v1/query", {"query": "x", "k": 0}, {}, 400, "query", "k"),
        ("POST", "/v1/query", {"query": "x", "k": "3"}, {}, 400, "query", "k"),
        ("POST", "/v1/query", {"query": ""}, {}, 400, "query", "query"),
        ("POST", "/v1/query", {"query": 3}, {}, 400, "query", "query"),
        ("POST", "/v1/query", {"query": "x", "project": 3}, {}, 400, "query", "project"),
        ("POST", "/v1/query", {"query": "x", "limit": 3}, {}, 400, "query", "limit"),
        ("POST", "/v1/query", b"{", {}, 400, "event", ""),
        ("POST", "/v1/query", b"\xff", {}, 400, "event", ""),
        ("POST", "/v1/query", [], {}, 400, "event", ""),
        ("POST", "/v1/recent", {"k": 1001}, {}, 400, "query", "k"),
        ("POST", "/v1/record", {}, {}, 400, "event", "events"),
        ("POST", "/v1/record", {"events": []}, {}, 400, "event", "events"),
        ("POST", "/v1/record", {"events": [{}] * 257}, {}, 400, "event", "events"),
        ("POST", "/v1/export", {"kind": "thought"}, {}, 400, "query", "kind"),
        ("POST", "/v1/export", {"k": 3}, {}, 400, "query", "k"),
        ("POST", "/v1/export", {"cursor": "x"}, {}, 400, "query", "cursor"),
        ("POST", "/v1/export", {}, {"Authorization": "Bearer x"}, 401, "unauthorized", None),
        ("POST", "/v1/import", {"events": []}, {}, 400, "event", "events"),
        ("POST", "/v1/import", {"events": [{}] * 257}, {}, 400, "event", "events"),
        ("POST", "/v1/import", {"events": [{}]}, {"Authorization": "Bearer x"}, 401, "unauthorized", None),
        ("GET", "/v1/export", None, {}, 405, "method_not_allowed", None),
        ("GET", "/v1/query", None, {}, 405, "method_not_allowed", None),
        ("GET", "/v2/query", None, {}, 404, "not_found", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_answered_with_a_status_a_code_and_a_field(
    shared: DaemonClient,
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
    status: int,
    code: str,
    field: str | None,
) -> None:
    got, answer = loopback(shared, method, path, body, **headers)
    assert (got, answer["error"]["code"], answer["error"]["field"]) == (status, code, field)
    assert "\n" not in answer["error"]["message"]


def test_everything_is_exported_over_http_page_by_page(shared: DaemonClient) -> None:
    shared.record([fields(snippet=f"page {number}") for number in range(200)])
    asked: dict[str, Any] = {"kind": "edit"}
    pages: list[list[dict[str, Any]]] = []
    while True:
        status, answer = loopback(shared, "POST", "/v1/export", asked)
        assert (status, set(answer)) == (200, {"device", "events", "cursor"})
        pages.append(answer["events"])
        if answer["cursor"] is None:
            break
        asked["cursor"] = answer["cursor"]
    events = [event for page in pages for event in page]
    assert len(pages) > 1
    assert len(events) == shared.status()["events"]
    status, answer = loopback(shared, "POST", "/v1/import", {"events": events[:200]})
    assert (status, answer) == (
        200, {"new": 0, "known": 200, "too_old": 0, "refused": [], "evicted": 0}
    )  # fmt: skip


def test_the_client_raises_what_the_daemon_means(shared: DaemonClient) -> None:
    with pytest.raises(QueryError) as query:
        shared.query("x", 0)
    assert query.value.field == "k"
    with pytest.raises(EventError) as event:
        shared.record([])
    assert event.value.field == "events"
    with pytest.raises(DaemonError, match="Not Found"):
        shared.call("GET", "/v1/nothing")


def test_files_sockets_and_folders_are_this_users_alone(shared: DaemonClient) -> None:
    settings, state = shared.settings, state_of(shared)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert (
        mode(settings.runtime_dir) == mode(settings.state_dir) == mode(settings.data_dir) == 0o700
    )
    assert mode(state_path(settings)) == mode(Path(state.socket)) == 0o600
    assert mode(settings.log_path) == mode(settings.store_path) == 0o600
    assert state.token not in repr(state)


def test_the_daemon_has_no_children_no_terminal_and_no_parent_but_init(
    shared: DaemonClient,
) -> None:
    pid = state_of(shared).pid
    assert children(pid) == []
    assert os.getsid(pid) != os.getsid(0)
    assert Path(f"/proc/{pid}").stat().st_uid == os.getuid()
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_the_threads_of_the_daemon_share_one_heap(shared: DaemonClient) -> None:
    shared.record([fields()])
    shared.recent(1)
    tasks = os.listdir(f"/proc/{state_of(shared).pid}/task")
    assert len(tasks) > 5
    assert thread_heaps(state_of(shared).pid) == 0


def test_a_process_that_has_not_settled_has_a_heap_for_each_of_its_threads() -> None:
    threads = """
import ctypes, sys, threading
done = threading.Event()
def allocate() -> None:
    ctypes.CDLL(None).malloc(1000)
    ready.wait()
    done.wait()
ready = threading.Barrier(4)
for _ in range(3):
    threading.Thread(target=allocate).start()
ready.wait()
print("ready", flush=True)
sys.stdin.read()
done.set()
"""
    with subprocess.Popen(
        [sys.executable, "-c", threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert thread_heaps(process.pid) == 3
        process.stdin.close()


def test_the_log_holds_neither_secrets_nor_snippets(shared: DaemonClient) -> None:
    shared.record([fields(snippet="a_very_telling_name = 1")])
    shared.query("a_very_telling_name", 1)
    log = shared.settings.log_path.read_text()
    assert "ready" in log
    for secret in ("a_very_telling_name", state_of(shared).token, "correct horse"):
        assert secret not in log


def test_an_embedded_memory_cannot_take_the_store_of_a_running_daemon(shared: DaemonClient) -> None:
    home = shared.settings.config_dir
    with pytest.raises(StoreBusy):
        Memory.embedded(environment=environment(home))


def test_many_clients_at_once_start_one_daemon(home: Path) -> None:
    processes = [
        subprocess.Popen(command("recent", "--json"), env=environment(home), stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert all(json.loads(output)["events"] == [] for output in outputs)
    assert len(daemons_of(home)) == 1


def test_what_was_acknowledged_is_there_after_kill_9(home: Path, connect: Connect) -> None:
    client = connect(home)
    pid = client.ensure_running().pid
    acknowledged: list[str] = []

    def write(worker: int) -> None:
        writer = connect(home, start=False)
        for number in range(1000):
            try:
                answer = writer.record([fields(snippet=f"worker {worker} line {number}")])
            except DaemonError:
                return
            acknowledged.extend(event["id"] for event in answer["recorded"])
            if len(acknowledged) == 60:
                os.kill(pid, signal.SIGKILL)

    workers = [Thread(target=write, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(acknowledged) >= 60
    assert not is_alive(pid)
    kept = {event["id"] for event in client.recent(1000)["events"]}  # starts the next daemon
    assert set(acknowledged) <= kept
    assert state_of(client).pid != pid
    assert len(daemons_of(home)) == 1


@pytest.mark.parametrize("end", ["stop", "SIGTERM"])
def test_a_stopped_daemon_is_gone_with_its_files_and_has_kept_everything(
    home: Path, connect: Connect, end: str
) -> None:
    client = connect(home)
    recorded = client.record([fields(snippet="kept")])["recorded"]
    state = state_of(client)
    if end == "stop":
        assert client.stop()
        assert not is_alive(state.pid)
        assert not client.stop()
    else:
        os.kill(state.pid, signal.SIGTERM)
        assert gone(state.pid)
    assert sorted(os.listdir(client.settings.runtime_dir)) == ["daemon.lock", "launch.lock"]
    with pytest.raises(DaemonError, match="localmem up"):
        connect(home, start=False).recent(1)
    assert [event["id"] for event in client.recent(5)["events"]] == [recorded[0]["id"]]


def test_an_idle_daemon_ends_and_the_next_call_starts_another(home: Path, connect: Connect) -> None:
    client = connect(home, LOCALMEM_IDLE_EXIT_S="1")
    client.record([fields(snippet="before idleness")])
    first = state_of(client).pid
    assert gone(first)
    # The connection that the client kept is dead; it notices before it sends anything.
    assert len(client.record([fields(snippet="after it")])["recorded"]) == 1
    assert len(client.recent(5)["events"]) == 2
    assert state_of(client).pid != first


def test_a_wrong_passphrase_is_reported_by_the_client_that_started_the_daemon(
    home: Path, connect: Connect
) -> None:
    connect(home).ensure_running()
    assert connect(home).stop()
    wrong = connect(home, LOCALMEM_PASSPHRASE="wrong")
    with pytest.raises(WrongKey) as caught:
        wrong.recent(1)
    assert "\n" not in str(caught.value)
    assert daemons_of(home) == []
    assert connect(home).recent(1)["events"] == []


def test_a_foreign_file_in_the_place_of_the_store_is_named_and_left_alone(
    home: Path, connect: Connect
) -> None:
    client = connect(home)
    client.settings.store_path.parent.mkdir(parents=True, mode=0o700)
    client.settings.store_path.write_bytes(b"not a store" * 10_000)
    with pytest.raises(ForeignFile):
        client.recent(1)
    assert client.settings.store_path.read_bytes() == b"not a store" * 10_000


def test_a_port_that_is_taken_is_an_error_that_names_it(home: Path, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"daemon.port: {port}"):
            connect(home, LOCALMEM_PORT=str(port)).recent(1)
    assert daemons_of(home) == []


def test_a_home_with_a_long_path_gets_a_socket_in_a_short_private_place(
    tmp_path: Path, connect: Connect
) -> None:
    home = tmp_path / ("long" * 20) / ("path" * 20)
    (tmp_path / "run").mkdir(mode=0o700)
    client = connect(home, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    try:
        state = client.ensure_running()
        assert len(state.socket) < 108
        assert not state.socket.startswith(str(home))
        assert stat.S_IMODE(Path(state.socket).parent.stat().st_mode) == 0o700
        assert client.recent(1)["events"] == []
    finally:
        client.stop()
    assert not Path(state.socket).exists()


def test_a_runtime_folder_that_others_may_write_to_is_refused(home: Path, connect: Connect) -> None:
    client = connect(home)
    client.settings.runtime_dir.mkdir(parents=True)
    client.settings.runtime_dir.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod 700"):
        client.recent(1)


def test_a_state_file_that_others_may_read_is_not_trusted(home: Path, connect: Connect) -> None:
    client = connect(home)
    client.ensure_running()
    state_path(client.settings).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        connect(home).recent(1)
    state_path(client.settings).chmod(0o600)


def test_a_state_file_of_a_dead_daemon_is_replaced(home: Path, connect: Connect) -> None:
    client = connect(home)
    pid = client.ensure_running().pid
    os.kill(pid, signal.SIGKILL)
    assert read_state(client.settings) is not None
    assert client.recent(1)["events"] == []
    assert state_of(client).pid != pid


def test_modules_in_the_current_folder_are_not_imported_by_the_daemon(home: Path) -> None:
    trap = home.parent / "trap"
    trap.mkdir()
    for name in ("starlette", "uvicorn", "numpy", "localmem_node"):
        (trap / f"{name}.py").write_text("raise SystemExit('imported')")
    done = localmem(home, "up", "--json", cwd=trap)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["started"] is True
