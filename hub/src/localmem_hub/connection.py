"""One WebSocket connection: what waits to be sent on it, within a bound.

Nobody waits for a slow reader: what a room says is queued here, and a queue over
OUTGOING_BYTES_MAX is thrown away with its connection. The device catches up by its state vector.
What is said in one turn of the event loop goes out together (`wire.py`), where the server can do that.
"""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.websockets import WebSocket, WebSocketDisconnect

from localmem_hub.limits import CLOSE_SECONDS
from localmem_hub.wire import close_reason, wire_of
from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX


class Outbox:
    """The connections that were told something in this turn of the event loop."""

    def __init__(self) -> None:
        self._told: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Write what it is told when this turn is over."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._write)
        self._told[connection] = None

    def _write(self) -> None:
        told, self._told = self._told, {}
        for connection in told:
            connection.write_now()


class Connection:
    """A `rooms.Sink` on an accepted WebSocket. `number` is unique within the process."""

    def __init__(self, number: int, websocket: WebSocket, outbox: Outbox) -> None:
        self.number = number
        self.frames_sent = 0
        self.bytes_sent = 0
        self.closing: tuple[int, str] | None = None
        self._websocket = websocket
        self._wire = wire_of(websocket.scope)
        self._outbox = outbox
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._patience: asyncio.Timeout | None = None

    def send(self, data: bytes) -> None:
        """Queue a frame, or give the reader up."""
        if self.closing is not None:
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._wire is None:
            self._wake.set()
        else:
            self._outbox.add(self)
        if self._queued > OUTGOING_BYTES_MAX:
            self._queue.clear()
            self.drop(Close.SLOW, "reads too slowly; connect again")

    def drop(self, code: int, reason: str) -> None:
        """Send what is queued, then close; the first call decides."""
        if self.closing is None:
            self.closing = (code, reason)
            self._wake.set()
            if self._patience is not None:
                self._patience.reschedule(asyncio.get_running_loop().time() + CLOSE_SECONDS)

    async def write(self) -> None:
        """Send what is queued until the connection is dropped, or gone.

        A connection that was dropped has CLOSE_SECONDS to take the rest.
        """
        patience = CLOSE_SECONDS if self.closing else None
        try:
            async with asyncio.timeout(patience) as self._patience:
                while self.closing is None or self._queue:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._flush()
                code, reason = self.closing
                await self._websocket.close(code, close_reason(reason))
        except (TimeoutError, WebSocketDisconnect):
            self._queue.clear()
        except RuntimeError:  # the server closed it meanwhile: a message far too large
            self._queue.clear()
        finally:
            self._patience = None

    def write_now(self) -> None:
        """Write what was queued in this turn; the task goes on with what the reader does not take."""
        if self.closing is None:
            self._hand_over()
            if self._queue:
                self._wake.set()

    def _hand_over(self) -> None:
        if self._wire is not None:
            before = len(self._queue)
            taken = self._wire.write(self._queue)
            self._queued -= taken
            self.bytes_sent += taken
            self.frames_sent += before - len(self._queue)

    async def _flush(self) -> None:
        while self._queue and self._wire is not None:
            await self._wire.until_ready()
            self._hand_over()
        while self._queue:
            data = self._queue.popleft()
            await self._websocket.send_bytes(data)
            self._queued -= len(data)
            self.frames_sent += 1
            self.bytes_sent += len(data)
