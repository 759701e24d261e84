"""Which events a call is about: of a project, of a kind, from a span of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from localmem_node.errors import QueryError
from localmem_node.results import check_project
from localmem_protocol.events import KINDS, Event
from localmem_protocol.limits import TIMESTAMP_MS_MAX


class Selection(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything, unless narrowed. Times are in milliseconds since 1970, by the events' own
    `timestamp`: `since` included, `before` left out.
    """

    project: str | None = None
    kind: str | None = None
    since: int | None = None
    before: int | None = None

    def takes(self, event: Event) -> bool:
        """Whether an event is among them."""
        return (
            self.project in (None, event.project)
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
    return Selection(
        project=check_project(fields.get("project")),
        kind=kind,
        since=_moment("since", fields.get("since")),
        before=_moment("before", fields.get("before")),
    )


def _moment(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TIMESTAMP_MS_MAX:
        raise QueryError(name, f"must be from 0 to {TIMESTAMP_MS_MAX} ms since 1970")
    return value
