"""The calls of a node as JSON objects, over an engine: what the daemon answers, without HTTP."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from localmem_node.context import HITS, SCORE_MIN, render
from localmem_node.delivered import Delivered
from localmem_node.engine import Engine
from localmem_node.errors import QueryError
from localmem_node.results import (
    BUDGET_DEFAULT,
    K_DEFAULT,
    PROMPT_CHARACTERS_MAX,
    RECENT_MAX,
    Context,
    check_budget,
    check_flag,
    check_k,
    check_query,
    event_json,
    found_json,
    shortened,
)
from localmem_node.selection import FILTERS, SELECTION_FIELDS, check_ids, parse_selection
from localmem_protocol.errors import EventError
from localmem_protocol.events import (
    Draft,
    Event,
    Order,
    draft_of,
    is_device_id,
    parse_draft,
    parse_recorded,
    stamp,
)

RECORD_EVENTS_MAX: Final = 256
"""Events of one call: one sync, and a bound on what a call holds in memory."""

PAGE_EVENTS: Final = 128
"""Events looked at for one page of an export: some 10 ms, which a query may have to wait."""

QUERY_FIELDS: Final = ("query", "k", "explain", *FILTERS)
RECENT_FIELDS: Final = ("k", *FILTERS)
CONTEXT_FILTERS: Final = tuple(name for name in FILTERS if name != "session")
CONTEXT_FIELDS: Final = ("query", "budget_tokens", "session", "reset", *CONTEXT_FILTERS)
TIMELINE_FIELDS: Final = ("id", "k", *FILTERS)
EXPORT_FIELDS: Final = ("cursor", *SELECTION_FIELDS)
"""What a call may have."""


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an export has come, and where it ends: with what was the newest when it began."""

    after: Order
    until: Order


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
    for index, draft in zip(indexes, engine.admit(drafts, check_folder(folder)), strict=True):
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


