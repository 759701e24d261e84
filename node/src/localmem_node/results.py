"""What a search finds, and its JSON form: the same names on every face of localmem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from localmem_node.errors import DaemonError, QueryError
from localmem_protocol.events import Event

K_MAX: Final = 100
"""Most events that one query returns: more than anybody reads, and each is opened and decoded."""

K_DEFAULT: Final = 10

RECENT_MAX: Final = 1000
"""Most events that are listed without a question."""

BUDGET_DEFAULT: Final = 1500
BUDGET_MAX: Final = 1_000_000
"""Tokens of a context block; above some 5,000 its characters decide."""

QUERY_CHARACTERS_MAX: Final = 10_000
"""Longest query; what comes after some 256 words would not be encoded anyway."""


PROMPT_CHARACTERS_MAX: Final = 200_000
"""Longest prompt that a context block is made for; of more than a query's its ends are looked for."""


class Found(msgspec.Struct, frozen=True):
    """An event that answers a query, and how well: 0 to 1; 0 where nothing was asked.

    `evidence` is what carried it, by name, and how much each adds to the logit of the score;
    `duplicates` counts events so like it that they are left out.
    """

    event: Event
    score: float
    evidence: tuple[tuple[str, float], ...] = ()
    duplicates: int = 0


class Context(NamedTuple):
    """A block of text for a model: `ids` are those of the events in it, in its order; `tokens` is an
    estimate, on the high side. Empty where there is nothing to say.
    """

    text: str = ""
    ids: tuple[str, ...] = ()
    tokens: int = 0


def check_budget(tokens: object) -> int:
    """`tokens` if a block can have that many. Raises QueryError."""
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= BUDGET_MAX:
        raise QueryError("budget_tokens", f"must be a whole number from 1 to {BUDGET_MAX}")
    return tokens


def check_k(k: object, most: int = K_MAX) -> int:
    """`k` if that many events can be asked for. Raises QueryError."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
        raise QueryError("k", f"must be a whole number from 1 to {most}")
    return k


def shortened(query: str) -> str:
    """A prompt as a query: of a long one, which has a log pasted into it, its beginning and end."""
    if len(query) <= QUERY_CHARACTERS_MAX:
        return query
    half = QUERY_CHARACTERS_MAX // 2
    return f"{query[:half]}\n{query[1 - half :]}"


def check_flag(name: str, value: object) -> bool:
    """`value` if it is true or false. Raises QueryError naming it."""
    if not isinstance(value, bool):
        raise QueryError(name, "must be true or false")
    return value


def check_query(query: object, most: int = QUERY_CHARACTERS_MAX) -> str:
    """`query` if it can be searched for. Raises QueryError."""
    if not isinstance(query, str) or not query.strip():
        raise QueryError("query", "is empty; say what to look for")
    if len(query) > most:
        raise QueryError("query", f"{len(query)} characters, over the limit of {most}")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise QueryError("query", "contains half of a surrogate pair") from None
    return query


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


def found_json(found: Found, *, explain: bool = False) -> dict[str, Any]:
    """An event with its score, as a JSON object; with what carried it if that is asked for."""
    fields = event_json(found.event)
    fields |= {"score": round(found.score, 6), "duplicates": found.duplicates}
    if explain:
        fields["evidence"] = {name: round(value, 6) for name, value in found.evidence}
    return fields


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
    return Found(
        parse_event(fields),
        float(fields.get("score", 0.0)),
        tuple(fields.get("evidence", {}).items()),
        int(fields.get("duplicates", 0)),
    )
