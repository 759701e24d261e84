"""How long a client may take to say what it wants, and in how many bytes.

The server underneath waits for the head of a request for ever, of a WebSocket's handshake too, so that
whoever sends it byte by byte holds a connection as long as it likes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from localmem_hub.limits import HEAD_BYTES_MAX, HEAD_SECONDS

_TOO_LATE = b"408 Request Timeout"
_TOO_LARGE = b"431 Request Header Fields Too Large"


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP, with patience that ends."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any  # of the request under way, or of the last one

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._patience: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """A client came: now it has to say what it wants."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether a whole head is in it."""
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # a WebSocket by now
            self._done()
        elif self.cycle is None or self.cycle.response_complete:  # no request is under way
            # The rest of a body that was refused by then is no head; it has to end in time, too.
            self._head_bytes += 0 if self.cycle is not None and self.cycle.more_body else len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_TOO_LARGE)
            elif self._patience is None:
                self._wait()
        else:
            self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(HEAD_SECONDS, self._refuse, _TOO_LATE)

    def _done(self) -> None:
        self._head_bytes = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            head = b"HTTP/1.1 " + status + b"\r\n"
            self.transport.write(head + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
