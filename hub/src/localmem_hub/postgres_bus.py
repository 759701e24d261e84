"""Signals between replicas through PostgreSQL's LISTEN and NOTIFY.

One connection listens, and proves again and again that it still does: what was told before such a
proof has been heard by then. Another one tells, so that it need not wait for the first; it waits for
no disk, since a signal may get lost. Both are made anew when they end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psycopg
import sqlalchemy as sa

from localmem_hub.limits import HEARTBEAT_SECONDS, LISTENER_END_SECONDS, RECONNECT_SECONDS
from localmem_hub.postgres import CHANNEL, connection_options
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)


class PostgresBus:
    """The two connections. All methods belong to one event loop.

    `heard` is called on it with a payload, `connected` whenever it listens (again): what was told before
    is lost then. `reached_s` is when the last proof was asked for, by the monotonic clock.
    """

    def __init__(
        self,
        url: sa.URL,
        clock: Clock,
        heard: Callable[[str], None],
        connected: Callable[[], None],
    ) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._clock = clock
        self._heard = heard
        self._connected = connected
        self._telling: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self.reached_s = clock.monotonic_s()

    async def listen(self) -> None:
        """Listen until cancelled."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        over = threading.Event()
        # A thread of its own: how busy the event loop is says nothing about the database.
        thread = threading.Thread(
            target=self._listen_until, args=(over, loop, ended), name="hub-listener", daemon=True
        )
        thread.start()
        try:
            await ended
        finally:
            over.set()
            await asyncio.to_thread(thread.join, LISTENER_END_SECONDS)

    async def tell(self, payloads: Sequence[str]) -> bool:
        """Tell the other replicas; whether that worked."""
        try:
            if self._telling is None:
                self._telling = await self._connect("tell")
                await self._telling.execute("SET synchronous_commit = off")
            async with self._telling.pipeline():
                for payload in payloads:
                    await self._telling.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        except (psycopg.Error, OSError) as error:
            log.warning("other replicas not told: %s", type(error).__name__)
            await self.close()
            return False
        return True

    async def close(self) -> None:
        """End the connection that tells."""
        telling, self._telling = self._telling, None
        if telling is not None:
            with suppress(psycopg.Error, OSError):
                await telling.close()

    def _listen_until(
        self, over: threading.Event, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]
    ) -> None:
        """On a thread: connect and listen, again and again, until it is over."""
        with suppress(RuntimeError):  # the loop is gone
            try:
                while not over.is_set():
                    try:
                        self._listen(over, loop)
                    except (psycopg.Error, OSError) as error:
                        log.warning("not listening to other replicas: %s", type(error).__name__)
                        over.wait(RECONNECT_SECONDS)
            except Exception as error:
                loop.call_soon_threadsafe(_fail, ended, error)

    def _listen(self, over: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        options = connection_options("listen")
        with psycopg.connect(self._url, autocommit=True, **options) as connection:  # type: ignore[arg-type]
            asked_s = self._clock.monotonic_s()
            connection.execute(f"LISTEN {CHANNEL}")
            loop.call_soon_threadsafe(self._connected)
            while not over.is_set():
                self.reached_s = asked_s
                for notify in connection.notifies(timeout=HEARTBEAT_SECONDS):
                    loop.call_soon_threadsafe(self._heard, notify.payload)
                asked_s = self._clock.monotonic_s()
                connection.execute("SELECT 1")

    async def _connect(self, name: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
        options = connection_options(name)
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **options)  # type: ignore[arg-type]


def _fail(ended: asyncio.Future[None], error: Exception) -> None:
    if not ended.done():
        ended.set_exception(error)
