"""Which events a call is about: of a project, a file, a kind, from a span of time, or by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from localmem_node.errors import QueryError
from localmem_node.results import check_project
from localmem_protocol.events import ID_BYTES, KINDS, Event
from localmem_protocol.limits import TIMESTAMP_MS_MAX

ID_CHARACTERS: Final = ID_BYTES * 8 // 5
IDS_MAX: Final = 10_000
"""Ids of one call."""

_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class Selection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything, unless narrowed. Times are in milliseconds since 1970, by the events' own
    `timestamp`: `since` included, `before` left out.
    """

    ids: tuple[str, ...] = ()
    project: str | None = None
    file: str | None = None
    kind: str | None = None
    since: int | None = None
    before: int | None = None

    def takes(self, event: Event) -> bool:
        """Whether an event is among them."""
        return (
            (not self.ids or event.id in self.ids)
            and self.project in (None, event.project)
            and (self.file is None or _is_file(event.file_path, self.file))
            and self.kind in (None, event.kind)
            and (self.since is None or event.timestamp >= self.since)
            and (self.before is None or event.timestamp < self.before)
        )


SELECTION_FIELDS: Final = Selection.__struct_fields__


def parse_selection(fields: Mapping[str, Any]) -> Selection:
    """The selection in the fields of a call. Raises QueryError naming the one that is wrong."""
    kind = fields.get("kind")
    if kind is not None and kind not in KINDS:
        raise QueryError("kind", f"must be one of {', '.join(KINDS)}")
    file = fields.get("file")
    if file is not None and (not isinstance(file, str) or not file.strip("/")):
        raise QueryError("file", "must be a path, or the end of one")
    return Selection(
        ids=check_ids(fields.get("ids")),
        project=check_project(fields.get("project")),
        file=file,
        kind=kind,
        since=_moment("since", fields.get("since")),
        before=_moment("before", fields.get("before")),
    )


def check_ids(value: object) -> tuple[str, ...]:
    """Ids of events, each once. Raises QueryError."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise QueryError("ids", "must be a list of event ids")
    if not 1 <= len(value) <= IDS_MAX:
        raise QueryError("ids", f"are {len(value)}; give 1 to {IDS_MAX}")
    for one in value:
        if len(one) != ID_CHARACTERS or not set(one) <= _BASE32:
            raise QueryError("ids", f"{one[:40]!r} is not the id of an event")
    return tuple(dict.fromkeys(value))


def _is_file(path: str | None, wanted: str) -> bool:
    """Whether a path is the wanted one, below it, or ends with it (unless it begins with a slash)."""
    if path is None:
        return False
    parts, names = path.strip("/").split("/"), wanted.strip("/").split("/")
    if parts[: len(names)] == names and path.startswith("/") >= wanted.startswith("/"):
        return True
    return not wanted.startswith("/") and parts[-len(names) :] == names


def _moment(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TIMESTAMP_MS_MAX:
        raise QueryError(name, f"must be from 0 to {TIMESTAMP_MS_MAX} ms since 1970")
    return value
