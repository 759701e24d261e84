"""`localmem export` and `localmem import`: real commands, real daemons, two homes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.cli import progress as progress_module
from localmem_node.cli.main import run
from localmem_node.client import DaemonClient
from localmem_protocol.events import Event
from support.daemon import answer, command, daemons_of, environment, is_alive, localmem
from support.events import event, fields
from support.exports import PASSPHRASE, chunks, plain, sealed
from support.seeded import SeededRandom

OTHER = "ffeeddccbbaa9988"
SEAL = {"LOCALMEM_EXPORT_PASSPHRASE": PASSPHRASE}
WARNING = "localmem: the export holds everything in the clear; --seal encrypts\n"
TEXTS = ["größe = '大小' 🙂", "a\tb\r\nc\x00\x1b[2J\u2028", "x" * 60_000, "ordinary = 1"]


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Makes homes, whose daemons do not outlive the test."""
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path / f"home{len(made)}")
        return made[-1]

    yield make
    for home in made:
        for pid in daemons_of(home):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose daemon has nothing and is to get nothing."""
    home = tmp_path_factory.mktemp("empty") / "home"
    assert localmem(home, "up").returncode == 0
    yield home
    assert answer(localmem(home, "status", "--json"))["events"] == 0
    assert localmem(home, "down").returncode == 0


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose daemon has 304 events, for tests that leave it as it was."""
    home = tmp_path_factory.mktemp("full") / "home"
    lines = [json.dumps(fields(snippet=text)) for text in [*TEXTS, *map(str, range(300))]]
    done = localmem(home, "record", stdin="\n".join(lines).encode())
    assert (done.returncode, done.stdout) == (0, b"recorded 304 events\n")
    yield home
    assert events_of(home) == 304
    assert localmem(home, "down").returncode == 0
    assert daemons_of(home) == []


