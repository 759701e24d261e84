"""The frames of a WebSocket after its handshake, as a server reads and writes them (RFC 6455, 5).

The library that does the handshake can do this, too, and keeps some four kilobytes for each connection
ready to; nearly all connections of a hub say nothing nearly all the time. Here a connection between
two messages costs one small object. What takes time, the mask, is the library's.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # as the library itself does, where it was not compiled
    from websockets.utils import apply_mask

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

REASON_BYTES_MAX: Final = 123
"""What a close frame has room for (RFC 6455, 5.5)."""

PROTOCOL_ERROR: Final = 1002
NOT_UTF8: Final = 1007
TOO_BIG: Final = 1009
"""Codes to close with (RFC 6455, 7.4.1)."""

NO_CODE: Final = 1005
"""What stands for a close frame without a code; it is never sent."""

_CONTINUATION: Final = 0
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 8
_CONTROL_BYTES_MAX: Final = 125
_KINDS: Final = frozenset((_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


class FrameViolation(Exception):
    """A client breaks the rules: close with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Message(NamedTuple):
    """A whole message, its fragments joined, or a control frame."""

    kind: int
    data: bytes


class FrameReader:
    """Makes messages of what a client sends, in whatever pieces that comes.

    A frame, and a message of many, may hold `bytes_max`. After a FrameViolation nothing more is read.
    """

    __slots__ = ("_bytes_max", "_fragments", "_kind", "_missing", "_partial")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._partial: bytearray | None = None  # of a frame that is not all here
        self._missing = 0  # bytes of it, as far as is known
        self._fragments: bytearray | None = None  # of a message that is not all here
        self._kind = BINARY  # of that

    def feed(self, data: bytes, found: deque[Message]) -> None:
        """Put the messages that are complete with this into `found`. Raises FrameViolation, with those
        before it in there."""
        if self._partial is not None:
            self._partial += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._partial = bytes(self._partial), None
        at = 0
        while at < len(data):
            end = self._read(data, at, found)
            if not end:
                self._partial = bytearray(memoryview(data)[at:])
                return
            at = end

    def _read(self, data: bytes, at: int, found: deque[Message]) -> int:
        """Read the frame that starts there; where it ends, 0 if it is not all here."""
        left = len(data) - at
        if left < 2:
            self._missing = 2 - left
            return 0
        first, second = data[at], data[at + 1]
        head, size = 6, second & 0x7F
        if size > _CONTROL_BYTES_MAX:
            head += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : at + head - 4])
        self._check(first, second)
        if left >= head - 4 and size > self._room(first):
            raise FrameViolation(TOO_BIG, f"a message of over {self._bytes_max} bytes")
        if left < head + size:
            self._missing = head - left if left < head else head + size - left
            return 0
        start, end = at + head, at + head + size
        self._take(first, apply_mask(data[start:end], data[start - 4 : start]), found)
        return end

    def _check(self, first: int, second: int) -> None:
        kind = first & 0x0F
        if first & 0x70 or kind not in _KINDS:
            raise FrameViolation(PROTOCOL_ERROR, "a frame of a kind that was not agreed on")
        if not second & _MASKED:
            raise FrameViolation(PROTOCOL_ERROR, "a frame without a mask")
        if kind >= _CONTROL and (not first & _FINAL or second & 0x7F > _CONTROL_BYTES_MAX):
            raise FrameViolation(PROTOCOL_ERROR, "a control frame that is long, or in parts")
        begun = self._fragments is not None
        if kind < _CONTROL and (kind == _CONTINUATION) != begun:
            raise FrameViolation(PROTOCOL_ERROR, "fragments of two messages")

    def _room(self, first: int) -> int:
        """How much a frame that begins so may hold: before it is here, or twice as much would be."""
        if self._fragments is None or first & 0x0F >= _CONTROL:
            return self._bytes_max
        return self._bytes_max - len(self._fragments)

    def _take(self, first: int, data: bytes, found: deque[Message]) -> None:
        kind, final = first & 0x0F, first & _FINAL
        if kind >= _CONTROL or (final and kind != _CONTINUATION):  # nearly always
            found.append(Message(kind, data))
            return
        if self._fragments is None:
            self._fragments, self._kind = bytearray(), kind
        self._fragments += data
        if final:
            found.append(Message(self._kind, bytes(self._fragments)))
            self._fragments = None


def head(size: int, kind: int = BINARY) -> bytes:
    """What stands before a whole message of so many bytes."""
    if size < 126:
        return bytes((_FINAL | kind, size))
    if size < 65536:
        return bytes((_FINAL | kind, 126)) + size.to_bytes(2)
    return bytes((_FINAL | kind, 127)) + size.to_bytes(8)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame, with as much of a reason as it can hold; without anything for NO_CODE."""
    body = b"" if code == NO_CODE else code.to_bytes(2) + close_reason(reason).encode()
    return head(len(body), CLOSE) + body


def close_reason(text: str) -> str:
    """As much of a reason as a close frame can hold."""
    return text.encode()[:REASON_BYTES_MAX].decode(errors="ignore")


def read_close(data: bytes) -> int:
    """The code in a close frame. Raises FrameViolation for what must not stand there."""
    if not data:
        return NO_CODE
    code = int.from_bytes(data[:2])
    if len(data) < 2 or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameViolation(PROTOCOL_ERROR, "a close frame without a code that may be sent")
    if code in (1004, 1005, 1006):
        raise FrameViolation(PROTOCOL_ERROR, "a close frame without a code that may be sent")
    try:
        data[2:].decode()
    except UnicodeDecodeError:
        raise FrameViolation(NOT_UTF8, "a reason that is not UTF-8") from None
    return code
