"""JSON-RPC as the pump passes it on: what is a message, and what HTTP has to say with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp.shared.inbound import InboundModernRoute, classify_inbound_request, decode_header_value

from localmem_node.mcp_server.messages import (
    INVALID_REQUEST,
    PARSE_ERROR,
    BadMessage,
    Message,
    agreed_version,
    answer_line,
    error_line,
    headers_of,
    parse_message,
)
from localmem_node.mcp_server.scope import Caller, parse_caller

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "Zed", "version": "1"},
}


def message(method: str | None = "ping", **more: Any) -> Message:
    fields = {"jsonrpc": "2.0", "id": 1, "method": method} | more
    return parse_message(json.dumps({k: v for k, v in fields.items() if v is not None}).encode())


def test_requests_notifications_and_answers_are_told_apart() -> None:
    assert message(id="a", params={"x": 1}) == Message("a", "ping", {"x": 1})
    assert message("notifications/initialized", id=None) == Message(
        None, "notifications/initialized", {}
    )
    assert message(None, result={}).method is None
    assert message(params=[1, 2]).params == {}


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"{", PARSE_ERROR, None),
        (b"\xff", PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "p", "x": NaN}', PARSE_ERROR, None),
        (b"[" * 100_000, PARSE_ERROR, None),
        (b"7", INVALID_REQUEST, None),
        (b"[]", INVALID_REQUEST, None),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', INVALID_REQUEST, None),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', INVALID_REQUEST, 1),
        (b'{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST, 1),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', INVALID_REQUEST, 1),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', INVALID_REQUEST, None),
    ],
)
def test_a_line_that_is_no_message_is_refused(line: bytes, code: int, id: object) -> None:
    with pytest.raises(BadMessage) as raised:
        parse_message(line)
    assert (raised.value.code, raised.value.id) == (code, id)


def test_what_may_be_sent_twice() -> None:
    assert message("tools/list").repeatable
    assert message("tools/call", params={"name": "query_recent"}).repeatable
    assert not message("tools/call", params={"name": "record_event"}).repeatable


def test_what_a_cancellation_takes_back() -> None:
    assert message("notifications/cancelled", id=None, params={"requestId": 7}).cancels == 7
    assert message("notifications/cancelled", id=None, params={"requestId": [7]}).cancels is None
    assert message("ping", params={"requestId": 7}).cancels is None


def test_headers_of_the_handshakes_versions_name_the_one_that_was_agreed_on() -> None:
    plain = {"Accept": "application/json, text/event-stream"}
    assert headers_of(message("initialize"), "2025-06-18", None, None) == plain
    assert headers_of(message(), None, None, None) == plain
    assert headers_of(message(), "2025-06-18", None, None) == plain | {
        "MCP-Protocol-Version": "2025-06-18"
    }


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {}),
        ("tools/call", {"name": "query_recent", "arguments": {"query": "x"}}),
        ("tools/call", {"name": "größe\r\nX: y"}),
        ("resources/read", {"uri": " localmem://recent "}),
        ("resources/read", {"uri": "=?base64?eA==?="}),
        ("resources/read", {"uri": "x" * 2000}),
    ],
)
def test_headers_of_later_versions_are_those_that_the_sdk_checks(
    method: str, params: dict[str, Any]
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    headers = headers_of(parse_message(json.dumps(body).encode()), None, None, None)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    lower = {name.lower(): value for name, value in headers.items()}
    assert isinstance(classify_inbound_request(body, headers=lower), InboundModernRoute)
    for name in ("name", "uri"):
        if name in params:
            assert decode_header_value(headers["Mcp-Name"]) == params[name]


@pytest.mark.parametrize("folder", ["/a b/ü", "/100%", "/x\r\nAuthorization: y", "/\udcff"])
def test_folder_and_client_arrive_as_they_are(folder: str) -> None:
    headers = headers_of(message(), None, folder, "Ein Editor\n")
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    caller = parse_caller(headers)
    assert caller == Caller(folder if folder.isprintable() else None, None)


def test_a_name_that_no_event_can_have_does_not_fill_the_head_of_a_request() -> None:
    assert sum(map(len, headers_of(message(), None, None, "x" * 100_000).values())) < 1000


def test_a_client_says_its_name_in_the_handshake_or_in_each_request() -> None:
    info = {"clientInfo": {"name": "codex-mcp-client"}}
    assert message("initialize", params=info).client == "codex-mcp-client"
    assert message("tools/list", params={"_meta": META}).client == "Zed"
    assert message("initialize", params={"clientInfo": [1]}).client is None


def test_a_version_is_read_from_the_answer_to_the_handshake() -> None:
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}'
    assert agreed_version(answer) == "2025-11-25"
    assert agreed_version(answer.replace(b"2025-11-25", b"2025\\r\\nX: y")) is None
    assert agreed_version(b'{"jsonrpc":"2.0","id":1,"error":{}}') is None
    assert agreed_version(b"Bad Gateway") is None


def test_an_answer_goes_on_as_it_is() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert answer_line(1, 200, body) == body + b"\n"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (413, b"Request body too large", "the daemon answered 413: Request body too large"),
        (500, b"", "the daemon answered 500: nothing"),
        (401, b'{"error":{"code":"unauthorized","message":"no token"}}', "401: no token"),
        (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"odd"}}', "odd"),
        (200, b'{\n"jsonrpc":"2.0","id":9,"error":{"code":-32600,"message":"odd"}}', "odd"),
    ],
)
def test_whatever_http_says_becomes_an_error_of_the_request(
    status: int, body: bytes, said: str
) -> None:
    line = answer_line("r1", status, body)
    assert line.count(b"\n") == 1
    answer = json.loads(line)
    assert answer["id"] == "r1"
    assert said in answer["error"]["message"]


def test_an_error_is_one_line() -> None:
    assert json.loads(error_line(None, -32700, "a\nb")) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32700, "message": "a b"},
    }
