"""The hook's command: what it says to a daemon, and that nothing makes it loud, slow or fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.hook_command import (
    START,
    TIMEOUT_S,
    TOOL,
    client,
    hook,
    in_memory,
    records,
    run,
)
from support.hook_daemon import TOKEN, HookDaemon
from support.missing import missing

SAYS = b'{"hookSpecificOutput":{"additionalContext":"caf\xc3\xa9"}}'
STRANGER = 65_534

pytestmark = pytest.mark.usefixtures("each_client")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home in memory, so that what is not said would be spooled."""
    with in_memory() as folder:
        yield folder / "a home"


def command(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*client().patient, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LOCALMEM_HOME": str(home)},
    )


@pytest.mark.parametrize("editor", ["claude-code", "codex", "cursor"])
@pytest.mark.parametrize(
    "body", [TOOL, TOOL.replace(b",", b",\r\n"), b"\xff\0{", b"{}", "\ufeff{}".encode()]
)
def test_the_daemon_gets_the_input_byte_for_byte(home: Path, editor: str, body: bytes) -> None:
    with HookDaemon(home) as daemon:
        assert hook(home, body, editor).stdout == b""
    [request] = daemon.requests
    assert request.body == body
    lines = request.head.split(b"\r\n")
    assert lines[0] == f"POST /v1/hook/{editor} HTTP/1.1".encode()
    assert f"Authorization: Bearer {TOKEN}".encode() in lines
    assert sorted(os.listdir(home / "run")) == ["hook", "localmem.sock"]


def test_what_the_daemon_says_is_printed(home: Path) -> None:
    with HookDaemon(home, SAYS):
        assert hook(home).stdout == SAYS


@pytest.mark.parametrize(
    ("answer", "said"), [(b" \r\n" + SAYS + b"\n\v\f\t ", SAYS), (b"\n{} \n", b""), (b"", b"")]
)
def test_space_around_an_answer_is_not_printed(home: Path, answer: bytes, said: bytes) -> None:
    with HookDaemon(home, answer):
        assert hook(home).stdout == said


def test_an_answer_without_a_length_ends_with_the_connection(home: Path) -> None:
    with HookDaemon(home, SAYS, head=b"Connection: close\r\n\r\n"):
        assert hook(home).stdout == SAYS


@pytest.mark.parametrize("status", ["404 Not Found", "413 Too Large", "500 Error", "nonsense"])
def test_a_refusal_is_silent_and_not_kept(home: Path, status: str) -> None:
    with HookDaemon(home, b'{"title":"x"}', status=status):
        assert hook(home).stdout == b""
    assert not (home / "run" / "spool").exists()


@pytest.mark.parametrize("status", ["401 Unauthorized", "503 Unavailable"])
def test_an_event_that_the_daemon_did_not_take_is_kept(home: Path, status: str) -> None:
    with HookDaemon(home, b'{"title":"x"}', status=status):
        assert hook(home).stdout == b""
    assert [body for _, _, body in records(home / "run" / "spool")] == [TOOL]


@pytest.mark.parametrize("head", [b"Content-Length: many\r\n\r\n", b"Content-Length: 9999\r\n\r\n"])
def test_an_answer_that_is_none_is_not_printed(home: Path, head: bytes) -> None:
    with HookDaemon(home, SAYS, head=head):
        assert hook(home).stdout == b""


@pytest.mark.parametrize("reads", [True, False])
def test_a_daemon_that_is_killed_before_it_answers_leaves_the_event_to_the_next(
    home: Path, reads: bool
) -> None:
    with HookDaemon(home, None, reads=reads) as daemon:
        assert hook(home).stdout == b""
    assert daemon.connections == 1
    assert [body for _, _, body in records(home / "run" / "spool")] == [TOOL]
    assert not (home / "run" / "hook.hung").exists()


def test_a_daemon_that_hangs_is_waited_for_once(home: Path) -> None:
    with HookDaemon(home, accepts=False) as daemon:
        for _ in range(3):
            assert hook(home, command=client().command).stdout == b""
        assert daemon.waiting() == 1
    assert len(records(home / "run" / "spool")) == 3


