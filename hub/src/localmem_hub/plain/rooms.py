"""The plain rooms that are in use: turns, commits, compaction.

One task works for each room that has something to do, and ends when it has not. A turn is a call of
the room's worker and a commit; what arrives meanwhile is the next turn, so turns grow as the disk gets
slower. Commits of several rooms at one moment share a transaction. An update that a worker did not
survive is found by trying each alone, goes to quarantine with its sender's token, and costs nobody
else more than the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from localmem_hub.counts import Counts
from localmem_hub.errors import DamageError, FullError, StaleError, StoppingError, StoreError
from localmem_hub.headroom import FULL, Headroom
from localmem_hub.limits import COMPACT_ROWS, DRAIN_SECONDS
from localmem_hub.live import Sink
from localmem_hub.plain.calls import Compact, Done, Failed, Forget, Load, Missing, Turn
from localmem_hub.plain.limits import CATCH_UPS_MAX, LOADS_MAX
from localmem_hub.plain.room import Outcome, PlainRoom, Work
from localmem_hub.plain.workshop import Workshop
from localmem_hub.seams import Batch, Store
from localmem_hub.workers import Workers
from localmem_protocol.frames import Close
from localmem_protocol.room import Row
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)


class PlainRooms:
    """Every plain room in use. All methods belong to one event loop."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        clock: Clock,
        workshop: Workshop,
        headroom: Headroom | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._workshop = workshop
        self._headroom = headroom or Headroom(store, workers)
        self._counts = counts or Counts()
        self._live: dict[str, PlainRoom] = {}
        self._versions = count(1)
        self._commits: list[tuple[Batch, asyncio.Future[None]]] = []
        self._committing = False
        self._turns: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._live)

    def join(
        self, name: str, connection: int, sink: Sink, sender: str, *, writer: bool
    ) -> PlainRoom:
        """Bring a connection into its room, which is loaded in its first turn. Raises StoppingError."""
        if self._stopping:
            raise StoppingError("the hub is stopping; try again")
        room = self._live.get(name)
        if room is None:
            room = self._live[name] = PlainRoom(name)
        room.join(connection, sink, sender, writer=writer)
        self._work(room)
        return room

    def receive(self, room: PlainRoom, connection: int, messages: Sequence[bytes]) -> None:
        """Take what a connection said at once."""
        for message in () if self._stopping else messages:
            room.full = self._headroom.full
            room.receive(connection, message)
            self._work(room)

    def leave(self, room: PlainRoom, connection: int) -> None:
        """A connection is gone; a room that nobody needs leaves memory."""
        room.leave(connection)
        self._left.set()
        self._forget_if_idle(room)

    async def stop(self, step_s: float = DRAIN_SECONDS) -> None:
        """Store what has arrived, send everybody away until they are gone, and end the workers.

        Each of the three takes at most `step_s`.
        """
        self._stopping = True
        for task in self._background:
            task.cancel()
        if self._turns:
            _, late = await asyncio.wait(self._turns, timeout=step_s)
            for task in late:
                log.error("stopped before the last turn of a plain room was done")
                task.cancel()
        rooms = list(self._live.values())
        for room in rooms:
            room.discard(Close.GOING_AWAY, "the hub is stopping; try again")
        with suppress(TimeoutError):
            async with asyncio.timeout(step_s):
                while any(room.guests for room in rooms):
                    self._left.clear()
                    await self._left.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(step_s):
                await self._workshop.stop()

    def _work(self, room: PlainRoom) -> None:
        if room.waiting and not room.busy and not room.discarded:
            room.busy = True
            self._run(self._take_turns(room), self._turns)

    async def _take_turns(self, room: PlainRoom) -> None:
        try:
            await asyncio.sleep(0)  # what arrives in this turn of the loop is one turn of the room
            while room.waiting and not room.discarded:
                await self._take_turn(room)
        except StoreError as error:
            log.error("plain room failed room=%s: %s", room.name, error)
            full = isinstance(error, FullError)
            self._discard(room, FULL if full else "the hub could not store or load it; try again")
        except Exception:  # a defect must not leave a room that answers nobody
            log.exception("plain room failed room=%s", room.name)
            self._discard(room, "the room failed; try again")
        finally:
            room.busy = False
            self._forget_if_idle(room)

    async def _take_turn(self, room: PlainRoom) -> None:
        work = room.take()
        outcome = await self._apply(room, work)
        refused = room.refused(work, outcome)
        author = room.author(work, outcome)
        for attempt in range(CATCH_UPS_MAX):
            if not outcome.rows and not refused:
                break
            rows = [Row(author, row) for row in outcome.rows]
            try:
                await self._commit(Batch(room.name, room.head, rows, {}, refused))
                break
            except StaleError:
                if attempt == CATCH_UPS_MAX - 1:
                    raise
                await self._catch_up(room)
        for one in refused:
            log.warning(
                "quarantined room=%s token=%s bytes=%d: %s",
                room.name,
                one.device,
                len(one.update),
                one.reason,
            )
        room.conclude(work, outcome)
        if room.rows_uncompacted >= COMPACT_ROWS:
            room.rows_uncompacted = 0
            self._run(self._compact(room.name), self._background)

    async def _apply(self, room: PlainRoom, work: Work) -> Outcome:
        """Have a worker do it; what it fails on is refused. Raises StoreError."""
        state = bool(work.entered)
        vectors = list(work.asked.values())
        outcome = Outcome()
        failed = await self._call(room, outcome, work.updates, vectors, state=state)
        if failed is None:
            return outcome
        known = failed.sure and len(work.updates) == 1 and not vectors  # who it was
        for update in work.updates:
            if known or await self._call(room, outcome, [update], [], state=True):
                outcome.verdicts.append("the CRDT library failed on this update")
        if await self._call(room, outcome, [], vectors, state=True):
            # One of those who ask has made the library fail: none of them is answered.
            outcome.answers = [None] * len(vectors)
            if await self._call(room, outcome, [], [], state=True):
                raise DamageError(f"room {room.name} loads, and does not answer")
        return outcome

    async def _call(
        self,
        room: PlainRoom,
        outcome: Outcome,
        updates: list[bytes],
        vectors: list[bytes],
        *,
        state: bool,
    ) -> Failed | None:
        """One turn of a worker, added to the outcome, unless it failed. Raises StoreError."""
        for _ in range(LOADS_MAX):
            version = next(self._versions)
            turn = Turn(room.name, room.version, version, updates, vectors, state)
            answer = await self._workshop.call(room.name, turn)
            if isinstance(answer, Missing):
                await self._load(room, outcome.rows)
                continue
            room.version = 0
            if isinstance(answer, Failed):
                return answer
            if isinstance(answer, Done):
                raise DamageError("a worker that answers something else")
            room.version = version
            outcome.verdicts += answer.verdicts
            outcome.rows += [answer.merged] if answer.merged else []
            outcome.answers += answer.answers
            outcome.state = answer.state or outcome.state
            return None
        raise DamageError(f"a worker does not keep room {room.name}")

    async def _load(self, room: PlainRoom, ahead: Sequence[bytes]) -> None:
        """Give the worker what is stored, and what this turn has brought so far."""
        stored = await self._workers.read(lambda: self._store.load(room.name))
        version = next(self._versions)
        load = Load(room.name, version, [*stored.updates, *ahead])
        answer = await self._workshop.call(room.name, load)
        if not isinstance(answer, Done):
            raise DamageError(f"room {room.name} does not load; restore it from a backup")
        room.version = version
        if room.loaded and stored.head != room.head:
            await self._catch_up(room)
            room.version = version if room.head == stored.head else 0
        room.loaded, room.head = True, max(room.head, stored.head)
        room.rows_uncompacted = len(stored.rows)

    async def _catch_up(self, room: PlainRoom) -> None:
        """Pass on what another process stored. Raises StoreError."""
        news = await self._workers.read(lambda: self._store.rows_after(room.name, room.head))
        if news is None or not news.rows:
            raise DamageError(f"another process wrote to room {room.name}, and compacted it")
        for row in news.rows:
            room.spread(row.update)
        room.head = news.rows[-1].number
        room.version = 0  # what the worker has lacks these

    async def _commit(self, batch: Batch) -> None:
        """Store it, together with what other rooms have to store at this moment."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commits.append((batch, done))
        if not self._committing:
            self._committing = True
            self._run(self._commit_all(), self._turns)
        await done

    async def _commit_all(self) -> None:
        try:
            while self._commits:
                taken, self._commits = self._commits, []
                if not await self._store_together(taken):
                    for one in taken:  # one of them must not fail the others
                        await self._store_together([one])
        finally:
            self._committing = False

    async def _store_together(self, taken: Sequence[tuple[Batch, asyncio.Future[None]]]) -> bool:
        batches = [batch for batch, _ in taken]
        now_ms, since = self._clock.now_ms(), self._clock.monotonic_s()
        try:
            await self._workers.write(lambda: self._store.commit(batches, now_ms))
        except Exception as error:
            self._counts.commits_failed[getattr(error, "code", "defect")] += 1
            if isinstance(error, FullError):
                self._headroom.ran_out()
            elif len(taken) > 1:
                return False
            for _, done in taken:
                if not done.done():
                    done.set_exception(error)
            return True
        self._counts.committed(batches, self._clock.monotonic_s() - since)
        for _, done in taken:
            if not done.done():
                done.set_result(None)
        return True

    async def _compact(self, name: str) -> None:
        """Put a snapshot in the place of a room's rows."""
        try:
            stored = await self._workers.read(lambda: self._store.load(name))
            answer = await self._workshop.call(name, Compact(stored.updates))
            if not isinstance(answer, Done):
                self._counts.compactions_failed += 1
                log.error("compaction failed room=%s: its rows stay", name)
                return
            head, snapshot = stored.head, answer.snapshot
            await self._workers.write(lambda: self._store.compact(name, head, snapshot))
            self._counts.compactions += 1
        except (StoreError, StoppingError) as error:
            self._counts.compactions_failed += 1
            log.warning("compaction put off: %s", error)

    def _discard(self, room: PlainRoom, reason: str) -> None:
        if self._live.get(room.name) is room:
            del self._live[room.name]
            self._counts.rooms_discarded += 1
        room.discard(Close.STORE_FAILED, reason)

    def _forget_if_idle(self, room: PlainRoom) -> None:
        if self._live.get(room.name) is room and room.idle:
            del self._live[room.name]
            if room.version and not self._stopping:
                self._run(self._forget(room.name), self._background)

    async def _forget(self, name: str) -> None:
        if name not in self._live:
            await self._workshop.call(name, Forget(name))

    def _run(self, work: Coroutine[None, None, None], kept: set[asyncio.Task[None]]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        kept.add(task)
        task.add_done_callback(kept.discard)
