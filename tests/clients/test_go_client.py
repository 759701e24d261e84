"""The Go module: it is as Go wants it, needs nothing but its library, and passes its own tests, which
run the conformance cases with real daemons, under the race detector."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.go_programs import MODULE, GoMissing, go_command, go_environment, run_go
from support.daemon import environment
from support.missing import missing


@pytest.fixture(autouse=True)
def _go() -> None:
    try:
        go_command()
    except GoMissing as error:
        missing(str(error))


def test_it_is_formatted_and_vetted() -> None:
    root = Path(run_go("env", "GOROOT").stdout.strip())
    done = subprocess.run(
        [root / "bin" / "gofmt", "-l", "."], cwd=MODULE, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    run_go("vet", "./...")


def test_it_needs_nothing_but_the_standard_library() -> None:
    listed = run_go("list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...")
    assert {line.split("/")[0] for line in listed.stdout.split()} == {"localmem"}
    assert not (MODULE / "go.sum").exists()


@pytest.mark.timeout(900)  # the library is compiled for the race detector, the first time
def test_its_own_tests_pass_without_a_race(tmp_path: Path) -> None:
    races = shutil.which("gcc") is not None
    done = subprocess.run(
        [go_command(), "test", "-count=1", *(["-race"] if races else []), "./..."],
        cwd=MODULE,
        env=go_environment(**variables(tmp_path), CGO_ENABLED="1" if races else "0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if not races:
        missing("gcc is not installed, which the race detector needs; run: make system")


def variables(home: Path) -> dict[str, str]:
    """What the tests in Go start daemons with; each has a home of its own."""
    given = environment(home)
    return {name: value for name, value in given.items() if name in ("PATH", "PYTHONPATH")} | {
        "LOCALMEM_TEST_PYTHON": sys.executable
    }
