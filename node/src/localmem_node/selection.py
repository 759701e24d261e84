"""Which events a call is about: by where, what, who and when, or by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import msgspec

from localmem_node.errors import QueryError
from localmem_protocol.events import DEVICE_ID_BYTES, ID_BYTES, KINDS, Event, is_device_id
from localmem_protocol.limits import LABEL_BYTES_MAX, PATH_BYTES_MAX, TIMESTAMP_MS_MAX

ID_CHARACTERS: Final = ID_BYTES * 8 // 5
IDS_MAX: Final = 10_000
"""Ids of one call."""

CHOICES_MAX: Final = 32
"""Kinds or tools of one call."""

_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")


class Selection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything, unless narrowed; of several kinds, tools or ids of a project, any.

    `device` is where an event was recorded, 16 hex digits. Times are in milliseconds since 1970, by
    the events' own `timestamp`: `since` included, `before` left out.
    """

    ids: tuple[str, ...] = ()
    project: str | tuple[str, ...] | None = None
    file: str | None = None
    kind: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    device: str | None = None
    session: str | None = None
    since: int | None = None
    before: int | None = None
    unless: tuple[str, int] | None = None
    """A session, and a time: not what it did from then on. Not a field of a call."""

    @property
    def projects(self) -> tuple[str, ...]:
        """The ids of the project that is meant; none if any is."""
        if self.project is None:
            return ()
        return (self.project,) if isinstance(self.project, str) else self.project

    def takes(self, event: Event) -> bool:
        """Whether an event is among them."""
        return (
            (not self.ids or event.id in self.ids)
            and (self.project is None or event.project in self.projects)
            and (
                self.file is None
                or (event.file_path is not None and is_file(event.file_path, self.file))
            )
            and (not self.kind or event.kind in self.kind)
            and (not self.tool or event.tool in self.tool)
            and self.device in (None, event.device)
            and self.session in (None, event.session)
            and (self.since is None or event.timestamp >= self.since)
            and (self.before is None or event.timestamp < self.before)
            and not (
                self.unless is not None
                and event.session == self.unless[0]
                and event.timestamp >= self.unless[1]
            )
        )


EVERYTHING: Final = Selection()

SELECTION_FIELDS: Final = tuple(name for name in Selection.__struct_fields__ if name != "unless")

FILTERS: Final = SELECTION_FIELDS[1:]
"""What narrows a question: all but the ids."""


class Scope(TypedDict, total=False):
    """What narrows a question, as keywords, but for the session: see `Selection`."""

    project: str | Sequence[str] | None
    file: str | None
    kind: str | Sequence[str] | None
    tool: str | Sequence[str] | None
    device: str | None
    since: int | None
    before: int | None


class Filters(Scope, total=False):
    """What narrows a question, as keywords."""

    session: str | None


def parse_selection(fields: Mapping[str, Any]) -> Selection:
    """The selection in the fields of a call. Raises QueryError naming the one that is wrong."""
    kinds = _texts("kind", fields.get("kind"))
    if not set(kinds) <= set(KINDS):
        raise QueryError("kind", f"must be one of {', '.join(KINDS)}, or a list of them")
    file = _text("file", fields.get("file"), PATH_BYTES_MAX)
    if file is not None and not file.strip("/"):
        raise QueryError("file", "must be a path, or the end of one")
    device = _text("device", fields.get("device"), 2 * DEVICE_ID_BYTES)
    if device is not None and not is_device_id(device):
        raise QueryError("device", f"must be {2 * DEVICE_ID_BYTES} lower-case hex digits")
    return Selection(
        ids=check_ids(fields.get("ids")),
        project=_project(fields.get("project")),
        file=file,
        kind=kinds,
        tool=_texts("tool", fields.get("tool")),
        device=device,
        session=_text("session", fields.get("session"), LABEL_BYTES_MAX),
        since=_moment("since", fields.get("since")),
        before=_moment("before", fields.get("before")),
    )


def check_filters(filters: Mapping[str, object]) -> dict[str, Any]:
    """Keywords as the fields of a call. Raises TypeError for one that there is not, QueryError."""
    for name in filters:
        if name not in FILTERS:
            raise TypeError(f"unexpected keyword {name!r}; there are {', '.join(FILTERS)}")
    parse_selection(filters)
    return dict(filters)


def check_ids(value: object) -> tuple[str, ...]:
    """Ids of events, each once. Raises QueryError."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise QueryError("ids", "must be a list of event ids")
    if not 1 <= len(value) <= IDS_MAX:
        raise QueryError("ids", f"are {len(value)}; give 1 to {IDS_MAX}")
    for one in value:
        if len(one) != ID_CHARACTERS or not set(one) <= _BASE32:
            raise QueryError("ids", f"{one[:40]!r} is not the id of an event")
    return tuple(dict.fromkeys(value))


def is_file(path: str, wanted: str) -> bool:
    """Whether a path is the wanted one, below it, or ends with it (unless it begins with a slash)."""
    rooted, wanted = wanted.startswith("/"), wanted.strip("/")
    bare = path.strip("/")
    if (bare == wanted or bare.startswith(f"{wanted}/")) and path.startswith("/") >= rooted:
        return True
    return not rooted and (bare == wanted or bare.endswith(f"/{wanted}"))


def _project(value: object) -> str | tuple[str, ...] | None:
    """One id, or those under which a project was known in the course of time."""
    if value is None or isinstance(value, str):
        return _text("project", value, LABEL_BYTES_MAX)
    return _texts("project", value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    """One text or a list of some, each once."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        value = (value,)
    if not 1 <= len(value) <= CHOICES_MAX:
        raise QueryError(name, f"are {len(value)}; give 1 to {CHOICES_MAX}")
    if None in value:  # not as if nothing was said: that would mean everything
        raise QueryError(name, "must be some text, or a list of texts")
    found = [_text(name, one, LABEL_BYTES_MAX) for one in value]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _text(name: str, value: object, bytes_max: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise QueryError(name, "must be some text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise QueryError(name, "contains half of a surrogate pair") from None
    if size > bytes_max:
        raise QueryError(name, f"{size} bytes, over the limit of {bytes_max}")
    return value


def _moment(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TIMESTAMP_MS_MAX:
        raise QueryError(name, f"must be from 0 to {TIMESTAMP_MS_MAX} ms since 1970")
    return value
