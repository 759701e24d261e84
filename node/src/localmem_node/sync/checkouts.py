"""The texts of references, in this device's own checkouts; and which own events have theirs in a commit.

A reference comes from another device and is input like any other: its path is taken only if it is one
below the root of a project, nothing is followed out of that, and what git does not track is not read.
What is found is compared by its keyed hash, so that only the very text that the other device let out
is taken for it. Whoever waits longest here is the sync thread: git gets some seconds, and after it took
too long once it is not asked for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from localmem_node.git_objects import (
    GitTooSlow,
    is_inside,
    read_objects,
    read_work_file,
    versions,
)
from localmem_node.work_trees import WorkTrees
from localmem_protocol.events import Event
from localmem_protocol.references import Reference, texts_at
from localmem_protocol.seams import Clock

logger = logging.getLogger(__name__)

VERSIONS_MAX: Final = 32
"""Versions of a file in commits that are looked into, the newest: a hash of five bytes bears few tries."""

KEPT_S: Final = 10.0
"""How long what was read of a file is taken for what is there."""

FILES_KEPT_MAX: Final = 8
"""Files of which that is kept: references to one file come together."""

SILENT_S: Final = 60.0
"""For how long git is not asked after it took too long."""

BUSY_S: Final = 5.0
"""Of each SILENT_S at most so long is spent on looking: one frame may bring ten thousands of references."""


@dataclass
class _File:
    until_s: float
    recent: list[str]  # work tree, index, HEAD
    older: list[str] | None = None


class Checkouts:
    """For the sync threads of all pools: thread-safe."""

    def __init__(self, trees: WorkTrees, clock: Clock) -> None:
        self._trees = trees
        self._clock = clock
        self._silent_until_s = 0.0
        self._since_s = self._spent_s = 0.0
        self._lock = Lock()
        self._files: dict[tuple[str, str], _File] = {}

    def texts(self, reference: Reference) -> Iterator[str]:
        """What stands at the lines of a reference now, and stood there before."""
        if reference.project is None or not is_inside(reference.file_path) or self._is_silent():
            return
        began_s = self._clock.monotonic_s()
        try:
            yield from self._texts(reference, reference.project)
        finally:
            self._spend(began_s)

    def _spend(self, began_s: float) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s > SILENT_S:
            self._since_s, self._spent_s = began_s, 0.0
        self._spent_s += now_s - began_s
        if self._spent_s > BUSY_S:
            self._fall_silent()

    def _texts(self, reference: Reference, project: str) -> Iterator[str]:
        seen: set[str] = set()
        for root in self._trees.roots(project):
            for content in self._contents(root, reference.file_path):
                for text in _texts_in(content, reference.selection_range):
                    if text not in seen:
                        seen.add(text)
                        yield text

    def committed(self, events: Sequence[Event]) -> set[str]:
        """The ids of those whose text stands, at its path and lines, in HEAD of a checkout."""
        found: set[str] = set()
        for project in {event.project for event in events}:
            mine = [e for e in events if e.project == project and _is_placed(e)]
            for root in self._trees.roots(project) if project is not None and mine else ():
                found |= self._committed_in(root, [e for e in mine if e.id not in found])
        return found

    def _committed_in(self, root: str, events: Sequence[Event]) -> set[str]:
        contents = self._read(root, [f"HEAD:{event.file_path}" for event in events])
        found: set[str] = set()
        for event in events:
            content = contents.get(f"HEAD:{event.file_path}")
            if content is None or event.selection_range is None:
                continue
            if event.snippet in _texts_in(content, event.selection_range):
                found.add(event.id)
        return found

    def _contents(self, root: str, path: str) -> Iterator[str]:
        """What a file has and had in it, the newest first, as far as it is text."""
        file = self._file(root, path)
        yield from file.recent
        if file.older is None:
            file.older = self._older(root, path)
        yield from file.older

    def _file(self, root: str, path: str) -> _File:
        now_s = self._clock.monotonic_s()
        with self._lock:
            file = self._files.get((root, path))
        if file is None or file.until_s < now_s:
            file = _File(now_s + KEPT_S, self._recent(root, path))
            with self._lock:
                self._files.pop((root, path), None)
                while len(self._files) >= FILES_KEPT_MAX:
                    del self._files[next(iter(self._files))]
                self._files[root, path] = file
        return file

    def _recent(self, root: str, path: str) -> list[str]:
        index, head = f":0:{path}", f"HEAD:{path}"
        found = self._read(root, [index, head])
        recent: list[str] = []
        if index in found:  # tracked, so that nobody keeps it out
            work = _decoded(read_work_file(root, path))
            recent += [] if work is None else [work]
        recent += [found[name] for name in (index, head) if name in found]
        return list(dict.fromkeys(recent))

    def _older(self, root: str, path: str) -> list[str]:
        if self._is_silent():
            return []
        try:
            hashes = versions(root, path, VERSIONS_MAX)
        except GitTooSlow:
            self._fall_silent()
            return []
        found = self._read(root, hashes)
        return [found[one] for one in hashes if one in found]

    def _read(self, root: str, names: Sequence[str]) -> dict[str, str]:
        if self._is_silent():
            return {}
        try:
            found = read_objects(root, names)
        except GitTooSlow:
            self._fall_silent()
            return {}
        texts = {name: _decoded(content) for name, content in found.items()}
        return {name: text for name, text in texts.items() if text is not None}

    def _is_silent(self) -> bool:
        return self._clock.monotonic_s() < self._silent_until_s

    def _fall_silent(self) -> None:
        logger.warning("git took too long; texts are not looked for in checkouts for a while")
        self._silent_until_s = self._clock.monotonic_s() + SILENT_S


class PoolTexts:
    """Implements `references.Texts` for one pool; `references` may be set from any thread.

    Whether a text was found shows in what is asked for. So only the checkouts of projects that are shared
    with the pool (`covers`) are looked into by who may ask: a member that makes up references learns
    nothing of the others.
    """

    def __init__(
        self,
        checkouts: Checkouts,
        *,
        references: bool,
        covers: Callable[[str | None], bool] = lambda project: True,
    ) -> None:
        self._checkouts = checkouts
        self._covers = covers
        self.references = references

    def anywhere(self) -> PoolTexts:
        """The same for who asks for nothing: all checkouts."""
        return PoolTexts(self._checkouts, references=False)

    def texts(self, reference: Reference) -> Iterator[str]:
        """As `Texts` says: whatever this device sends, others may send references."""
        if self._covers(reference.project):
            yield from self._checkouts.texts(reference)

    def shared(self, events: Sequence[Event]) -> Collection[str]:
        """As `Texts` says."""
        return self._checkouts.committed(events) if self.references else ()


def _is_placed(event: Event) -> bool:
    return (
        event.file_path is not None
        and event.selection_range is not None
        and is_inside(event.file_path)
    )


def _decoded(data: bytes | None) -> str | None:
    """A file's text; None for one that is none."""
    if data is None or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _texts_in(content: str, lines: tuple[int, int]) -> list[str]:
    """What may have been recorded of these lines: editors tell line feeds whatever the file has."""
    plain = content.replace("\r\n", "\n")
    found = texts_at(plain.removesuffix("\n").split("\n"), lines)
    if plain != content:
        found += [text.replace("\n", "\r\n") for text in found]
    return found