def test_a_daemon_that_came_after_the_one_that_hung_is_asked(home: Path) -> None:
    with HookDaemon(home, accepts=False):
        hook(home, command=client().command)
    marker = home / "run" / "hook.hung"
    with HookDaemon(home, SAYS) as daemon:
        now_s = marker.stat().st_mtime
        os.utime(home / "run" / "hook", (now_s - 1, now_s - 1))
        assert hook(home).stdout == b""
        os.utime(marker, (now_s - 2, now_s - 2))
        assert hook(home).stdout == SAYS
        assert daemon.connections == 1


@pytest.mark.parametrize("off_s", [-31, 3600])
def test_a_marker_that_is_old_or_from_the_future_counts_for_nothing(
    home: Path, off_s: float
) -> None:
    with HookDaemon(home, SAYS):
        file, marker = home / "run" / "hook", home / "run" / "hook.hung"
        marker.touch()
        now_s = marker.stat().st_mtime
        os.utime(file, (now_s - 7200, now_s - 7200))
        assert hook(home).stdout == b""
        os.utime(marker, (now_s + off_s, now_s + off_s))
        assert hook(home).stdout == SAYS


def test_the_socket_of_a_dead_daemon_is_no_daemon(home: Path) -> None:
    with HookDaemon(home):
        pass
    assert (home / "run" / "localmem.sock").is_socket()
    assert hook(home).stdout == b""
    assert len(records(home / "run" / "spool")) == 1


@pytest.mark.parametrize(
    "text", ["", "/nowhere", "\n\n", "\0\n\0\n", "/etc/passwd\nx\n", "x" * 9999]
)
def test_a_hook_file_that_names_no_socket_is_no_daemon(home: Path, text: str) -> None:
    with HookDaemon(home, SAYS) as daemon:
        daemon.tell(text)
        assert hook(home).stdout == b""
        assert daemon.connections == 0


def test_what_is_open_to_others_is_not_spoken_to(home: Path) -> None:
    with HookDaemon(home, SAYS) as daemon:
        for path in (daemon.path, home / "run" / "hook", home / "run"):
            before = path.stat().st_mode
            for mode in (0o070, 0o007, 0o020, 0o004):
                path.chmod(before | mode)
                assert hook(home).stdout == b""
            if path == home / "run":
                (path / "spool").unlink()  # of the events before
                assert hook(home).stdout == b""
                assert not (path / "spool").exists()
            path.chmod(before)
        assert daemon.connections == 0
        assert hook(home).stdout == SAYS


def test_links_in_the_place_of_folder_and_files_are_not_followed(
    home: Path, tmp_path: Path
) -> None:
    with HookDaemon(home, SAYS) as daemon:
        (tmp_path / "run").symlink_to(home / "run")
        assert hook(tmp_path).stdout == b""
        (home / "run" / "hook").rename(home / "elsewhere")
        (home / "run" / "hook").symlink_to(home / "elsewhere")
        assert hook(home).stdout == b""
        assert daemon.connections == 0


def test_a_folder_of_another_user_gets_nothing() -> None:
    if os.getuid():  # /run is root's
        assert hook(Path("/")).stdout == b""
        return
    with in_memory() as home, HookDaemon(home, SAYS) as daemon:
        for path in (home / "run", home / "run" / "hook", daemon.path):
            os.chown(path, STRANGER, -1)
            assert hook(home).stdout == b""
            os.chown(path, 0, -1)
            spool = home / "run" / "spool"
            assert spool.exists() == (path != home / "run")
            spool.unlink(missing_ok=True)
        assert daemon.connections == 0


def test_the_process_behind_the_socket_must_be_this_users(home: Path) -> None:
    if os.getuid():
        missing("only root can listen as another user")
    with HookDaemon(home) as daemon:
        pass
    code = (
        "import os, socket, sys\n"
        "listening = socket.socket(fileno=0)\n"
        f"os.setuid({STRANGER})\n"
        "listening.listen(8)\n"  # the kernel notes who listened last
        "print('ready', flush=True)\n"
        "connection, _ = listening.accept()\n"
        "print(len(connection.recv(9999)), flush=True)\n"
    )
    daemon.path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(daemon.path))
        daemon.path.chmod(0o600)
        stranger = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=listening.fileno(),
            stdout=subprocess.PIPE,
            text=True,
        )
        with stranger:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "ready\n"
            assert hook(home).stdout == b""
            assert stranger.stdout.readline() == "0\n"


