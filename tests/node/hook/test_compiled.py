"""The compiled client: what `localmem install` takes for it, and what it does that the other need not."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from bench.go_programs import HOOK
from localmem_node.client import DaemonClient
from localmem_node.config import load_settings
from localmem_node.hook.compiled import (
    TAIL,
    compiled_text,
    find_compiled,
    interpreter_of,
    program_of,
)
from localmem_node.hook.launcher import (
    hook_path,
    refresh_launcher,
    remove_launcher,
    write_launcher,
)
from support.daemon import answer, children, environment, is_alive, localmem
from support.hook_command import (
    START,
    TOOL,
    go_program,
    in_memory,
    no_program,
    records,
    run,
    the_program,
)
from support.hook_daemon import HookDaemon
from support.missing import missing

SAYS = b'{"a":1}'
NOWHERE = "/nowhere/python"
STRANGER = 65_533


@pytest.fixture
def home() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder / "home"


@pytest.fixture(scope="module")
def program() -> Path:
    return go_program(HOOK)


def until(holds: Callable[[], object]) -> None:
    """Wait for what is bound to happen."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(pipe: IO[bytes]) -> int:
    """Bytes in it that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def placed(program: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(program, folder / "localmem-hook")
    return folder / "localmem-hook"


def test_it_is_found_beside_the_interpreter_and_on_the_path(tmp_path: Path, program: Path) -> None:
    first, second = placed(program, tmp_path / "a"), placed(program, tmp_path / "b")
    path = f"relative::/nowhere:{second.parent}"
    beside = str(first.parent / "python")
    assert find_compiled({"PATH": path}, beside) == first
    assert find_compiled({"PATH": path}, NOWHERE) == second
    assert find_compiled({"PATH": "/nowhere"}, NOWHERE) is None
    assert find_compiled({}, NOWHERE) is None


def test_what_is_another_program_or_could_be_another_users_is_not_taken(
    tmp_path: Path, program: Path
) -> None:
    path = placed(program, tmp_path / "a")
    beside = str(path.parent / "python")
    for mode in (0o777, 0o720, 0o600):
        path.chmod(mode)
        assert find_compiled({}, beside) is None
    path.chmod(0o755)
    assert find_compiled({}, beside) == path
    text = path.read_bytes()
    for other in (
        b"#!/bin/sh\necho localmem-hook 99\n",
        b"#!/bin/sh\necho localmem-hook 1\nexit 1\n",
        b"",
        text[: len(text) // 2],
        compiled_text(text, NOWHERE, None),  # one that was installed
    ):
        path.write_bytes(other)
        assert find_compiled({}, beside) is None
    path.unlink()
    path.mkdir()
    assert find_compiled({}, beside) is None


def test_an_installed_one_has_the_program_and_the_interpreter_in_it() -> None:
    for home in (None, Path("/a home")):
        text = compiled_text(b"\x7fELF", NOWHERE, home)
        assert program_of(text) == b"\x7fELF"
        assert interpreter_of(text) == Path(NOWHERE)
    for other in (b"", b"#!/bin/sh\n", TAIL, b"\xff\xff\xff\xff" + TAIL, b"\0\0\0\0" + TAIL):
        assert program_of(other) is None
        assert interpreter_of(other) is None


@pytest.mark.parametrize("name", ["plain", 'it\'s "a" $HOME \u00e9', "bytes\udcff"])
def test_it_reaches_the_daemon_of_its_home_whatever_the_environment_says(
    home: Path, name: str
) -> None:
    home.mkdir()
    given = {"LOCALMEM_HOME": str(home / name)}
    path = write_launcher(load_settings(given), given, the_program)
    with HookDaemon(home / name, SAYS) as daemon:
        for other in ({}, {"LOCALMEM_HOME": str(home / "other")}):
            assert run(["codex"], other, TOOL, command=(str(path),)).stdout == SAYS
        for arguments in ([], ["vim"], ["--version"], ["codex", "x"]):
            assert run(arguments, {}, TOOL, command=(str(path),)).stdout == b""
    assert len(daemon.requests) == 2


def test_a_daemon_keeps_it_without_finding_it_and_installing_again_goes_back(
    tmp_path: Path,
) -> None:
    given = {"LOCALMEM_HOME": str(tmp_path / "home")}
    settings = load_settings(given)
    path = write_launcher(settings, given, no_program)
    python = path.read_bytes()
    assert refresh_launcher(settings, given, the_program) == [path]
    compiled = path.read_bytes()
    assert compiled == compiled_text(
        go_program(HOOK).read_bytes(), sys.executable, tmp_path / "home"
    )
    assert refresh_launcher(settings, given, no_program) == []
    path.write_bytes(compiled_text(go_program(HOOK).read_bytes(), NOWHERE, None))
    assert refresh_launcher(settings, given, no_program) == [path]
    assert path.read_bytes() == compiled
    write_launcher(settings, given, no_program)
    assert path.read_bytes() == python
    write_launcher(settings, given, the_program)
    remove_launcher(settings)
    assert not hook_path(settings).parent.exists()


def test_install_takes_the_one_on_the_path_and_uninstall_removes_it(
    tmp_path: Path, program: Path
) -> None:
    home, user = tmp_path / "memory", tmp_path / "user"
    user.mkdir()
    programs = placed(program, tmp_path / "programs").parent
    path = f"{programs}:{os.environ['PATH']}"
    given = {"HOME": str(user), "CODEX_HOME": str(user / ".codex"), "PATH": path}
    settings = load_settings({"LOCALMEM_HOME": str(home)})

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return localmem(home, *arguments, stdin=b"", cwd=None, **given)

    try:
        assert run("install", "codex").returncode == 0
        told = answer(run("doctor", "--json"))["checks"]
        [client] = [check for check in told if check["name"] == "hook client"]
        assert client["detail"] == f"{hook_path(settings)}: the compiled one"
        assert program_of(hook_path(settings).read_bytes()) == program.read_bytes()
        assert run("uninstall", "codex").returncode == 0
        assert not hook_path(settings).exists()
    finally:
        run("down")


def test_one_of_another_interface_is_replaced_by_the_one_in_python(tmp_path: Path) -> None:
    given = {"LOCALMEM_HOME": str(tmp_path / "home")}
    settings = load_settings(given)
    path = write_launcher(settings, given, the_program)
    path.write_bytes(path.read_bytes()[:-1] + b"\2")
    assert refresh_launcher(settings, given, no_program) == [path]
    assert path.read_bytes().startswith(b"#!")


def test_uninstalled_it_starts_the_daemon_by_the_command_on_the_path(
    home: Path, program: Path, tmp_path: Path
) -> None:
    home.mkdir()
    command = tmp_path / "localmem"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m localmem_node.cli.main "$@"\n')
    command.chmod(0o700)
    given = environment(home)
    path = f"{tmp_path}:{given['PATH']}"
    assert run(["codex"], given | {"PATH": path}, START, command=(str(program),)).stdout == b""
    with DaemonClient(given, start=False) as client:
        until(client.running)
        client.stop()


@pytest.mark.parametrize("interpreter", ["", NOWHERE])
def test_an_interpreter_that_is_gone_starts_nothing_and_the_event_is_kept(
    home: Path, program: Path, tmp_path: Path, interpreter: str
) -> None:
    home.mkdir()
    path = tmp_path / "hook"
    path.write_bytes(compiled_text(program.read_bytes(), interpreter, home))
    path.chmod(0o700)
    run(["codex"], {}, START, command=(str(path),))
    assert [body for _, _, body in records(home / "run" / "spool")] == [START]


def test_a_spool_that_may_not_grow_is_no_reason_to_complain(home: Path, program: Path) -> None:
    """A write behind the limit is a signal, which ends whoever does not ignore it."""
    home.mkdir()
    given = {"LOCALMEM_HOME": str(home)}
    run(["codex"], given, TOOL, command=(str(program),))
    spool = home / "run" / "spool"
    before = spool.read_bytes()
    done = subprocess.run(
        [program, "codex"],
        input=TOOL,
        env=given,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(before),) * 2),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert spool.read_bytes() == before


@pytest.mark.parametrize("mib", [8, 64, 512])
def test_without_memory_for_its_runtime_it_is_silent(home: Path, program: Path, mib: int) -> None:
    """Go's own end of it would be 2, by which an editor refuses what its user asked for."""
    guarded()
    limit = mib * 2**20
    assert without(program, home, resource.RLIMIT_AS, limit) == (0, b"", b"")


