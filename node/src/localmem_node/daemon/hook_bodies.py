"""What requests about hooks hold, checked."""

from __future__ import annotations

from typing import Final

from localmem_node.editors.captured import Captured
from localmem_node.errors import QueryError
from localmem_node.project import is_project_id
from localmem_protocol.errors import EventError
from localmem_protocol.events import parse_draft

KEY_BYTES_MAX: Final = 4096
KEYS_MAX: Final = 16
"""Of one event that a transcript brings."""

_FIELDS: Final = frozenset({"event", "key", "also"})


def parse_captured(fields: object) -> Captured:
    """An event and its keys, from a JSON object. Raises EventError naming what is wrong."""
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS:
        raise EventError("", "must be an object of event, key and also")
    key, also, event = fields.get("key"), fields.get("also", []), fields.get("event")
    if not isinstance(also, list) or len(also) > KEYS_MAX:
        raise EventError("also", f"must be a list of at most {KEYS_MAX} keys")
    for name, one in (("key", key), *(("also", one) for one in also)):
        if not isinstance(one, str) or not 0 < len(one) <= KEY_BYTES_MAX:
            raise EventError(name, f"must be a text of 1 to {KEY_BYTES_MAX} characters")
    if not isinstance(event, dict):
        raise EventError("event", "must be an object")
    assert isinstance(key, str)
    return Captured(parse_draft(event), key, tuple(also))


def parse_projects(value: object) -> tuple[str, ...]:
    """Ids of projects, from a list or nothing. Raises QueryError."""
    if value is None:
        return ()
    ids = [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(ids) != len(value) or not all(map(is_project_id, ids)):
        raise QueryError("projects", "must be a list of project ids")
    return tuple(ids)
