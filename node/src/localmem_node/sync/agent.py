"""The sync agent: keeps one session connected, and feeds it what is new.

Everything that a session does (sealing, opening, journalling, waiting for the ring) runs in one
thread of its own, so that requests never wait for it. The agent only moves frames and knows when to
try again: at once after a new event, ever later after failures, and hardly ever after a refusal
that the hub called permanent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from localmem_node.config import HubSettings
from localmem_node.errors import NodeError, SyncError
from localmem_node.sync.remedy import remedy
from localmem_node.sync.transport import Connection, Transport
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError, RefusedError
from localmem_protocol.seams import Clock, Random
from localmem_protocol.session import EventLog, Session, State
from localmem_protocol.session import Journal as SessionJournal

logger = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
RETRY_REFUSED_S: Final = 600.0

T = TypeVar("T")


class Journal(SessionJournal, Protocol):
    """A journal that is given back at the end."""

    def close(self) -> None:
        """Give it back."""
        ...


class Source(EventLog, Protocol):
    """An event log that says when there is something new."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, from any thread, after own events were recorded; returns the end."""
        ...


class SyncAgent:
    """A service of the daemon: synchronises `source` with one pool of one hub."""

    name = "sync"

    def __init__(
        self,
        pool: PoolKey,
        source: Source,
        open_journal: Callable[[], Journal],
        transport: Transport,
        clock: Clock,
        random: Random,
        *,
        hub: HubSettings,
    ) -> None:
        self._pool = pool
        self._source = source
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._transport = transport
        self._clock = clock
        self._random = random
        self._hub = hub
        self._thread = ThreadPoolExecutor(1, "localmem-sync")
        self._changed = asyncio.Event()  # there may be something to upload
        self._asked = asyncio.Event()  # somebody waits: try now
        self._progress = asyncio.Condition()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._settled = False
        self._error: str | None = None
        self._attempts = 0
        self._settled_ms: int | None = None
        self._bytes = [0, 0]  # sent, received, of connections that are closed
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        self._unsubscribe = self._source.subscribe(wake)
        self._task = asyncio.create_task(self._run(), name="sync")

    async def stop(self) -> None:
        """End, and leave nothing behind."""
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._journal is not None:
            self._journal.close()
        self._thread.shutdown()

    def status(self) -> dict[str, Any]:
        """How it is: state, what waits, bytes, the last error."""
        current, connection = self._session, self._connection
        sent, received = self._bytes
        return {
            "hub": self._hub.url,
            "pool": self._pool.pool,
            "state": current.state.value if current else State.OFFLINE.value,
            "settled": self._settled,
            "settled_ms": self._settled_ms,
            "unacknowledged": current.unacknowledged if current else None,
            "unreadable": current.unreadable if current else 0,
            "read_only": current is not None and not current.writer,
            "bytes_sent": sent + (connection.sent if connection else 0),
            "bytes_received": received + (connection.received if connection else 0),
            "error": self._error,
        }

    async def sync_now(self, wait_s: float) -> dict[str, Any]:
        """Try at once; the status when everything is exchanged, something failed, or time is up."""
        attempts = self._attempts
        self._settled = False
        self._changed.set()
        self._asked.set()

        def over() -> bool:
            return self._settled or (self._error is not None and self._attempts > attempts)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._progress:
                await self._progress.wait_for(over)
        return self.status()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._connect_once()
            except (NodeError, ProtocolError) as error:
                if not isinstance(error, SyncError | RefusedError):
                    self._session = None  # it may be ahead of its journal: read that again
                failures = 0 if self._settled_in_connection else failures + 1
                delay_s = self._delay_s(error, failures)
                await self._failed("; ".join(filter(None, (str(error), remedy(error, self._hub)))))
                logger.info("not in sync: %s; next try in %.0f s", error, delay_s)
                await self._rest(delay_s)
            except Exception as error:
                logger.exception("the sync agent failed")
                self._session = None
                await self._failed(f"unexpected: {type(error).__name__}")
                await self._rest(RETRY_MAX_S)

    async def _connect_once(self) -> None:
        """One connection, until it ends with an error."""
        self._settled_in_connection = False
        if self._session is None:
            self._session = await self._in_thread(self._open)
        session = self._session
        async with self._transport.connect(self._source.device) as connection:
            self._connection = connection
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._send(connection, await self._in_thread(session.hello))
                    tasks.create_task(self._read(session, connection))
                    tasks.create_task(self._write(session, connection))
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                self._connection = None
                self._bytes[0] += connection.sent
                self._bytes[1] += connection.received
                await self._in_thread(session.disconnect)

    async def _read(self, session: Session, connection: Connection) -> None:
        while True:
            data = await connection.receive()
            await self._send(connection, await self._in_thread(partial(session.receive, data)))
            self._changed.set()

    async def _write(self, session: Session, connection: Connection) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while frames := await self._in_thread(session.upload):
                await self._send(connection, frames)
            if await self._in_thread(lambda: session.settled) and not self._changed.is_set():
                await self._report_settled()

    async def _send(self, connection: Connection, frames: list[bytes]) -> None:
        for frame in frames:
            await connection.send(frame)

    async def _report_settled(self) -> None:
        async with self._progress:
            self._settled = self._settled_in_connection = True
            self._settled_ms = self._clock.now_ms()
            self._error = None
            self._progress.notify_all()

    async def _failed(self, reason: str) -> None:
        async with self._progress:
            self._settled = False
            self._attempts += 1
            self._error = reason
            self._progress.notify_all()

    async def _rest(self, delay_s: float) -> None:
        """Wait, unless somebody asks."""
        self._asked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._asked.wait()

    def _delay_s(self, error: Exception, failures: int) -> float:
        """Exponential, with a random half so that a hub's devices do not return all at once."""
        if isinstance(error, ProtocolError) and error.permanent:
            return RETRY_REFUSED_S
        most: float = min(RETRY_FIRST_S * 2.0 ** min(failures, 10), RETRY_MAX_S)
        return most / 2 * (1 + int.from_bytes(self._random.token_bytes(2)) / 65536)

    def _open(self) -> Session:
        self._journal = self._journal or self._open_journal()
        return Session(self._pool, self._source, self._journal)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
