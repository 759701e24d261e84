"""The hook's command as one file that needs no interpreter: where it is found, how it is installed.

It is built from `clients/go/cmd/localmem-hook`, for Linux, and does what `client.py` does in a tenth of
the time. `localmem install` takes it where it is: in this package, beside the interpreter (where a
virtual environment has `localmem`, too), or on PATH. What an editor runs is a copy with a tail, since
no environment can be relied upon there:

    the program │ interpreter ["\\0" LOCALMEM_HOME] │ size of that, 4 bytes │ TAIL

The tail ends with the number of the interface, which a node and a command of another version may not
share: the file `hook`, the route, the spool.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

NAME: Final = "localmem-hook"
INTERFACE: Final = 1
TAIL: Final = b"localmem-hook\0\0" + bytes([INTERFACE])
VERSION_S: Final = 5.0

_SIZE_BYTES: Final = 4


def find_compiled(environment: Mapping[str, str], interpreter: str) -> Path | None:
    """The program to install, if there is one of this interface that runs here."""
    for path in _candidates(environment, interpreter):
        if _is_trusted(path) and _version(path) == f"{NAME} {INTERFACE}\n".encode():
            return path
    return None


def compiled_text(program: bytes, interpreter: str, home: Path | None) -> bytes:
    """The file to install; `home` is the LOCALMEM_HOME to have in force."""
    added = [os.fsencode(interpreter)] + ([os.fsencode(home)] if home is not None else [])
    data = b"\0".join(added)
    return program + data + len(data).to_bytes(_SIZE_BYTES, "little") + TAIL


def program_of(text: bytes) -> bytes | None:
    """The program in a file that was installed; None if it is something else."""
    if not text.endswith(TAIL):
        return None
    at = len(text) - len(TAIL) - _SIZE_BYTES
    size = int.from_bytes(text[at : at + _SIZE_BYTES], "little")
    return text[: at - size] if 0 < size <= at else None


def interpreter_of(text: bytes) -> Path | None:
    """What starts the daemon by a file that was installed; None if it is something else."""
    program = program_of(text)
    if program is None:
        return None
    data = text[len(program) : -len(TAIL) - _SIZE_BYTES]
    return Path(os.fsdecode(data.partition(b"\0")[0]))


def _candidates(environment: Mapping[str, str], interpreter: str) -> Iterator[Path]:
    yield Path(__file__).with_name(NAME)
    yield Path(interpreter).with_name(NAME)
    for folder in environment.get("PATH", "").split(os.pathsep):
        if os.path.isabs(folder):
            yield Path(folder, NAME)


def _is_trusted(path: Path) -> bool:
    """Whether nobody but this user and root can have written it."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    own = found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022
    return own and stat.S_ISREG(found.st_mode)


def _version(path: Path) -> bytes:
    """What it says of itself: nothing if it is for another machine, or is an installed copy."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
