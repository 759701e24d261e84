"""The JSON objects of the daemon's interface, as JSON Schema 2020-12: the components of its document.

Bounds are those of the code that checks them, by name, so that they cannot drift.
"""

from __future__ import annotations

from typing import Any, Final

from localmem_node.results import (
    BUDGET_DEFAULT,
    BUDGET_MAX,
    K_DEFAULT,
    K_MAX,
    PROMPT_CHARACTERS_MAX,
    QUERY_CHARACTERS_MAX,
    RECENT_MAX,
)
from localmem_node.selection import CHOICES_MAX, ID_CHARACTERS, IDS_MAX
from localmem_node.service import RECORD_EVENTS_MAX
from localmem_node.watch import HEARTBEAT_S, HEARTBEAT_S_MAX
from localmem_protocol.events import KINDS
from localmem_protocol.limits import (
    LABEL_BYTES_MAX,
    LINE_MAX,
    MARK_MAX,
    PATH_BYTES_MAX,
    SNIPPET_BYTES_MAX,
    TIMESTAMP_MS_MAX,
)

Schema = dict[str, Any]

_BYTES: Final = "At most {} bytes of UTF-8."


def ref(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(needed: Schema, optional: Schema | None = None, *, said: str = "") -> Schema:
    """All that is needed, some that is optional, and nothing else."""
    made: Schema = {
        "type": "object",
        "properties": needed | (optional or {}),
        "required": list(needed),
        "additionalProperties": False,
    }
    return made | ({"description": said} if said else {})


def _text(most: int, **more: Any) -> Schema:
    described = {"description": _BYTES.format(most)}
    return {"type": "string", "minLength": 1, "maxLength": most} | described | more


def _or_null(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str):
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _whole(least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most} | more


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    made: Schema = {"type": "array", "items": items}
    if least:
        made["minItems"] = least
    return made if most is None else made | {"maxItems": most}


def _one_or_more(schema: Schema) -> Schema:
    return {"anyOf": [schema, _list(schema, 1, CHOICES_MAX), {"type": "null"}]}


_PRINTABLE: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
_SOMETHING: Final = "\\S"
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_SAID: Final[Schema] = {"type": "string"}
_ID: Final[Schema] = {"type": "string", "pattern": f"^[a-z2-7]{{{ID_CHARACTERS}}}$"}
_DEVICE: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_LABEL: Final = _text(LABEL_BYTES_MAX)
_MOMENT: Final = _whole(0, TIMESTAMP_MS_MAX, description="Milliseconds since 1970.")
_MARK: Final = _whole(0, MARK_MAX, format="int64", description="May be above 2^53.")
_RANGE: Final[Schema] = {
    "type": "array",
    "prefixItems": [_whole(1, LINE_MAX), _whole(1, LINE_MAX)],
    "minItems": 2,
    "maxItems": 2,
    "description": "First and last line, 1-based.",
}
_HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_KIND: Final = ref("Kind")

_DRAFT: Final[Schema] = {
    "filePath": _or_null(_text(PATH_BYTES_MAX, pattern=_PRINTABLE)),
    "selectionRange": _or_null(_RANGE),
    "modelResponseHash": _or_null(_HASH),
    "kind": _KIND,
    "tool": _or_null(_text(LABEL_BYTES_MAX, pattern=_PRINTABLE)),
    "session": _or_null(_text(LABEL_BYTES_MAX, pattern=_PRINTABLE)),
    "project": _or_null(_text(LABEL_BYTES_MAX, pattern=_PRINTABLE)),
    "pinned": _FLAG,
}
_EVENT: Final[Schema] = {
    "id": _ID,
    "timestamp": _MOMENT,
    "snippet": _SAID,
    **_DRAFT,
    "device": _DEVICE,
    "clock": _MARK,
    "sequence": _whole(1, MARK_MAX, format="int64"),
}
_SCOPE: Final[Schema] = {
    "project": _one_or_more(_LABEL),
    "file": _or_null(_text(PATH_BYTES_MAX, pattern="[^/]")),
    "kind": _one_or_more(_KIND),
    "tool": _one_or_more(_LABEL),
    "device": _or_null(_DEVICE),
    "since": _or_null(_MOMENT),
    "before": _or_null(_MOMENT),
}
_FILTERS: Final[Schema] = _SCOPE | {"session": _or_null(_LABEL)}
_IDS: Final[Schema] = _or_null(_list(_ID, 1, IDS_MAX))
_QUESTION: Final[Schema] = {
    "type": "string", "minLength": 1, "maxLength": QUERY_CHARACTERS_MAX, "pattern": _SOMETHING,
}  # fmt: skip
_TOOK: Final[Schema] = {"type": "number", "minimum": 0}
_POSITION: Final[Schema] = {
    "type": "array",
    "prefixItems": [{"type": "integer"}, _SAID, {"type": "integer"}, _SAID],
    "minItems": 4,
    "maxItems": 4,
}
_CURSOR: Final[Schema] = _object({"after": _POSITION, "until": _POSITION})
_FOLDER: Final[Schema] = {
    "type": ["string", "null"],
    "pattern": "^/[^\\u0000]*$",
    "description": "The absolute path that relative ones are relative to.",
}
_REFUSED: Final = _list(ref("Refused"))


def _by_default(schema: Schema, value: object) -> Schema:
    return schema | {"default": value}


SCHEMAS: Final[dict[str, Schema]] = {
    "Anything": {"type": "object"},
    "Nothing": _object({}),
    "Kind": {"enum": list(KINDS)},
    "Error": _object({"error": ref("Problem")}),
    "Problem": _object(
        {
            "code": {"type": "string", "description": "Stable, for programs."},
            "message": {"type": "string", "description": "One line, for people."},
            "field": {"type": ["string", "null"], "description": "What was wrong of the request."},
        }
    ),
    "Health": _object({"ok": {"const": True}}),
    "Stopping": _object({"stopping": {"const": True}}),
    "Status": {
        "type": "object",
        "properties": {
            "device": _DEVICE,
            "events": _COUNT,
            "daemon": _object({"version": _SAID, "uptime_s": _TOOK}),
            "services": {"type": "object"},
        },
        "required": ["device", "events", "daemon", "services"],
    },
    "Draft": _object(
        {"timestamp": _MOMENT, "snippet": _text(SNIPPET_BYTES_MAX, pattern=_SOMETHING)},
        _DRAFT,
        said="An event as offered. Edits, the default kind, and reads need filePath and "
        "selectionRange.",
    ),
    "Event": _object(_EVENT, said="An event as recorded."),
    "FoundEvent": _object(
        _EVENT | {"score": {"type": "number", "minimum": 0, "maximum": 1}, "duplicates": _COUNT},
        {"evidence": {"type": "object", "additionalProperties": {"type": "number"}}},
        said="An event that answers a question, and how well; 0 where nothing was asked.",
    ),
    "Events": _object({"events": _list(ref("Event"))}),
    "FoundEvents": _object({"events": _list(ref("FoundEvent")), "took_ms": _TOOK}),
    "OneEvent": _object({"event": ref("Event")}),
    "Refused": _object(
        {"index": _COUNT, "field": _SAID, "message": _SAID},
        said="An event that was not taken, by its place in the request, and why.",
    ),
    "Recording": _object(
        {"events": _list(ref("Draft"), 1, RECORD_EVENTS_MAX)},
        {"folder": _FOLDER},
    ),
    "Recorded": _object({"recorded": _list(ref("Event")), "failed": _REFUSED}),
    "Query": _object(
        {"query": _QUESTION},
        {"k": _by_default(_whole(1, K_MAX), K_DEFAULT), "explain": _by_default(_FLAG, False)}
        | _FILTERS,
    ),
    "Recent": _object({}, {"k": _by_default(_whole(1, RECENT_MAX), K_DEFAULT)} | _FILTERS),
    "Timeline": _object(
        {},
        {
            "id": _or_null(_ID),
            "k": _by_default(_whole(1, RECENT_MAX), K_DEFAULT),
        }
        | _FILTERS,
        said="Around the event with this id, or without one the newest; k in all.",
    ),
    "Watching": _object(
        {},
        {
            "after": _or_null(_ID)
            | {"description": "The last event that was seen: what came after it is told first."},
            "heartbeat_s": _by_default(_whole(1, HEARTBEAT_S_MAX), HEARTBEAT_S),
        }
        | _FILTERS,
    ),
    "WatchLine": {
        "description": "The first line says `watching`; then come events, heartbeats in quiet "
        "times, and an error as the last line if the daemon ends it.",
        "anyOf": [
            _object({"watching": ref("Watched")}),
            _object({"event": ref("Event")}),
            _object({"heartbeat": {"const": True}}),
            ref("Error"),
        ],
    },
    "Watched": _object(
        {
            "complete": {
                "type": "boolean",
                "description": "False if events of other devices may have arrived after `after` "
                "that are not told; those of this device always are, unless `after` is gone.",
            },
            "after": _or_null(_ID)
            | {"description": "What to name as `after` if this breaks before any event came."},
        }
    ),
    "Pinning": _object({"id": _ID}, {"pinned": _by_default(_FLAG, True)}),
    "Forgetting": _object(
        {},
        {
            "ids": _IDS,
            "query": _or_null(_QUESTION),
            "k": _by_default(_whole(1, K_MAX), K_DEFAULT),
            "dry_run": _by_default(_FLAG, False),
        }
        | _FILTERS,
        said="Everything that is meant; with `dry_run` it is only named.",
    ),
    "Forgotten": _object(
        {
            "count": _COUNT,
            "events": _list(ref("Event"), 0, RECENT_MAX),
            "forgotten": _FLAG,
            "copies": _list(_SAID),
        }
    ),
    "ContextQuery": _object(
        {},
        {
            "query": _or_null(_QUESTION | {"maxLength": PROMPT_CHARACTERS_MAX}),
            "budget_tokens": _by_default(_whole(1, BUDGET_MAX), BUDGET_DEFAULT),
            "session": _or_null(_LABEL),
            "reset": _by_default(_FLAG, False),
        }
        | _SCOPE,
        said="Needs a query, or `reset` and a session.",
    ),
    "Context": _object(
        {
            "text": _SAID,
            "contextIds": _list(_ID),
            "tokens": _COUNT,
            "characters": _COUNT,
            "took_ms": _TOOK,
        }
    ),
    "Export": _object({}, {"cursor": _or_null(_CURSOR), "ids": _IDS} | _FILTERS),
    "Page": _object(
        {"device": _DEVICE, "events": _list(ref("Event")), "cursor": _or_null(_CURSOR)}
    ),
    "Import": _object({"events": _list(ref("Event"), 1, RECORD_EVENTS_MAX)}),
    "Imported": _object(
        {"new": _COUNT, "known": _COUNT, "too_old": _COUNT, "refused": _REFUSED, "evicted": _COUNT}
    ),
    "Resizing": _object({"size": {"type": "integer", "description": "Bytes."}}),
    "Resized": _object({"size_bytes": _COUNT, "events": _COUNT, "evicted": _COUNT}),
    "Rotating": _object(
        {},
        {
            "passphrase": _or_null({"type": "string", "minLength": 1}),
            "key_file": _or_null({"type": "string", "pattern": "^/"}),
            "keychain": {"type": ["boolean", "null"]},
        },
        said="At most one of these; none keeps the key where it is.",
    ),
    "Rotated": _object({"key": _SAID}),
    "Recovery": _object({"code": _SAID}),
    "Verified": _object({"damaged_blocks": _COUNT, "damaged": _list({"type": "object"})}),
    "Pausing": _object(
        {},
        {
            "paused": _by_default(_FLAG, True),
            "projects": _or_null(_list({"type": "string", "pattern": "^[0-9a-f]{20}$"})),
            "session": _or_null(_LABEL),
        },
        said="Projects, or a session, or else everything.",
    ),
    "Capturing": _object(
        {"events": _list({}, 1, RECORD_EVENTS_MAX)},
        {"folder": _FOLDER, "imported": _by_default(_FLAG, False)},
        said="Events with the keys by which they are known: `daemon/hook_bodies.py`.",
    ),
}
"""By name."""
