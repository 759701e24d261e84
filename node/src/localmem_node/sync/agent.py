"""The sync agent: keeps one session connected, and feeds it what is new.

Everything that a session does (sealing, opening, journalling, waiting for the ring) runs in one
thread of its own, so that requests never wait for it. The agent only moves frames and knows when to
try again: ever later after failures, and hardly ever after a refusal that the hub called permanent.
What is new it offers at once; whether that goes now or with what follows is `batching`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from localmem_node.errors import NodeError, SyncError
from localmem_node.sync.checkouts import PoolTexts
from localmem_node.sync.shared_log import Source
from localmem_node.sync.transport import Connection
from localmem_node.sync.way import Journal, Place, Target, Way
from localmem_protocol.batching import DEFAULT, Batching
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError, RefusedError, RestoredError
from localmem_protocol.frames import Close
from localmem_protocol.reconnect import RETRY_MAX_S, Backoff, outlives
from localmem_protocol.seams import Clock, Random
from localmem_protocol.session import Session, State
from localmem_protocol.signatures import QUIET_S, Problem
from localmem_protocol.tombstones import TombstoneKey

logger = logging.getLogger(__name__)

HURRY_S: Final = 30.0
"""At most once in this time a refused connection is tried again at once: the hub may mean it."""

GATHER_S: Final = 1.0
"""How long what others forgot is gathered, so that many tombstones cost one rewriting of the store."""

PAST_ANSWER_S: Final = 60.0
"""A hub that says nothing for so long of an epoch that is over is asked again later."""

PROBLEMS_SHOWN: Final = 16
"""The newest problems, in the status; all are counted and logged."""

LAST_WORDS_S: Final = 2.0
"""How long an agent that ends tries to send what waited for more to go with."""

T = TypeVar("T")


class _MovedError(Exception):
    """This connection has done what it was for: another place comes next."""


class SyncAgent:
    """A service of the daemon: synchronises `source` with one pool of one hub."""

    name = "sync"

    def __init__(
        self,
        way: Way,
        source: Source,
        clock: Clock,
        random: Random,
        batching: Batching = DEFAULT,
        texts: PoolTexts | None = None,
    ) -> None:
        self.texts = texts
        self._way = way
        self._batching = batching
        self._source = source
        self._clock = clock
        self._backoff = Backoff(random)
        self._key: PoolKey | None = None
        self._journal: Journal | None = None
        self._thread = ThreadPoolExecutor(1, "localmem-sync")
        # Asks the way: whoever forgets something, in the other thread, does not wait for a slow hub.
        self._asking = ThreadPoolExecutor(1, "localmem-way")
        self._changed = asyncio.Event()  # there may be something to upload
        self._said = asyncio.Event()  # all that was to be uploaded has left this device
        self._asked = asyncio.Event()  # somebody waits: try now
        self._news_wanted = False  # …and wants what the hub has, too
        self._stirred = asyncio.Event()  # something came or went
        self._problems: deque[Problem] = deque(maxlen=PROBLEMS_SHOWN)
        self._troubles = 0  # of this and earlier sessions
        self._erase = asyncio.Event()  # others forgot something that is in the store's file
        self._progress = asyncio.Condition()
        self._session: Session | None = None
        self._reading: Target | None = None  # of an epoch that is over
        self._tasks: list[asyncio.Task[None]] = []
        self._settled = False
        self._hurried_s: float | None = None
        self._error: str | None = None
        self._attempts = 0
        self._settled_ms: int | None = None
        self._state_code: str | None = None  # of what was there when everything was exchanged
        self._bytes = [0, 0]  # sent, received, of connections that are closed
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._source.subscribe(self._wake)
        self._tasks = [
            asyncio.create_task(self._run(), name="sync"),
            asyncio.create_task(self._erase_forgotten(), name="sync-erase"),
        ]

    async def stop(self, *, say: bool = True) -> None:
        """End, and leave nothing behind. What waits is sent before, if `say` and it can be."""
        self._unsubscribe()
        if say:
            await self._say_last()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._asking.shutdown(wait=False)
        await asyncio.to_thread(self._thread.shutdown)  # what it is doing uses the journal
        if self._journal is not None:
            self._journal.close()

    def status(self) -> dict[str, Any]:
        """How it is: state, what waits, bytes, the last error."""
        current, connection = self._session, self._connection
        sent, received = self._bytes
        return {
            "hub": self._way.url,
            "pool": self._way.name,
            "state": current.state.value if current else State.OFFLINE.value,
            "settled": self._settled,
            "settled_ms": self._settled_ms,
            "state_code": self._state_code if self._settled else None,
            "unacknowledged": current.unacknowledged if current else None,
            "tombstones_waiting": current.untold if current else None,
            "events_gathered": current.gathered if current else None,
            "texts_waiting": current.texts_waiting if current else None,
            "erasing": self._source.erasing_due,
            "unreadable": current.reported.unreadable if current else 0,
            "provisional": current.replica.signatures.uncovered if current else None,
            "problem_count": self._troubles,
            "problems": [asdict(problem) for problem in tuple(self._problems)],
            "read_only": current is not None and not current.writer,
            "epochs_unread": [
                {"epoch": epoch, "problem": problem}
                for epoch, problem in self._way.unread().items()
            ],
            "bytes_sent": sent + (connection.sent if connection else 0),
            "bytes_received": received + (connection.received if connection else 0),
            "error": self._error,
        }

    def forget(self, ids: Sequence[str]) -> None:
        """From any thread but the agent's own: forget events in the pool; waits until it is durable.

        Offline as well: the others hear of it when the hub can be reached. Raises SyncError, and
        StoreError.
        """
        try:
            done = self._thread.submit(self._forget, ids)
        except RuntimeError as error:
            raise SyncError("the daemon is stopping; try again") from error
        done.result()
        self._wake()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    async def sync_now(self, wait_s: float) -> dict[str, Any]:
        """Try at once; the status when everything is exchanged, something failed, or time is up."""
        attempts = self._attempts
        self._settled = False
        self._news_wanted = True
        self._changed.set()
        self._asked.set()

        def over() -> bool:
            return self._settled or (self._error is not None and self._attempts > attempts)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self._progress:
                await self._progress.wait_for(over)
        return self.status()

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_once()
            except _MovedError:
                continue
            except (NodeError, ProtocolError) as error:
                await self._prepare(error)
                if not await self._put_off(error):
                    await self._failed_with(error)
            except Exception as error:
                logger.exception("the sync agent failed")
                self._session = None
                if await self._put_off(error):
                    continue
                await self._failed(f"unexpected: {type(error).__name__}")
                await self._rest(RETRY_MAX_S)

    async def _put_off(self, error: Exception) -> bool:
        """Whether it was in an epoch that is over, which is tried again later: the newest goes on."""
        target, self._reading = self._reading, None
        if target is None:
            return False
        await self._in_thread(partial(self._way.refused, error))
        self._way.put_off(target, str(error) or type(error).__name__)
        logger.warning("epoch %d is not read yet: %s", target.place.key.epoch, error)
        return True

    async def _failed_with(self, error: NodeError | ProtocolError) -> None:
        settled = self._settled_in_connection
        if isinstance(error, RestoredError):
            logger.warning("%s: what it lost is sent again", error)
            await self._in_thread(self._way.restored)
            await self._rest(self._backoff.delay_s(error, settled=settled))
            return
        if settled and _only_stale(error):
            logger.info("%s", error)
            await self._rest(self._backoff.delay_s(error, settled=True))
            return
        if await self._in_thread(partial(self._way.refused, error)) and self._may_hurry():
            return
        delay_s = self._backoff.delay_s(error, settled=settled)
        await self._failed("; ".join(filter(None, (str(error), self._way.remedy(error)))))
        logger.info("not in sync: %s; next try in %.0f s", error, delay_s)
        await self._rest(delay_s)

    async def _connect_once(self) -> None:
        """One connection, until it ends with an error."""
        self._settled_in_connection = False
        self._reading = None
        loop = asyncio.get_running_loop()
        target = await loop.run_in_executor(self._asking, self._way.next)
        self._reading = target if target.past else None
        session = await self._in_thread(lambda: self._session_at(target.place, past=target.past))
        async with target.transport.connect(self._source.device) as connection:
            self._connection = connection
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._send(connection, await self._in_thread(session.hello))
                    tasks.create_task(self._read(target, session, connection))
                    tasks.create_task(self._write(target, session, connection))
                    tasks.create_task(self._rest_after(session))
                    tasks.create_task(self._leave_for_past(target))
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                self._connection = None
                self._bytes[0] += connection.sent
                self._bytes[1] += connection.received
                await self._in_thread(session.disconnect)

    async def _read(self, target: Target, session: Session, connection: Connection) -> None:
        while True:
            try:
                async with asyncio.timeout(PAST_ANSWER_S if target.past else None):
                    data = await connection.receive()
            except TimeoutError:
                raise SyncError(f"the hub says nothing for {PAST_ANSWER_S:.0f} s") from None
            frames, over = await self._in_thread(partial(self._took, target, session, data))
            await self._send(connection, frames)
            if over:
                raise _MovedError
            self._changed.set()
            if self._source.erasing_due:
                self._erase.set()

    def _took(self, target: Target, session: Session, data: bytes) -> tuple[list[bytes], bool]:
        """Take a frame: what to answer, and whether another place comes next. One way to the thread."""
        frames = session.receive(data)
        self._note_problems(session)
        if self._way.moved(session.roster_length):
            return [], True  # what was sealed just now is under a key that others may have kept
        over = target.past and session.state is State.READY
        if over and session.texts_waiting:
            waiting = f"{session.texts_waiting} events wait for their text"
            raise SyncError(f"{waiting}; record something in a clone of their project")
        if over:
            self._way.finished(target)
        return frames, over

    def _rested(self, session: Session, quiet_s: float) -> float | None:
        again_s = session.rest(quiet_s)
        self._note_problems(session)
        return again_s

    async def _write(self, target: Target, session: Session, connection: Connection) -> None:
        while True:
            await self._changes_by(session.due_s)
            self._changed.clear()
            ask, self._news_wanted = self._news_wanted, False
            if ask:
                session.hurry(ask=True)
            while frames := await self._in_thread(partial(self._uploaded, session)):
                await self._send(connection, frames)
            await connection.settle(ask=ask)
            self._said.set()
            if target.past:
                continue  # what is settled there says nothing of what is going on now
            code = await self._in_thread(partial(_state_code, session))
            if code is not None and not self._changed.is_set():
                self._state_code = code
                await self._report_settled()

    async def _changes_by(self, due_s: float | None) -> None:
        """Wait until there may be something to upload, or what waits is due."""
        wait_s = None if due_s is None else max(0.0, due_s - self._clock.monotonic_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    def _uploaded(self, session: Session) -> list[bytes]:
        """What is new, unless another place comes next: nothing is sealed any more where that is over."""
        if self._way.moved(session.roster_length):
            raise _MovedError
        return session.upload(self._clock.monotonic_s())

    async def _say_last(self) -> None:
        """Send what waits for more to go with; what cannot be sent follows at the next start."""
        session = self._session
        if session is None or session.due_s is None:
            return
        session.hurry()
        self._said.clear()
        self._changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._said.wait()

    async def _rest_after(self, session: Session) -> None:
        """Let the session know, whenever it is quiet, how long it has been so."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            quiet_s, due_s = 0.0, QUIET_S
            while not await self._stirs_within(due_s - quiet_s):
                quiet_s = due_s
                again_s = await self._in_thread(partial(self._rested, session, quiet_s))
                self._changed.set()  # it may have made something
                if again_s is None:
                    break
                due_s = again_s

    async def _leave_for_past(self, target: Target) -> None:
        """Leave the newest epoch, once all is exchanged there, for one that could not be read yet."""
        due_s = None if target.past else self._way.past_due_s()
        if due_s is None:
            return
        await asyncio.sleep(due_s)
        async with self._progress:
            await self._progress.wait_for(lambda: self._settled_in_connection)
        raise _MovedError

    async def _stirs_within(self, wait_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stirred.wait()
        return self._stirred.is_set()

    def _note_problems(self, session: Session) -> None:
        for problem in session.reported.take_news():
            self._problems.append(problem)
            self._troubles += 1
            logger.warning(
                "%s: device %s, client %d, batch %d, event %d: %s",
                *(problem.kind, problem.device, problem.client, problem.clock),
                *(problem.sequence, problem.reason),
            )

    async def _erase_forgotten(self) -> None:
        """Write the store anew when others forgot something of it, once for many."""
        while True:
            await self._erase.wait()
            await asyncio.sleep(GATHER_S)
            self._erase.clear()
            try:
                while await asyncio.to_thread(self._source.finish_erasing):
                    pass
            except NodeError as error:
                logger.error("what others forgot is hidden, and not erased yet: %s", error)

    async def _send(self, connection: Connection, frames: list[bytes]) -> None:
        self._stirred.set()
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

    def _may_hurry(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._hurried_s is not None and now_s - self._hurried_s < HURRY_S:
            return False
        self._hurried_s = now_s
        return True

    async def _rest(self, delay_s: float) -> None:
        """Wait, unless somebody asks."""
        self._asked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._asked.wait()

    async def _prepare(self, error: NodeError | ProtocolError) -> None:
        """Let the session know how its connection ended, or load another before the next."""
        if not isinstance(error, SyncError) and not outlives(error):
            self._session = None  # it may be ahead of its journal: read that again
        elif self._session is not None and isinstance(error, RefusedError):
            try:
                await self._in_thread(partial(self._session.disconnect, error.close_code))
            except (NodeError, ProtocolError) as failed:
                logger.error("%s", failed)
                self._session = None

    def _forget(self, ids: Sequence[str]) -> None:
        place = self._way.here()
        if self._session is not None and self._key != place.key:
            # An epoch that is over is being read: whoever comes to the newest one next tells them.
            key = TombstoneKey(place.key)
            with contextlib.closing(place.open_journal()) as journal:
                journal.queue([key.of(event_id) for event_id in ids])
            return
        try:
            self._session_at(place, past=False).forget(ids)
        except (ProtocolError, SyncError) as error:
            self._session = None  # it may be ahead of its journal: read that again
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            raise SyncError(f"what is forgotten cannot be told to others: {error}") from None

    def _session_at(self, place: Place, *, past: bool) -> Session:
        """The session there: the one that there was, if it is the same place."""
        if self._key != place.key:
            self._session = None
            journal, self._journal, self._key = self._journal, None, place.key
            if journal is not None:  # it is of the other place, also where its session failed
                journal.close()
        if self._session is None:
            self._journal = self._journal or place.open_journal()
            self._session = Session(
                place.key,
                self._source,
                self._journal,
                reader=past,
                authorship=place.authorship,
                batching=self._batching,
                padding=place.padding,
                texts=self.texts.anywhere() if self.texts and past else self.texts,
            )
        return self._session

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _state_code(session: Session) -> str | None:
    """As `Replica.state_code`, once everything is exchanged; None before."""
    return session.replica.state_code if session.settled else None


def _only_stale(error: Exception) -> bool:
    """Whether the hub, which was reached, only wants to be greeted again."""
    return isinstance(error, RefusedError) and error.close_code == Close.GAP
