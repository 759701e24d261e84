"""Where the projects of this device are: the work trees in which something was recorded.

An event says which project it is of, and not where that is on this machine. What was seen is kept over
restarts, in a private file beside the store; where a project is said to be is looked at again before it
is believed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, read_private, write_private
from localmem_node.projects import Projects

logger = logging.getLogger(__name__)

FILE: Final = "checkouts.json"

PROJECTS_MAX: Final = 256
"""Projects that are kept; of more, the one that was seen first is given up."""

ROOTS_MAX: Final = 4
"""Work trees of one project that are looked into, the newest first."""

FOLDERS_MAX: Final = 256
"""Folders that wait to be looked at."""

_ROOTS: Final = msgspec.json.Decoder(dict[str, list[str]])


class WorkTrees:
    """Thread-safe. `see` costs nothing; `roots` reads files and runs git."""

    def __init__(self, path: Path, projects: Projects) -> None:
        self._path = path
        self._projects = projects
        self._lock = Lock()
        self._folders: dict[str, None] = {}  # seen, and not looked at
        self._known: set[str] = set()  # folders that were
        self._roots: dict[str, list[str]] | None = None

    def see(self, folder: str) -> None:
        """Something was recorded in a folder."""
        with self._lock:
            if folder not in self._known and len(self._folders) < FOLDERS_MAX:
                self._folders[folder] = None

    def roots(self, project: str) -> list[str]:
        """The work trees of a project, by any id that it has or had."""
        with self._lock:
            folders, self._folders = list(self._folders), {}
            if self._roots is None:
                self._roots = self._load()
        changed = False
        for folder in folders:
            changed = self._look(folder) or changed
        with self._lock:
            if changed:
                self._save(self._roots)
            roots = list(self._roots.get(project, ()))
        return [root for root in roots if self._is_of(root, project)]

    def _look(self, folder: str) -> bool:
        """Whether it told something new."""
        found = self._projects.of(folder)
        with self._lock:
            if len(self._known) >= FOLDERS_MAX:
                self._known.clear()
            self._known.add(folder)
            roots = self._roots
            if found is None or roots is None:
                return False
            if all(roots.get(one, [""])[0] == found.root for one in found.ids):
                return False
            for one in found.ids:
                others = [root for root in roots.pop(one, []) if root != found.root]
                roots[one] = [found.root, *others][:ROOTS_MAX]
            for one in list(roots)[: max(0, len(roots) - PROJECTS_MAX)]:
                del roots[one]
            return True

    def _is_of(self, root: str, project: str) -> bool:
        found = self._projects.of(root)
        return found is not None and found.root == root and project in found.ids

    def _load(self) -> dict[str, list[str]]:
        if not self._path.exists():
            return {}
        try:
            return _ROOTS.decode(read_private(self._path, "where projects are"))
        except (ConfigError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("%s; it is filled again as work goes on", error)
            return {}

    def _save(self, roots: dict[str, list[str]]) -> None:
        try:
            private_directory(self._path.parent)
            write_private(self._path, msgspec.json.encode(roots), durable=False)
        except (ConfigError, OSError) as error:
            logger.warning("where projects are cannot be kept: %s", error)
