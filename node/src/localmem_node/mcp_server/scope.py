"""Whose events a call is about: the folder that a client works in, and the project that is meant.

Two headers say where a call comes from. The shim sends them; a client that speaks HTTP can have them
in its settings.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from localmem_node.errors import QueryError
from localmem_node.mcp_server.tools import ALL
from localmem_node.project import find_root, project_at, project_id
from localmem_protocol.limits import LABEL_BYTES_MAX, PATH_BYTES_MAX

FOLDER_HEADER: Final = "x-localmem-folder"
"""The absolute path of the folder that the client works in, percent-encoded."""

CLIENT_HEADER: Final = "x-localmem-client"
"""What the client calls itself when it connects, percent-encoded."""

TOOL_DEFAULT: Final = "mcp"
_TOOLS: Final = {
    "claude": "claude-code",
    "codex": "codex",
    "cursor": "cursor",
}
"""How the tools of the hooks are called, by how their clients' names begin."""


class Caller(NamedTuple):
    """Who calls: the absolute path of its folder, and its name; None where it does not say."""

    folder: str | None = None
    client: str | None = None

    @property
    def tool(self) -> str:
        """What its events are recorded under."""
        name = (self.client or "").strip()
        known = (tool for begin, tool in _TOOLS.items() if name.lower().startswith(begin))
        return next(known, name or TOOL_DEFAULT)

    @property
    def project(self) -> str | None:
        """The project that it works in; reads the repository's settings."""
        return None if self.folder is None else project_id(Path(self.folder))

    @property
    def projects(self) -> tuple[str, ...] | None:
        """All ids that this project was ever known by; None if it works in none."""
        return None if self.folder is None else _ids_at(self.folder)


def parse_caller(headers: Mapping[str, str]) -> Caller:
    """Who calls, from lower-case headers; what is no folder or name counts as not given."""
    folder = _decoded(headers.get(FOLDER_HEADER), PATH_BYTES_MAX)
    if folder is not None and not os.path.isabs(folder):
        folder = None
    return Caller(folder, _decoded(headers.get(CLIENT_HEADER), LABEL_BYTES_MAX))


def resolve_project(wanted: object, caller: Caller) -> tuple[str, ...] | None:
    """The ids of the project that an argument means: the caller's if it is left out, None for all.

    Raises QueryError.
    """
    if wanted is None:
        return caller.projects
    if not isinstance(wanted, str) or not wanted.strip() or "\0" in wanted:
        raise QueryError("project", f'must be "{ALL}", a project id, or an absolute folder')
    if wanted == ALL:
        return None
    if not os.path.isabs(wanted):
        return (wanted,)
    found = _ids_at(wanted)
    if found is None:
        raise QueryError("project", f"{wanted[:200]} is in no git repository")
    return found


def place_of(file: str, caller: Caller) -> tuple[str, tuple[str, ...]]:
    """A file as events have it, relative to its repository's root, and all ids of its project.

    A file that is in no repository stays as it is told, and belongs to the caller's project.
    """
    whole = os.path.join(caller.folder or "", file)
    root = find_root(Path(whole)) if os.path.isabs(whole) else None
    if root is None:
        return file, caller.projects or ()
    folder, name = os.path.split(os.path.normpath(whole))
    real = os.path.join(os.path.realpath(folder), name)  # as the root is; the file may be a link
    return os.path.relpath(real, root), project_at(root).ids


def _ids_at(folder: str) -> tuple[str, ...] | None:
    root = find_root(Path(folder))
    return None if root is None else project_at(root).ids


def _decoded(header: str | None, bytes_max: int) -> str | None:
    if header is None:
        return None
    try:
        data = unquote_to_bytes(header.strip())
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text and len(data) <= bytes_max and text.isprintable() else None
