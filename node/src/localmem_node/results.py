"""What a search finds, and its JSON form: the same names on every face of localmem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from localmem_node.errors import DaemonError, QueryError
from localmem_protocol.events import Event

K_MAX: Final = 1000
"""Most events that one query returns."""

QUERY_CHARACTERS_MAX: Final = 10_000
"""Longest query; what comes after some 256 words would not be encoded anyway."""


class Found(msgspec.Struct, frozen=True):
    """An event that answers a query, and how well: 0 to 1; 0 where nothing was asked."""

    event: Event
    score: float


def check_k(k: object) -> int:
    """`k` if that many events can be asked for. Raises QueryError."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= K_MAX:
        raise QueryError("k", f"must be a whole number from 1 to {K_MAX}")
    return k


def check_query(query: object) -> str:
    """`query` if it can be searched for. Raises QueryError."""
    if not isinstance(query, str) or not query.strip():
        raise QueryError("query", "is empty; say what to look for")
    if len(query) > QUERY_CHARACTERS_MAX:
        raise QueryError(
            "query", f"{len(query)} characters, over the limit of {QUERY_CHARACTERS_MAX}"
        )
    try:
        query.encode()
    except UnicodeEncodeError:
        raise QueryError("query", "contains half of a surrogate pair") from None
    return query


def check_project(project: object) -> str | None:
    """`project` if it can be one. Raises QueryError."""
    if project is not None and (not isinstance(project, str) or not project):
        raise QueryError("project", "must be a project id")
    return project


def event_json(event: Event) -> dict[str, Any]:
    """An event as a JSON object: integer milliseconds, `[first, last]` lines, hex."""
    return {
        "id": event.id,
        "timestamp": event.timestamp,
        "filePath": event.file_path,
        "selectionRange": event.selection_range,
        "snippet": event.snippet,
        "modelResponseHash": event.model_response_hash,
        "device": event.device,
        "project": event.project,
        "kind": event.kind,
        "tool": event.tool,
        "session": event.session,
        "pinned": event.pinned,
        "clock": event.clock,
        "sequence": event.sequence,
    }


def found_json(found: Found) -> dict[str, Any]:
    """An event with its score, as a JSON object."""
    return event_json(found.event) | {"score": round(found.score, 6)}


def parse_event(fields: Mapping[str, Any]) -> Event:
    """The inverse of `event_json`. Raises DaemonError for what no daemon of this version sends."""
    try:
        return msgspec.convert(fields, Event)
    except msgspec.ValidationError as error:
        raise DaemonError(
            f"the daemon's answer is not understood ({error}); run: localmem down"
        ) from None


def parse_found(fields: Mapping[str, Any]) -> Found:
    """The inverse of `found_json`. Raises DaemonError."""
    return Found(parse_event(fields), float(fields.get("score", 0.0)))
