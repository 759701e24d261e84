"""Whether the process lives, and whether it can serve: `/healthz` and `/readyz`.

Anybody may ask, so the answers name what fails and say nothing else. However many ask, one look at the
database is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from localmem_hub.errors import StoppingError, StoreError
from localmem_hub.headroom import Headroom
from localmem_hub.limits import READY_SECONDS
from localmem_hub.seams import Store
from localmem_hub.workers import Workers
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)

STOPPING: Final = "stopping"
DATABASE: Final = "database"
IN_TOUCH: Final = "in_touch"
MIGRATIONS: Final = "migrations"
DISK: Final = "disk"
CHECKS: Final = (STOPPING, DATABASE, IN_TOUCH, MIGRATIONS, DISK)
"""What `/readyz` can name: the hub is going away; the database does not answer; a replica does not hear
what the others do; the tables are not those of this release; there is no room on the disk, or less than
the setting `disk_free_mb`."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


class Health:
    """The two routes. `in_touch` is asked each time; `disk_free_bytes` is what must be left."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        headroom: Headroom,
        in_touch: Callable[[], bool],
        disk_free_bytes: int,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._store = store
        self._workers = workers
        self._headroom = headroom
        self._in_touch = in_touch
        self._disk_free_bytes = disk_free_bytes
        self._looking: asyncio.Task[list[str]] | None = None
        self._said: list[str] = []
        self.stopping = False
        self.round_trip_s = 0.0  # to the database, at the last look

    def routes(self) -> list[BaseRoute]:
        """What to serve."""
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def healthz(self, _: Request) -> JSONResponse:
        """200 as long as the process answers at all: another one would not help a database that is away."""
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def readyz(self, _: Request) -> JSONResponse:
        """200 while devices are served here, else 503 with the checks that fail."""
        failing = await self.failing()
        if failing != self._said:
            self._said = failing
            log.warning("not ready: %s", ", ".join(failing)) if failing else log.info("ready")
        if failing:
            return JSONResponse({"status": "unready", "failing": failing}, 503, _NO_STORE)
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    async def failing(self) -> list[str]:
        """Which of CHECKS fail now."""
        if self.stopping:
            return [STOPPING]
        found = [] if self._in_touch() else [IN_TOUCH]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(READY_SECONDS):
                found += await asyncio.shield(self._looking)
        except TimeoutError:
            found.append(DATABASE)
        if self._headroom.full and DISK not in found:
            found.append(DISK)
        return [check for check in CHECKS if check in found]

    async def _look(self) -> list[str]:
        """What the store says of itself."""
        try:
            return await self._workers.look(self._ask)
        except StoppingError:
            return [STOPPING]
        except (StoreError, OSError) as error:
            log.error("the database does not answer: %s", error)
            return [DATABASE]

    def _ask(self) -> list[str]:
        since = self._clock.monotonic_s()
        self._store.ping()
        self.round_trip_s = self._clock.monotonic_s() - since
        found = [] if self._store.current() else [MIGRATIONS]
        free = self._store.free_bytes()
        if free is not None and free < self._disk_free_bytes:
            found.append(DISK)
        return found
