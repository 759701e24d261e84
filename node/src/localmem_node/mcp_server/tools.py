"""What an MCP client is told of the server: instructions, tools, resources. Data, and nothing else.

A model reads the tools' list with every turn, so each sentence has to earn its tokens;
`python -m bench mcp` prints how many there are.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, get_args

from localmem_node.results import K_MAX
from localmem_protocol.events import KINDS

NAME: Final = "localmem"

INSTRUCTIONS: Final = (
    "localmem remembers what was done in this and earlier coding sessions on the user's machines: "
    "prompts, edits, commands, errors, answers, notes. Call query_recent before redoing, guessing "
    "or asking about earlier work, and record_event for decisions worth keeping."
)

K_DEFAULT: Final = 8
TIMELINE_DEFAULT: Final = 20

DETAILS_MAX: Final = 20
"""Events of one call whose details are given."""

FORGET_MAX: Final = 100
"""Events that one call forgets."""

ALL: Final = "all"
"""Instead of a project: every one."""

ToolName = Literal["query_recent", "record_event", "timeline", "pin", "forget"]
TOOL_NAMES: Final[tuple[ToolName, ...]] = get_args(ToolName)


class Tool(NamedTuple):
    """A tool as it is listed; `hints` are the annotations of the protocol."""

    name: ToolName
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    hints: dict[str, bool]


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema | {"additionalProperties": False}


def _text(description: str = "") -> dict[str, Any]:
    return {"type": "string", **({"description": description} if description else {})}


def _ids(most: int, description: str = "") -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": most,
        **({"description": description} if description else {}),
    }


def _count(default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": K_MAX, "default": default}


_PROJECT: Final = _text(
    f'Default: the current project, if known. "{ALL}", a project id, or an absolute folder.'
)
_KIND: Final = {"type": "string", "enum": list(KINDS)}
_FOUND: Final = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "contextIds": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["text", "contextIds"],
}
_FORGOTTEN: Final = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "forgotten": {"type": "array", "items": {"type": "string"}},
        "unknown": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["text", "forgotten", "unknown"],
}
_READS: Final = {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False}

TOOLS: Final[tuple[Tool, ...]] = (
    Tool(
        "query_recent",
        "Search memory",
        "Find earlier prompts, edits, commands, errors, answers and notes: a line each, best "
        "first. Then call again with ids of the lines that matter, and nothing else, for their "
        "full text. Without query: the newest.",
        _object(
            {
                "query": _text("What to look for, in plain words."),
                "k": _count(K_DEFAULT),
                "project": _PROJECT,
                "file": _text("A path, or the end of one."),
                "kind": _KIND,
                "tool": _text("E.g. claude-code, codex, cursor."),
                "since": _text("E.g. 7d, 12h, 2026-11-25."),
                "before": _text(),
                "ids": _ids(DETAILS_MAX),
            }
        ),
        _FOUND,
        _READS,
    ),
    Tool(
        "record_event",
        "Remember",
        "Keep a note for later sessions: a decision and why, a fix, a dead end. What hooks record "
        "(prompts, edits, commands) needs no note. Secrets are left out.",
        _object(
            {
                "text": _text(),
                "kind": {**_KIND, "default": "note"},
                "file": _text(),
                "lines": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "First and last line in file.",
                },
                "pinned": {"type": "boolean", "description": "Keep it for good."},
            },
            "text",
        ),
        _FOUND,
        {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
    ),
    Tool(
        "timeline",
        "Timeline",
        "What happened in order, a line each: around an event (id), in a session, or the newest "
        "of a project.",
        _object(
            {
                "id": _text(),
                "session": _text(),
                "project": _text("As for query_recent."),
                "k": _count(TIMELINE_DEFAULT),
                "since": _text(),
                "before": _text(),
            }
        ),
        _FOUND,
        _READS,
    ),
    Tool(
        "pin",
        "Pin",
        "Keep an event however full memory gets, or with pinned false let it go again.",
        _object({"id": _text(), "pinned": {"type": "boolean", "default": True}}, "id"),
        _FOUND,
        {
            "readOnlyHint": False,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    ),
    Tool(
        "forget",
        "Forget",
        "Erase events for good on this machine. Only when the user asks for it.",
        _object({"ids": _ids(FORGET_MAX)}, "ids"),
        _FORGOTTEN,
        {
            "readOnlyHint": False,
            "destructiveHint": True,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    ),
)


class ResourceTemplate(NamedTuple):
    """A resource, or with a `{name}` in its address many."""

    uri: str
    name: str
    description: str


RECENT_URI: Final = "localmem://recent"
EVENT_URI: Final = "localmem://event/"
PROJECT_URI: Final = "localmem://project/"
PROJECT_END: Final = "/recent"

RESOURCES: Final = (
    ResourceTemplate(RECENT_URI, "recent", "The newest of the current project, or of all."),
)
TEMPLATES: Final = (
    ResourceTemplate(f"{EVENT_URI}{{id}}", "event", "An event in full."),
    ResourceTemplate(
        f"{PROJECT_URI}{{id}}{PROJECT_END}", "project recent", "The newest of a project."
    ),
)
MIME: Final = "text/plain"
