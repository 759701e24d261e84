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

from localmem_node.problems import problem_json

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""256 events of the largest size fit, written as plain JSON."""

OPEN_PATHS: Final = frozenset({"/healthz"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class BodyTooLargeError(Exception):
    """More bytes than BODY_BYTES_MAX came."""


class Guard:
    """ASGI middleware; `on_request` is told when a request begins (1) and ends (-1)."""

    def __init__(self, app: ASGIApp, *, token: str, on_request: Callable[[int], None]) -> None:
        self._app = app
        self._authorization = f"Bearer {token}".encode()
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        counts = scope["path"] not in OPEN_PATHS
        if counts:
            self._on_request(1)
        try:
            await self._app(scope, _limited(receive), send)
        except BodyTooLargeError:
            await _refuse(
                scope, send, 413, "too_large", f"a body has at most {BODY_BYTES_MAX} bytes"
            )
        finally:
            if counts:
                self._on_request(-1)

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
        if not hmac.compare_digest(given, self._authorization):
            return 401, "unauthorized", "the token of daemon.json is missing or wrong"
        try:
            if int(headers.get(b"content-length", b"0")) > BODY_BYTES_MAX:
                return 413, "too_large", f"a body has at most {BODY_BYTES_MAX} bytes"
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


def _limited(receive: Receive) -> Receive:
    left = BODY_BYTES_MAX

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyTooLargeError
        return message

    return counted


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
