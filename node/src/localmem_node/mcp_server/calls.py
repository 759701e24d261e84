"""The tools and resources over an engine: JSON arguments to an answer, without the SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from localmem_node.engine import Engine
from localmem_node.errors import QueryError
from localmem_node.mcp_server.scope import Caller, place_of, resolve_project
from localmem_node.mcp_server.shown import IDS_SHOWN, details_of, lines_of
from localmem_node.mcp_server.tools import (
    DETAILS_MAX,
    EVENT_URI,
    FORGET_MAX,
    K_DEFAULT,
    PROJECT_END,
    PROJECT_URI,
    RECENT_URI,
    TIMELINE_DEFAULT,
    TOOLS,
    ToolName,
)
from localmem_node.moments import FORMS, parse_moment
from localmem_node.results import Found, check_flag, check_k
from localmem_node.selection import Selection, check_ids, parse_selection
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event, parse_draft
from localmem_protocol.seams import Clock

ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    tool.name: tool.input_schema["properties"] for tool in TOOLS
}
REQUIRED: Final[Mapping[str, Sequence[str]]] = {
    tool.name: tool.input_schema.get("required", ()) for tool in TOOLS
}

_DRAFT_NAMES: Final = {"snippet": "text", "filePath": "file", "selectionRange": "lines"}
"""How an argument is called that an event has under another name."""


class Answer(NamedTuple):
    """What a tool says: `text`, and the same with what belongs to it as a JSON object.

    Clients show a model one or the other, so that both are whole.
    """

    text: str
    structured: dict[str, Any]


class Calls:
    """Thread-safe. `used` is told the ids whose details were asked for; `closed` says of the ids of a
    project why nothing of it is to be recorded now, "" if it may be."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        used: Callable[[Sequence[str]], None] | None = None,
        closed: Callable[[Sequence[str]], str] | None = None,
    ) -> None:
        self._engine, self._clock = engine, clock
        self._used = used or (lambda ids: None)
        self._closed = closed or (lambda projects: "")
        self._tools: dict[str, Callable[[dict[str, Any], Caller], Answer]] = {
            "query_recent": self._query_recent,
            "record_event": self._record_event,
            "timeline": self._timeline,
            "pin": self._pin,
            "forget": self._forget,
        }

    def call(self, name: ToolName, arguments: Mapping[str, Any] | None, caller: Caller) -> Answer:
        """What a tool answers. Raises NodeError and EventError, whose texts are for the model."""
        given = {key: value for key, value in (arguments or {}).items() if value is not None}
        for key, value in given.items():
            if key not in ARGUMENTS[name]:
                known = ", ".join(ARGUMENTS[name])
                raise QueryError(key[:40], f"is no argument of {name}; there are {known}")
            if isinstance(value, str):
                _check_text(key, value)
        for key in REQUIRED[name]:
            if key not in given:
                raise QueryError(key, "is missing")
        return self._tools[name](given, caller)

    def read(self, uri: str, caller: Caller) -> str:
        """What a resource says. Raises QueryError for an address that has nothing."""
        if uri == RECENT_URI:
            here = caller.projects
            return self._newest(here, "here" if here else "anywhere")
        if uri.startswith(EVENT_URI):
            return self._details([uri.removeprefix(EVENT_URI)]).text
        project = uri.removeprefix(PROJECT_URI).removesuffix(PROJECT_END)
        if uri == f"{PROJECT_URI}{project}{PROJECT_END}" and project:
            return self._newest(parse_selection({"project": project}).projects, "in the project")
        raise QueryError("uri", f"{uri[:200]} is no resource of localmem")

    def _query_recent(self, given: dict[str, Any], caller: Caller) -> Answer:
        if "ids" in given:
            others = sorted(given.keys() - {"ids"})
            if others:
                raise QueryError(others[0], "does not go with ids; give ids alone")
            return self._details(given["ids"])
        k = check_k(given.get("k", K_DEFAULT))
        project = resolve_project(given.get("project"), caller)
        selection = self._selection(given, project, ("file", "kind", "tool", "since", "before"))
        if "query" in given:
            found = self._engine.query_recent(k, given["query"], selection=selection)
            order = "best first"
        else:
            found = self._engine.recent(k, selection=selection)
            order = "newest first"
        if not found:
            return _answer(_nothing(project is not None and "project" not in given), ())
        heading = f"{len(found)} {_where(project, given)}, {order}; ids give details"
        return self._listed(found, heading, caller)

    def _record_event(self, given: dict[str, Any], caller: Caller) -> Answer:
        text, file = given["text"], given.get("file")
        projects = here = caller.projects or ()
        if isinstance(file, str):
            file, projects = place_of(file, caller)
        elif file is not None:
            raise QueryError("file", "must be a path")
        if reason := self._closed((*here, *projects)):
            raise QueryError("text", f"nothing is recorded: {reason}")
        fields: dict[str, Any] = {
            "timestamp": self._clock.now_ms(),
            "snippet": text,
            "kind": given.get("kind", "note"),
            "tool": caller.tool,
            "project": projects[0] if projects else None,
            "pinned": given.get("pinned", False),
        }
        if file is not None:
            fields["filePath"] = file
        if "lines" in given:
            fields["selectionRange"] = given["lines"]
        try:
            event = self._engine.record([parse_draft(fields)], caller.folder)[0]
        except EventError as error:
            raise EventError(_DRAFT_NAMES.get(error.field, error.field), error.problem) from None
        left_out = "" if event.snippet == text else "; what looked secret was left out"
        return _answer(f"Recorded as {event.id}{left_out}.", (event.id,))

    def _timeline(self, given: dict[str, Any], caller: Caller) -> Answer:
        k = check_k(given.get("k", TIMELINE_DEFAULT))
        if "id" in given:
            return self._around(given, k, caller)
        in_session = "session" in given
        # A session is of one project as a rule, and is meant wherever it was.
        asked = given.get("project", "all" if in_session else None)
        project = resolve_project(asked, caller)
        selection = self._selection(given, project, ("session", "since", "before"))
        found = self._engine.recent(k, selection=selection)
        if not found:
            return _answer(_nothing(project is not None and "project" not in given), ())
        found.sort(key=lambda one: (one.event.timestamp, one.event.order))
        where = "of the session" if in_session else _where(project, given)
        return self._listed(found, f"The newest {len(found)} {where}, oldest first", caller)

    def _around(self, given: dict[str, Any], k: int, caller: Caller) -> Answer:
        event = self._events([given["id"]], "id")[0]
        names = ("session", "since", "before")
        asked: dict[str, Any] = {name: given[name] for name in names if name in given}
        project: tuple[str, ...] | None = (event.project,) if event.project else None
        if "project" in given:
            project = resolve_project(given["project"], caller)
        elif event.session is not None:
            asked.setdefault("session", event.session)
        selection = self._selection(asked, project, names)
        older = (k - 1) // 2
        events = self._engine.around(event.id, older, k - 1 - older, selection=selection)
        found = [Found(one, 0.0) for one in events]
        what = "its session" if "session" in asked else "its project"
        return self._listed(found, f"Around {event.id} in {what}, oldest first", caller)

    def _pin(self, given: dict[str, Any], caller: Caller) -> Answer:
        pinned = check_flag("pinned", given.get("pinned", True))
        ids = _ids([given["id"]], "id", 1)
        event = self._engine.maintenance.pin(ids[0], pinned=pinned)
        return _answer(f"{event.id} is {'pinned' if pinned else 'not pinned any more'}.", ids)

    def _forget(self, given: dict[str, Any], caller: Caller) -> Answer:
        ids = _ids(given["ids"], "ids", FORGET_MAX)
        events = self._engine.maintenance.select(Selection(ids=ids))
        here = [event.id for event in events]
        unknown = [one for one in ids if one not in here]
        if not here:
            raise QueryError("ids", "none of them is here; nothing was forgotten")
        self._engine.maintenance.forget(here)
        now_ms = self._clock.now_ms()
        text = lines_of([Found(event, 0.0) for event in events], now_ms, f"Forgot {len(here)}")
        if unknown:
            text += f"Not here: {', '.join(unknown)}\n"
        return Answer(text, {"text": text, "forgotten": here, "unknown": unknown})

    def _details(self, wanted: object) -> Answer:
        events = self._events(wanted, "ids")
        ids = [event.id for event in events]
        self._engine.answered(ids)
        self._used(ids)
        text = details_of(events, self._clock.now_ms(), self._engine.device)
        unknown = [one for one in check_ids(wanted) if one not in ids]
        if unknown:
            text += f"Not here: {', '.join(unknown)}\n"
        return _answer(text, ids)

    def _events(self, wanted: object, argument: str) -> list[Event]:
        """The events with these ids, in their order. Raises QueryError if none is here."""
        ids = _ids(wanted, argument, DETAILS_MAX)
        found = {event.id: event for event in self._engine.maintenance.select(Selection(ids=ids))}
        if not found:
            raise QueryError(argument, f"{', '.join(ids[:3])}: no such event here (any more)")
        return [found[one] for one in ids if one in found]

    def _newest(self, project: tuple[str, ...] | None, where: str) -> str:
        found = self._engine.recent(TIMELINE_DEFAULT, selection=Selection(project=project))
        heading = f"The newest {len(found)} {where}, newest first"
        return lines_of(found, self._clock.now_ms(), heading) if found else "Nothing yet.\n"

    def _listed(self, found: Sequence[Found], heading: str, caller: Caller) -> Answer:
        text = lines_of(found, self._clock.now_ms(), heading, here=_ids_here(found, caller))
        return _answer(text, [one.event.id for one in found])

    def _selection(
        self, given: Mapping[str, Any], project: tuple[str, ...] | None, names: Sequence[str]
    ) -> Selection:
        fields = {name: given[name] for name in names if name in given}
        for name in ("since", "before"):
            if name in fields:
                fields[name] = self._moment(name, fields[name])
        projects = None if project is None else list(project)
        return parse_selection({**fields, "project": projects})

    def _moment(self, name: str, value: object) -> int:
        text = str(value) if isinstance(value, int) else value
        moment = parse_moment(text, self._clock.now_ms()) if isinstance(text, str) else None
        if moment is None:
            raise QueryError(name, f"is {FORMS}")
        return moment


