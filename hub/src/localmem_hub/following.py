"""How rooms in memory follow what other replicas of the hub store.

A room learns it in two ways: when it stores something itself, inside the transaction (`catch_up`),
and when somebody says that its pool has moved, or it is looked up (`moved`, `refresh`). Either way
the rows are taken in on the event loop, by their numbers, so that none is taken in twice. What does
not go with what the room has waiting makes it load the pool and go on from there (`reload`); its
connections stay, and are not heard meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from localmem_hub.compaction import build_room
from localmem_hub.errors import StoreError
from localmem_hub.limits import CATCH_UP_SECONDS
from localmem_hub.live import LiveRoom
from localmem_hub.seams import CatchUp, Missed, Store
from localmem_hub.workers import Workers
from localmem_protocol.seams import Random

log: Final = logging.getLogger(__name__)


class Following:
    """What `Rooms` does about other replicas. All methods belong to its event loop.

    `changed` is called with a room that took something in or has to commit, `discard` with one that
    cannot go on, and why.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        random: Random,
        run: Callable[[Coroutine[None, None, object]], None],
        changed: Callable[[LiveRoom], None],
        discard: Callable[[LiveRoom, str], None],
    ) -> None:
        self._store = store
        self._workers = workers
        self._random = random
        self._run = run
        self._changed = changed
        self._discard = discard

    def catch_up(self, live: dict[str, LiveRoom]) -> CatchUp:
        """For `UpdateLog.commit`: called on the writer thread, it asks the rooms on the loop."""
        loop = asyncio.get_running_loop()

        async def absorb(missed: Sequence[Missed]) -> set[str]:
            holding = {one.pool for one in missed if live[one.pool].absorb(one)}
            for one in missed:
                self._changed(live[one.pool])
            return holding

        def ask(missed: Sequence[Missed]) -> set[str]:
            asked = asyncio.run_coroutine_threadsafe(absorb(missed), loop)
            try:
                return asked.result(CATCH_UP_SECONDS)
            except TimeoutError:  # others wait for the locks; the rooms load and try again
                asked.cancel()
                return set()

        return ask

    def moved(self, live: LiveRoom, head: int) -> None:
        """Somebody stored rows up to this one."""
        live.behind = max(live.behind, head)
        if live.behind > live.head and not live.following:
            live.following = True
            self._run(self._follow(live))

    def looked(self, live: LiveRoom, head: int) -> None:
        """The pool's newest row had this number a moment ago. It may have gone back: what an epoch held
        was dropped, or the database was restored."""
        if head < live.head and not live.following:
            live.following = True
            self._run(self._look(live))

    async def refresh(self, live: LiveRoom) -> None:
        """See that a room has everything that is stored now. Raises StoreError."""
        missed = await self._missed(live)
        if missed is None:
            return
        await live.settled()  # its own commit may be what is new, or have caught up meanwhile
        went_back = missed.head < missed.after
        here = not went_back and live.head >= missed.head and live.knows(missed.clients)
        if live.discarded or here:
            return
        if live.absorb(missed):
            self._changed(live)
        else:
            await self.reload(live)

    async def reload(self, live: LiveRoom) -> None:
        """Go on with what is stored."""
        live.reloading = True
        try:
            stored = await self._workers.read(lambda: self._store.load(live.pool))
            room = await self._workers.read(
                lambda: build_room(live.pool, stored, self._random, shared=True)
            )
        except Exception as error:  # or its connections would wait for ever
            log.error("cannot reload a room: %s", error, exc_info=not isinstance(error, StoreError))
            self._discard(live, "the room failed; try again")
            return
        if live.discarded:
            return
        if stored.head < live.head:
            self._discard(live, "what the hub had is gone; try again")  # restored, or dropped
            return
        live.rebase(room, stored)
        log.info("room caught up pool=%s head=%d", live.pool, stored.head)
        self._changed(live)

    async def _follow(self, live: LiveRoom) -> None:
        try:
            while not live.discarded:
                await live.settled()  # its own commit catches up as well
                before = live.head
                if before >= live.behind:
                    break
                await self.refresh(live)
                if live.head == before:
                    break  # it is said to be further than it is
        except StoreError as error:
            log.warning("cannot follow pool=%s: %s", live.pool, error)  # polling tries again
        finally:
            live.following, live.behind = False, 0

    async def _look(self, live: LiveRoom) -> None:
        try:
            await self.refresh(live)
        except StoreError as error:
            log.warning("cannot follow pool=%s: %s", live.pool, error)  # polling tries again
        finally:
            live.following = False

    async def _missed(self, live: LiveRoom) -> Missed | None:
        pool, head, clients = live.pool, live.head, live.registered
        return await self._workers.read(lambda: self._store.missed(pool, head, clients))
