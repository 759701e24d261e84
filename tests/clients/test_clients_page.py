"""docs/clients.md: every example runs, and prints in each language what the page says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.go_programs import MODULE, GoMissing, go_command, go_environment
from support.daemon import daemons_of, environment
from support.missing import missing
from support.node_package import installed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/clients.md"

GO_PROGRAM = """package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"localmem"
)

func main() {
	ctx := context.Background()
%s
}
"""


def sections() -> list[dict[str, str]]:
    """The blocks of each section, by their language."""
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    found = [dict(re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)) for part in parts]
    return [blocks for blocks in found if blocks]


def program(language: str) -> str:
    """All examples of a language, one after the other."""
    return "\n".join(blocks[language] for blocks in sections() if language in blocks)


def told(language: str) -> str:
    """What they print, by the page."""
    return "".join(blocks["text"] for blocks in sections() if language in blocks)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody with `localmem` on the PATH, and a folder to work in."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    command = programs / "localmem"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m localmem_node.cli.main "$@"\n')
    command.chmod(0o700)
    given = environment(home)
    yield given | {"PATH": f"{programs}{os.pathsep}{given['PATH']}"}
    for pid in daemons_of(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def printed(folder: Path, variables: dict[str, str], *command: str) -> str:
    """What a program prints; it must end well, and complain of nothing."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_each_section_is_told_in_all_three_languages_but_for_what_python_alone_can() -> None:
    languages = [set(blocks) for blocks in sections()]
    assert languages[:-1] == [{"python", "js", "go", "text"}] * 7
    assert languages[-1] == {"python", "text"}


def test_python(tmp_path: Path, user: dict[str, str]) -> None:
    (tmp_path / "page.py").write_text(program("python"))
    told_here = printed(tmp_path, user, sys.executable, "-W", "error", "page.py")
    assert told_here.replace("True", "true") == told("python")


def test_node(tmp_path: Path, user: dict[str, str]) -> None:
    installed(tmp_path)
    (tmp_path / "page.mjs").write_text(program("js"))
    assert printed(tmp_path, user, "node", "page.mjs") == told("js")


def test_go(tmp_path: Path, user: dict[str, str]) -> None:
    try:
        go = go_command()
    except GoMissing as error:
        missing(str(error))
    (tmp_path / "go.mod").write_text(
        f"module page\n\ngo 1.23\n\nrequire localmem v0.0.0\n\nreplace localmem => {MODULE}\n"
    )
    (tmp_path / "main.go").write_text(GO_PROGRAM % program("go"))
    assert printed(tmp_path, go_environment(**user), go, "run", ".") == told("go")
