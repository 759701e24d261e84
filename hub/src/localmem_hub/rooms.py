"""The rooms that are in use, and the one task that commits for all of them.

A room lives on the event loop and never waits. What it has to store is taken by the committer: all
rooms that received something since the last commit share one transaction, on the writer thread.
While it runs, the next one gathers; so the slower the disk, the larger the commits. Effects of a
commit are carried out after it, and never before. A room whose commit failed is discarded with
everybody in it, and loaded again for whoever comes back. One whose CRDT library failed is broken:
it commits what it has, and is mended by what is stored while its connections wait.

Where replicas share the store, rooms follow what the others write (`following.py`), and the others are
told (`Herald`).

    receive() ─▶ Room ─▶ dirty ─▶ take() ─▶ [writer thread: Store.commit] ─▶ committed() ─▶ sinks
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Final

from localmem_hub.compaction import build_room, make_snapshot
from localmem_hub.counts import Counts
from localmem_hub.errors import (
    DatabaseTimeoutError,
    FullError,
    StoppingError,
    StoreError,
    UnreachableError,
)
from localmem_hub.following import Following
from localmem_hub.headroom import FULL, Headroom
from localmem_hub.limits import (
    COMPACT_ROWS,
    COMPACTIONS_MAX,
    DRAIN_SECONDS,
    ERASE_SECONDS,
    LINGER_SECONDS,
    LINGERING_MAX,
    TELL_SECONDS,
)
from localmem_hub.live import LiveRoom, Sink
from localmem_hub.seams import Herald, Store
from localmem_hub.watchers import Watchers
from localmem_hub.workers import Workers
from localmem_protocol.frames import Close, Notice
from localmem_protocol.presence import Presence
from localmem_protocol.room import Peer
from localmem_protocol.seams import Clock, Random

log: Final = logging.getLogger(__name__)

_FOR_ALL: Final = (DatabaseTimeoutError, FullError, UnreachableError)
"""What fails one room's commit and would fail the others', too."""


class Rooms:
    """Every room in use. All methods belong to the event loop it was started on."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        clock: Clock,
        watchers: Watchers,
        random: Random,
        *,
        herald: Herald | None = None,
        headroom: Headroom | None = None,
        counts: Counts | None = None,
    ) -> None:
        self._store = store
        self._random = random
        self._watchers = watchers
        self._workers = workers
        self._clock = clock
        self._live: dict[str, LiveRoom] = {}
        self._loading: dict[str, asyncio.Task[LiveRoom]] = {}
        self._dirty: dict[LiveRoom, None] = {}  # in the order in which they became so
        self._presences: dict[str, Presence] = {}
        self._telling: dict[str, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._left = asyncio.Event()
        self._stopping = False
        self._committer: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[object]] = set()
        self._compacting = asyncio.Semaphore(COMPACTIONS_MAX)
        self._erasing: dict[str, bool] = {}  # pool -> whether it has to be done again
        self._herald = herald
        self._headroom = headroom or Headroom(store, workers)
        self._counts = counts or Counts()
        self._following: Following | None = None
        self._heard: dict[str, int | None] = {}  # pool being loaded -> how far it is said to be
        self._suspended = ""  # why nobody comes in, if so
        if store.shared:
            self._following = Following(
                store, workers, random, self._run, self._caught_up, self._discard
            )

    def __len__(self) -> int:
        return len(self._live)

    def start(self) -> None:
        """Begin to commit; the first `join` does so, too, where nothing else can."""
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_until_stopped())
            self._run(self._wiped(None))  # a crash may have come between a compaction and that

    async def join(self, pool: str, peer: Peer, sink: Sink, *, look: bool = True) -> LiveRoom:
        """Bring a connection into its room, which is loaded if it is not in use.

        It has everything then that was stored before, by whichever replica: whoever comes may come from
        another one, and would take what is missing for lost. Without `look` it may lack some of that.
        Raises StoreError when it cannot be loaded, and StoppingError.
        """
        self.start()
        sure = self._following is None or not look
        while not self._stopping:
            self.check_open()
            live = self._live.get(pool)
            if live is None:
                loading = self._loading.get(pool)
                if loading is None:
                    loading = asyncio.create_task(self._load(pool))
                    loading.add_done_callback(_ignore)
                    self._loading[pool] = loading
                    sure = True
                # Shielded: whoever gives up must not take the room from the others.
                await asyncio.shield(loading)
                continue
            if not sure and self._following is not None:
                await self._following.refresh(live)
                sure = True
                continue  # it may have been discarded meanwhile
            live.room.presence = self.presence(pool)  # that of before may be gone
            live.sinks[peer.connection] = sink
            live.room.join(peer)
            return live
        raise StoppingError("the hub is stopping; try again")

    def receive(self, live: LiveRoom, connection: int, frames: Sequence[bytes]) -> None:
        """Take what a connection said at once."""
        if live.discarded or self._stopping:
            return
        if self._headroom.full and live.refuse_writing(connection, frames, FULL):
            return
        try:
            live.receive(connection, frames)
            if live.room.broken:
                log.error("room broken pool=%s: an update is in quarantine", live.pool)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # pyo3's PanicException is no Exception
            log.exception("room failed pool=%s", live.pool)
            self._discard(live, "the room failed; try again")
            return
        if live.room.presence is not None and live.room.presence.changed:
            self.tell(live.pool)
        self._announce(live)
        self._make_dirty(live)

    def presence(self, pool: str) -> Presence | None:
        """Who is there, also where no room is in use: requests are. Call `tell` when that changed.

        None among replicas, which do not know who is at the others: devices that are told nothing take
        it that somebody is there.
        """
        if self._following is not None:
            return None
        return self._presences.setdefault(pool, Presence())

    def tell(self, pool: str) -> None:
        """Tell whom it concerns who is there, now and when it is time to."""
        presence, live, now_s = self.presence(pool), self._live.get(pool), self._clock.monotonic_s()
        if presence is None:
            return
        if live is not None:
            live.room.presence = presence  # that of before may be gone
        if presence.changed:
            self._watchers.changed(pool)
        live.tell(now_s) if live is not None else presence.news(now_s)
        if (earlier := self._telling.pop(pool, None)) is not None:
            earlier.cancel()
        if presence.due_s is not None and not self._stopping:
            loop = asyncio.get_running_loop()
            again_s = max(0.0, presence.due_s - now_s) + TELL_SECONDS
            self._telling[pool] = loop.call_later(again_s, self.tell, pool)
        elif not presence:
            del self._presences[pool]

    def notify(self, pool: str, notice: Notice) -> None:
        """Tell everybody in a room something, if it is in use."""
        live = self._live.get(pool)
        if live is not None:
            live.notify(notice)

    def finish(self, live: LiveRoom, connection: int) -> None:
        """A transient connection says no more: its sink is dropped when it has all its answers."""
        if not live.discarded and not self._stopping:
            live.finish(connection)

    async def refresh(self, pool: str) -> None:
        """Let go of a room in memory if another process wrote to its pool. Raises StoreError.

        Rooms of replicas follow such writes, and nobody joins one that is behind.
        """
        live = self._live.get(pool)
        if live is None or self._following is not None or live.newest != live.head:
            return  # its own commit will tell
        head = await self._workers.read(lambda: self._store.head(pool))
        if self._live.get(pool) is live and live.newest == live.head != head:
            self._discard(live, "another process wrote to the pool; try again")

    def emptied(self, pool: str) -> None:
        """All that a room held was dropped: nobody goes on with it, and the files are wiped."""
        self._let_go(pool)
        self._erase_soon(pool)

    def emptied_elsewhere(self, pool: str) -> None:
        """The same by another replica, or by this one."""
        live = self._live.get(pool)
        if live is not None and live.newest:
            self._let_go(pool)

    def _let_go(self, pool: str) -> None:
        live = self._live.pop(pool, None)
        if live is not None:
            live.discard(Close.GOING_AWAY, "this epoch is over, and was read by all; try again")

    def leave(self, live: LiveRoom, connection: int, *, linger: bool = False) -> None:
        """A connection is gone; a room that nobody needs leaves memory, at once or after a while."""
        if linger and len(self._live) <= LINGERING_MAX:
            loop = asyncio.get_running_loop()
            live.lingers_until = loop.time() + LINGER_SECONDS
            loop.call_later(LINGER_SECONDS + 1, self._forget_if_idle, live)
        live.sinks.pop(connection, None)
        live.room.leave(connection)
        if live.room.presence is not None and live.room.presence.changed:
            self.tell(live.pool)
        self._left.set()
        self._forget_if_idle(live)

    @property
    def behind(self) -> int:
        """How many rooms lack rows that another replica is said to have stored."""
        return sum(live.behind > live.head for live in self._live.values())

    @property
    def pools(self) -> list[str]:
        """The pools whose rooms are in use."""
        return list(self._live)

    def moved(self, pool: str, head: int | None) -> None:
        """Another replica stored rows up to this one; None for a pool that is gone."""
        if pool in self._loading:
            before = self._heard.get(pool, 0)
            # Once gone, what is being loaded is of no use, whatever is made under its name.
            self._heard[pool] = None if head is None or before is None else max(before, head)
        live = self._live.get(pool)
        if live is None or self._following is None or self._stopping:
            return
        if head is None:
            self._discard(live, "the pool was removed")
        else:
            self._following.moved(live, head)

    def looked(self, pool: str, head: int | None) -> None:
        """The number of a pool's newest row, as the database says; None for a pool that is gone."""
        self.moved(pool, head)
        live = self._live.get(pool)
        if live is None or self._following is None or self._stopping:
            return
        if head is not None:
            self._following.looked(live, head)

    def taken_over(self, pool: str, client: int) -> None:
        """A device connected at another replica under a client id."""
        live = self._live.get(pool)
        if live is not None:
            live.taken_over(client)

    def suspend(self, reason: str) -> None:
        """Send everybody away, and let nobody in until `resume`: this replica may be out of touch."""
        self._suspended = reason
        for live in list(self._live.values()):
            self._discard(live, reason)

    def check_open(self) -> None:
        """Raises UnreachableError while nobody is let in."""
        if self._suspended:
            raise UnreachableError(self._suspended)

    def resume(self) -> None:
        """Serve again."""
        self._suspended = ""

    async def stop(self, step_s: float = DRAIN_SECONDS) -> None:
        """Commit what has arrived, send everybody away, and wait until they are gone.

        Each of the two takes at most `step_s`.
        """
        self._stopping = True
        self._headroom.stop()
        self._wake.set()
        if self._committer is not None:
            _, late = await asyncio.wait({self._committer}, timeout=step_s)
            if late:
                log.error("stopped before the last commit was done")
                self._committer.cancel()
        rooms = list(self._live.values())
        for live in rooms:
            live.discard(Close.GOING_AWAY, "the hub is stopping; try again")
        with suppress(TimeoutError):
            async with asyncio.timeout(step_s):
                while any(live.sinks for live in rooms):
                    self._left.clear()
                    await self._left.wait()
        for task in self._background:
            task.cancel()
        for timer in self._telling.values():
            timer.cancel()

    async def _load(self, pool: str) -> LiveRoom:
        try:
            stored = await self._workers.read(lambda: self._store.load(pool))
            shared = self._following is not None
            room = await self._workers.read(
                lambda: build_room(pool, stored, self._random, shared=shared)
            )
            room.presence = self.presence(pool)
            live = LiveRoom(pool, room, stored)
            self._live[pool] = live
        finally:
            del self._loading[pool]
            heard = self._heard.pop(pool, 0)
        self.moved(pool, heard)
        self._compact_if_due(live)
        return live

    async def _commit_until_stopped(self) -> None:
        while self._dirty or not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            try:
                taken = [live for live in dirty if live.take()]
                if taken:
                    await self._commit(taken)
            except Exception:  # a defect must not end all acknowledgements in silence
                log.exception("rooms failed")
                for live in dirty:
                    self._discard(live, "the room failed; try again")
            for live in dirty:
                self._forget_if_idle(live)

    async def _commit(self, rooms: Sequence[LiveRoom]) -> None:
        batches = [live.under_way for live in rooms if live.under_way is not None]
        now_ms = self._clock.now_ms()
        since, catch_up = self._clock.monotonic_s(), None
        if self._following is not None:
            catch_up = self._following.catch_up({live.pool: live for live in rooms})
        try:
            refused = await self._workers.write(
                lambda: self._store.commit(batches, now_ms, catch_up)
            )
        except Exception as error:
            self._counts.commits_failed[getattr(error, "code", "defect")] += 1
            # One of them must not fail the others; but a database that is away, full or slow is so
            # for all, and each that waits for it alone keeps everybody waiting.
            if isinstance(error, FullError):
                self._headroom.ran_out()
            if len(rooms) > 1 and not isinstance(error, _FOR_ALL):
                for live in rooms:
                    await self._commit([live])
                return
            known = isinstance(error, StoreError)
            for live in rooms:
                log.error("commit failed pool=%s: %s", live.pool, error, exc_info=not known)
                full = isinstance(error, FullError)
                self._discard(live, FULL if full else "the hub could not store it; try again")
            return
        stored_now = [batch for batch in batches if batch.pool not in refused]
        self._counts.committed(stored_now, self._clock.monotonic_s() - since)
        for live in rooms:
            if live.pool in refused and self._following is not None:
                live.reloading = True
                self._run(self._following.reload(live))
                continue
            stored = live.under_way is not None and bool(live.under_way.rows)
            live.committed()
            self._watchers.changed(live.pool)
            self._announce(live, stored=stored)
            if live.room.to_mend:
                self._run(self._mend(live))
            self._compact_if_due(live)

    def _announce(self, live: LiveRoom, *, stored: bool = False) -> None:
        """Tell the other replicas who came, and what is stored."""
        if live.shared is None or self._herald is None:
            return
        for client in live.shared.newcomers:
            self._herald.greeted(live.pool, client)
        live.shared.newcomers.clear()
        if stored:
            self._herald.stored(live.pool, live.head)

    async def _mend(self, live: LiveRoom) -> None:
        """Give a broken room that has committed all it had the document that is stored."""
        if self._following is not None:
            live.reloading = True
            await self._following.reload(live)
            return
        try:
            stored = await self._workers.read(lambda: self._store.load(live.pool))
            room = await self._workers.read(lambda: build_room(live.pool, stored, self._random))
        except Exception as error:  # or its connections would wait for ever
            log.error("cannot mend a room: %s", error, exc_info=not isinstance(error, StoreError))
            self._discard(live, "the room failed; try again")
            return
        if stored.head != live.head:
            self._discard(live, "another process wrote to the pool; try again")
        elif not live.discarded:
            live.mend(room, stored)
            log.info("room mended pool=%s", live.pool)

    def _caught_up(self, live: LiveRoom) -> None:
        """A room took in what others stored, or has to commit what it heard before."""
        self._watchers.changed(live.pool)
        self._compact_if_due(live)
        self._make_dirty(live)

    def _make_dirty(self, live: LiveRoom) -> None:
        self._dirty[live] = None
        self._wake.set()

    def _discard(self, live: LiveRoom, reason: str) -> None:
        if self._live.get(live.pool) is live:
            del self._live[live.pool]
            self._counts.rooms_discarded += 1
        live.fail(reason)

    def _forget_if_idle(self, live: LiveRoom) -> None:
        here = self._live.get(live.pool) is live
        here = here and live.lingers_until <= asyncio.get_running_loop().time()
        if here and not live.sinks and live.room.idle and live not in self._dirty:
            del self._live[live.pool]

    def _compact_if_due(self, live: LiveRoom) -> None:
        if live.to_erase:
            live.to_erase = False
            self._erase_soon(live.pool)
        elif live.rows_uncompacted >= COMPACT_ROWS:
            live.rows_uncompacted = 0
            self._run(self._compact(live.pool))

    async def compact_all(self) -> None:
        """Compact every room that is due, whether it is in use or not. Raises StoreError."""
        due = await self._workers.read(lambda: self._store.overgrown(COMPACT_ROWS))
        for pool in due:
            await self._compact(pool)

    def shrink(self, pool: str) -> None:
        """A room is too large: put a snapshot in the place of its rows, if it has any."""
        live = self._live.get(pool)
        if live is not None and live.rows_uncompacted > 1:
            live.rows_uncompacted = 0
            self._run(self._compact(pool))

    def _erase_soon(self, pool: str) -> None:
        if pool in self._erasing:
            self._erasing[pool] = True
        else:
            self._erasing[pool] = False
            self._run(self._erase(pool))

    def _run(self, work: Coroutine[None, None, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _compact(self, pool: str) -> bool:
        """Whether a snapshot stands for all that was stored when this began."""
        try:
            async with self._compacting:
                hold = await self._workers.read(lambda: self._store.hold(pool))
                if hold is None:
                    return False  # another replica is about it
                try:
                    made = await self._workers.read(lambda: make_snapshot(self._store, pool))
                    if made is not None:
                        await self._workers.write(lambda: self._store.compact(pool, *made))
                finally:
                    await self._workers.read(hold.release)
        except StoreError as error:
            self._counts.compactions_failed += 1
            log.warning("compaction put off: %s", error)
            return False
        self._counts.compactions += 1
        return True

    async def _erase(self, pool: str) -> None:
        """Take what was forgotten out of the store, and try again until it is."""
        try:
            while True:
                await asyncio.sleep(ERASE_SECONDS)
                self._erasing[pool] = False
                done = await self._compact(pool) and await self._wiped(pool)
                if done and not self._erasing[pool]:
                    log.info("erased what was forgotten pool=%s", pool)
                    return
        finally:
            del self._erasing[pool]

    async def _wiped(self, pool: str | None) -> bool:
        try:
            return await self._workers.write(lambda: self._store.erase(pool))
        except StoreError as error:
            log.warning("erasing put off: %s", error)
            return False


def _ignore(task: asyncio.Task[LiveRoom]) -> None:
    """Whoever waits for it gets the exception; if nobody does, it matters to nobody."""
    if not task.cancelled():
        task.exception()
