"""Signals between replicas through PostgreSQL's LISTEN and NOTIFY.

One connection listens, and proves again and again that it still does: what was told before such a
proof has been heard by then. Another one tells, so that it need not wait for the first; it waits for
no disk, since a signal may get lost. Both are made anew when they end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psycopg
import sqlalchemy as sa

from localmem_hub.limits import HEARTBEAT_SECONDS, RECONNECT_SECONDS
from localmem_hub.postgres import CHANNEL, connection_options
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)


class PostgresBus:
    """The two connections. All methods belong to one event loop.

    `heard` is called with a payload, `connected` whenever it listens (again): what was told before
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
        while True:
            try:
                async with await self._connect("listen") as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self.reached_s = self._clock.monotonic_s()
                    self._connected()
                    await self._listen(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("not listening to other replicas: %s", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

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

    async def _listen(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            async for notify in connection.notifies(timeout=HEARTBEAT_SECONDS):
                self._heard(notify.payload)
            asked_s = self._clock.monotonic_s()
            await connection.execute("SELECT 1")
            self.reached_s = asked_s

    async def _connect(self, name: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
        options = connection_options(name)
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **options)  # type: ignore[arg-type]
