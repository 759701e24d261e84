"""JSON-RPC messages as the shim passes them on, and the HTTP headers that go with them. Pure.

What is in a message is the server's affair; here it is only told what kind of message it is, and
which protocol version its headers have to name. Without the SDK, which is larger than the shim.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from localmem_node.mcp_server.scope import CLIENT_HEADER, FOLDER_HEADER
from localmem_node.problems import one_line
from localmem_protocol.limits import LABEL_BYTES_MAX

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
SERVER_ERROR: Final = -32000
"""JSON-RPC 2.0; the last is for what happens between shim and daemon."""

_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_CLIENT_KEY: Final = "io.modelcontextprotocol/clientInfo"
"""In `params._meta` from version 2026-07-28 on, which has no handshake."""

_NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_REPEATABLE: Final = frozenset({"query_recent", "timeline", "pin"})
_PLAIN: Final = re.compile("[!-~](?:[ -~]{0,510}[!-~])?")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=")

Id = str | int | float


class BadMessage(Exception):
    """A line that is no message; `code` is JSON-RPC's, `id` the message's if it has one."""

    def __init__(self, code: int, message: str, id: Id | None = None) -> None:
        super().__init__(message)
        self.code, self.id = code, id


class Message(NamedTuple):
    """A message of a client's; `id` is None for a notification, `method` for an answer."""

    id: Id | None
    method: str | None
    params: dict[str, Any]

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice."""
        return self.method != "tools/call" or self.params.get("name") in _REPEATABLE

    @property
    def cancels(self) -> Id | None:
        """The id of the request that it takes back."""
        if self.method != "notifications/cancelled":
            return None
        wanted = self.params.get("requestId")
        return wanted if _is_id(wanted) else None

    @property
    def client(self) -> str | None:
        """What the client calls itself, where the message says so."""
        info = self.params.get("clientInfo") or _meta(self).get(_CLIENT_KEY)
        name = info.get("name") if isinstance(info, dict) else None
        return name if isinstance(name, str) else None


def parse_message(line: bytes) -> Message:
    """The message of a line. Raises BadMessage."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(PARSE_ERROR, f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadMessage(INVALID_REQUEST, "a message is one JSON object; there are no batches")
    given = fields.get("id")
    known = given if _is_id(given) else None
    if fields.get("jsonrpc") != "2.0":
        raise BadMessage(INVALID_REQUEST, 'no message of JSON-RPC "2.0"', known)
    if "id" in fields and known is None and "error" not in fields:
        raise BadMessage(INVALID_REQUEST, "id must be a text or a number")
    method = fields.get("method")
    if method is None and ("result" in fields or "error" in fields):
        return Message(known, None, {})
    if not isinstance(method, str):
        raise BadMessage(INVALID_REQUEST, "method is missing", known)
    params = fields.get("params")
    return Message(known, method, params if isinstance(params, dict) else {})


def headers_of(
    message: Message, version: str | None, folder: str | None, client: str | None
) -> dict[str, str]:
    """What goes with a message over HTTP; `version` is what the handshake agreed on."""
    headers = {"Accept": "application/json, text/event-stream"}
    if folder is not None:
        headers[FOLDER_HEADER] = quote(folder, errors="surrogateescape")
    if client is not None and len(client) <= LABEL_BYTES_MAX:
        headers[CLIENT_HEADER] = quote(client, errors="replace")
    stated = stated_version(message)
    if stated is not None and _PLAIN.fullmatch(stated):
        headers["MCP-Protocol-Version"] = stated
        headers["Mcp-Method"] = _header(message.method or "")
        name = message.params.get(_NAMED.get(message.method or "", ""))
        if isinstance(name, str):
            headers["Mcp-Name"] = _header(name)
    elif version is not None and message.method != "initialize":
        headers["MCP-Protocol-Version"] = version
    return headers


def stated_version(message: Message) -> str | None:
    """The version that a message of the later ones names itself."""
    stated = _meta(message).get(_VERSION_KEY)
    return stated if isinstance(stated, str) else None


def agreed_version(answer: bytes) -> str | None:
    """The version in an answer to `initialize`."""
    try:
        result = msgspec.json.decode(answer, type=dict[str, Any]).get("result")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return version if isinstance(version, str) and _PLAIN.fullmatch(version) else None


def answer_line(id: Id, status: int, body: bytes) -> bytes:
    """The line of an answer that came over HTTP: itself, or an error that says what came instead."""
    if status == 200 and body.startswith(b"{") and b"\n" not in body:
        return body + b"\n"
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = body[:200].decode(errors="replace") or "nothing"
        return error_line(id, SERVER_ERROR, f"the daemon answered {status}: {said}")
    if fields.get("jsonrpc") == "2.0":
        return msgspec.json.encode({**fields, "id": id}) + b"\n"
    error = fields.get("error")
    said = str(error.get("message")) if isinstance(error, dict) else "no JSON-RPC"
    return error_line(id, SERVER_ERROR, f"the daemon answered {status}: {said}")


def result_line(id: Id, result: dict[str, Any]) -> bytes:
    """The line of a result."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result}) + b"\n"


def error_line(id: Id | None, code: int, message: str) -> bytes:
    """The line of an error."""
    error = {"code": code, "message": one_line(message)}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": error}) + b"\n"


def _meta(message: Message) -> dict[str, Any]:
    meta = message.params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def _is_id(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _header(text: str) -> str:
    """A text as a header: as it is, or in the base64 form that the protocol has for all others."""
    if _PLAIN.fullmatch(text) and not _ENCODED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode(errors='replace')).decode()}?="
