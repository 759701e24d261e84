"""Hooks at a real daemon: each event once, the right memory back, and never an error for an editor."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.daemon.endpoint import endpoint_path, hung_path, make_endpoint
from localmem_node.errors import QueryError
from localmem_node.pausing import pauses_path
from localmem_node.seen import seen_path
from localmem_node.session_states import states_path
from localmem_node.spool import spool_path
from localmem_node.system import SystemRandom
from localmem_node.usage import usage_path
from localmem_protocol.errors import EventError
from support.daemon import answer, daemons_of, environment, localmem
from support.events import MOMENT, fields
from support.git_repository import Repository
from support.hooks import Editor, client_of, recorded

_NUMBERS = count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonClient]:
    """A client of a daemon for tests that look at sessions of their own."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with client_of(home) as client:
        yield client
        assert client.stop()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A work tree with a file in it, of a project that no other test has."""
    path = tmp_path / "app"
    path.mkdir()
    repository = Repository(path)
    repository.commit(f"Begin {next(_NUMBERS)}", {"src/money.py": "a\nb\nc\n"})
    return path


@pytest.fixture
def editor(shared: DaemonClient, project: Path) -> Editor:
    return Editor(shared, f"session {next(_NUMBERS)}", project)


def hooks_of(client: DaemonClient) -> dict[str, Any]:
    status = client.status()["services"]["hooks"]
    assert isinstance(status, dict)
    return status


def test_a_session_is_captured_with_its_project(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    editor.start()
    editor.prompt("make the rounding exact")
    editor.edit("src/money.py", "total = round_half_even(total)")
    editor.run("pytest -q", "2 passed")
    editor.hook(
        "PostToolUseFailure", tool_name="Bash", tool_use_id="bad",
        tool_input={"command": "make"}, error="Exit code 2\nno rule",
    )  # fmt: skip
    editor.hook("Stop", last_assistant_message="The rounding is exact.", prompt_id="p1")
    events = recorded(shared, editor.session)
    assert [one["kind"] for one in events] == ["prompt", "edit", "command", "error", "answer"]
    assert {one["tool"] for one in events} == {"claude-code"}
    assert len({one["project"] for one in events}) == 1
    assert events[0]["project"] is not None
    assert events[1]["filePath"] == "src/money.py"
    assert events[1]["selectionRange"] == [3, 3]
    assert events[4]["modelResponseHash"]
    assert hooks_of(shared)["last"]["claude-code"] >= events[-1]["timestamp"]


def test_the_next_session_is_told_and_not_twice(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    editor.start()
    editor.prompt("teach the parser ordinals such as twentyfirst")
    editor.edit("src/money.py", "ORDINALS = parse_ordinals('twentyfirst')")
    following = Editor(shared, f"{editor.session} next", project)
    digest = following.start()
    assert "`teach the parser ordinals such as twentyfirst`" in digest
    assert "src/money.py:3" in digest
    assert following.start() == ""
    found = following.prompt("how does parse_ordinals read twentyfirst?")
    assert "ORDINALS = parse_ordinals" in found
    assert following.prompt("how does parse_ordinals read twentyfirst?") == ""
    assert "ORDINALS" not in editor.prompt("how does parse_ordinals read twentyfirst?")


def test_what_a_compaction_took_comes_back(editor: Editor) -> None:
    editor.start()
    editor.prompt("migrate the ledger to decimal")
    editor.run("alembic upgrade head", "done")
    editor.hook("PreCompact", trigger="auto")
    lost = editor.start("compact")
    assert "- asked: `migrate the ledger to decimal`" in lost
    assert "- ran, done: `$ alembic upgrade head`" in lost
    editor.hook("PostCompact", trigger="auto", compact_summary="The ledger was migrated.")
    assert "done" in editor.prompt("what did alembic upgrade say about the ledger?")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe\x00", b"\0" * 1000, b"[" * 100_000,
        b"{}", b'{"hook_event_name": "UserPromptSubmit"}',
        b'{"session_id": "s", "hook_event_name": "Brand new"}',
        b'{"session_id": 3, "hook_event_name": ["x"], "prompt": {}, "cwd": 7}',
        b'{"session_id": "s", "hook_event_name": null}',
        b'{"session_id": "\\ud800", "hook_event_name": "Stop", "cwd": "\\u0000"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["claude-code", "codex", "cursor"])
def test_whatever_is_odd_is_answered_with_nothing(editor: Editor, name: str, body: bytes) -> None:
    assert editor.send(body, name) == (200, {})


def test_what_is_not_understood_is_counted(shared: DaemonClient, editor: Editor) -> None:
    before = hooks_of(shared)["unreadable"]
    editor.send(b"{")
    editor.send(b'{"session_id": "s"}')
    editor.hook("BrandNew")  # as much as any event that has nothing to remember
    assert hooks_of(shared)["unreadable"] == before + 2


def test_a_daemon_that_was_slow_once_is_asked_again(shared: DaemonClient, editor: Editor) -> None:
    marker = hung_path(shared.settings)
    marker.touch(0o600)
    editor.run("true")  # what somebody gave up waiting for
    for _ in range(1000):
        if not marker.exists():
            return
        time.sleep(0.02)
    pytest.fail("it is still said to hang")


def test_an_editor_that_there_is_not_is_not_found(editor: Editor) -> None:
    assert editor.send(b"{}", "emacs")[0] == 404


def test_of_an_output_of_fifty_megabytes_the_ends_are_kept(
    shared: DaemonClient, editor: Editor
) -> None:
    editor.run("cat log", "BEGIN" + "x" * 50_000_000 + "END")
    (event,) = recorded(shared, editor.session)
    assert "BEGIN" in event["snippet"]
    assert event["snippet"].endswith("END")
    assert len(event["snippet"]) < 3000


def test_what_is_told_by_two_ways_at_once_is_recorded_once(
    shared: DaemonClient, editor: Editor
) -> None:
    before = hooks_of(shared)["known"]
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            tell = [
                pool.submit(editor.run, f"echo {number}", tool_use_id=f"same {number}")
                for _ in range(8)
            ]
            for one in tell:
                assert one.result() == ""
    commands = [one["snippet"].split("\n")[0] for one in recorded(shared, editor.session)]
    assert sorted(commands) == [f"$ echo {number}" for number in range(10)]
    assert hooks_of(shared)["known"] == before + 70


def test_a_prompt_that_another_editor_replays_is_recorded_and_answered_once(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    editor.edit("src/money.py", "HOLIDAYS = load_bank_holidays('bavaria')")
    session = f"{editor.session} in cursor"
    common = {
        "conversation_id": session, "session_id": session, "generation_id": "g1",
        "cursor_version": "3.1", "workspace_roots": [str(project)],
        "prompt": "which load_bank_holidays does bavaria have?",
    }  # fmt: skip
    own = common | {"hook_event_name": "beforeSubmitPrompt"}
    replayed = common | {"hook_event_name": "UserPromptSubmit", "cwd": str(project)}
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(editor.send, json.dumps(own).encode(), "cursor"),
            pool.submit(editor.send, json.dumps(replayed).encode(), "claude-code"),
        ]
        answers = [call.result()[1] for call in calls]
    assert [one["kind"] for one in recorded(shared, session)] == ["prompt"]
    told = [one for one in answers if one]
    assert len(told) == 1
    assert "HOLIDAYS" in json.dumps(told)


def test_edits_that_cursor_tells_in_two_ways_are_each_recorded_once(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    path = str(project / "src" / "money.py")

    def tell(turn: str, **fields: Any) -> None:
        common = {"conversation_id": editor.session, "generation_id": turn,
                  "workspace_roots": [str(project)]}  # fmt: skip
        assert editor.send(json.dumps(common | fields).encode(), "cursor") == (200, {})

    def write(turn: str, text: str) -> None:
        tool = {"file_path": path, "content": text}
        tell(turn, hook_event_name="PostToolUse", tool_name="Write", tool_input=tool)

    edit = {"old_string": "b", "new_string": "B = 2"}
    tell("both", hook_event_name="afterFileEdit", file_path=path, edits=[edit])
    write("both", "a\nB = 2\nc\n")
    write("replayed", "first = 1")
    write("replayed", "second = 2")
    write("replayed", "second = 2")
    snippets = [one["snippet"] for one in recorded(shared, editor.session)]
    assert snippets == ["B = 2", "first = 1", "second = 2"]


def test_files_that_are_kept_out_of_the_store_are_refused(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    (project / ".gitignore").write_text("build/\n")
    (project / "build").mkdir()
    before = hooks_of(shared)["refused"]
    editor.edit("build/out.py", "generated")
    editor.edit(".env", "TOKEN=secret")
    editor.folder = project / "src"
    editor.edit("../build/deep.py", "generated too")
    editor.edit("money.py", "kept = True")
    assert [one["filePath"] for one in recorded(shared, editor.session)] == ["src/money.py"]
    assert hooks_of(shared)["refused"] == before + 3


def test_secrets_are_taken_out(shared: DaemonClient, editor: Editor) -> None:
    editor.run("env", "GITHUB_TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a")
    assert "16C7e42F" not in recorded(shared, editor.session)[0]["snippet"]


def test_an_import_of_what_hooks_captured_adds_nothing(
    shared: DaemonClient, editor: Editor
) -> None:
    editor.run("make all", tool_use_id="call 1")
    key = "\0".join((editor.session, "tool", "call 1", "0"))
    event = fields(
        kind="command", snippet="$ make all\nok", filePath=None, selectionRange=None,
        session=editor.session,
    )  # fmt: skip
    body: dict[str, Any] = {"events": [{"event": event, "key": key}], "folder": str(editor.folder)}
    assert shared.call("POST", "/v1/capture", body) == {
        "recorded": 0, "known": 1, "too_old": 0, "paused": 0, "failed": [],
    }  # fmt: skip
    body["events"] = [{"event": event, "key": f"{key} other", "also": ["weak"]}] * 2
    again = shared.call("POST", "/v1/capture", body | {"imported": True})
    assert (again["recorded"], again["known"]) == (1, 1)
    (_, imported) = sorted(recorded(shared, editor.session), key=lambda one: -one["timestamp"])
    assert imported["timestamp"] == MOMENT
    assert imported["project"] is not None


def test_a_capture_says_what_is_wrong_with_each_event(shared: DaemonClient) -> None:
    good = {"event": fields(), "key": f"k{next(_NUMBERS)}"}
    wrong: list[Any] = [
        {"event": fields(snippet=""), "key": "a"},
        {"event": fields()},
        {"event": 3, "key": "a"},
        7,
        good | {"also": "x"},
        good | {"also": [""]},
        good | {"more": 1},
        {"event": fields(filePath="/x/.env"), "key": f"k{next(_NUMBERS)}"},
    ]
    answered = shared.call("POST", "/v1/capture", {"events": [*wrong, good]})
    assert answered["recorded"] == 1
    assert [one["index"] for one in answered["failed"]] == list(range(8))
    assert [one["field"] for one in answered["failed"]] == [
        "snippet", "key", "event", "", "also", "also", "", "filePath",
    ]  # fmt: skip
    bodies: list[dict[str, Any]] = [
        {"events": []}, {"events": [good] * 257}, {"events": [good], "folder": "x"},
    ]  # fmt: skip
    for body in bodies:
        with pytest.raises(EventError):
            shared.call("POST", "/v1/capture", body)
    with pytest.raises(QueryError):
        shared.call("POST", "/v1/capture", {"events": [good], "imported": 1})


def test_while_paused_nothing_is_captured_and_nothing_told(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    editor.edit("src/money.py", "SURCHARGES = read_surcharges('winter')")
    other = Editor(shared, f"{editor.session} paused", project)
    shared.call("POST", "/v1/pause", {"paused": True, "session": other.session})
    assert other.start() == ""
    assert other.prompt("how are SURCHARGES of winter read?") == ""
    assert recorded(shared, other.session) == []
    editor.run("echo seen")
    shared.call("POST", "/v1/pause", {"paused": False, "session": other.session})
    assert "SURCHARGES" in other.prompt("how are SURCHARGES of winter read?")
    assert [one["kind"] for one in recorded(shared, other.session)] == ["prompt"]
    for wrong in ({"session": ""}, {"projects": ["x"]}, {"projects": "all"}, {"paused": 1}):
        with pytest.raises(QueryError):
            shared.call("POST", "/v1/pause", wrong)


def test_a_pause_from_the_command_line_outlives_the_daemon(home: Path, project: Path) -> None:
    assert answer(localmem(home, "pause", "--project", "--json", cwd=project))["projects"]
    with client_of(home) as client:
        editor = Editor(client, "s", project)
        editor.run("echo hidden")
        assert client.stop()
    with client_of(home) as client:
        editor = Editor(client, "s", project)
        editor.run("echo hidden too")
        elsewhere = Editor(client, "t", home.parent)
        elsewhere.run("echo seen")
        shown = localmem(home, "status").stdout.decode()
        assert "paused" in shown
        assert localmem(home, "resume", "--project", str(project)).stdout == b"nothing is paused\n"
        editor.run("echo after")
        snippets = [one["snippet"] for one in client.recent(10)["events"]]
        assert snippets == ["$ echo after\nok", "$ echo seen\nok"]
        assert client.stop()


def test_what_was_captured_injected_and_used_is_told(home: Path, project: Path) -> None:
    with client_of(home) as client:
        Editor(client, "old", project).edit("src/money.py", "RATES = load_rates('euro')")
        editor = Editor(client, "new", project)
        editor.start()
        assert "RATES" in editor.prompt("where does load_rates get the euro from?")
        editor.edit("src/money.py", "RATES = load_rates('dollar')")
        assert client.stop()
    stats = answer(localmem(home, "stats", "--json"))["editors"]["claude-code"]
    assert stats["captured"] == {"edit": 2, "prompt": 1}
    assert stats["blocks"] == 2
    assert stats["characters"] > stats["tokens"] > 0
    assert stats["used"] == 1
    assert b"used        1 of" in localmem(home, "stats", "--since", "2d").stdout
    assert localmem(home, "stats", "--since", "later").returncode == 2
    assert b"nothing was captured" in localmem(home, "stats", "--since", "2999-01-01").stdout


def test_what_a_killed_daemon_acknowledged_is_there_once(home: Path, project: Path) -> None:
    told = 0
    for life in range(3):
        with client_of(home) as client:
            editor = Editor(client, "s", project)
            for number in range(told):  # an editor, or a spool, that tells it all again
                editor.run(f"echo {number}", tool_use_id=f"call {number}")
            for number in range(told, told + 20):
                editor.run(f"echo {number}", tool_use_id=f"call {number}")
            told += 20
            assert hooks_of(client)["known"] == 20 * life
            state = client.running()
            assert state is not None
            descriptor = os.pidfd_open(state.pid)
            os.kill(state.pid, signal.SIGKILL)
            assert select.select([descriptor], [], [], 60)[0]
            os.close(descriptor)
    with client_of(home) as client:
        commands = [one["snippet"].split("\n")[0] for one in recorded(client, "s")]
        assert commands == [f"$ echo {number}" for number in range(60)]
        assert client.stop()


def test_hooks_that_waited_are_recorded_at_the_next_start_and_once(
    home: Path, project: Path
) -> None:
    settings = load_settings(environment(home))
    settings.runtime_dir.mkdir(parents=True, mode=0o700)
    home.chmod(0o700)

    def leave(name: str) -> None:
        records = b""
        for number in range(3):
            body = json.dumps(
                {
                    "session_id": "s", "cwd": str(project), "hook_event_name": "UserPromptSubmit",
                    "prompt_id": f"p{number}", "prompt": f"task {number}",
                }
            ).encode()  # fmt: skip
            records += b"claude-code %d %d\n%s\n" % (MOMENT + number, len(body), body)
        path = settings.runtime_dir / name
        path.write_bytes(records + b"claude-code 5 100\ntorn")
        path.chmod(0o600)

    for names in (["spool"], ["spool.draining", "spool"]):
        for name in names:
            leave(name)
        with client_of(home) as client:
            assert client.stop()  # waits for the draining
        assert not spool_path(settings).exists()
        assert not (settings.runtime_dir / "spool.draining").exists()
    with client_of(home) as client:
        events = recorded(client, "s")
        assert [one["snippet"] for one in events] == ["task 0", "task 1", "task 2"]
        assert [one["timestamp"] for one in events] == [MOMENT, MOMENT + 1, MOMENT + 2]
        assert client.stop()


def test_damaged_files_beside_the_store_stop_nothing(home: Path, project: Path) -> None:
    settings = load_settings(environment(home))
    with client_of(home) as client:
        Editor(client, "s", project).prompt("a task")
        assert client.stop()
    for path in (
        seen_path(settings.store_path),
        states_path(settings.store_path),
        usage_path(settings),
    ):
        assert path.exists()
        path.write_bytes(b"\xff damaged")
    with client_of(home) as client:
        editor = Editor(client, "t", project)
        assert "`a task`" in editor.start()
        editor.run("echo on")
        assert len(recorded(client, "t")) == 1
        assert client.stop()
    pauses_path(settings).write_bytes(b"\xff damaged")
    pauses_path(settings).chmod(0o600)
    with client_of(home) as client:
        Editor(client, "u", project).run("echo unseen")
        assert recorded(client, "u") == []
        assert client.status()["services"]["pause"]["problem"]
        assert localmem(home, "resume").returncode == 0
        Editor(client, "u", project).run("echo seen", tool_use_id="other")
        assert len(recorded(client, "u")) == 1
        assert client.stop()


def test_answers_are_kept_as_hashes_alone_if_that_is_wanted(home: Path, project: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[capture]\nanswers = false\n")
    with client_of(home) as client:
        editor = Editor(client, "s", project)
        editor.hook("Stop", last_assistant_message="A confidential answer.", prompt_id="p")
        editor.hook("PostCompact", trigger="auto", compact_summary="A confidential summary.")
        editor.prompt("my own words")
        kept, note, prompt = recorded(client, "s")
        assert kept["modelResponseHash"]
        assert kept["snippet"].startswith("(answer of 22 characters")
        assert "confidential" not in note["snippet"]
        assert prompt["snippet"] == "my own words"
        assert client.stop()


def test_a_port_that_is_not_the_editors_is_a_problem_that_is_told(home: Path) -> None:
    settings = load_settings(environment(home))
    endpoint = make_endpoint(settings, SystemRandom())
    with socket.create_server(("127.0.0.1", endpoint.port)), client_of(home) as client:
        assert "held by another program" in hooks_of(client)["problem"]
        assert client.stop()
    with client_of(home) as client:
        assert hooks_of(client)["problem"] is None
        assert client.stop()
    endpoint_path(settings).unlink()
    with client_of(home) as client:
        make_endpoint(settings, SystemRandom())
        assert "run: localmem down" in hooks_of(client)["problem"]
        assert client.stop()


def test_a_slash_command_is_one_prompt_and_is_answered(
    shared: DaemonClient, editor: Editor, project: Path
) -> None:
    editor.edit("src/money.py", "DISCOUNTS = merge_discounts('wholesale')")
    other = Editor(shared, f"{editor.session} slash", project)
    other.start()
    expanded = other.hook(
        "UserPromptExpansion", prompt_id="slash", command_name="explain",
        command_args="merge_discounts wholesale", prompt="/explain merge_discounts wholesale",
    )  # fmt: skip
    submitted = other.prompt("/explain merge_discounts wholesale", prompt_id="slash")
    assert ["DISCOUNTS" in text for text in (expanded, submitted)].count(True) == 1
    assert len(recorded(shared, other.session)) == 1


def test_what_an_editor_did_not_wait_for_is_told_with_the_next_prompt(
    editor: Editor, project: Path, shared: DaemonClient
) -> None:
    editor.edit("src/money.py", "TARIFFS = fetch_tariffs('export')")
    impatient = Editor(shared, f"{editor.session} gone", project)
    impatient.start()
    impatient.leave("where does fetch_tariffs get the export from?")
    # Its answer may still be under way when the first of these asks.
    tries = (impatient.prompt("where does fetch_tariffs get the export from?") for _ in range(50))
    assert "TARIFFS" in next((text for text in tries if text), "")


def test_two_sessions_at_once_do_not_mix(shared: DaemonClient, project: Path) -> None:
    sessions = [Editor(shared, f"both {next(_NUMBERS)}", project) for _ in range(4)]

    def work(editor: Editor) -> None:
        for number in range(15):
            editor.run(f"echo {editor.session} {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, sessions))
    for editor in sessions:
        commands = [one["snippet"].split("\n")[0] for one in recorded(shared, editor.session)]
        assert commands == [f"$ echo {editor.session} {number}" for number in range(15)]