def call(
    home: Path, variables: dict[str, str], *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command beside the home of a test, with more variables."""
    return localmem(home, *arguments, stdin=stdin, cwd=None, **variables)


def events_of(home: Path) -> int:
    count: int = answer(localmem(home, "status", "--json"))["events"]
    return count


def lines_of(path: Path) -> list[bytes]:
    """The lines of the events."""
    return path.read_bytes().splitlines()[1:-1]


@pytest.mark.parametrize("seal", [False, True])
def test_a_memory_moves_to_another_home_and_back(
    full: Path, homes: Callable[[], Path], tmp_path: Path, seal: bool
) -> None:
    two = homes()
    file, first, second = (str(tmp_path / name) for name in ("file", "first", "second"))
    done = call(full, SEAL, "export", file, *["--seal"] * seal)
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode() == ("" if seal else WARNING)
    assert done.stdout.decode().startswith(f"exported 304 events to {file}, ")
    assert (b"ordinary" in Path(file).read_bytes()) is not seal
    done = call(two, SEAL, "import", file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "imported 304 events, 0 were known\n"
    assert call(two, SEAL, "import", file).stdout == b"imported 0 events, 304 were known\n"
    for home, name in ((full, first), (two, second)):
        assert localmem(home, "export", name).returncode == 0
    assert lines_of(Path(first)) == lines_of(Path(second))
    assert [json.loads(line)["snippet"] for line in lines_of(Path(second))[:4]] == TEXTS
    found = answer(localmem(two, "query", "ordinary", "-k", "1", "--json"))["events"]
    assert found[0]["snippet"] == "ordinary = 1"
    assert localmem(full, "import", second).stdout == b"imported 0 events, 304 were known\n"


def test_json_says_what_was_exported_and_imported(full: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    done = localmem(full, "export", str(file), "--json")
    assert done.stderr.decode() == WARNING
    assert answer(done) == {
        "path": str(file),
        "events": 304,
        "bytes": file.stat().st_size,
        "sealed": False,
        "sha256": json.loads(file.read_bytes().splitlines()[-1])["sha256"],
    }
    done = call(full, SEAL, "export", str(other), "--seal", "--json")
    assert (done.stderr, answer(done)["sealed"]) == (b"", True)
    assert answer(localmem(full, "import", str(file), "--json")) == {
        "read": 304,
        "new": 0,
        "known": 304,
        "too_old": 0,
        "refused": [],
        "refused_count": 0,
        "evicted": 0,
    }
    for arguments in (("export", "--json"), ("export", "-", "--json")):
        done = localmem(full, *arguments)
        assert (done.returncode, answer(done)["error"]["code"]) == (2, "usage")


def test_a_pipe_from_one_home_to_another(
    full: Path, homes: Callable[[], Path], tmp_path: Path
) -> None:
    two = homes()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for seal in (False, True):
        done = call(full, SEAL, "export", *["-", "--seal"] * seal)
        assert done.returncode == 0
        assert done.stderr.decode() == ("" if seal else WARNING)
        taken = call(
            two, SEAL | {"TMPDIR": str(temporary)}, "import", "-", "--json", stdin=done.stdout
        )
        assert (taken.returncode, answer(taken)["read"]) == (0, 304)
        assert answer(taken)["known"] == (304 if seal else 0)
    assert list(temporary.iterdir()) == []


def test_a_selection_is_exported(homes: Callable[[], Path], tmp_path: Path) -> None:
    home = homes()
    day = 24 * 3600 * 1000
    noon = 1_767_268_800_000  # 2026-01-01T12:00Z
    some = [
        fields(timestamp=noon + n * day, snippet=f"day {n}", project="ab"[n % 2]) for n in range(6)
    ]
    some.append({"timestamp": noon, "snippet": "a prompt", "kind": "prompt"})
    localmem(home, "record", stdin="\n".join(map(json.dumps, some)).encode())

    def snippets(*arguments: str) -> list[str]:
        done = localmem(home, "export", *arguments, TZ="UTC")
        assert done.returncode == 0, done.stderr
        return [json.loads(one)["snippet"] for one in done.stdout.splitlines()[1:-1]]

    assert snippets("--kind", "prompt") == ["a prompt"]
    assert snippets("--project", "b") == ["day 1", "day 3", "day 5"]
    assert snippets("--since", "2026-01-03", "--before", "2026-01-05") == ["day 2", "day 3"]
    assert snippets("--since", "2026-01-06T12:00+00:00") == ["day 5"]
    assert snippets("--since", "2026-01-06T12:00:01Z") == []
    assert snippets("--before", str(noon + 1), "--kind", "edit") == ["day 0"]
    assert len(snippets("--before", "1d")) == len(some)
    assert snippets("--since", "1d") == []


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("export", "--since", "yesterday"), 2, "--since"),
        (("export", "--before", "99999999w"), 2, "--before"),
        (("export", "--kind", "thought"), 2, "--kind"),
        (("export", "--project", "/"), 2, "--project"),
        (("export", "--seal", "x"), 1, "LOCALMEM_EXPORT_PASSPHRASE"),
        (("export", "/nonexistent/x"), 1, "/nonexistent/x"),
        (("export", "/dev/null"), 1, "/dev/null exists"),
        (("export", "/dev/null", "--force"), 1, "is not a file"),
        (("import",), 2, "FILE"),
        (("import", "/nonexistent"), 1, "/nonexistent"),
        (("import", "/tmp"), 1, "/tmp is a folder"),
        (("import", "/dev/null"), 1, "/dev/null: line 1: the file is empty; nothing was imported"),
    ],
)
def test_a_wrong_call_is_one_line_that_names_what_is_wrong(
    empty: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    done = subprocess.run(
        command(*arguments),
        env=environment(empty),
        cwd=tmp_path,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal to ask on
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.decode().startswith("localmem: ")
    assert named in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_told(full: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"precious")
    done = localmem(full, "export", str(file), "--json")
    assert (done.returncode, answer(done)["error"]["code"]) == (1, "transfer")
    assert file.read_bytes() == b"precious"
    assert localmem(full, "export", str(file), "--force").returncode == 0
    assert len(lines_of(file)) == 304
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_half_file_and_nothing_running(
    full: Path, tmp_path: Path, number: signal.Signals
) -> None:
    [daemon] = daemons_of(full)
    os.kill(daemon, signal.SIGSTOP)  # so that the export is under way for as long as it takes
    try:
        process = subprocess.Popen(
            command("export", "file"),
            env=environment(full),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert output == b""
    if number is signal.SIGKILL:
        assert not (tmp_path / "file").exists()
    else:
        assert (process.returncode, errors.strip()) == (1, b"localmem: interrupted")
        assert list(tmp_path.iterdir()) == []
    assert not is_alive(process.pid)
    assert daemons_of(full) == [daemon]
    assert localmem(full, "export", "file", cwd=tmp_path).returncode == 0


def test_an_import_whose_daemon_or_client_is_killed_is_finished_by_another(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    some = [event(number, OTHER, snippet=f"value_{number}") for number in range(1, 1501)]
    (tmp_path / "file").write_bytes(plain(some))
    big = {"LOCALMEM_SIZE": "8 MiB"}
    assert call(home, big, "up").returncode == 0
    process = importing(home, "file", **big)
    with DaemonClient(environment(home, **big), start=False) as client:
        while client.status()["events"] == 0:
            assert process.poll() is None
    os.kill(daemons_of(home)[0], signal.SIGKILL)
    process.communicate(timeout=100)
    process = importing(home, "file", **big)
    process.kill()
    process.communicate(timeout=100)
    done = answer(call(home, big, "import", "file", "--json"))
    assert (done["read"], done["new"] + done["known"]) == (1500, 1500)
    assert call(home, big, "export", "other").returncode == 0
    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "file")
    assert answer(call(home, big, "import", "file", "--json"))["known"] == 1500


def importing(home: Path, name: str, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("import", name),
        env=environment(home, **more),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_secrets_in_a_file_reach_neither_the_store_nor_any_other_file(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    secret = "glpat-" + "abcDEF123456ghiJKL78"
    leaky = event(1, OTHER, snippet=f"token = '{secret}' <private>hidden gem</private>")
    (tmp_path / "file").write_bytes(plain([leaky, event(2, OTHER)]))
    for known in (0, 2):
        told = answer(localmem(home, "import", "file", "--json"))
        assert (told["new"], told["known"]) == (2 - known, known)
    shown = localmem(home, "recent", "--json").stdout
    assert b"[redacted:gitlab-token]" in shown
    localmem(home, "down")
    for path in [shown, *(path.read_bytes() for path in home.rglob("*") if path.is_file())]:
        assert secret.encode() not in path
        assert b"hidden gem" not in path


def test_refused_events_are_named_by_line_and_the_others_come_in(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    large = SeededRandom(1).token_bytes(30_000).hex()
    some = [event(1, OTHER), event(2, OTHER, filePath=".env"), event(3, OTHER, snippet=large)]
    (tmp_path / "file").write_bytes(plain([*some, event(4, OTHER)]))
    small = {"LOCALMEM_SIZE": "10 KiB"}
    done = call(home, small, "import", "file")
    assert done.returncode == 1
    assert done.stdout == b"imported 2 events, 0 were known, 2 refused\n"
    first, second = done.stderr.decode().splitlines()
    assert first == "localmem: line 3: filePath: is on the deny list (.env)"
    assert second.startswith("localmem: line 4: snippet: ")
    told = answer(call(home, small, "import", "file", "--json"))
    assert (told["known"], [one["line"] for one in told["refused"]]) == (2, [3, 4])


def test_a_store_of_10_kib_keeps_the_newest_and_says_what_left(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    some = [
        event(number, OTHER, snippet=SeededRandom(number).token_bytes(150).hex())
        for number in range(1, 301)
    ]
    (tmp_path / "file").write_bytes(plain(some))
    small = {"LOCALMEM_SIZE": "10 KiB"}
    done = call(home, small, "import", "file")
    assert done.returncode == 0
    kept = events_of(home)
    assert 0 < kept < 100
    imported, left = done.stdout.decode().splitlines()
    assert imported == "imported 300 events, 0 were known"
    assert left == f"{300 - kept} older events left the full ring to make room"
    again = call(home, small, "import", "file").stdout.decode().splitlines()
    assert again == [
        f"imported 0 events, {kept} were known",
        f"{300 - kept} were left out: the ring is full of newer ones",
    ]
    assert call(home, small, "export", "other").returncode == 0
    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "file")[-kept:]


TEXT = plain([event(number, snippet=f"größe_{number}") for number in range(1, 30)])
LONG = plain([event(n, snippet=SeededRandom(n).token_bytes(15_000).hex()) for n in range(1, 9)])
SEALED = sealed(LONG)


def call_here(home: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command run in this process, against a real daemon."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(home, **more), clear=True),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = run(list(arguments))
    texts: list[str] = []
    for stream in (output, errors):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    return code, texts[0], texts[1]


def refuse(home: Path, data: bytes, *, passphrase: str = PASSPHRASE) -> str:
    """The one line that an import of something damaged prints; nothing comes in."""
    file = home.parent / "damaged"
    file.write_bytes(data)
    code, output, errors = call_here(
        home, "import", str(file), LOCALMEM_EXPORT_PASSPHRASE=passphrase
    )
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"localmem: {file}: ")
    assert errors.endswith("; nothing was imported\n")
    with DaemonClient(environment(home), start=False) as client:
        assert client.status()["events"] == 0
    return errors


@given(st.integers(0, len(TEXT) - 1))
def test_a_file_cut_anywhere_brings_nothing_in(empty: Path, size: int) -> None:
    refuse(empty, TEXT[:size])


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 7))
def test_a_file_with_a_flipped_bit_brings_nothing_in(empty: Path, at: int, bit: int) -> None:
    data = bytearray(TEXT)
    data[at] ^= 1 << bit
    refuse(empty, bytes(data))


@given(st.data())
def test_a_file_with_lines_moved_doubled_or_dropped_brings_nothing_in(
    empty: Path, data: st.DataObject
) -> None:
    lines = TEXT.splitlines(keepends=True)
    refuse(empty, b"".join(rearranged(data, lines, 0)))


@given(st.integers(0, len(SEALED) - 1))
def test_a_sealed_file_cut_anywhere_brings_nothing_in(empty: Path, size: int) -> None:
    refuse(empty, SEALED[:size])


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
def test_a_sealed_file_with_a_flipped_bit_brings_nothing_in(empty: Path, at: int, bit: int) -> None:
    data = bytearray(SEALED)
    data[at] ^= 1 << bit
    refuse(empty, bytes(data))


@given(st.data())
def test_a_sealed_file_with_chunks_moved_doubled_or_dropped_brings_nothing_in(
    empty: Path, data: st.DataObject
) -> None:
    parts = chunks(SEALED)
    assert len(parts) == 5
    refuse(empty, b"".join(rearranged(data, parts, 1)))


def rearranged(data: st.DataObject, parts: list[bytes], first: int) -> list[bytes]:
    """Parts from the `first` one on swapped, doubled or dropped."""
    at = data.draw(st.integers(first, len(parts) - 1))
    what = data.draw(st.sampled_from(["drop", "double", "swap"]))
    if what == "drop":
        return parts[:at] + parts[at + 1 :]
    if what == "double":
        return (
            parts[:at] + parts[at - 1 : at] + parts[at - 1 :] if at > first else [*parts, parts[-1]]
        )
    other = data.draw(st.integers(first, len(parts) - 1).filter(lambda one: one != at))
    changed = list(parts)
    changed[at], changed[other] = parts[other], parts[at]
    return changed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1: the file is empty"),
        (b"\xff\xfe\x00", "is not an export of localmem"),
        (b'{"timestamp":1,"snippet":"x","kind":"note"}\n' * 3, "localmem record"),
        (TEXT.replace(b'"version":1', b'"version":2', 1), "an export of version 2"),
        (SEALED[:16] + b"\x02" + SEALED[17:], "a sealed export of version 2"),
        (TEXT.splitlines()[0] + b'\n{"a":"' + b"x" * 10_000_000 + b'"}\n', "line 2: is longer"),
        (TEXT.splitlines()[0] + b"\n\xff\n", "line 2: is not UTF-8 at byte 0"),
        (sealed(b"not an export\n"), "is not an export of localmem"),
        (sealed(TEXT[:-1]), "line 31: the file ends within this line"),
        (sealed(sealed(TEXT)), "is not an export of localmem"),
    ],
)  # fmt: skip
def test_other_files_are_refused_and_say_why(empty: Path, data: bytes, message: str) -> None:
    assert message in refuse(empty, data)


def test_a_wrong_passphrase_is_told_from_damage(empty: Path) -> None:
    assert "the passphrase does not open it" in refuse(empty, SEALED, passphrase="wrong")
    file = empty.parent / "sealed"
    file.write_bytes(SEALED)
    code, output, _ = call_here(
        empty, "import", str(file), "--json", LOCALMEM_EXPORT_PASSPHRASE="no"
    )
    assert (code, json.loads(output)["error"]["code"]) == (1, "wrong_passphrase")
    file.write_bytes(SEALED[:-1])
    code, output, _ = call_here(
        empty, "import", str(file), "--json", LOCALMEM_EXPORT_PASSPHRASE=PASSPHRASE
    )
    assert (code, json.loads(output)["error"]["code"]) == (1, "damaged_export")


def test_the_passphrase_can_be_in_a_private_file_and_is_kept_from_the_daemon(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    named = {"LOCALMEM_EXPORT_PASSPHRASE_FILE": str(secret)}
    given = {"LOCALMEM_EXPORT_PASSPHRASE": "from a file"}
    secret.chmod(0o644)
    done = call(home, named, "export", "file", "--seal")
    assert (done.returncode, b"chmod 600" in done.stderr) == (1, True)
    secret.chmod(0o600)
    assert call(home, given, "export", "file", "--seal").returncode == 0
    [daemon] = daemons_of(home)
    assert b"EXPORT_PASSPHRASE" not in Path(f"/proc/{daemon}/environ").read_bytes()
    done = call(home, named, "import", "file", "--json")
    assert (done.returncode, answer(done)["read"]) == (0, 0)
    both = call(home, named | given, "import", "file")
    assert (both.returncode, b"unset one" in both.stderr) == (1, True)


def test_on_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(
    full: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "file")
    said = on_a_terminal(full, ["export", file, "--seal"], ["one", "other", "same", "same"])
    assert said.count("Passphrase of the export: ") == 2
    assert "exported 304 events" in said
    assert "same" not in said
    said = on_a_terminal(full, ["import", file], ["same"])
    assert "imported 0 events, 304 were known" in said
    said = on_a_terminal(full, ["export", "--seal"], [])
    assert "no text for a terminal" in said


def on_a_terminal(home: Path, arguments: list[str], typed: list[str]) -> str:
    """What a command prints on a terminal on which somebody answers each question."""
    relay = "import pty, sys; pty.spawn(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", relay, *command(*arguments)],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    with process:
        while data := process.stdout.read(4096):
            said += data
            if said.endswith(b": ") and typed:
                process.stdin.write(typed.pop(0).encode() + b"\n")
    assert typed == []
    return said.decode()


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress_module, "COUNTED_S", 0)
    with progress_module.Counter("imported") as progress:
        progress(5)
    assert shown.getvalue() == ("\rimported 5 events\r\x1b[K" if terminal else "")


def test_pinned_and_foreign_events_are_exported_as_they_are(
    homes: Callable[[], Path], tmp_path: Path
) -> None:
    home = homes()
    some: list[Event] = [event(1, OTHER, pinned=True), event(2, "ab" * 8, tool="t", session="s")]
    (tmp_path / "file").write_bytes(plain(some))
    assert localmem(home, "import", "file").returncode == 0
    told: list[Any] = [json.loads(line) for line in localmem(home, "export").stdout.splitlines()]
    assert [one["pinned"] for one in told[1:-1]] == [True, False]
    assert [one["device"] for one in told[1:-1]] == [OTHER, "ab" * 8]
    assert told[0]["device"] == answer(localmem(home, "status", "--json"))["device"]
