"""Whether the database has room to store anything, and what is done when it has not.

Once a commit failed because the disk is full, no update is taken any more: rooms would be discarded
with everybody in them, again and again, for what cannot be stored anyway. Whoever sends one is told to
come back later; whoever only reads is served as before. Every PROBE_SECONDS the hub tries to store
something itself, and goes on when it can.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from localmem_hub.errors import StoppingError, StoreError
from localmem_hub.limits import PROBE_SECONDS
from localmem_hub.seams import Store
from localmem_hub.workers import Workers

log: Final = logging.getLogger(__name__)

FULL: Final = "the hub's disk is full; try again later"


class Headroom:
    """Of one store. All methods belong to one event loop."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._probing: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether nothing can be stored now."""
        return self._probing is not None

    def ran_out(self) -> None:
        """A commit failed for want of room."""
        if self._probing is None:
            log.error("the database's disk is full: updates are refused until there is room")
            self._probing = asyncio.create_task(self._probe())

    def stop(self) -> None:
        """Look no more."""
        if self._probing is not None:
            self._probing.cancel()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self._workers.write(self._store.try_room)
            except StoppingError:
                return
            except StoreError as error:
                log.debug("still no room: %s", error)
                continue
            except Exception:  # a defect must not refuse updates for good
                log.exception("not looked whether there is room")
                continue
            log.info("there is room again: updates are taken")
            self._probing = None
            return
