"""What becomes of the documents of epochs that are over: they go when nobody needs them any more.

    POST /v1/pools/{pool}/epochs/{epoch}/read   -> {"epoch"}     with a session token

Each member reads the rest of every past epoch once, and then says so. When all who are members now have,
nobody will ask for it again, and the hub drops what it holds of it; so it does, whoever has not read it,
once `days` have passed since the next epoch began. The hub needs no key for that: the roster says who
is a member, and a token who speaks. Whoever says so wrongly takes a vote away from nobody but itself.
A room whose content was dropped is still there, and empty: whoever comes late has nothing to read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_hub.audit import Audit
from localmem_hub.authentication import Authentication
from localmem_hub.errors import DamageError, StoreError
from localmem_hub.http_requests import Problem, guarded, json_response, parse_number
from localmem_hub.limits import DAY_MS, PAST_SECONDS
from localmem_hub.rooms import Rooms
from localmem_hub.rosters import Rosters
from localmem_hub.seams import EpochStore, PastEpoch
from localmem_hub.workers import Workers
from localmem_protocol.access import room_name
from localmem_protocol.roster import RECOVERY, Roster
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)


def is_due(past: PastEpoch, roster: Roster | None, now_ms: int, days: int) -> bool:
    """Whether an epoch is to be dropped now. With 0 `days` only those that all members have read."""
    if past.dropped_ms is not None:
        return False
    if days and now_ms - past.over_ms >= days * DAY_MS:
        return True
    return roster is not None and bool(roster.members) and roster.members.keys() <= past.readers


class PastEpochs:
    """Drops past epochs: when somebody says that it has read one, and now and then."""

    def __init__(
        self,
        store: EpochStore,
        rooms: Rooms,
        rosters: Rosters,
        authentication: Authentication,
        workers: Workers,
        clock: Clock,
        audit: Audit,
        *,
        days: int,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._rosters = rosters
        self._authentication = authentication
        self._workers = workers
        self._clock = clock
        self._audit = audit
        self._days = days

    def routes(self) -> list[BaseRoute]:
        """What to serve."""
        path = "/v1/pools/{pool}/epochs/{epoch}/read"
        return [Route(path, guarded(self.read, self._audit), methods=["POST"])]

    async def read(self, request: Request) -> Response:
        """A member has read an epoch that is over to its end; the same again changes nothing."""
        pool = request.path_params["pool"]
        session = await self._authentication.require(request, pool)
        epoch = parse_number(request.path_params["epoch"]) or 0
        if not 0 < epoch < session.roster.epoch or session.device == RECOVERY:
            raise Problem(400, "epoch", "a member tells of an epoch that is over", field="epoch")
        device = session.device
        if await self._workers.write(lambda: self._store.note_read(pool, epoch, device)):
            await self.sweep(pool)
        return json_response({"epoch": epoch})

    async def sweep(self, pool: str | None = None) -> None:
        """Drop what is due, of one pool or of all. Raises StoreError."""
        now_ms = self._clock.now_ms()
        for past in await self._workers.read(lambda: self._store.past(pool)):
            try:
                roster = await self._rosters.get(past.pool) if past.readers else None
            except DamageError as error:
                log.error("%s", error)
                roster = None  # its epochs go by their age
            if is_due(past, roster, now_ms, self._days):
                await self._drop(past, now_ms)

    async def sweep_forever(self) -> None:
        """Look again and again."""
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                log.warning("past epochs not looked at: %s", error)
            await asyncio.sleep(PAST_SECONDS)

    async def _drop(self, past: PastEpoch, now_ms: int) -> None:
        pool, epoch = past.pool, past.epoch
        dropped = await self._workers.write(lambda: self._store.drop(pool, epoch, now_ms))
        if dropped:
            self._audit.note("epoch_dropped", pool=pool, epoch=epoch)
            log.info("dropped a past epoch pool=%s epoch=%d", pool, epoch)
            self._rooms.emptied(room_name(pool, epoch))