def _ids_here(found: Sequence[Found], caller: Caller) -> Sequence[str] | None:
    """The ids of the caller's project, if it has one: those of before only where one could be meant."""
    now = caller.project
    if now is None or all(one.event.project == now for one in found):
        return None if now is None else (now,)
    return caller.projects


def _answer(text: str, ids: Sequence[str]) -> Answer:
    return Answer(text, {"text": text, "contextIds": list(ids[:IDS_SHOWN])})


def _nothing(narrowed: bool) -> str:
    return "Nothing found" + (
        ' in this project; project "all" looks in every one.' if narrowed else "."
    )


def _where(project: tuple[str, ...] | None, given: Mapping[str, Any]) -> str:
    if project is None:
        return "of all projects"
    return "of the project" if "project" in given else "of this project"


def _ids(value: object, argument: str, most: int) -> tuple[str, ...]:
    try:
        ids = check_ids(value)
    except QueryError as error:
        raise QueryError(argument, error.problem) from None
    if len(ids) > most:
        raise QueryError(argument, f"are {len(ids)}; give 1 to {most}")
    return ids


def _check_text(name: str, value: str) -> None:
    if not value.strip():
        raise QueryError(name, "is empty")
    if "\0" in value:
        raise QueryError(name, "contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(name, "contains half of a surrogate pair") from None
