"""What stands before every request: who may ask, from where, and how much.

A page in a browser can reach loopback, and by DNS rebinding under a name of its own; so Host must
name this machine, Origin, if there is one, too, and nothing but the health check goes without the
token. Pure ASGI, and cheap: it is on the way of every query.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmem_node.errors import BodyTooLarge
from localmem_node.problems import problem_json

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""256 events of the largest size fit, written as plain JSON."""

HOOK_BYTES_MAX: Final = 128 * 1024 * 1024
"""Of a hook, which has the whole output of a tool; most of it is thrown away."""

HOOK_PREFIX: Final = "/v1/hook/"

OPEN_PATHS: Final = frozenset({"/healthz"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """ASGI middleware; `on_request` is told when a request begins (1) and ends (-1), `on_hook` as well
    if it is a hook.

    `hook_token` stands in the settings of editors: it opens the hooks, and nothing that answers with
    what is remembered at will.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hook_token: str,
        on_request: Callable[[int], None],
        on_hook: Callable[[int], None] | None = None,
    ) -> None:
        self._app = app
        self._authorization = f"Bearer {token}".encode()
        self._hook_authorization = f"Bearer {hook_token}".encode()
        self._on_request, self._on_hook = on_request, on_hook

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_hook = scope["path"].startswith(HOOK_PREFIX)
        if is_hook:
            send = _closing(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        counts, most = scope["path"] not in OPEN_PATHS, _bytes_max(scope)
        if counts:
            self._on_request(1)
        if is_hook and self._on_hook is not None:
            self._on_hook(1)
        try:
            await self._app(scope, _limited(receive, most), send)
        except BodyTooLarge as error:  # as a rule the application has answered it
            await _refuse(scope, send, 413, "too_large", str(error))
        finally:
            if counts:
                self._on_request(-1)
            if is_hook and self._on_hook is not None:
                self._on_hook(-1)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in (b"host", b"origin", b"authorization"):
                return 400, "bad_request", f"more than one {name.decode()} header"
            headers[name] = value
        if not is_loopback(headers.get(b"host", b"").decode("latin-1")):
            return 403, "forbidden", "Host must be localhost or 127.0.0.1"
        origin = headers.get(b"origin")
        if origin is not None and not _is_loopback_origin(origin.decode("latin-1")):
            return 403, "forbidden", "Origin must be this machine"
        if scope["path"] in OPEN_PATHS:
            return None
        given = headers.get(b"authorization", b"")
        allowed = hmac.compare_digest(given, self._authorization)
        if not allowed and scope["path"].startswith(HOOK_PREFIX):
            allowed = hmac.compare_digest(given, self._hook_authorization)
        if not allowed:
            return 401, "unauthorized", "the token of daemon.json is missing or wrong"
        try:
            most = _bytes_max(scope)
            if int(headers.get(b"content-length", b"0")) > most:
                return 413, "too_large", f"a body has at most {most} bytes"
        except ValueError:
            return 400, "bad_request", "Content-Length is no number"
        return None


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine, with or without a port."""
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        host = name
    return host.lower() in _LOOPBACK


def _is_loopback_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback(parts.netloc)


def _bytes_max(scope: Scope) -> int:
    return HOOK_BYTES_MAX if scope["path"].startswith(HOOK_PREFIX) else BODY_BYTES_MAX


def _limited(receive: Receive, most: int) -> Receive:
    left = most

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyTooLarge(f"a body has at most {most} bytes")
        return message

    return counted


def _closing(send: Send) -> Send:
    """Answers that end their connection: one that is kept would be waited at when the daemon hangs,
    where the breaker cannot reach it."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return sent


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": message})
        return
    body = msgspec.json.encode(problem_json(code, message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
