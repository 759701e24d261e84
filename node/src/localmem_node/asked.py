"""The fields of a `Memory`'s calls, checked: the same for both of its forms, in every backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmem_node.results import PROMPT_CHARACTERS_MAX, check_k, check_query
from localmem_node.selection import check_filters


def query_fields(k: int, query: str, explain: bool, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a question. Raises QueryError, TypeError."""
    checked = {"query": check_query(query), "k": check_k(k), "explain": explain}
    return checked | check_filters(filters)


def recent_fields(k: int, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a list of the newest. Raises QueryError, TypeError."""
    return {"k": k, **check_filters(filters)}


def timeline_fields(event_id: str | None, k: int, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a timeline. Raises QueryError, TypeError."""
    return {"id": event_id, "k": k, **check_filters(filters)}


def watch_fields(after: str | None, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a watch. Raises QueryError, TypeError."""
    return {"after": after, **check_filters(filters)}


def context_fields(
    query: str,
    budget_tokens: int,
    session: str | None,
    reset: bool,
    filters: Mapping[str, Any],
) -> dict[str, Any]:
    """Of a block for a model. Raises QueryError, TypeError."""
    asked = {
        "query": check_query(query, PROMPT_CHARACTERS_MAX),
        "budget_tokens": budget_tokens,
        "session": session,
        "reset": reset,
    }
    return check_filters(filters) | asked
