"""The hub's HTTP interface as an OpenAPI 3.1 document, at `/openapi.json`.

Bodies are described by the structs that decode them, so those cannot drift. Paths, methods and answers
are written down here, and tests hold them against the routes that are served and the answers that all
other tests get. What the bytes in them mean is in docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_hub import __version__
from localmem_hub.authentication import Asked, Proof
from localmem_hub.health import CHECKS
from localmem_hub.limits import MAILBOX_MESSAGES_MAX, MAILBOX_WAIT_S, WAIT_SECONDS_MAX
from localmem_hub.pools import Change, Founding
from localmem_protocol.exchange import CONTENT_TYPE
from localmem_protocol.frames import PROTOCOL

Schema = dict[str, Any]

PATH: Final = "/openapi.json"
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
_REFERENCE: Final = "#/components/schemas/{name}"
_WEBSOCKETS: Final = {
    "/v1/sync/{pool}": {
        "subprotocol": PROTOCOL,
        "description": "Frames of docs/protocol.md, in a room of sealed batches.",
    },
    "/v1/yjs/{room}": {
        "description": "y-websocket's messages, in a plain room; only where plain rooms are on.",
    },
}


def _object(**properties: Schema) -> Schema:
    """All of these, and nothing else."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": _REFERENCE.format(name=name)}