@pytest.mark.parametrize("arguments", [[], ["vim"], ["claude-code", "x"], [""], ["\udcff"]])
def test_an_unknown_editor_is_nobody(home: Path, arguments: list[str]) -> None:
    with HookDaemon(home, SAYS) as daemon:
        assert run(arguments, {"LOCALMEM_HOME": str(home)}).stdout == b""
        assert daemon.connections == 0


def test_hooks_that_are_off_say_nothing(home: Path) -> None:
    with HookDaemon(home, SAYS) as daemon:
        assert hook(home, LOCALMEM_HOOKS="off").stdout == b""
        assert daemon.connections == 0
        assert hook(home, LOCALMEM_HOOKS="on").stdout == SAYS


def test_without_home_and_environment_it_ends() -> None:
    assert run(["codex"], {}).stdout == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null"])
def test_closed_descriptors_do_not_matter(home: Path, closed: str) -> None:
    script = f'exec "$0" "$@" {closed}'
    with HookDaemon(home, SAYS) as daemon:
        shell = ("/bin/sh", "-c", script, *client().patient)
        done = run(["cursor"], {"LOCALMEM_HOME": str(home)}, command=shell)
        assert done.stdout == (SAYS if closed == "2>&-" else b"")
        assert len(daemon.requests) == (closed in (">&-", "2>&-"))


def test_a_reader_that_went_away_does_not_matter(home: Path) -> None:
    with HookDaemon(home, SAYS), command(home, "codex") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(TOOL)
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize("body", [TOOL, b""])
def test_an_input_that_nobody_closes_is_taken_as_it_is(home: Path, body: bytes) -> None:
    with HookDaemon(home, SAYS) as daemon, command(home, "codex") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(body)
        process.stdin.flush()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout.read() == (SAYS if body else b"")
    assert [request.body for request in daemon.requests] == ([body] if body else [])


def test_fifty_megabytes_arrive_or_are_dropped(home: Path) -> None:
    body = b'{"hook_event_name":"PostToolUse","tool_response":"' + b"x" * 50_000_000 + b'"}'
    with HookDaemon(home, SAYS) as daemon:
        assert hook(home, body).stdout == SAYS
    assert [len(request.body) for request in daemon.requests] == [len(body)]
    (home / "run" / "hook").unlink()
    assert hook(home, body).stdout == b""
    assert not (home / "run" / "spool").exists()


def test_a_body_larger_than_a_pipe_and_a_socket_hold_arrives_whole(home: Path) -> None:
    body = b'{"hook_event_name":"PostToolUse","tool_response":"' + bytes(range(256)) * 8192 + b'"}'
    with HookDaemon(home, SAYS) as daemon:
        hook(home, body)
    assert [request.body for request in daemon.requests] == [body]


def test_ten_at_once_are_all_answered(home: Path) -> None:
    bodies = [TOOL.replace(b'"s"', b'"%d"' % number) for number in range(10)]
    with HookDaemon(home, SAYS) as daemon, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda body: hook(home, body).stdout, bodies))
    assert answers == [SAYS] * 10
    assert sorted(request.body for request in daemon.requests) == bodies


def test_the_start_of_a_session_or_turn_is_told_from_a_text_about_it() -> None:
    begins_turn = client().functions.begins_turn
    assert begins_turn(START)
    assert begins_turn(b'{"hook_event_name":"UserPromptSubmit","prompt":"x"}')
    assert begins_turn(b'{"hook_event_name": "beforeSubmitPrompt"}')
    assert begins_turn(b'{"hook_event_name"\r\n :\t"sessionStart"}')
    for body in (
        TOOL,
        b"",
        b'{"hook_event_name":',
        b'{"hook_event_name":"SubagentStart"}',
        b'{"hook_event_name":"Stop","last_assistant_message":"\\"hook_event_name\\":\\"SessionStart\\""}',
        b'{"hook_event_name":"PostToolUse","tool_name":"SessionStart"}',
    ):
        assert not begins_turn(body)


@pytest.mark.parametrize("end", range(60))
def test_part_of_an_answer_is_none(end: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"a": true}'
    answer = client().functions.parse_answer(whole[:end], ended=False)
    assert answer == (b'{"a": true}' if end >= len(whole) else None)
