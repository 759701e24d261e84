"""The calls of a node as JSON objects, over an engine: what the daemon answers, without HTTP."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from typing import Any, Final

from localmem_node.engine import Engine
from localmem_node.results import event_json, found_json
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft, parse_draft

RECORD_EVENTS_MAX: Final = 256
"""Events of one call: one sync, and a bound on what a call holds in memory."""


def record(engine: Engine, events: object, folder: object = None) -> dict[str, Any]:
    """Record every event that is right; `failed` names the others by their index.

    Relative paths are relative to `folder`, an absolute path, if there is one. Raises EventError if
    `events` is no list or too long, or `folder` is none, and StoreError.
    """
    if not isinstance(events, list) or not 1 <= len(events) <= RECORD_EVENTS_MAX:
        raise EventError("events", f"must be a list of 1 to {RECORD_EVENTS_MAX} events")
    failed: list[dict[str, Any]] = []
    indexes: list[int] = []
    drafts: list[Draft] = []
    for index, fields in enumerate(events):
        try:
            if not isinstance(fields, dict):
                raise EventError("", "not a JSON object")
            drafts.append(parse_draft(fields))
            indexes.append(index)
        except EventError as error:
            failed.append(failure(index, error))
    admitted: list[tuple[int, Draft]] = []
    for index, draft in zip(indexes, engine.admit(drafts, _folder(folder)), strict=True):
        if isinstance(draft, EventError):
            failed.append(failure(index, draft))
        else:
            admitted.append((index, draft))
    recorded: list[dict[str, Any]] = []
    outcomes = engine.record_admitted([draft for _, draft in admitted])
    for (index, _), outcome in zip(admitted, outcomes, strict=True):
        if isinstance(outcome, EventError):
            failed.append(failure(index, outcome))
        else:
            recorded.append(event_json(outcome))
    failed.sort(key=lambda one: int(one["index"]))
    return {"recorded": recorded, "failed": failed}


def query(engine: Engine, k: Any, text: Any, project: Any) -> dict[str, Any]:
    """What answers a query best. Raises QueryError."""
    found = engine.query_recent(k, text, project=project)
    return {"events": [found_json(one) for one in found]}


def recent(engine: Engine, k: Any, project: Any) -> dict[str, Any]:
    """What was recorded last. Raises QueryError."""
    return {"events": [found_json(one) for one in engine.recent(k, project=project)]}


def failure(index: int, error: EventError) -> dict[str, Any]:
    """Why an event was not recorded."""
    return {"index": index, "field": error.field, "message": error.problem}


def _folder(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or not os.path.isabs(value):
        raise EventError("folder", "must be an absolute path, or null")
    return value


def unknown_field(fields: dict[str, Any], known: Sequence[str]) -> str | None:
    """The first field that a call does not have."""
    return next((name for name in fields if name not in known), None)
