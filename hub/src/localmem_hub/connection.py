"""A WebSocket connection after its handshake: what is read on it, and what waits to be written.

Nobody waits for a slow reader: what a room says is queued here, and a queue over OUTGOING_BYTES_MAX is
thrown away with its connection. The device catches up by its state vector. What is said to a connection
in one turn of the event loop is one write, and what it says at once is heard at once.

A connection that says nothing has no task, no timer and no buffer. All of them together have one timer
(`connections.py`), which calls `look` when their time has come: to ask whether they are still there, or
to let them go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Final, Protocol

from localmem_hub.limits import CLOSE_SECONDS, TURN_MESSAGES_MAX, WEBSOCKET_BYTES_MAX
from localmem_hub.websocket_frames import (
    BINARY,
    CLOSE,
    NOT_UTF8,
    PING,
    PONG,
    TEXT,
    FrameReader,
    FrameViolation,
    Message,
    close_frame,
    head,
    read_close,
)
from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX

log: Final = logging.getLogger(__name__)

PING_SECONDS: Final = 20.0
"""After so long without a word it is asked whether somebody is there."""

PONG_SECONDS: Final = 20.0
"""How long the answer to that may take."""

END_SECONDS: Final = 10.0
"""How long the other side's goodbye may take. A socket is let go then, whatever is unread on it."""

WRITE_BYTES: Final = 256 * 1024
"""What is written before it is looked whether the system took it; about what its buffer holds."""

LOST: Final = 1006
"""The code of a connection that ended without one (RFC 6455, 7.4.1)."""

DEFECT: Final = 1011
"""Closed because of a failure here, or because nobody answers."""

_SERVICE_RESTART: Final = 1012
_INVALID: Final = -1  # the kind of what stands for a violation of the rules, in its place


class Listener(Protocol):
    """Who hears a connection."""

    def hear(self, messages: list[bytes]) -> Coroutine[None, None, None] | None:
        """Take what was said; or what has to be done first, which takes it, and nothing is read meanwhile."""
        ...

    def over(self) -> None:
        """Nothing more comes, and nothing more can be said. Called once."""
        ...


class Keeper(Protocol):
    """Who keeps connections."""

    def now_s(self) -> float:
        """By the clock of the event loop."""
        ...

    def framed(self, data: bytes) -> bytes:
        """A message as it is written: the same for everybody."""
        ...

    def told(self, connection: Connection) -> None:
        """It has something to write when this turn of the event loop is over."""
        ...

    def gone(self, connection: Connection) -> None:
        """It is over."""
        ...


