"""WebSockets below ASGI, which takes one message at a time in and out.

A room tells many connections many messages at one moment. Message by message each costs a task that
wakes and a call of the system; here all that a connection is told at that moment is one write, and
nothing wakes. A server that can do so offers it in a connection's scope, as an ASGI extension; under
another one messages go out one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from uvicorn._types import WebSocketScope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import OPEN

EXTENSION: Final = "localmem.wire"

WRITE_BYTES: Final = 256 * 1024
"""What is written before it is looked whether the system took it; about what its buffer holds."""

WAITING_MESSAGES_MAX: Final = 64
"""Messages of one connection that may wait to be read by the application."""

WAITING_MESSAGE_BYTES: Final = 64 * 1024
"""A message of more must not wait beside others."""

END_SECONDS: Final = 11.0
"""How long a connection may take to end, from when nobody here says anything on it any more. It is longer
than uvicorn waits for the other side's goodbye. A socket is let go then, whatever is unread on it."""

REASON_BYTES_MAX: Final = 123
"""What a close frame has room for (RFC 6455, 5.5)."""

_BINARY: Final = 0x82


class Wire(Protocol):
    """A connection that takes many messages at once."""

    @property
    def ready(self) -> bool:
        """Whether it takes any now; a connection that is gone takes them to nowhere."""
        ...

    async def until_ready(self) -> None:
        """Wait for that."""
        ...

    def write(self, messages: deque[bytes]) -> int:
        """Send from the left as much as it takes now; how many bytes of messages."""
        ...


def wire_of(scope: Mapping[str, Any]) -> Wire | None:
    """The wire of an ASGI connection, if its server offers one."""
    return cast("Wire | None", scope.get("extensions", {}).get(EXTENSION))


def close_reason(text: str) -> str:
    """As much of a reason as a close frame can hold."""
    return text.encode()[:REASON_BYTES_MAX].decode(errors="ignore")


class WireProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with that extension, which does not wait for who reads nothing."""

    _end: asyncio.TimerHandle | None = None

    def handle_connect(self, event: Request) -> None:
        """A handshake: say what is offered here."""
        super().handle_connect(event)
        if not self.close_sent:  # it was one, and its task begins after this
            cast("dict[str, object]", self.scope.setdefault("extensions", {}))[EXTENSION] = self

    def handle_ping(self) -> None:
        """A ping; who does not read the answers gets none."""
        answer = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(answer)

    def keepalive_timeout(self) -> None:
        """A ping that was not answered."""
        super().keepalive_timeout()
        self._end_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Nobody says anything here any more."""
        super().on_task_complete(task)
        self._end_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone; nothing is to lead back here, so that its memory is free at once."""
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()
        scope: WebSocketScope | None = getattr(self, "scope", None)
        if scope is not None:
            scope.get("extensions", {}).pop(EXTENSION, None)

    def _end_soon(self) -> None:
        if not self.disconnected and self._end is None:
            self._end = self.loop.call_later(END_SECONDS, self.transport.abort)

    @property
    def ready(self) -> bool:
        """As `Wire` says."""
        return self.writable.is_set()

    async def until_ready(self) -> None:
        """As `Wire` says."""
        await self.writable.wait()

    def write(self, messages: deque[bytes]) -> int:
        """As `Wire` says."""
        if len(messages) == 1 and self.writable.is_set():  # mostly
            data = messages.popleft()
            self._put(_head(len(data)) + data)
            return len(data)
        taken = 0
        while messages and self.writable.is_set():
            parts: list[bytes] = []
            size = 0
            while messages and size < WRITE_BYTES:
                data = messages.popleft()
                parts += (_head(len(data)), data)
                size += len(data)
            self._put(b"".join(parts))
            taken += size
        return taken

    def _put(self, data: bytes) -> None:
        if self.conn.state is OPEN and not self.transport.is_closing():
            self.transport.write(data)

    def send_receive_event_to_app(self) -> None:
        """A message came. Several small ones may wait: to stop reading and begin again costs more."""
        paused, self.read_paused = self.read_paused, True  # or the other pauses for each
        size = sum(map(len, self.frames))
        super().send_receive_event_to_app()
        self.read_paused = paused
        full = size > WAITING_MESSAGE_BYTES or self.queue.qsize() >= WAITING_MESSAGES_MAX
        if full and not paused and not self.close_sent:
            self.read_paused = True
            self.transport.pause_reading()


def _head(size: int) -> bytes:
    """What stands before a whole binary message (RFC 6455, 5.2)."""
    if size < 126:
        return bytes((_BINARY, size))
    if size < 65536:
        return bytes((_BINARY, 126)) + size.to_bytes(2, "big")
    return bytes((_BINARY, 127)) + size.to_bytes(8, "big")
