"""Plain requests to a hub, beside the sync connection: JSON in and out, one connection for each.

Blocking, for threads. There are few: a roster when it grew, a session token once an hour, and pairing.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Timer
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from localmem_node.errors import ConfigError, HubRefused, SyncError
from localmem_node.plain_text import clean_start
from localmem_protocol.access import origin_of

ANSWER_S: Final = 10.0
WHOLE_S: Final = 60.0
"""How long a whole answer may take: a hub that sends a byte now and then is cut off."""

ANSWER_BYTES_MAX: Final = 96 * 1024 * 1024
"""Bytes of an answer that are read: a whole roster in base64, and its brackets."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hub said: the body as bytes, empty if there is none."""

    status: int
    body: bytes

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object. Raises SyncError."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise SyncError("the hub's answer is no JSON object; is it a hub?") from None


class HubClient:
    """Requests to one hub."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that is none of a hub."""
        origin = origin_of(url)
        parts = urlsplit(url)
        if origin is None or parts.query or parts.fragment or parts.username:
            raise ConfigError(f"hub: must be like https://hub.example.org, not {url[:80]!r}")
        self.origin = origin
        self.url = url
        self._secure = origin.startswith("https:")
        self._authority = origin.partition("://")[2]
        self._base = parts.path.rstrip("/")

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        *,
        bearer: str | None = None,
        scheme: str = "Bearer",
        wait_s: float = 0.0,
    ) -> Answer:
        """What the hub answers, within `wait_s` more than usual.

        Raises SyncError when it cannot be reached, and HubRefused for what is no success.
        """
        data = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        headers = {"Accept": "application/json"}
        if data is not None:
            kind = "octet-stream" if isinstance(body, bytes) else "json"
            headers["Content-Type"] = f"application/{kind}"
        if bearer is not None:
            headers["Authorization"] = f"{scheme} {bearer}"
        connection = self._connection(ANSWER_S + wait_s)
        timer: Timer | None = None
        try:
            connection.connect()
            timer = Timer(WHOLE_S + wait_s, _cut, (connection.sock,))
            timer.daemon = True
            timer.start()
            connection.request(method, self._base + path, body=data, headers=headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read(ANSWER_BYTES_MAX + 1))
        except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise SyncError(f"the hub cannot be reached at {self.url}: {reason}") from None
        finally:
            if timer is not None:
                timer.cancel()
            connection.close()
        if len(answer.body) > ANSWER_BYTES_MAX:
            raise SyncError(f"the hub at {self.url} answers more than any hub would")
        if not 200 <= answer.status < 300:
            raise _refusal(answer)
        return answer

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._authority, timeout=timeout_s)


def _cut(sock: socket.socket) -> None:
    """End a connection under whoever reads from it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS as well, which would say goodbye


def _refusal(answer: Answer) -> HubRefused:
    """What a hub objects to, as far as it says so."""
    try:
        fields = answer.fields()
    except SyncError:
        fields = {}
    error = fields.get("error")
    error = error if isinstance(error, dict) else {}
    code, message = error.get("code"), error.get("message")
    return HubRefused(
        answer.status,
        code if isinstance(code, str) else "",
        clean_start(message, 300)
        if isinstance(message, str)
        else f"HTTP {answer.status}; is it a hub?",
        {name: value for name, value in fields.items() if name != "error"},
    )
