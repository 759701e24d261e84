"""The newest Python that Azure's own worker runs on: it needs 3.13, and the tests run on 3.11.

Imports nothing but the standard library, so that the Makefile can ask it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

NAMED: Final = "LOCALMEM_TEST_PYTHON313"
OLDEST: Final = (3, 13)
NEWEST: Final = (3, 14)
MISSING: Final = f"Azure's worker needs Python 3.13 or 3.14: put one in PATH or below PYENV_ROOT, or name it by {NAMED}"


def find_python(environment: Mapping[str, str]) -> Path | None:
    """The one that is named, else the newest suitable one that there is."""
    if named := environment.get(NAMED):
        return Path(named)
    found = [(version, path) for path in _candidates(environment) if (version := _suits(path))]
    return max(found)[1] if found else None


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    path = environment.get("PATH", os.defpath)
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        if there := shutil.which(f"python3.{minor}", path=path):
            yield Path(there)
    if there := shutil.which("python3", path=path):
        yield Path(there)
    root = Path(environment.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in root.glob("versions/3.*"):
        if re.fullmatch(r"3\.[0-9]+\.[0-9]+", folder.name):
            yield folder / "bin/python3"


def _suits(python: Path) -> tuple[int, ...]:
    """Its version, if that is one which the worker runs on: a shim of pyenv may stand for none."""
    try:
        said = subprocess.run(
            [python, "-Ic", "import sys; print(*sys.version_info[:3])"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    version = tuple(map(int, said.split()))
    return version if OLDEST <= version[:2] <= NEWEST else ()


if __name__ == "__main__":
    python = find_python(os.environ)
    if python is None:
        raise SystemExit(MISSING)
    sys.stdout.write(f"{python}\n")
