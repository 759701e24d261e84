"""What does it cost an event to ask whether git ignores its file?

A real repository is made, with a `.gitignore` on three levels. Three ways: as localmem does (an answer is
remembered while the files that it rests on keep their stamps), the same for files not seen before,
one by one and in a batch, and for comparison a process per event and a lasting `git check-ignore`,
which answers fastest and, as the last column counts, goes on giving answers that are out of date.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import print_json, print_table
from localmem_node.capture.ignored import RACY_MS, IgnoredFiles
from localmem_node.git_process import git_environment
from localmem_node.system import SystemClock

EVENTS: Final = 300
BATCH: Final = 256
FOLDER: Final = "src/deep"


class SettledClock(SystemClock):
    """The system's, ahead by so much that what was just written counts as settled."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        return super().now_ms() + 2 * RACY_MS


class Coprocess:
    """A `git check-ignore` that is kept and asked again and again."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [
                "git",
                "-C",
                str(root),
                "check-ignore",
                "-z",
                "--stdin",
                "--verbose",
                "--non-matching",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=git_environment(),
        )

    def is_ignored(self, name: str) -> bool:
        """Whether it says so."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(os.fsencode(name) + b"\0")
        self._process.stdin.flush()
        answer = b""
        while answer.count(b"\0") < 4:
            answer += os.read(self._process.stdout.fileno(), 4096)
        return not answer.startswith(b"\0")

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def repository(root: Path) -> None:
    """A work tree that ignores `*.log`."""
    subprocess.run(["git", "init", "--quiet", str(root)], env=git_environment(), check=True)
    (root / FOLDER).mkdir(parents=True)
    for folder, patterns in (("", "*.log\n"), ("src", "*.tmp\n"), (FOLDER, "*.out\n")):
        (root / folder / ".gitignore").write_text(patterns)


def measure(root: Path) -> dict[str, dict[str, float]]:
    """Microseconds per event (median), and answers of 10 that were wrong after a change."""
    repository(root)
    base = f"{root}/{FOLDER}"
    files, lasting = IgnoredFiles(SettledClock()), Coprocess(root)
    files.among([f"{base}/a.py"])
    found = {
        "remembered": _times(lambda _: files.among([f"{base}/a.py"])),
        "not seen before": _times(lambda at: files.among([f"{base}/{at}.py"])),
        f"not seen before, {BATCH} at once": _times(
            lambda at: files.among([f"{base}/{at}-{one}.py" for one in range(BATCH)]), BATCH
        ),
        "a process per event": _times(lambda at: _process(root, f"{FOLDER}/{at}.py")),
        "a lasting process": _times(lambda at: lasting.is_ignored(f"{FOLDER}/{at}.py")),
    }
    names = [f"{FOLDER}/{at}.new" for at in range(10)]
    (root / FOLDER / ".gitignore").write_text("*.new\n")
    wrong = {
        "remembered": sum(not files.among([f"{root}/{name}"]) for name in names),
        "a lasting process": sum(not lasting.is_ignored(name) for name in names),
    }
    lasting.close()
    return {name: {"us": us, "wrong": float(wrong.get(name, 0))} for name, us in found.items()}


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser("bench ignored", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder).resolve() / "work")
    if options.json:
        print_json(result)
        return
    rows = [[name, row["us"], row["wrong"]] for name, row in result.items()]
    print_table(["", "µs per event", "of 10 wrong after a change"], rows)


def _process(root: Path, name: str) -> bool:
    done = subprocess.run(
        ["git", "-C", str(root), "check-ignore", "--quiet", name],
        env=git_environment(),
        check=False,
    )
    return done.returncode == 0


def _times(ask: Callable[[int], object], events: int = 1) -> float:
    taken = []
    for at in range(EVENTS // 10 if events > 1 else EVENTS):
        began = time.perf_counter()
        ask(at)
        taken.append((time.perf_counter() - began) / events)
    return round(1e6 * float(np.median(taken)), 2)