def test_without_a_thread_for_its_runtime_it_is_silent(home: Path, program: Path) -> None:
    guarded()
    if os.getuid():
        missing("only root can be a user who has no processes")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        path = shutil.copy(program, folder)
        for processes in (1, 2, 3, 4):
            ended = without(Path(path), home, resource.RLIMIT_NPROC, processes, user=STRANGER)
            assert ended == (0, b"", b"")


def guarded() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("there is no guard for this machine")


def without(
    program: Path, home: Path, what: int, limit: int, user: int | None = None
) -> tuple[int, bytes, bytes]:
    def narrow() -> None:
        resource.setrlimit(what, (limit, limit))
        if user is not None:
            os.setuid(user)

    done = subprocess.run(
        [program, "codex"],
        input=TOOL,
        env={"LOCALMEM_HOME": str(home)},
        capture_output=True,
        preexec_fn=narrow,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_one_that_is_killed_leaves_nothing_running(home: Path, program: Path) -> None:
    with subprocess.Popen([program, "codex"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"{")
        process.stdin.flush()
        stdin = process.stdin
        until(lambda: not waiting(stdin))
        below = children(process.pid)
        process.kill()
        process.wait()
        until(lambda: not any(is_alive(one) for one in below))


def test_interrupted_it_is_silent(home: Path, program: Path) -> None:
    given = {"LOCALMEM_HOME": str(home)}
    with subprocess.Popen(
        [program, "codex"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=given,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"{")
        process.stdin.flush()
        stdin = process.stdin
        until(lambda: not waiting(stdin))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_it_is_static_and_names_no_folder_of_this_machine(program: Path) -> None:
    text = program.read_bytes()
    assert text.startswith(b"\x7fELF")
    assert b"/ld-linux" not in text
    assert os.fsencode(Path(__file__).parents[3]) not in text
