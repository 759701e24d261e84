"""Which files git ignores, by asking git: patterns nest, negate and depend on what is tracked.

An answer is kept for as long as everything that it rests on stays as it is: the `.gitignore` of every
folder on the way, `info/exclude`, the user's own excludes and the index, known by their stamps. So an
event of a known file costs a few stats. Whatever is not known yet is asked with one short-lived
process for all files of a call; none is kept waiting (a lasting `git check-ignore` reads patterns
once and goes on answering from memory).
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from localmem_node.git_process import git_environment
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

ANSWERS_MAX: Final = 4096
"""Answers kept, some 400 bytes each; beyond that all are forgotten."""

ANSWER_S: Final = 60.0
"""How long an answer holds at most: what no stamp shows (a change of configuration) is seen then."""

RACY_MS: Final = 2000
"""A file changed this lately may change again without a new stamp: FAT counts in two seconds."""

GIT_TIMEOUT_S: Final = 5.0
"""How long git may take; an answer takes it some milliseconds."""

_GIT: Final = ("git", "--no-pager", "-c", "core.fsmonitor=false")

Stamp = tuple[int, int, int]
"""Time of change (ns), size, inode; zeros for what is not there."""

_ABSENT: Final[Stamp] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class _File:
    """A path with its links resolved, as far as its folder goes, and the work tree it lies in."""

    path: str
    root: str


@dataclass(frozen=True, slots=True)
class _Sources:
    """Files of a repository and of its user that patterns and tracked names come from."""

    paths: tuple[str, ...]
    until_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    ignored: bool
    stamps: tuple[Stamp, ...]
    until_s: float


class IgnoredFiles:
    """Asks git, and remembers. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._answers: dict[_File, _Answer] = {}
        self._sources: dict[str, _Sources] = {}
        self._silent_until_s = 0.0
        self._complained: set[str] = set()

    def among(self, paths: Collection[str]) -> set[str]:
        """Those of the absolute `paths` that lie in a work tree of git and are ignored there.

        Tracked files never are. None is where git is not installed, fails (that is logged), or has
        just been too slow: nobody is to wait for it again and again.
        """
        files = {path: file for path in paths if (file := _locate(path))}
        known: dict[_File, bool] = {}
        unknown: dict[str, list[tuple[_File, tuple[Stamp, ...]]]] = {}
        for file in set(files.values()):
            stamps = tuple(map(_stamp, self._rests_on(file)))
            answer = self._remembered(file, stamps)
            if answer is None:
                unknown.setdefault(file.root, []).append((file, stamps))
            else:
                known[file] = answer
        for root, asked in unknown.items():
            answers = self._ask(root, [file for file, _ in asked])
            for file, stamps in asked:
                known[file] = answers.get(file, False)
                if file in answers:
                    self._remember(file, stamps, known[file])
        return {path for path, file in files.items() if known[file]}

    def _remembered(self, file: _File, stamps: tuple[Stamp, ...]) -> bool | None:
        with self._lock:
            answer = self._answers.get(file)
        if answer is None or answer.stamps != stamps or answer.until_s < self._clock.monotonic_s():
            return None
        return answer.ignored

    def _remember(self, file: _File, stamps: tuple[Stamp, ...], ignored: bool) -> None:
        newest_ms = max(stamp[0] for stamp in stamps) // 1_000_000
        if newest_ms > self._clock.now_ms() - RACY_MS:
            return
        until_s = self._clock.monotonic_s() + ANSWER_S
        with self._lock:
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            self._answers[file] = _Answer(ignored, stamps, until_s)

    def _rests_on(self, file: _File) -> Iterator[str]:
        folder = os.path.dirname(file.path)
        while True:
            yield f"{folder}/.gitignore"
            if len(folder) <= len(file.root):
                break
            folder = os.path.dirname(folder)
        with self._lock:
            sources = self._sources.get(file.root)
        if sources is None or sources.until_s < self._clock.monotonic_s():
            until_s = self._clock.monotonic_s() + ANSWER_S
            sources = _Sources(self._found_sources(file.root), until_s)
            with self._lock:
                if len(self._sources) >= ANSWERS_MAX:
                    self._sources.clear()
                self._sources[file.root] = sources
        yield from sources.paths

    def _ask(self, root: str, files: Sequence[_File]) -> dict[_File, bool]:
        """What git says of files in one work tree; nothing for those that it says nothing of."""
        names = {f"./{os.path.relpath(file.path, root)}": file for file in files}
        done = self._git(root, ("check-ignore", "-z", "--stdin"), "\0".join([*names, ""]))
        if done is None:
            return {}
        if done.returncode in (0, 1):
            ignored = set(os.fsdecode(done.stdout).split("\0"))
            return {file: name in ignored for name, file in names.items()}
        if len(files) > 1:  # one that git stops at must not speak for the others
            return {key: said for file in files for key, said in self._ask(root, [file]).items()}
        if root not in self._complained:
            # Neither path nor git's own words: a path can hold what must not be logged.
            self._complained.add(root)
            logger.warning("git check-ignore ended with %d; nothing is skipped", done.returncode)
        return dict.fromkeys(files, False)

    def _found_sources(self, root: str) -> tuple[str, ...]:
        """Index and excludes of a repository, and where its user may have excludes and settings."""
        paths = ("index", "info/exclude", "config")
        named = ("rev-parse", *(word for path in paths for word in ("--git-path", path)))
        excludes = ("config", "--null", "--type=path", "--get", "core.excludesFile")
        found: list[str] = []
        for arguments, end in ((named, "\n"), (excludes, "\0")):
            if done := self._git(root, arguments):
                found += os.fsdecode(done.stdout).split(end)
        settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        found += [
            f"{settings}/git/ignore",
            f"{settings}/git/config",
            os.path.expanduser("~/.gitconfig"),
        ]
        return tuple(os.path.join(root, name) for name in found if name)

    def _git(
        self, root: str, arguments: Sequence[str], text: str = ""
    ) -> subprocess.CompletedProcess[bytes] | None:
        """What git answers; None where there is none, or where it has just been too slow."""
        if self._clock.monotonic_s() < self._silent_until_s:
            return None
        try:
            return _run(root, arguments, text)
        except FileNotFoundError:
            pass
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = type(error).__name__
            logger.warning("git did not answer (%s); nothing is skipped for a while", reason)
        self._silent_until_s = self._clock.monotonic_s() + ANSWER_S
        return None


def _locate(path: str) -> _File | None:
    folder, name = os.path.split(os.path.normpath(path))
    if not name or "\0" in path:
        return None
    folder = os.path.realpath(folder)
    root = folder
    while not os.path.lexists(f"{root}/.git"):
        above = os.path.dirname(root)
        if above == root:
            return None
        root = above
    return _File(os.path.join(folder, name), root)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return _ABSENT
    return found.st_mtime_ns, found.st_size, found.st_ino


def _run(root: str, arguments: Sequence[str], text: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*_GIT, "-C", root, *arguments],
        input=os.fsencode(text),
        capture_output=True,
        env=git_environment(),
        timeout=GIT_TIMEOUT_S,
        check=False,
    )
