"""What changed in files: the hunks that Claude Code reports, and the patches that Codex applies.

A change is the text that stands in the file afterwards, from its first new line to its last. Where
lines were only taken away, it is what is left around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from localmem_node.editors.texts import whole_in
from localmem_node.private_spans import is_left_open
from localmem_protocol.limits import LINE_MAX

CHANGES_MAX: Final = 64
"""Changes taken of one call; what changes more places is a rename or a formatter."""

PATCH_CHARACTERS_MAX: Final = 2_000_000
"""Characters of a patch that are read."""

BEGIN: Final = "*** Begin Patch"
END: Final = "*** End Patch"
_FILE: Final = re.compile(r"\*\*\* (Add|Update|Delete) File: (.{1,4096})")
_HUNK: Final = re.compile(r"@@ -\d{1,9}(?:,\d{1,9})? \+(\d{1,9})(?:,\d{1,9})? @@")
_MOVE: Final = re.compile(r"\*\*\* Move to: (.{1,4096})")


@dataclass(frozen=True, slots=True)
class Change:
    """New text; `lines` are its first and last in the new file, where that is known.

    `before` is what stood there with the lines around it, and the new text begins `offset` lines
    after the first of them.
    """

    text: str
    lines: tuple[int, int] | None = None
    before: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class FileChange:
    """A change in the file of this path, as the patch wrote it; `whole` if it is all of a new file."""

    path: str
    change: Change
    whole: bool = False


def changes_of_hunks(hunks: object) -> list[Change]:
    """The changes of a list of {"newStart", "lines"}, lines with " ", "+" or "-" before each."""
    changes: list[Change] = []
    for hunk in hunks[:CHANGES_MAX] if isinstance(hunks, list) else []:
        if not isinstance(hunk, Mapping) or not isinstance(hunk.get("lines"), list):
            continue
        lines = [line for line in hunk["lines"] if isinstance(line, str)]
        start = whole_in(hunk, "newStart")
        known = start is not None and 0 <= start < LINE_MAX
        if change := _change(lines, start if known else None):
            changes.append(change)
    return changes


def changes_of_diff(diff: str) -> list[Change]:
    """The changes of a unified diff of one file."""
    changes: list[Change] = []
    for start, lines in _hunks(diff):
        if len(changes) < CHANGES_MAX and (change := _change(lines, start)):
            changes.append(change)
    return changes


def lines_in_diff(diff: str, text: str) -> tuple[int, int] | None:
    """Where `text` stands in the new file, by the unified diff that made it."""
    wanted = f"\n{text}\n"
    for start, lines in _hunks(diff):
        new = "\n".join(line[1:] for line in lines if line[:1] not in ("-", "\\"))
        at = f"\n{new}\n".find(wanted)
        if at >= 0:
            first = start + new.count("\n", 0, at)
            return first, first + text.count("\n")
    return None


def find_patch(text: str) -> str | None:
    """The patch inside a command or an argument, from its first line to its last."""
    start = text.find(BEGIN)
    if start < 0:
        return None
    end = text.find(END, start)
    end = len(text) if end < 0 else end
    return text[start : min(end, start + PATCH_CHARACTERS_MAX)]


def changes_of_patch(patch: str) -> list[FileChange]:
    """The changes of a patch in the form of apply_patch, in its order."""
    changes: list[FileChange] = []
    for path, whole, lines in _sections(patch):
        if len(changes) < CHANGES_MAX and (change := _change(lines, 1 if whole else None)):
            changes.append(FileChange(path, change, whole))
    return changes


def _sections(patch: str) -> Iterator[tuple[str, bool, list[str]]]:
    """(path, whether it is a new file, its lines) for each place that a patch changes."""
    path, whole = None, False
    lines: list[str] = []
    for line in patch.splitlines():
        file, move = _FILE.fullmatch(line), _MOVE.fullmatch(line)
        if move and path:
            path = move[1].strip()
        elif file or line.startswith("@@"):
            if path and lines:
                yield path, whole, lines
            lines = []
            if file:
                path, whole = file[2].strip(), file[1] == "Add"
        elif not line.startswith("***"):
            lines.append(line or " ")
    if path and lines:
        yield path, whole, lines


def _hunks(diff: str) -> Iterator[tuple[int, list[str]]]:
    """(first line in the new file, lines) of each hunk."""
    start: int | None = None
    lines: list[str] = []
    for line in diff[:PATCH_CHARACTERS_MAX].split("\n"):
        if header := _HUNK.match(line):
            if start is not None:
                yield start, lines
            start, lines = int(header[1]), []
        elif start is not None and line:
            lines.append(line)
    if start is not None:
        yield start, lines


def _change(lines: list[str], start: int | None) -> Change | None:
    """The new side of a hunk from its first added line to its last; `start` is its first line."""
    new = [line for line in lines if line[:1] not in ("-", "\\")]
    added = [index for index, line in enumerate(new) if line.startswith("+")]
    if not added and not any(line.startswith("-") for line in lines):
        return None
    first, last = (added[0], added[-1]) if added else (0, len(new) - 1)
    text = "\n".join(line[1:] for line in new[first : last + 1])
    if not text.strip():
        return None
    if is_left_open("\n".join(line[1:] for line in new[:first])):
        text = f"<private>{text}"  # what is taken out later must see that it is
    before = "\n".join(line[1:] for line in lines if line[:1] not in ("+", "\\"))
    at = None if start is None else (max(start, 1) + first, max(start, 1) + last)
    return Change(text, at, before, first)
