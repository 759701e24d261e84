"""A storage account that has too much to do: a proxy before Azurite, which refuses when it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BUSY = (
    b"HTTP/1.1 503 The server is busy.\r\nx-ms-error-code: ServerBusy\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class BusyStorage:
    """`refuse_every` is which requests are refused: 0 none, 1 all, 3 each third."""

    def __init__(self, upstream: int) -> None:
        self.refuse_every = 0
        self.refused = 0
        self.port = 0
        self._upstream = upstream
        self._seen = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request; the next one has to connect again."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            lines = head.split(b"\r\n")
            for line in lines:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = await reader.readexactly(length)
            self._seen += 1
            if self.refuse_every and self._seen % self.refuse_every == 0:
                self.refused += 1
                writer.write(BUSY)
            else:
                kept = [line for line in lines if not line.lower().startswith(b"connection:")]
                kept.insert(1, b"Connection: close")
                theirs, ours = await asyncio.open_connection("127.0.0.1", self._upstream)
                ours.write(b"\r\n".join(kept) + body)
                writer.write(await theirs.read())
                ours.close()
            await writer.drain()
        writer.close()


@contextmanager
def busy_storage(upstream: int) -> Iterator[BusyStorage]:
    """Before the server on that port."""
    made = BusyStorage(upstream)
    made.start()
    try:
        yield made
    finally:
        made.stop()
