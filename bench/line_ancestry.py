"""Which earlier edits does a commit build on? Two answers, neither of which a memory knows.

`lines`: those that wrote the lines which the commit changes, and up to three around them (`git
blame` of its parent, at the old side of its hunks), as far as the text kept of the edit holds such a
line. `region`: those of the same file under the same enclosing symbol, as git names it in the header
of a hunk (for many languages the class or function at the left margin). Edits of a file under an
earlier name are not found.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from localmem_node.errors import HistoryError
from localmem_node.git_history import Hunk, Place, run_git
from localmem_node.retrieval.fields import HUNK_MARK

_BLAMED: Final = re.compile(rb"([0-9a-f]{40,64}) (\d+) \d+")


class Written(NamedTuple):
    """A line as blame sees it: who wrote it, in which file and at which line of that commit."""

    commit: str
    path: str
    number: int
    text: str


class Ancestry:
    """The edits of a history, oldest first; positions are indexes into it."""

    def __init__(self, repository: Path, hunks: Sequence[Hunk]) -> None:
        self._repository = repository
        self._hunks = hunks
        self._regions: defaultdict[tuple[str | None, str], list[int]] = defaultdict(list)
        self._writers: defaultdict[tuple[str, str | None], list[int]] = defaultdict(list)
        for position, hunk in enumerate(hunks):
            self._regions[region(hunk)].append(position)
            self._writers[hunk.commit, hunk.draft.file_path].append(position)

    def by_region(self, work: range) -> frozenset[int]:
        """The earlier edits in the regions of the edits at these positions."""
        regions = {region(self._hunks[position]) for position in work}
        earlier = (position for name in regions for position in self._regions[name])
        return frozenset(position for position in earlier if position < work.start)

    def by_lines(self, work: range) -> frozenset[int]:
        """The earlier edits whose lines the edits at these positions (of one commit) change.

        Raises GitMissing, HistoryError.
        """
        places: defaultdict[str, list[Place]] = defaultdict(list)
        for position in work:
            if (before := self._hunks[position].before) is not None:
                places[before.path].append(before)
        found: set[int] = set()
        for path, some in places.items():
            for line in blamed(self._repository, self._hunks[work.start].commit, path, some):
                found.update(self._writers_of(line))
        return frozenset(position for position in found if position < work.start)

    def _writers_of(self, line: Written) -> Iterator[int]:
        for position in self._writers.get((line.commit, line.path), ()):
            draft = self._hunks[position].draft
            first, last = draft.selection_range or (1, 0)
            kept = (text.strip() for text in draft.snippet.split("\n"))
            if first <= line.number <= last and line.text and line.text in kept:
                yield position


def region(hunk: Hunk) -> tuple[str | None, str]:
    """The file of a hunk and the enclosing symbol; an empty one at the top of a file."""
    first, _, _ = hunk.draft.snippet.partition("\n")
    return hunk.draft.file_path, first if first.startswith(HUNK_MARK) else ""


def blamed(repository: Path, commit: str, path: str, places: Sequence[Place]) -> Iterator[Written]:
    """The lines at some places of a file in the parent of a commit. Raises HistoryError."""
    ranges = [f"-L{place.first},{place.last}" for place in places]
    settings = ["-c", "core.quotePath=false", "-c", "blame.ignoreRevsFile="]
    command = [*settings, "blame", "--line-porcelain", *ranges, f"{commit}^", "--", path]
    done = run_git(repository, *command)
    if done.returncode:
        raise HistoryError(f"git blame of {path} before {commit} failed in {repository}")
    commit_of_line = name = ""
    number = 0
    for line in done.stdout.split(b"\n"):
        if line.startswith(b"\t"):
            text = line[1:].decode(errors="replace").strip()
            yield Written(commit_of_line, name, number, text)
        elif header := _BLAMED.match(line):
            commit_of_line, number = header[1].decode(), int(header[2])
        elif line.startswith(b"filename "):
            name = line[len(b"filename ") :].decode(errors="replace")
