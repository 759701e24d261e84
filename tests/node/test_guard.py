"""The guard: what a request must show before anything else looks at it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from localmem_node.daemon import guard
from localmem_node.daemon.guard import Guard, is_loopback

TOKEN = "right"
HOOK_TOKEN = "hook"
RIGHT = {"host": "localhost", "authorization": f"Bearer {TOKEN}"}


class Backend:
    """An application that reads the body and says yes."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})


async def ask(
    headers: dict[str, str] | list[tuple[str, str]],
    path: str = "/v1/status",
    body: list[bytes] | None = None,
    kind: str = "http",
) -> tuple[int, dict[str, Any], int]:
    """(status or close code, the answer, how often the application was reached)."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": kind,
        "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
    }
    pieces = list(body or [b""])
    sent: list[Message] = []

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    backend = Backend()
    await Guard(backend, token=TOKEN, hook_token=HOOK_TOKEN, on_request=lambda change: None)(
        scope, receive, send
    )
    first = sent[0] if sent else {}
    status = first.get("status") or first.get("code") or 0
    return status, json.loads(sent[1]["body"]) if len(sent) > 1 else {}, backend.calls


async def test_the_right_token_from_this_machine_gets_through() -> None:
    for host in ("localhost", "127.0.0.1", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80", "[::1]"):
        assert (await ask(RIGHT | {"host": host}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        RIGHT | {"authorization": "Bearer wrong"},
        RIGHT | {"authorization": "Bearer "},
        RIGHT | {"authorization": TOKEN},
        RIGHT | {"authorization": f"bearer {TOKEN}"},
        RIGHT | {"authorization": f"Bearer {TOKEN}x"},
        RIGHT | {"authorization": "Bearer \xff"},
    ],
)
async def test_without_the_token_nothing_is_reached(headers: dict[str, str]) -> None:
    status, answer, calls = await ask(headers)
    assert (status, answer["error"]["code"], calls) == (401, "unauthorized", 0)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x", "",
             "0.0.0.0", "169.254.169.254", "localhost@evil.example", "127.0.0.2", "localhost:80:80"],
)  # fmt: skip
async def test_another_host_is_refused_even_with_the_token(host: str) -> None:
    status, answer, calls = await ask(RIGHT | {"host": host})
    assert (status, answer["error"]["code"], calls) == (403, "forbidden", 0)
    assert not is_loopback(host)


async def test_a_missing_host_is_refused() -> None:
    assert (await ask({"authorization": f"Bearer {TOKEN}"}))[0] == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "localhost",
               "http://evil.example#localhost", "http://localhost@evil.example", "http://[x"],
)  # fmt: skip
async def test_another_origin_is_refused_even_with_the_token(origin: str) -> None:
    status, answer, calls = await ask(RIGHT | {"origin": origin})
    assert (status, answer["error"]["code"], calls) == (403, "forbidden", 0)


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1", "https://[::1]:1"])
async def test_an_origin_of_this_machine_gets_through(origin: str) -> None:
    assert (await ask(RIGHT | {"origin": origin}))[0] == 200


async def test_the_health_check_needs_no_token_but_the_right_host() -> None:
    assert (await ask({"host": "localhost"}, "/healthz"))[0] == 200
    assert (await ask({"host": "evil.example"}, "/healthz"))[0] == 403


@pytest.mark.parametrize("name", ["host", "origin", "authorization"])
async def test_a_header_that_decides_may_not_come_twice(name: str) -> None:
    pairs = [*RIGHT.items(), (name, "http://localhost"), (name, "localhost")]
    status, _, calls = await ask(pairs)
    assert (status, calls) == (400, 0)


async def test_a_body_above_the_limit_is_refused_announced_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "BODY_BYTES_MAX", 10)
    status, answer, calls = await ask(RIGHT | {"content-length": "11"})
    assert (status, answer["error"]["code"], calls) == (413, "too_large", 0)
    status, answer, calls = await ask(RIGHT, body=[b"12345", b"67890", b"1"])
    assert (status, answer["error"]["code"], calls) == (413, "too_large", 1)
    assert (await ask(RIGHT, body=[b"12345", b"67890"]))[0] == 200
    assert (await ask(RIGHT | {"content-length": "ten"}))[0] == 400


async def test_a_websocket_without_the_token_is_closed() -> None:
    status, _, calls = await ask({"host": "localhost"}, kind="websocket")
    assert (status, calls) == (1008, 0)


async def test_requests_are_counted_from_beginning_to_end_but_health_checks_are_not() -> None:
    changes: list[int] = []
    guarded = Guard(Backend(), token=TOKEN, hook_token=HOOK_TOKEN, on_request=changes.append)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        return None

    headers = [(name.encode(), value.encode()) for name, value in RIGHT.items()]
    for path in ("/healthz", "/v1/status"):
        await guarded({"type": "http", "path": path, "headers": headers}, receive, send)
    assert changes == [1, -1]


async def test_the_hook_token_opens_the_hooks_and_nothing_else() -> None:
    hook = RIGHT | {"authorization": f"Bearer {HOOK_TOKEN}"}
    for headers in (RIGHT, hook):
        assert (await ask(headers, "/v1/hook/claude-code"))[0] == 200
    for path in ("/v1/status", "/v1/query", "/v1/hook", "/v1/hooks/x", "/x/v1/hook/codex"):
        status, answer, calls = await ask(hook, path)
        assert (status, answer["error"]["code"], calls) == (401, "unauthorized", 0)


async def test_a_hook_may_bring_the_output_of_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_BYTES_MAX", 4)
    monkeypatch.setattr(guard, "HOOK_BYTES_MAX", 8)
    assert (await ask(RIGHT, "/v1/record", [b"12345"]))[0] == 413
    assert (await ask(RIGHT, "/v1/hook/codex", [b"1234", b"5678"]))[0] == 200
    assert (await ask(RIGHT, "/v1/hook/codex", [b"1234", b"5678", b"9"]))[0] == 413
    assert (await ask(RIGHT | {"content-length": "9"}, "/v1/hook/codex"))[0] == 413


async def test_a_hook_ends_its_connection_and_is_counted_by_itself() -> None:
    hooks: list[int] = []
    guarded = Guard(
        Backend(),
        token=TOKEN,
        hook_token=HOOK_TOKEN,
        on_request=lambda change: None,
        on_hook=hooks.append,
    )
    closing: dict[str, bool] = {}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            closing[path] = (b"connection", b"close") in message["headers"]

    for path, given in (("/v1/status", RIGHT), ("/v1/hook/codex", RIGHT), ("/v1/hook/cursor", {})):
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        await guarded({"type": "http", "path": path, "headers": headers}, receive, send)
    # One that is refused does as well.
    assert closing == {"/v1/status": False, "/v1/hook/codex": True, "/v1/hook/cursor": True}
    assert hooks == [1, -1]
