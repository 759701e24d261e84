"""The command line: exit codes, JSON, and what bad input does."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_node.cli.main import run
from localmem_node.cli.output import escape
from localmem_protocol.limits import SNIPPET_BYTES_MAX
from support.daemon import answer, command, daemons_of, environment, localmem
from support.events import fields
from support.git_repository import Repository


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a running daemon."""
    home = tmp_path_factory.mktemp("cli") / "home"
    assert localmem(home, "up").returncode == 0
    yield home
    assert localmem(home, "down").returncode == 0
    assert daemons_of(home) == []


@pytest.fixture
def quiet_home(tmp_path: Path) -> Iterator[Path]:
    """A home without a daemon, yet."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def line(**changes: object) -> bytes:
    return json.dumps(fields(**changes)).encode()


def stderr(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stderr.decode().splitlines()


def test_an_event_given_by_flags_is_found(home: Path) -> None:
    done = localmem(
        home, "record", "--file", "src/retry.py", "--lines", "3-5", "--snippet", "limit = retries()",
        "--kind", "edit", "--hash", "0123456789abcdef", "--tool", "editor", "--session", "s1", "--pin",
        "--timestamp", "1760000000000", "--project", "p1", "--json",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    event = answer(done)["recorded"][0]
    assert event["selectionRange"] == [3, 5]
    assert (event["timestamp"], event["project"], event["pinned"]) == (1760000000000, "p1", True)
    found = answer(localmem(home, "query", "retries limit", "-k", "1", "--json"))
    assert set(found) == {"events", "took_ms"}
    assert found["events"][0]["id"] == event["id"]
    assert answer(localmem(home, "recent", "-k", "1", "--project", "p1", "--json"))["events"][
        0
    ] == (event | {"score": 0.0, "duplicates": 0})


def test_people_get_compact_lines(home: Path) -> None:
    text = "one\ntwo\nthree\nfour\nfive"
    done = localmem(home, "record", "--file", "a.py", "--lines", "7", "--snippet", text)
    assert done.stdout.decode().startswith("recorded ")
    shown = localmem(home, "recent", "-k", "1").stdout.decode().splitlines()
    assert "edit  a.py:7" in shown[0]
    assert shown[1:] == ["    one", "    two", "    three", "    … 2 more lines"]


def test_a_snippet_can_come_from_a_file_or_from_standard_input(home: Path, tmp_path: Path) -> None:
    (tmp_path / "piece.txt").write_text("from a file\n")
    for source, stdin, text in (
        (str(tmp_path / "piece.txt"), b"", "from a file\n"),
        ("-", b"piped", "piped"),
    ):
        done = localmem(home, "record", "--snippet-file", source, "--json", stdin=stdin)
        assert answer(done)["recorded"][0]["snippet"] == text
        assert answer(done)["recorded"][0]["kind"] == "note"


def test_the_project_is_that_of_the_file_unless_given(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\nurl = git@github.com:a/b.git\n')
    arguments = ("record", "--file", "x.py", "--lines", "1", "--snippet", "in a project", "--json")
    event = answer(localmem(home, *arguments, cwd=tmp_path))["recorded"][0]
    assert len(event["project"]) == 16
    found = answer(localmem(home, "query", "project", "--project", ".", "--json", cwd=tmp_path))
    assert [one["id"] for one in found["events"]] == [event["id"]]


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    """A repository that ignores `out/`."""
    path = tmp_path / "work"
    path.mkdir()
    Repository(path).write(".gitignore", "out/\n")
    return path


def test_a_file_that_git_ignores_is_refused_in_one_line(home: Path, work_tree: Path) -> None:
    arguments = ("--lines", "1", "--snippet", "made by a program")
    for path in ("out/a.js", str(work_tree / "out" / "a.js")):
        done = localmem(home, "record", "--file", path, *arguments, cwd=work_tree)
        assert done.returncode == 1
        assert stderr(done) == ["localmem: filePath: is ignored by git (capture.skip_ignored)"]
    done = localmem(home, "record", "--file", "a.js", *arguments, cwd=work_tree)
    assert (done.returncode, done.stderr) == (0, b"")


def test_of_several_lines_only_those_of_ignored_files_are_refused(
    home: Path, work_tree: Path
) -> None:
    lines = [line(filePath=name) for name in ("a.js", "out/a.js", "b.js", "out/b.js")]
    done = localmem(home, "record", "--json", stdin=b"\n".join(lines), cwd=work_tree)
    result = answer(done)
    assert [one["line"] for one in result["recorded"]] == [1, 3]
    assert [(one["line"], one["field"]) for one in result["failed"]] == [
        (2, "filePath"),
        (4, "filePath"),
    ]


def test_ignored_files_are_kept_where_that_is_set(quiet_home: Path, work_tree: Path) -> None:
    quiet_home.mkdir()
    (quiet_home / "config.toml").write_text("[capture]\nskip_ignored = false\n")
    arguments = ("--file", "out/a.js", "--lines", "1", "--snippet", "x")
    done = localmem(quiet_home, "record", *arguments, cwd=work_tree)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_denied_tool_is_refused_in_one_line(quiet_home: Path) -> None:
    quiet_home.mkdir()
    (quiet_home / "config.toml").write_text('[capture]\ndeny_tools = ["mcp__*"]\n')
    done = localmem(quiet_home, "record", "--snippet", "x", "--tool", "mcp__mail")
    assert done.returncode == 1
    assert stderr(done) == ["localmem: tool: is on the deny list (capture.deny_tools: mcp__*)"]


BAD_LINES = [
    (b"{", "", "JSON"),
    (b"[]", "", "JSON object"),
    (b"7", "", "JSON object"),
    (b'{"a":"\xff"}', "", "UTF-8"),
    (b"\xff\xfe", "", "UTF-8"),
    (b'{"snippet":"\xed\xa0\x80"}', "", "UTF-8"),
    (line(snippet="x" * (2 * 1024 * 1024)), "", "longer"),
    (line(snippet="x" * (SNIPPET_BYTES_MAX + 1)), "snippet", "over the limit"),
    (line(snippet=""), "snippet", "empty"),
    (line(snippet=None), "snippet", "missing"),
    (line(snippet=7), "snippet", "text"),
    (line(timestamp="now"), "timestamp", "integer"),
    (line(timestamp=-1), "timestamp", "from 0"),
    (line(timestamp=None), "timestamp", "missing"),
    (line(filePath=None), "filePath", "missing"),
    (line(filePath="a\u0007b"), "filePath", "control"),
    (line(filePath="x" * 5000), "filePath", "over the limit"),
    (line(filePath=".env"), "filePath", "deny list"),
    (line(selectionRange=[2, 1]), "selectionRange", "first"),
    (line(selectionRange=[0, 1]), "selectionRange", "1-based"),
    (line(selectionRange="1-2"), "selectionRange", "first"),
    (line(modelResponseHash="XYZ"), "modelResponseHash", "hex"),
    (line(kind="thought"), "kind", "one of"),
    (line(pinned="yes"), "pinned", "true or false"),
    (line(colour="red"), "colour", "unknown"),
]


def test_bad_lines_are_named_by_number_and_field_and_the_others_are_recorded(home: Path) -> None:
    lines: list[bytes] = []
    for number, (bad, _, _) in enumerate(BAD_LINES):
        lines += [bad, line(snippet=f"good {number}")]
    done = localmem(home, "record", "--json", stdin=b"\n".join(lines))
    result = answer(done)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (result["recorded_count"], result["failed_count"]) == (len(BAD_LINES), len(BAD_LINES))
    assert [one["line"] for one in result["recorded"]] == list(range(2, 2 * len(BAD_LINES) + 1, 2))
    failed = sorted(result["failed"], key=lambda one: int(one["line"]))
    assert [one["line"] for one in failed] == list(range(1, 2 * len(BAD_LINES), 2))
    for (_, field, reason), one in zip(BAD_LINES, failed, strict=True):
        assert one["field"] == field
        assert reason in one["message"]
        assert "\n" not in one["message"]


def test_bad_lines_are_told_in_their_order_whoever_finds_them(home: Path) -> None:
    lines = [line(), line(kind="x"), b"{", line(), line(snippet=""), b"\xff", line(timestamp=-1)]
    done = localmem(home, "record", stdin=b"\n".join(lines))
    told = [one.split(":")[1].strip() for one in stderr(done)]
    assert told == ["line 2", "line 3", "line 5", "line 6", "line 7"]
    result = answer(localmem(home, "record", "--json", stdin=b"\n".join(lines)))
    assert [one["line"] for one in result["failed"]] == [2, 3, 5, 6, 7]
    assert [one["line"] for one in result["recorded"]] == [1, 4]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_recorded_before_the_store_failed_is_told(quiet_home: Path, as_json: bool) -> None:
    process = subprocess.Popen(
        command("record", *(["--json"] if as_json else [])),
        env=environment(quiet_home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"{\n" + line(snippet="the last one") + b"\n")
    process.stdin.flush()
    while b"the last one" not in localmem(quiet_home, "recent", "--json").stdout:
        pass
    assert localmem(quiet_home, "down").returncode == 0
    (quiet_home / "data" / "memory.localmem").write_bytes(b"another file" * 1000)
    output, errors = process.communicate(line() + b"\n", timeout=60)
    assert process.returncode == 1
    if as_json:
        result = json.loads(output)
        assert [one["line"] for one in result["recorded"]] == [2]
        assert (result["failed_count"], result["stopped_at_line"]) == (1, 3)
        assert result["error"]["code"] == "foreign_file"
        assert errors == b""
    else:
        assert output == b"recorded 1 events, 1 lines failed; stopped at line 3\n"
        first, last = errors.splitlines()
        assert first.startswith(b"localmem: line 1: is not JSON")
        assert b"memory.localmem" in last


def test_without_arguments_it_says_what_it_can_do(quiet_home: Path) -> None:
    done = localmem(quiet_home)
    assert (done.returncode, done.stderr) == (2, b"")
    assert done.stdout.startswith(b"Usage: localmem ")
    assert b"\n  record " in done.stdout
    for arguments in (("--json",), ("sync", "--json", "--jason"), ("--jason",)):
        done = localmem(quiet_home, *arguments)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 0 if "--json" in arguments else 1)
    message = answer(localmem(quiet_home, "--json"))["error"]["message"]
    assert message == "--json goes after a command; see: localmem --help"


def test_a_demo_outside_a_repository_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    done = localmem(tmp_path / "home", "demo", cwd=tmp_path)
    assert (done.returncode, len(stderr(done))) == (1, 1)
    assert f"localmem: {tmp_path} is in no git repository" in stderr(done)[0]
    assert stderr(done)[0].endswith("stand in one, or give --repo PATH")


def test_people_read_of_bad_lines_on_standard_error(home: Path) -> None:
    done = localmem(home, "record", stdin=b"\n".join([line(), b"{", line(kind="x"), line()]))
    assert done.returncode == 1
    assert done.stdout.decode() == "recorded 2 events, 2 lines failed\n"
    assert [one.split(":")[1].strip() for one in stderr(done)] == ["line 2", "line 3"]
    assert "kind: must be one of" in stderr(done)[1]


def test_many_lines_go_in_several_calls_and_keep_their_order(home: Path) -> None:
    count = 1000
    stdin = b"\n".join(line(snippet=f"bulk {number}") for number in range(count))
    done = localmem(home, "record", "--json", stdin=stdin + b"\n\n")
    assert done.returncode == 0
    assert [one["line"] for one in answer(done)["recorded"]] == list(range(1, count + 1))
    newest = answer(localmem(home, "recent", "-k", "2", "--json"))["events"]
    assert [one["snippet"] for one in newest] == ["bulk 999", "bulk 998"]


def test_no_lines_at_all_are_no_error(home: Path) -> None:
    assert answer(localmem(home, "record", "--json", stdin=b"\n"))["recorded_count"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("query", "x", "-k", "0"), 2, "k"),
        (("query", "x", "-k", "-3"), 2, "k"),
        (("query", "x", "-k", "1001"), 2, "k"),
        (("query", "x", "-k", "many"), 2, "-k"),
        (("query", ""), 2, "query"),
        (("query", "x" * 10_001), 2, "query"),
        (("query",), 2, "TEXT"),
        (("query", "x", "--project", "/"), 2, "--project"),
        (("query", "x", "--project", ""), 2, "--project: is empty"),
        (("recent", "--project", "caf\udce9"), 2, "--project"),
        (("query", "caf\udce9"), 2, "query"),
        (("recent", "-k", "0"), 2, "k"),
        (("unknown",), 2, "unknown"),
        (("query", "x", "--colour"), 2, "--colour"),
        (("record", "--file", "a", "--lines", "x", "--snippet", "y"), 2, "--lines"),
        (("record", "--file", "a", "--lines", "1"), 2, "--snippet"),
        (("record", "--file", "a", "--lines", "2-1", "--snippet", "x"), 1, "selectionRange"),
        (("record", "--file", "a", "--snippet", "x"), 1, "selectionRange: missing; give --lines"),
        (("record", "--snippet", "x", "--kind", "edit"), 1, "filePath: missing; give --file"),
        (
            ("record", "--file", "caf\udce9.py", "--lines", "1", "--snippet", "x"),
            1,
            "filePath: is no text in UTF-8",
        ),
        (("record", "--snippet", "x", "--tool", "\udce9"), 1, "tool: is no text in UTF-8"),
        (
            ("sync", "setup", "--hub", "wss://\udce9", "--pool", "x", "--key", "y"),
            2,
            "LOCALMEM_HUB_TOKEN",
        ),
        (("record", "--file", "", "--lines", "1", "--snippet", "x"), 1, "filePath"),
        (("record", "--snippet", ""), 1, "snippet"),
        (("record", "--snippet", "x", "--hash", "xyz"), 1, "modelResponseHash"),
        (("record", "--snippet", "x", "--timestamp", "-5"), 1, "timestamp"),
        (("record", "--snippet", "x", "--kind", "thought"), 2, "--kind"),
        (("record", "--snippet-file", "/nonexistent"), 1, "/nonexistent"),
    ],
)
def test_a_wrong_call_is_one_line_that_names_what_is_wrong(
    home: Path,
    arguments: tuple[str, ...],
    code: int,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    assert run(list(arguments)) == code
    output, errors = capfd.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.startswith("localmem: ")
    assert named in errors
    assert run([*arguments, "--json"]) == code
    sys.stdout.flush()
    output, errors = capfd.readouterr()
    assert errors == ""
    error = json.loads(output)["error"]
    assert named in f"{error['field']}: {error['message']}"


def test_control_characters_of_a_snippet_do_not_reach_the_terminal(home: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J red \u202e reversed \x9b31m \r over \u2028 line"
    assert localmem(home, "record", "--snippet-file", "-", stdin=evil.encode()).returncode == 0
    shown = localmem(home, "recent", "-k", "1").stdout.decode()
    assert "red" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert answer(localmem(home, "recent", "-k", "1", "--json"))["events"][0]["snippet"] == evil


def test_escaping_leaves_ordinary_text_of_any_language_alone() -> None:
    assert escape("Größe 大小 ‘x’ → 🙂") == "Größe 大小 ‘x’ → 🙂"
    assert escape("a\tb\x00\n") == "a    b\\x00\\n"


def test_output_is_utf_8_in_any_locale(home: Path) -> None:
    localmem(home, "record", "--snippet-file", "-", stdin="大小".encode())
    done = localmem(home, "recent", "-k", "1", PYTHONIOENCODING="ascii")
    assert "大小".encode() in done.stdout
    as_json = localmem(home, "recent", "-k", "1", "--json", PYTHONIOENCODING="ascii")
    assert answer(as_json)["events"][0]["snippet"] == "大小"


def test_a_closed_pipe_ends_quietly(home: Path) -> None:
    process = subprocess.Popen(
        command("recent", "-k", "1000", "--json"),
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 1


def test_without_flags_and_with_a_terminal_record_says_what_to_give(home: Path) -> None:
    parent, terminal = pty.openpty()
    try:
        done = subprocess.run(
            command("record"),
            stdin=terminal,
            env=environment(home),
            capture_output=True,
            check=False,
        )
    finally:
        os.close(parent)
        os.close(terminal)
    assert done.returncode == 2
    assert b"--snippet" in done.stderr


def test_ctrl_c_ends_with_one_line(home: Path) -> None:
    process = subprocess.Popen(
        command("record"),
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(line(snippet="before the interruption") + b"\n")
    process.stdin.flush()
    while answer(localmem(home, "recent", "-k", "1", "--json"))["events"][0]["snippet"] != (
        "before the interruption"
    ):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (1, b"localmem: interrupted")


def test_status_up_and_down_tell_what_is(quiet_home: Path) -> None:
    assert answer(localmem(quiet_home, "status", "--json")) == {"running": False}
    assert answer(localmem(quiet_home, "down", "--json")) == {"stopped": False}
    assert not quiet_home.exists()
    started = answer(localmem(quiet_home, "up", "--json"))
    assert started["started"] is True
    assert answer(localmem(quiet_home, "up", "--json")) == started | {"started": False}
    status = answer(localmem(quiet_home, "status", "--json"))
    assert (status["running"], status["pid"], status["events"]) == (True, started["pid"], 0)
    assert b"device" in localmem(quiet_home, "status").stdout
    assert answer(localmem(quiet_home, "down", "--json")) == {"stopped": True}
    assert daemons_of(quiet_home) == []


def test_an_empty_store_finds_nothing_and_that_is_no_error(quiet_home: Path) -> None:
    done = localmem(quiet_home, "query", "anything", "--json")
    assert (done.returncode, answer(done)["events"]) == (0, [])
    assert localmem(quiet_home, "recent").stdout == b"nothing found\n"


def test_a_wrong_passphrase_is_one_line_and_loses_nothing(quiet_home: Path) -> None:
    localmem(quiet_home, "record", "--snippet", "precious")
    localmem(quiet_home, "down")
    done = localmem(quiet_home, "recent", LOCALMEM_PASSPHRASE="wrong")
    assert (done.returncode, len(stderr(done))) == (1, 1)
    failed = localmem(quiet_home, "recent", "--json", LOCALMEM_PASSPHRASE="wrong")
    assert answer(failed)["error"]["code"] == "wrong_key"
    assert b"precious" in localmem(quiet_home, "recent").stdout


def test_a_wrong_setting_is_one_line(quiet_home: Path) -> None:
    quiet_home.mkdir()
    (quiet_home / "config.toml").write_text("[daemon]\nport = 99999\n")
    done = localmem(quiet_home, "recent")
    assert (done.returncode, len(stderr(done))) == (1, 1)
    assert "daemon.port" in stderr(done)[0]


def test_the_doctor_finds_a_healthy_installation_and_names_what_is_not(
    home: Path, quiet_home: Path, tmp_path: Path
) -> None:
    done = localmem(home, "doctor", "--json", HOME=str(tmp_path), PATH="")
    assert (done.returncode, answer(done)["ok"]) == (0, True), done.stdout
    names = [check["name"] for check in answer(done)["checks"]]
    assert names == [
        "settings", "versions", "daemon", "socket", "store", "key", "encoder",
        "claude-code", "codex", "cursor", "hub",
    ]  # fmt: skip
    fresh = localmem(quiet_home, "doctor", HOME=str(tmp_path))
    assert fresh.returncode == 0
    assert b"none yet" in fresh.stdout
    assert not quiet_home.exists()
    localmem(quiet_home, "record", "--snippet", "x")
    localmem(quiet_home, "down")
    ill = localmem(quiet_home, "doctor", "--json", LOCALMEM_PASSPHRASE="wrong", HOME=str(tmp_path))
    problems = [check for check in answer(ill)["checks"] if not check["ok"]]
    assert (ill.returncode, [check["name"] for check in problems]) == (1, ["store"])
    assert problems[0]["advice"]


def test_the_doctor_finds_that_no_key_can_be_kept_before_there_is_a_store(
    quiet_home: Path, tmp_path: Path
) -> None:
    without = environment(quiet_home, PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring")
    del without["LOCALMEM_PASSPHRASE"]
    without["HOME"] = str(tmp_path)
    loose = tmp_path / "open.key"
    loose.write_text("ab" * 32)
    loose.chmod(0o644)
    for more, named in (({}, "LOCALMEM_PASSPHRASE"), ({"LOCALMEM_KEY_FILE": str(loose)}, "chmod")):
        done = subprocess.run(
            command("doctor", "--json"), env=without | more, capture_output=True, check=False
        )
        (found,) = [check for check in answer(done)["checks"] if not check["ok"]]
        assert (done.returncode, found["name"]) == (1, "store")
        assert named in found["detail"]
    assert not quiet_home.exists()


def test_help_is_printed_without_importing_what_a_command_needs(quiet_home: Path) -> None:
    done = localmem(quiet_home, "--help")
    assert done.returncode == 0
    for name in (b"record", b"query", b"doctor"):
        assert name in done.stdout
    probe = (
        "import sys; from localmem_node.cli.main import run; import localmem_node.cli.record\n"
        "run(['--help']); heavy = {'numpy', 'onnxruntime', 'starlette', 'uvicorn', 'keyring'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    checked = subprocess.run(
        [command()[0], "-c", probe], env=environment(quiet_home), capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_a_folder_means_its_project_as_it_was_known_before_too(tmp_path: Path) -> None:
    home, path = tmp_path / "home", tmp_path / "app"
    path.mkdir()
    repository = Repository(path)
    place = ("--file", "a.py", "--lines", "1", "--snippet")
    try:
        assert localmem(home, "record", *place, "before", cwd=path).returncode == 0
        repository.commit("begin")
        assert localmem(home, "record", *place, "after", cwd=path).returncode == 0
        shown = answer(localmem(home, "recent", "--project", ".", "--json", cwd=path))["events"]
        assert [one["snippet"] for one in shown] == ["after", "before"]
        assert len({one["project"] for one in shown}) == 2
    finally:
        localmem(home, "down")
