"""The daemon's HTTP interface as an OpenAPI 3.1 document, at `/openapi.json` and in `clients/`.

The clients in every language are held against it, and so is every answer that the tests get. Sizes
that are counted in bytes of UTF-8 are said in words: the schemas count characters.

What editors' hooks, pools and MCP send is this project's own affair: those paths are listed, their
bodies are described where they are decoded. Errors have one form and stable codes (`problems.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node import __version__
from localmem_node.daemon.guard import BODY_BYTES_MAX
from localmem_node.daemon.schemas import SCHEMAS, Schema, ref

PATH: Final = "/openapi.json"
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"

_ASKED: Final = (400, 401, 403, 413, 500, 503)
"""What can happen to any request that carries a body."""

_ERRORS: Final = {
    400: "The request is wrong; `field` says where.",
    401: "The token is missing or wrong.",
    403: "Host or Origin is another machine's.",
    404: "There is no such thing.",
    413: f"The body is above {BODY_BYTES_MAX} bytes.",
    500: "The daemon cannot do it; the code says why.",
    502: "A hub, or another process, did not answer.",
    503: "Not now; the code says why.",
}


@dataclass(frozen=True)
class Operation:
    """One method of one path. `body` and `answer` are names of schemas, `lines` of the schema of each
    line of an answer that does not end; without a body none is read."""

    method: str
    path: str
    name: str
    summary: str
    answer: str = "Anything"
    body: str | None = None
    lines: str | None = None
    errors: Sequence[int] = _ASKED
    is_open: bool = False
    query: Sequence[str] = ()


def _pools(method: str, path: str, name: str, summary: str) -> Operation:
    body = "Anything" if method == "post" else None
    errors = (*_ASKED, 502)
    return Operation(method, f"/v1/pools{path}", name, summary, "Anything", body, errors=errors)


OPERATIONS: Final = (
    Operation("get", "/healthz", "health", "Whether the process lives; needs no token.", "Health",
              errors=(400, 403), is_open=True),
    Operation("get", PATH, "describe", "This document.", errors=(400, 401, 403)),
    Operation("get", "/v1/status", "status", "What there is.", "Status"),
    Operation("post", "/v1/stop", "stop", "Finish what is under way, and end.", "Stopping"),
    Operation("post", "/v1/record", "record", "Keep events; durable when answered.", "Recorded",
              "Recording"),
    Operation("post", "/v1/query", "query", "The events that answer a question, best first.",
              "FoundEvents", "Query"),
    Operation("post", "/v1/recent", "recent", "The newest events, newest first.", "FoundEvents",
              "Recent"),
    Operation("post", "/v1/timeline", "timeline",
              "Events in order, oldest first: around one, or the newest.", "Events", "Timeline"),
    Operation("post", "/v1/watch", "watch",
              "Events as they become durable here, a JSON object a line, until either side ends it.",
              body="Watching", lines="WatchLine"),
    Operation("post", "/v1/pin", "pin", "Keep an event whatever is evicted, or let it go.",
              "OneEvent", "Pinning"),
    Operation("post", "/v1/forget", "forget", "Forget events for good.", "Forgotten", "Forgetting"),
    Operation("post", "/v1/context", "context", "What answers a question, as text for a model.",
              "Context", "ContextQuery"),
    Operation("post", "/v1/export", "export", "The next part of everything, in order.", "Page",
              "Export"),
    Operation("post", "/v1/import", "import", "Keep events that were exported.", "Imported",
              "Import"),
    Operation("post", "/v1/resize", "resize", "Give the store another size.", "Resized", "Resizing"),
    Operation("post", "/v1/rotate", "rotate", "Seal everything under new keys.", "Rotated",
              "Rotating"),
    Operation("post", "/v1/recovery", "recovery", "A new recovery code.", "Recovery", "Nothing"),
    Operation("post", "/v1/verify", "verify", "Read the whole store.", "Verified", "Nothing"),
    Operation("post", "/v1/pause", "pause", "Record nothing for a while, or go on.", "Anything",
              "Pausing"),
    Operation("get", "/v1/stats", "stats", "What was counted.", query=("since",)),
    Operation("post", "/v1/capture", "capture", "Keep what editors told, each once.", "Anything",
              "Capturing"),
    Operation("post", "/v1/hook/{editor}", "hook", "What an editor's hook tells.", "Anything",
              "Anything", errors=(*_ASKED, 404)),
    Operation("post", "/v1/sync", "sync", "Synchronise now.", "Anything", "Anything",
              errors=(*_ASKED, 502)),
    _pools("get", "", "pools", "The pools of this device."),
    _pools("post", "", "make_pool", "Make a pool."),
    _pools("post", "/recover", "recover_pools", "Come back with a recovery phrase."),
    _pools("post", "/join", "join_pool", "Join by a code."),
    _pools("post", "/pairing", "pairing", "How a pairing stands."),
    _pools("post", "/pairing/answer", "answer_pairing", "Agree to a pairing, or not."),
    _pools("post", "/{pool}/invite", "invite", "A code for another device."),
    _pools("get", "/{pool}/members", "members", "Who is in a pool."),
    _pools("post", "/{pool}/members", "change_member", "Another role, or none."),
    _pools("post", "/{pool}/rotate", "rotate_pool", "New keys for a pool."),
    _pools("post", "/{pool}/leave", "leave_pool", "Leave a pool."),
    _pools("post", "/{pool}/share", "share", "What is shared in a pool."),
    _pools("post", "/{pool}/sending", "sending", "How batches are sent in a pool."),
)  # fmt: skip

MCP: Final = {
    "/mcp": {
        "post": "A JSON-RPC message of the Model Context Protocol; docs/mcp.md says which.",
    },
}


def document(operations: Iterable[Operation] = OPERATIONS) -> Schema:
    """The whole document."""
    paths: dict[str, Schema] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
    token = {"type": "http", "scheme": "bearer", "description": "`token` of daemon.json."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "localmem",
            "version": __version__,
            "description": "The memory of this user, on the Unix socket and on loopback.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                str(status): {"description": said, "content": _json("Error")}
                for status, said in _ERRORS.items()
            },
            "securitySchemes": {"token": token},
        },
        "security": [{"token": []}],
        "x-mcp": MCP,
    }


def text() -> bytes:
    """The document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


def routes() -> list[BaseRoute]:
    """What to serve."""
    made: list[bytes] = []

    async def describe(_: Request) -> Response:
        if not made:
            made.append(msgspec.json.encode(document()))
        return Response(made[0], media_type=JSON)

    return [Route(PATH, describe, methods=["GET"])]


def _operation(one: Operation) -> Schema:
    content = {LINES: {"schema": ref(one.lines)}} if one.lines else _json(one.answer)
    answers: Schema = {"200": {"description": "As asked.", "content": content}}
    for status in one.errors:
        answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
    made: Schema = {"summary": one.summary, "operationId": one.name, "responses": answers}
    if parameters := list(_parameters(one)):
        made["parameters"] = parameters
    if one.is_open:
        made["security"] = []
    if one.body is not None:
        made["requestBody"] = {"required": True, "content": _json(one.body)}
    return made


def _parameters(one: Operation) -> Iterable[Schema]:
    for part in one.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for name in one.query:
        day = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
        yield {"name": name, "in": "query", "required": False, "schema": day}


def _json(name: str) -> Schema:
    return {JSON: {"schema": ref(name)}}


if __name__ == "__main__":  # `make contract`
    import sys

    sys.stdout.buffer.write(text())
