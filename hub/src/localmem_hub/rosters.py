"""The rosters that are in use: verified, in memory, and never behind what is stored.

Every question looks up how far the stored roster is, one row by its key, and reads what is new: so
another process on the same database is heard as well. What was stored was verified before, so
signatures are not looked at again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from localmem_hub.errors import DamageError
from localmem_hub.limits import ROSTER_PAGE_BYTES, ROSTERS_CACHED_BYTES
from localmem_hub.seams import RosterMark, RosterStore
from localmem_hub.workers import Workers
from localmem_protocol.errors import ProtocolError
from localmem_protocol.roster import Roster, Tip

Changed = Callable[[str, Roster | None], None]


@dataclass
class _Held:
    roster: Roster
    size: int


class Rosters:
    """Rosters by pool id. All methods belong to one event loop.

    `changed` is called with a roster that was loaded or has grown, and with None for a pool that is
    gone; it runs before anybody else sees the change.
    """

    def __init__(
        self,
        store: RosterStore,
        workers: Workers,
        changed: Changed,
        bytes_max: int = ROSTERS_CACHED_BYTES,
    ) -> None:
        self._store = store
        self._workers = workers
        self._changed = changed
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._size = 0
        self._loading: dict[str, asyncio.Task[_Held]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def held(self, pool: str) -> Roster | None:
        """A pool's roster if it is in memory, as it was when it was asked for last."""
        held = self._held.get(pool)
        return None if held is None else held.roster

    async def get(self, pool: str) -> Roster | None:
        """A pool's roster as it is stored now; None if there is none. Raises StoreError.

        It grows in place: read it before the next await.
        """
        while True:
            # Whoever it takes a right from must not stay until a room is loaded.
            mark = await self._workers.look(lambda: self._store.mark(pool))
            if mark is None:
                if self._forget(pool):
                    self._changed(pool, None)
                return None
            held = self._held.get(pool)
            if held is None:
                await self._load(pool, mark)
            elif held.roster.contains(Tip(mark.length, mark.head)):
                self._held.move_to_end(pool)
                return held.roster
            elif held.roster.length < mark.length:
                await self._extend(pool, held)
            else:  # the database was restored under us, or the pool made anew
                self._forget(pool)

    async def _load(self, pool: str, mark: RosterMark) -> None:
        task = self._loading.get(pool)
        if task is None:
            task = asyncio.create_task(self._workers.read(lambda: _read_all(self._store, pool)))
            self._loading[pool] = task
        try:
            held = await asyncio.shield(task)
        finally:
            if task.done():
                self._loading.pop(pool, None)
        if pool not in self._held:
            self._held[pool] = held
            self._size += held.size
            self._make_room()
            self._changed(pool, held.roster)

    async def _extend(self, pool: str, held: _Held) -> None:
        start = held.roster.length
        news = await self._workers.look(lambda: self._store.read(pool, start, ROSTER_PAGE_BYTES))
        if held.roster.length != start:
            return  # somebody else did
        if not news:
            raise DamageError(f"the roster of pool {pool} ends too early")
        try:
            for entry in news:
                held.roster.apply(entry)
                held.size += len(entry)
                self._size += len(entry)
        except ProtocolError as error:
            self._forget(pool)
            raise _damaged(pool, error) from None
        self._make_room()
        self._changed(pool, held.roster)

    def _make_room(self) -> None:
        while len(self._held) > 1 and self._size > self._bytes_max:
            self._forget(next(iter(self._held)))

    def _forget(self, pool: str) -> bool:
        """Whether it was there."""
        held = self._held.pop(pool, None)
        self._size -= held.size if held else 0
        return held is not None


def _read_all(store: RosterStore, pool: str) -> _Held:
    entries: list[bytes] = []
    while news := store.read(pool, len(entries), ROSTER_PAGE_BYTES):
        entries += news
    try:
        roster = Roster.load(entries, pool_id=pool, verified=len(entries))
    except ProtocolError as error:
        raise _damaged(pool, error) from None
    return _Held(roster, sum(map(len, entries)))


def _damaged(pool: str, error: ProtocolError) -> DamageError:
    return DamageError(
        f"the roster of pool {pool} does not load ({error}); restore the database from a backup"
    )