def query(engine: Engine, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What answers a query best; `fields` are of QUERY_FIELDS. Raises QueryError."""
    explain = check_flag("explain", fields.get("explain", False))
    k, text = fields.get("k", K_DEFAULT), fields.get("query", "")
    found = engine.query_recent(k, text, selection=parse_selection(fields), explain=explain)
    return {"events": [found_json(one, explain=explain) for one in found]}


def recent(engine: Engine, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was recorded last; `fields` are of RECENT_FIELDS. Raises QueryError."""
    found = engine.recent(fields.get("k", K_DEFAULT), selection=parse_selection(fields))
    return {"events": [found_json(one) for one in found]}


def timeline(engine: Engine, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Events in order, oldest first: `k` around the one with the id `id`, or without it the newest.

    `fields` are of TIMELINE_FIELDS. Raises QueryError, also for an id that is not here.
    """
    k, selection = check_k(fields.get("k", K_DEFAULT), RECENT_MAX), parse_selection(fields)
    if fields.get("id") is None:
        events = [one.event for one in reversed(engine.recent(k, selection=selection))]
        return {"events": [event_json(event) for event in events]}
    try:
        event_id = check_ids([fields["id"]])[0]
    except QueryError:
        raise QueryError("id", "is not the id of an event") from None
    if not engine.around(event_id, 0, 0):
        raise QueryError("id", "there is no such event here")
    older = (k - 1) // 2
    events = engine.around(event_id, older, k - 1 - older, selection=selection)
    return {"events": [event_json(event) for event in events]}


def context(
    engine: Engine, delivered: Delivered, fields: Mapping[str, Any], now_ms: int
) -> dict[str, Any]:
    """What answers a query, as a block for a model; `fields` are of CONTEXT_FIELDS.

    A session is not told again what it was told; `reset` makes it forget that, and goes without a
    query. Raises QueryError.
    """
    reset = check_flag("reset", fields.get("reset", False))
    budget = check_budget(fields.get("budget_tokens", BUDGET_DEFAULT))
    # Whose context it is, not whose events: they come from every session.
    session = parse_selection({"session": fields.get("session")}).session
    selection = parse_selection({name: fields.get(name) for name in CONTEXT_FILTERS})
    if reset:
        if session is None:
            raise QueryError("reset", "needs a session")
        delivered.reset(session)
        if fields.get("query") is None:
            return _context_json(Context())
    text = check_query(fields.get("query", ""), PROMPT_CHARACTERS_MAX)
    found = engine.query_recent(HITS, shortened(text), selection=selection, counted=False)
    found = [one for one in found if one.score >= SCORE_MIN]
    events = [one.event for one in found]
    known = set() if session is None else delivered.known(session, events)
    block = render(
        found,
        text,
        budget_tokens=budget,
        now_ms=now_ms,
        device=engine.device,
        delivered=known,
    )
    engine.answered(block.ids)
    if session is not None:
        delivered.add(session, [event for event in events if event.id in block.ids])
    return _context_json(block)


def export_page(engine: Engine, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The next events of an export, in `Event.order`; the first without a cursor.

    `cursor` in the answer is for the next call, and None at the end; a page may be empty before.
    Raises QueryError.
    """
    selection = parse_selection(fields)
    cursor = _cursor(fields.get("cursor"))
    until = cursor.until if cursor else next((f.event.order for f in engine.recent(1)), None)
    events, after = engine.page(cursor.after if cursor else None, PAGE_EVENTS)
    answer: dict[str, Any] = {"device": engine.device, "events": [], "cursor": None}
    if until is not None:
        answer["events"] = [
            event_json(event) for event in events if event.order <= until and selection.takes(event)
        ]
        if after is not None and after < until:
            answer["cursor"] = Cursor(after, until)
    return answer


def import_events(engine: Engine, events: object) -> dict[str, Any]:
    """Keep events of an export, whole and durable, each at most once, however often it is sent.

    Answers how many were `new`, `known`, or `too_old` (older than what a full ring would give up
    for them), which were `refused`, by index, and how many events were `evicted` meanwhile. Raises
    EventError if `events` is no list or too long, and StoreError.
    """
    if not isinstance(events, list) or not 1 <= len(events) <= RECORD_EVENTS_MAX:
        raise EventError("events", f"must be a list of 1 to {RECORD_EVENTS_MAX} events")
    evicted = engine.evicted
    chosen = _choose(engine, events)
    new = len(engine.insert([event for _, event in chosen.fresh.values()], refused=chosen.refuse))
    return {
        "new": new,
        "known": len(events) - new - chosen.too_old - len(chosen.refused),
        "too_old": chosen.too_old,
        "refused": sorted(chosen.refused, key=lambda one: int(one["index"])),
        "evicted": engine.evicted - evicted,
    }


def _context_json(block: Context) -> dict[str, Any]:
    return {
        "text": block.text,
        "contextIds": list(block.ids),
        "tokens": block.tokens,
        "characters": len(block.text),
    }


def failure(index: int, error: EventError) -> dict[str, Any]:
    """Why an event was not recorded."""
    return {"index": index, "field": error.field, "message": error.problem}


def check_folder(value: object) -> str | None:
    """A folder that a call names, or None. Raises EventError."""
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or not os.path.isabs(value):
        raise EventError("folder", "must be an absolute path, or null")
    return value


def unknown_field(fields: dict[str, Any], known: Sequence[str]) -> str | None:
    """The first field that a call does not have."""
    return next((name for name in fields if name not in known), None)


def _cursor(value: object) -> Cursor | None:
    if value is None:
        return None
    try:
        cursor = msgspec.convert(value, Cursor)
    except msgspec.ValidationError as error:
        raise QueryError("cursor", f"is not one that an answer had: {error}") from None
    if not (is_device_id(cursor.after[1]) and is_device_id(cursor.until[1])):
        raise QueryError("cursor", "is not one that an answer had: it names no device")
    return cursor


@dataclass(slots=True)
class _Choice:
    """What is to become of the events of a call; `fresh` are those to insert, by id."""

    fresh: dict[str, tuple[int, Event]] = field(default_factory=dict)
    too_old: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, event: Event, error: EventError) -> None:
        self.refused.append(failure(self.fresh[event.id][0], error))


def _choose(engine: Engine, events: list[Any]) -> _Choice:
    chosen = _Choice()
    arrived: list[tuple[int, Event]] = []
    for index, fields in enumerate(events):
        try:
            if not isinstance(fields, dict):
                raise EventError("", "not a JSON object")
            event = parse_recorded(fields)
        except EventError as error:
            chosen.refused.append(failure(index, error))
        else:
            if not engine.holds(event.id):
                arrived.append((index, event))
    next_to_leave = engine.next_to_leave()
    drafts = engine.admit([draft_of(event) for _, event in arrived])
    for (index, event), draft in zip(arrived, drafts, strict=True):
        if isinstance(draft, EventError):
            chosen.refused.append(failure(index, draft))
            continue
        # What is redacted gets the id that follows from what is left, so that it is known next time.
        kept = stamp(draft, device=event.device, clock=event.clock, sequence=event.sequence)
        if kept.id in chosen.fresh or engine.holds(kept.id):
            continue
        if next_to_leave is not None and kept.order < next_to_leave and not kept.pinned:
            chosen.too_old += 1
        else:
            chosen.fresh[kept.id] = index, kept
    return chosen
