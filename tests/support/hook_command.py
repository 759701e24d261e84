"""Runs the hook's command as an editor does: a real process, a given environment, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import localmem_node.hook.client
from support.missing import missing

CLIENT = Path(localmem_node.hook.client.__file__)
TOOL = b'{"session_id":"s","hook_event_name":"PostToolUse","tool_name":"Bash"}'
START = b'{"session_id":"s","hook_event_name": "SessionStart","source":"startup"}'
TIMEOUT_S = 60
COMMAND = (sys.executable, "-I", "-S", str(CLIENT))


def patient() -> tuple[str, ...]:
    """The same command, but on a busy machine it waits for its daemon as long as that takes."""
    source, wait = CLIENT.read_text(), f"WAIT_S = {localmem_node.hook.client.WAIT_S}\n"
    assert source.count(wait) == 1
    code = source.replace(wait, f"WAIT_S = {TIMEOUT_S}\n")
    return (sys.executable, "-I", "-S", "-c", code)


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
    return run([editor], given, body, command=command or patient())


def run(
    arguments: list[str],
    environment: dict[str, str],
    body: bytes = TOOL,
    command: tuple[str, ...] = COMMAND,
) -> subprocess.CompletedProcess[bytes]:
    """The same with all of its surroundings given."""
    done = subprocess.run(
        [*command, *arguments],
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
