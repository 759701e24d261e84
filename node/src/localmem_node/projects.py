"""The projects that sessions work in, found by their folders: asked with every event, read seldom.

What was found is kept while `.git` and its configuration have the stamps that they had. Only where
there was no first commit yet, git is asked again after a minute: it walks the whole history, while an
editor waits.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from localmem_node.project import Project, find_root, git_directory, project_at
from localmem_protocol.seams import Clock

PROJECTS_MAX: Final = 256
"""Projects that are kept; of more, the one that was found first is given up."""

KEPT_S: Final = 60.0

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    project: Project
    stamps: tuple[Stamp | None, ...]
    until_s: float


class Projects:
    """Thread-safe. Reads files and runs git, and so belongs into a thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._known: dict[Path, _Known] = {}

    def of(self, folder: str | None) -> Project | None:
        """The project that an absolute folder is in; None outside of any."""
        if folder is None or not os.path.isabs(folder) or "\0" in folder:
            return None
        try:
            root = find_root(Path(folder))
            if root is None:
                return None
            stamps = _stamps(root)
        except (OSError, ValueError):  # a folder that nobody may look into
            return None
        with self._lock:
            known = self._known.get(root)
        now_s = self._clock.monotonic_s()
        if known is None or known.stamps != stamps or known.until_s < now_s:
            project = project_at(root)
            known = _Known(project, stamps, math.inf if project.begun else now_s + KEPT_S)
            with self._lock:
                self._known.pop(root, None)
                while len(self._known) >= PROJECTS_MAX:
                    del self._known[next(iter(self._known))]
                self._known[root] = known
        return known.project


def _stamps(root: Path) -> tuple[Stamp | None, ...]:
    return _stamp(root / ".git"), _stamp(git_directory(root) / "config")


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    directory = os.path.isdir(path)  # its time changes with every commit, and says nothing
    return (0, 0, found.st_ino) if directory else (found.st_mtime_ns, found.st_size, found.st_ino)
