"""Runs the hook's command as an editor does: a real process, a given environment, nothing else.

There are two of it, in Python and compiled. Tests that hold for both are run with each, by the fixture
`each_client`; elsewhere it is the one in Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import localmem_node.hook.client
from bench.go_programs import HOOK, GoMissing, built
from localmem_node.hook.compiled import compiled_text
from localmem_node.hook.launcher import Find
from support.hook_functions import Functions, Probe, PythonFunctions
from support.missing import missing

CLIENT = Path(localmem_node.hook.client.__file__)
TOOL = b'{"session_id":"s","hook_event_name":"PostToolUse","tool_name":"Bash"}'
START = b'{"session_id":"s","hook_event_name": "SessionStart","source":"startup"}'
TIMEOUT_S = 60


@dataclass(frozen=True)
class HookClient:
    """A client as a command, as one that is patient, and its functions.

    On a busy machine a patient one waits for its daemon as long as that takes.
    """

    name: str
    command: tuple[str, ...]
    patient: tuple[str, ...]
    functions: Functions
    find: Find
    """What `localmem install` finds where this one is used."""


def python_client() -> HookClient:
    """The client in Python."""
    source, wait = CLIENT.read_text(), f"WAIT_S = {localmem_node.hook.client.WAIT_S}\n"
    assert source.count(wait) == 1
    code = source.replace(wait, f"WAIT_S = {TIMEOUT_S}\n")
    interpreter = (sys.executable, "-I", "-S")
    return HookClient(
        "python",
        (*interpreter, str(CLIENT)),
        (*interpreter, "-c", code),
        PythonFunctions(),
        no_program,
    )


@contextmanager
def compiled_client() -> Iterator[HookClient]:
    """The compiled client, installed without a home."""
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        paths = []
        for tags in ((), ("patient",)):
            path = Path(folder, "-".join(("hook", *tags)))
            path.write_bytes(
                compiled_text(go_program(HOOK, *tags).read_bytes(), sys.executable, None)
            )
            path.chmod(0o700)
            paths.append(str(path))
        with Probe(go_program("./internal/hookprobe")) as probe:
            yield HookClient("compiled", (paths[0],), (paths[1],), probe, the_program)


def no_program(environment: Mapping[str, str], interpreter: str) -> None:
    """Where there is no compiled client."""


def the_program(environment: Mapping[str, str], interpreter: str) -> Path:
    """Where there is one."""
    return go_program(HOOK)


def go_program(package: str, *tags: str) -> Path:
    """A program of the Go module, built; else the test is skipped."""
    try:
        return built(package, *tags)
    except GoMissing as error:
        missing(str(error))


_clients = [python_client()]


def client() -> HookClient:
    """The client that tests are about."""
    return _clients[-1]


@contextmanager
def using(one: HookClient) -> Iterator[HookClient]:
    """Meanwhile tests are about this client."""
    _clients.append(one)
    try:
        yield one
    finally:
        _clients.pop()


def hook(
    home: Path,
    body: bytes = TOOL,
    editor: str = "claude-code",
    *,
    command: tuple[str, ...] | None = None,
    **more: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, a patient one unless another is given; it ends with 0 and complains of
    nothing, whatever happened.
    """
    given = {"LOCALMEM_HOME": str(home), **more}
    return run([editor], given, body, command=command or client().patient)


def run(
    arguments: list[str],
    environment: dict[str, str],
    body: bytes = TOOL,
    command: tuple[str, ...] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """The same with all of its surroundings given."""
    done = subprocess.run(
        [*(command or client().command), *arguments],
        input=body,
        env=environment,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b""), done
    return done


def records(spool: Path) -> list[tuple[str, int, bytes]]:
    """A spool read as the contract says: editor, milliseconds, body."""
    data, found = spool.read_bytes(), []
    while data:
        head, _, rest = data.partition(b"\n")
        editor, time_ms, size = head.split(b" ")
        body, end, data = rest[: int(size)], rest[int(size)], rest[int(size) + 1 :]
        assert (len(body), end) == (int(size), ord("\n"))
        found.append((editor.decode(), int(time_ms), body))
    return found


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder without a disk."""
    for parent in ("/dev/shm", f"/run/user/{os.getuid()}"):
        if filesystem(parent) == "tmpfs" and os.access(parent, os.W_OK):
            with tempfile.TemporaryDirectory(prefix="lm-", dir=parent) as folder:
                yield Path(folder)
                return
    missing("no folder in memory: /dev/shm is no tmpfs")


def filesystem(path: str | Path) -> str:
    """The kind of file system that a path is on, by `stat`; empty if it cannot tell."""
    command = ["stat", "-f", "-c", "%T", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