class Connection(asyncio.Protocol):
    """A `live.Sink` on a WebSocket. `number` is unique within the process.

    Messages of text, and of more than `bytes_max`, end it. `closing` is why it is ended from here,
    `code` how it was from there; `due_s` is when `look` is to be called.
    """

    __slots__ = (
        "_backlog",
        "_busy",
        "_bytes_max",
        "_ended",
        "_full",
        "_keeper",
        "_listener",
        "_owed",
        "_pinged",
        "_queue",
        "_queued",
        "_reader",
        "_taken",
        "_transport",
        "bytes",
        "bytes_sent",
        "closing",
        "code",
        "due_s",
        "frames",
        "frames_sent",
        "number",
    )

    def __init__(
        self, number: int, transport: asyncio.Transport, keeper: Keeper, bytes_max: int
    ) -> None:
        self.number = number
        self.frames = self.bytes = 0
        self.frames_sent = self.bytes_sent = 0
        self.closing: tuple[int, str] | None = None
        self.code = LOST
        self.due_s = keeper.now_s() + PING_SECONDS
        self._keeper = keeper
        self._transport = transport
        self._bytes_max = bytes_max
        self._reader = FrameReader(WEBSOCKET_BYTES_MAX)
        self._listener: Listener | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        self._full = False  # the system takes nothing more at the moment
        self._ended = False  # a close frame went either way, or the connection is lost
        self._pinged = False
        self._taken: int | None = None  # bytes that the system took, if it left some then
        self._owed: bytes | None = None  # the answer to a ping, while it takes nothing
        self._busy: asyncio.Task[None] | asyncio.Handle | None = None
        self._backlog: deque[Message] | None = None  # what waits for that
        transport.pause_reading()

    @property
    def ending(self) -> bool:
        """Whether it was told to end, or says goodbye."""
        return self.closing is not None or self._ended

    def listen(self, listener: Listener) -> None:
        """Begin to read."""
        if self._ended:
            listener.over()
        else:
            self._listener = listener
            self._transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Queue a message, or give the reader up."""
        if self.closing is not None:
            return
        if not self._queue:  # else this was said already, or it waits until the system takes more
            self._keeper.told(self)
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > OUTGOING_BYTES_MAX:
            self._queue.clear()
            self.drop(Close.SLOW, "reads too slowly; connect again")

    def drop(self, code: int, reason: str) -> None:
        """Send what is queued, then close; the first call decides. The rest may take CLOSE_SECONDS."""
        if self.closing is None:
            self.closing = (code, reason)
            self.due_s = self._keeper.now_s() + CLOSE_SECONDS
            self._keeper.told(self)

    def write_now(self) -> None:
        """Write what is queued, as far as the system takes it."""
        queue = self._queue
        if self._ended:
            queue.clear()
        while queue and not self._full:
            if len(queue) == 1:  # mostly
                data, size, count = self._keeper.framed(queue[0]), len(queue[0]), 1
            else:
                data, size, count = _joined(queue)
            self.frames_sent += count
            self.bytes_sent += size
            self._queued -= size
            del queue[:count]
            self._transport.write(data)
        if self.closing is not None and not queue and not self._ended:
            self._transport.write(close_frame(*self.closing))
            self._end()

    def look(self, now_s: float) -> None:
        """Its time has come."""
        if self.ending:
            self._transport.abort()
        elif self._listener is None or self._backlog is not None:
            self._pinged = False  # an answer would not be read now
            self.due_s = now_s + PING_SECONDS
        elif not self._took() and self._pinged:
            self._transport.write(close_frame(DEFECT, "did not answer a ping"))
            self._transport.abort()
        else:
            self._pinged = True
            self.due_s = now_s + PONG_SECONDS
            if not self._full:
                self._transport.write(head(0, PING))

    def _took(self) -> bool:
        """Whether the system took some of what it left last time: then somebody reads, if slowly."""
        left = self._transport.get_write_buffer_size()
        before, taken = self._taken, self.bytes_sent - left
        self._taken = taken if left else None
        return before is not None and taken > before

    def shutdown(self) -> None:
        """The server ends, and waits no longer."""
        if not self._ended:
            self._transport.write(close_frame(_SERVICE_RESTART))
            self._end()
        self._close()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if not self.ending:
            self._pinged = False
            self.due_s = self._keeper.now_s() + PING_SECONDS
        found = deque[Message]() if self._backlog is None else self._backlog
        try:
            self._reader.feed(data, found)
        except FrameViolation as error:
            found.append(Message(_INVALID, error.code.to_bytes(2) + str(error).encode()))
            self._reader = _Deaf(0)
        if self._backlog is None:
            self._take(found)

    def eof_received(self) -> None:
        """Nothing more comes: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._end()
        self._keeper.gone(self)

    def pause_writing(self) -> None:
        """The system takes nothing more."""
        self._full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        owed, self._owed = self._owed, None
        if owed is not None and not self._ended:
            self._transport.write(head(len(owed), PONG) + owed)
        self.write_now()

    def _take(self, found: deque[Message]) -> None:
        """Handle what came, in order. Many messages are a turn's work, and others have theirs first."""
        while found:
            messages: list[bytes] = []
            while found and self._hears(*found[0]) and len(messages) < TURN_MESSAGES_MAX:
                messages.append(found.popleft().data)
            if not messages:
                self._control(*found.popleft(), last=not found or found[0].kind != PING)
                continue
            first = self._hear(messages)
            if first is not None or (found and found[0].kind == BINARY):
                self._pause(first, found)
                return

    def _hears(self, kind: int, data: bytes) -> bool:
        """Whether this is for the listener."""
        return kind == BINARY and len(data) <= self._bytes_max

    def _hear(self, messages: list[bytes]) -> Coroutine[None, None, None] | None:
        if self.closing is not None or self._listener is None:
            return None
        self.frames += len(messages)
        self.bytes += sum(map(len, messages))
        try:
            return self._listener.hear(messages)
        except Exception:  # a defect must not leave anybody waiting
            self._failed()
            return None

    def _control(self, kind: int, data: bytes, *, last: bool) -> None:
        """Handle what is not for the listener. Of several pings the last is answered."""
        if kind == BINARY:
            self.drop(Close.TOO_LARGE, f"a message of over {self._bytes_max} bytes")
        elif kind == CLOSE:
            try:
                self._part(read_close(data))
            except FrameViolation as error:
                self._part(error.code, str(error))
        elif kind == _INVALID:
            self._part(int.from_bytes(data[:2]), data[2:].decode())
        elif kind == TEXT:
            self._hear_text(data)
        elif kind == PING and last and self._full:
            self._owed = data
        elif kind == PING and last and not self._ended:
            self._transport.write(head(len(data), PONG) + data)

    def _hear_text(self, data: bytes) -> None:
        try:
            data.decode()
        except UnicodeDecodeError:
            self._part(NOT_UTF8, "a text message that is not UTF-8")
        else:
            self.drop(Close.BAD_FRAME, "a text message; messages are binary")

    def _part(self, code: int, reason: str = "") -> None:
        """Answer a goodbye, or tell who breaks the rules of WebSockets; what follows means nothing."""
        if not self._ended:
            self.code = code
            self._transport.write(close_frame(code, reason))
            self._end()
        self._close()

    def _close(self) -> None:
        if not self._transport.is_closing():  # after a second call a transport of TLS is of no use
            self._transport.close()

    def _end(self) -> None:
        """Say and hear nothing any more, but the other side's goodbye."""
        self._ended = True
        self.due_s = self._keeper.now_s() + END_SECONDS
        self._queue.clear()
        self._backlog = None
        if self._busy is not None:
            self._busy.cancel()
            self._busy = None
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.over()
            except Exception:  # a defect there must not keep this, or other connections
                log.exception("the end of a connection failed number=%d", self.number)
        self._transport.resume_reading()

    def _pause(self, first: Coroutine[None, None, None] | None, found: deque[Message]) -> None:
        """Read nothing until that is done, or others had their turn."""
        self._backlog = found
        self._transport.pause_reading()
        loop = asyncio.get_running_loop()
        if first is None:
            self._busy = loop.call_soon(self._go_on)
        else:
            self._busy = loop.create_task(first)
            self._busy.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._failed(error)
        if self._busy is task:
            self._go_on()

    def _go_on(self) -> None:
        found, self._backlog, self._busy = self._backlog, None, None
        if found:
            self._take(found)
        if self._backlog is None:
            self._transport.resume_reading()

    def _failed(self, error: BaseException | None = None) -> None:
        log.error("connection failed number=%d", self.number, exc_info=error or True)
        self.drop(DEFECT, "the hub failed; try again")


class _Deaf(FrameReader):
    """In the place of a reader that found a violation."""

    __slots__ = ()

    def feed(self, data: bytes, found: deque[Message]) -> None:
        """Nothing that follows means anything."""


def _joined(messages: list[bytes]) -> tuple[bytes, int, int]:
    """As many messages as are written at once, as frames; their bytes without those; how many."""
    parts: list[bytes] = []
    size = 0
    for data in messages:
        if size >= WRITE_BYTES:
            break
        parts += (head(len(data)), data)
        size += len(data)
    return b"".join(parts), size, len(parts) // 2