_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_HEX: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]+$"}
_POOL_ID: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_BASE64: Final[Schema] = {"type": "string", "contentEncoding": "base64"}
_ERROR: Final[Schema] = {
    **_object(
        code={"type": ["string", "integer"], "description": "Stable, for programs."},
        message={"type": "string", "description": "For people."},
        field={"type": ["string", "null"], "description": "What was wrong of the request."},
    )
}
_SCHEMAS: Final[dict[str, Schema]] = {
    "Error": {"type": "object", "properties": {"error": _ERROR}, "required": ["error"]},
    "Ready": {
        **_object(
            status={"enum": ["ok", "unready"]},
            failing={"type": "array", "items": {"enum": list(CHECKS)}, "minItems": 1},
        ),
        "required": ["status"],
    },
    "Introduction": _object(
        pool=_TEXT,
        role={"enum": ["writer", "reader"]},
        transports={"type": "array", "items": {"enum": ["websocket", "http"]}},
    ),
    "Challenge": _object(challenge=_TEXT, expires_in_s=_COUNT),
    "Session": _object(token=_TEXT, role=_TEXT, length=_COUNT, expires_in_s=_COUNT),
    "Founded": _object(pool=_POOL_ID, length=_COUNT),
    "Roster": _object(length=_COUNT, head=_HEX, entries={"type": "array", "items": _BASE64}),
    "Length": _object(length=_COUNT),
    "Epoch": _object(epoch=_COUNT),
    "Recovered": _object(pools={"type": "array", "items": _POOL_ID}),
    "Mailbox": _object(number=_COUNT, secret=_HEX, expires_in_s=_COUNT),
    "Joined": _object(secret=_HEX),
}


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answers` are status -> schema name, BYTES, or "" for no body; `errors`
    the statuses that come with `Error`; `query` is name -> its maximum."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, str]
    errors: Sequence[int] = ()
    security: str = ""
    body: type[msgspec.Struct] | str | None = None
    query: Mapping[str, int] = field(default_factory=dict)
    headers: Sequence[str] = ()


_SYNC: Final = (400, 401, 403, 409, 413, 422, 503)
_BOX: Final = (400, 404, 429, 503)
OPERATIONS: Final = (
    Operation("get", "/healthz", "Whether the process lives.", {200: "Ready"}),
    Operation("get", "/readyz", "Whether it can serve.", {200: "Ready", 503: "Ready"}),
    Operation("get", PATH, "This document.", {200: "object"}),
    Operation(
        "get", "/v1/sync/{pool}", "Whom a token stands for; also where the WebSocket is.",
        {200: "Introduction"}, (400, 401, 503), "token", headers=("X-Localmem-Device",),
    ),
    Operation(
        "post", "/v1/sync/{pool}", "Synchronise by a single request.", {200: BYTES}, (*_SYNC, 415),
        "token", BYTES, headers=("X-Localmem-Device",),
    ),
    Operation(
        "get", "/v1/sync/{pool}/updates", "What is new after a position.", {200: BYTES, 304: ""},
        _SYNC, "token", None, {"wait": WAIT_SECONDS_MAX},
        headers=("X-Localmem-Device", "If-None-Match"),
    ),
    Operation(
        "post", "/v1/auth", "Ask for a challenge.", {200: "Challenge"}, (400, 408, 413, 429, 503),
        body=Asked,
    ),
    Operation(
        "post", "/v1/auth/proof", "Answer it with a signature, for a session token.",
        {200: "Session"}, (400, 401, 403, 408, 413, 429, 503), body=Proof,
    ),
    Operation(
        "post", "/v1/pools", "Make a pool; 200 if it is there already.",
        {200: "Founded", 201: "Founded"}, (400, 403, 408, 413, 422, 429, 503), body=Founding,
    ),
    Operation(
        "get", "/v1/pools/{pool}/roster", "Its signed roster.", {200: "Roster", 304: ""},
        (400, 401, 503), "session", query={"from": 4096}, headers=("If-None-Match",),
    ),
    Operation(
        "post", "/v1/pools/{pool}/roster", "Append an entry.", {200: "Length"},
        (400, 401, 408, 409, 413, 422, 429, 503), "session", Change,
    ),
    Operation(
        "post", "/v1/pools/{pool}/epochs/{epoch}/read", "This device has read that epoch.",
        {200: "Epoch"}, (400, 401, 503), "session",
    ),
    Operation(
        "get", "/v1/recovery/{fingerprint}", "The pools of a recovery key.", {200: "Recovered"},
        (401, 403, 429, 503), "proof",
    ),
    Operation(
        "post", "/v1/mailboxes", "Open a mailbox.", {201: "Mailbox"}, (400, 408, 413, 429, 503)
    ),
    Operation(
        "post", "/v1/mailboxes/{number}/join", "Be its second party, once.", {201: "Joined"},
        (400, 404, 408, 413, 429, 503),
    ),
    Operation("delete", "/v1/mailboxes/{number}", "End it.", {204: ""}, _BOX, "mailbox"),
    Operation(
        "put", "/v1/mailboxes/{number}/{slot}", "Leave a message.", {204: ""},
        (*_BOX, 403, 408, 409, 413), "mailbox", BYTES,
    ),
    Operation(
        "get", "/v1/mailboxes/{number}/{slot}", "Read one; 204 if none came.", {200: BYTES, 204: ""},
        _BOX, "mailbox", query={"wait": MAILBOX_WAIT_S},
    ),
)  # fmt: skip
_SECURITY: Final = {
    "token": "A device token (`lmt_…`) or a session token (`lms_…`).",
    "session": "A session token (`lms_…`), from /v1/auth/proof.",
    "mailbox": "The secret that a mailbox was opened or joined with.",
    "proof": "`Proof <challenge> <signature, base64> <origin>`.",
}
_PARAMETERS: Final[dict[str, Schema]] = {
    "pool": _TEXT,
    "epoch": _COUNT,
    "fingerprint": _TEXT,
    "number": _COUNT,
    "slot": {**_COUNT, "maximum": MAILBOX_MESSAGES_MAX - 1},
}


def document(operations: Iterable[Operation] = OPERATIONS) -> Schema:
    """The whole document."""
    paths: dict[str, Schema] = {}
    kinds: list[type[msgspec.Struct]] = []
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
        if isinstance(one.body, type):
            kinds.append(one.body)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "localmem-hub",
            "version": __version__,
            "description": "Sealed updates between devices. docs/protocol.md says what they are.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, **_SCHEMAS},
            "securitySchemes": {name: _scheme(name) for name in _SECURITY},
        },
        "x-websockets": _WEBSOCKETS,
    }


def routes() -> list[BaseRoute]:
    """What to serve."""
    made = msgspec.json.encode(document())

    async def describe(_: Request) -> Response:
        return Response(made, media_type=JSON)

    return [Route(PATH, describe)]


def _operation(one: Operation) -> Schema:
    errors = {str(status): _answer(status, "Error") for status in one.errors}
    answers = {str(status): _answer(status, name) for status, name in one.answers.items()}
    made: Schema = {
        "summary": one.summary,
        "operationId": f"{one.method} {one.path}",
        "parameters": list(_parameters(one)),
        "responses": answers | errors,
    }
    if one.security:
        made["security"] = [{one.security: []}]
    if one.body is not None:
        content = {BYTES: {}} if one.body == BYTES else {JSON: {"schema": _ref(_name(one.body))}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _name(body: type[msgspec.Struct] | str) -> str:
    return body if isinstance(body, str) else body.__name__


def _parameters(one: Operation) -> Iterable[Schema]:
    for part in one.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            yield {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
    for name, most in one.query.items():
        schema = {**_COUNT, "maximum": most}
        yield {"name": name, "in": "query", "required": False, "schema": schema}
    for name in one.headers:
        yield {"name": name, "in": "header", "required": False, "schema": _TEXT}


def _answer(status: int, name: str) -> Schema:
    said = {304: "Nothing is new.", 204: "Done, or nothing there."}.get(status)
    made: Schema = {"description": said or ("As asked." if status < 400 else "Why not.")}
    if name == BYTES:
        made["content"] = {CONTENT_TYPE: {}}
    elif name == "object":
        made["content"] = {JSON: {"schema": {"type": "object"}}}
    elif name:
        made["content"] = {JSON: {"schema": _ref(name)}}
    return made


def _scheme(name: str) -> Schema:
    if name == "proof":
        place = {"type": "apiKey", "in": "header", "name": "Authorization"}
        return place | {"description": _SECURITY[name]}
    return {"type": "http", "scheme": "bearer", "description": _SECURITY[name]}
