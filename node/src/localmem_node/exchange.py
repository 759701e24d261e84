"""One HTTP/1.1 exchange (RFC 9112) over a connected socket, as small as the daemon's answers allow.

http.client parses headers as an e-mail: 0.15 ms, a tenth of what a query may cost beside its
encoding. Our daemon answers with a status line, a few headers and Content-Length, nothing else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Final

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
_CHUNK: Final = 64 * 1024

NO_HEADERS: Final[Mapping[str, str]] = {}

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)


class BadAnswerError(ConnectionError):
    """Bytes that are no answer of a daemon; the connection is of no more use."""


def exchange(
    connection: socket.socket,
    method: str,
    path: str,
    token: str,
    body: bytes,
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[int, bytes, bool]:
    """(status, body, whether the connection ends here). `headers` are further ones, in ASCII.

    The request goes out in one write: a second one would cost the daemon a second turn of its loop.
    Raises OSError, TimeoutError among them, and BadAnswerError.
    """
    further = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{further}\r\n"
    )
    connection.sendall(head.encode("ascii") + body)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > HEAD_BYTES_MAX:
            raise BadAnswerError("an answer without an end of its head")
        data += _receive(connection)
    head_bytes = data[: end + 4]
    status, length = _STATUS.match(head_bytes), _LENGTH.search(head_bytes)
    if status is None or length is None or int(length[1]) > BODY_BYTES_MAX:
        raise BadAnswerError("an answer that is not a daemon's")
    pieces = [data[end + 4 :]]
    missing = int(length[1]) - len(pieces[0])
    while missing > 0:
        pieces.append(_receive(connection))
        missing -= len(pieces[-1])
    if missing < 0:
        raise BadAnswerError("more bytes than the answer has")
    return int(status[1]), b"".join(pieces), _CLOSE.search(head_bytes) is not None


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(_CHUNK)
    if not data:
        raise ConnectionResetError("the daemon closed the connection")
    return data
