"""What sync adds to the daemon: an agent for the hub in the settings, the pools, and routes to ask them.

    POST /v1/sync {"wait_s"?}      how it is, once everything is exchanged or time is up
    /v1/pools…                     `pool_routes`

What pools need is imported when there is one, or somebody asks: 10 MiB that others can do without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node.config import HubSettings, Settings
from localmem_node.daemon.app import Service, json_response
from localmem_node.engine import Engine
from localmem_node.errors import ConfigError, QueryError
from localmem_node.projects import Projects
from localmem_node.sync.pool_files import POOLS, has_pools
from localmem_node.sync.pool_routes import PoolRoutes
from localmem_node.work_trees import FILE as CHECKOUTS
from localmem_node.work_trees import WorkTrees
from localmem_protocol.seams import Clock, Random

if TYPE_CHECKING:
    from localmem_node.sync.agent import SyncAgent
    from localmem_node.sync.pools import Pools

WAIT_MAX_S: Final = 300.0
NOT_SET_UP: Final = "there is no pool here; make one: localmem pool create NAME --hub URL"


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/sync."""

    wait_s: float = 30.0


class PoolService:
    """Implements `Service`; makes `Pools` when it is needed."""

    name = POOLS

    def __init__(self, settings: Settings, engine: Engine, clock: Clock, random: Random) -> None:
        self._settings, self._engine = settings, engine
        self._clock, self._random = clock, random
        self._pools: Pools | None = None
        self.trees = WorkTrees(settings.state_dir / CHECKOUTS, Projects(clock))
        engine.watch_folders(self.trees.see)

    async def start(self) -> None:
        """Begin with the pools that there are."""
        if has_pools(self._settings):
            await self.ready()

    async def stop(self) -> None:
        """End, and leave nothing behind."""
        if self._pools is not None:
            await self._pools.stop()

    def status(self) -> dict[str, Any]:
        """How each pool is."""
        none: dict[str, Any] = {"pools": [], "damaged": {}, "untold": {}}
        return none if self._pools is None else self._pools.status()

    async def sync_now(self, wait_s: float) -> list[dict[str, Any]]:
        """Try all at once; how they are then."""
        return [] if self._pools is None else await self._pools.sync_now(wait_s)

    async def ready(self) -> Pools:
        """The pools."""
        if self._pools is None:
            self._pools = self._make()
            await self._pools.start()
        return self._pools

    def _make(self) -> Pools:
        from localmem_node.sync.checkouts import Checkouts
        from localmem_node.sync.choosing import open_transport
        from localmem_node.sync.pool_admin import PoolAdmin
        from localmem_node.sync.pool_files import PoolFiles
        from localmem_node.sync.pools import Pools
        from localmem_node.sync.standing import identity_of
        from localmem_node.sync.untold import PURPOSE, Untold

        engine, clock, random = self._engine, self._clock, self._random
        files = PoolFiles(self._settings.state_dir / POOLS)
        admin = PoolAdmin(files, identity_of(engine), clock, random)
        return Pools(
            admin,
            engine,
            engine.maintenance.before_forgetting,
            lambda hub: open_transport(hub, clock, random),
            clock,
            random,
            Untold(files, engine.derive_key(PURPOSE), random),
            checkouts=Checkouts(self.trees, clock),
        )


def extend(
    settings: Settings, engine: Engine, clock: Clock, random: Random
) -> tuple[Sequence[BaseRoute], Sequence[Service]]:
    """An `Extension`: the agent runs if a hub is set up. Raises ConfigError."""
    pools = PoolService(settings, engine, clock, random)
    agent = None
    if settings.hub is not None:
        agent = _agent(settings, settings.hub, engine, clock, random, pools.trees)

    async def sync(request: Request) -> Response:
        if agent is None and not has_pools(settings):
            raise ConfigError(NOT_SET_UP)
        try:
            question = msgspec.json.decode(await request.body() or b"{}", type=Question)
        except msgspec.DecodeError as error:
            raise QueryError("body", str(error)) from None
        if not 0 <= question.wait_s <= WAIT_MAX_S:
            raise QueryError("wait_s", f"must be from 0 to {WAIT_MAX_S:.0f} seconds")
        every_pool = asyncio.ensure_future(pools.sync_now(question.wait_s))
        own = {} if agent is None else await agent.sync_now(question.wait_s)
        every = await every_pool
        settled = own.get("settled", True) and all(one["settled"] for one in every)
        return json_response(own | {"settled": settled, "pools": every})

    routes = [Route("/v1/sync", sync, methods=["POST"]), *PoolRoutes(pools.ready).routes()]
    return routes, [agent, pools] if agent else [pools]


def _agent(
    settings: Settings,
    hub: HubSettings,
    engine: Engine,
    clock: Clock,
    random: Random,
    trees: WorkTrees,
) -> SyncAgent:
    # Imported here: together they take 5 MiB, which a daemon without a hub can do without.
    from localmem_node.sync.agent import SyncAgent
    from localmem_node.sync.checkouts import Checkouts, PoolTexts
    from localmem_node.sync.choosing import open_transport
    from localmem_node.sync.journal import SqliteJournal
    from localmem_node.sync.outbox import JOURNAL, pool_key
    from localmem_node.sync.way import FixedWay, Place, Target
    from localmem_protocol.tombstones import TombstoneKey

    path, pool = settings.state_dir / JOURNAL, pool_key(hub)
    place = Place(pool, lambda: SqliteJournal(path, engine.device, hub.pool))
    way = FixedWay(hub, Target(place, open_transport(hub, clock, random)))
    texts = PoolTexts(Checkouts(trees, clock), references=False)
    agent = SyncAgent(way, engine, clock, random, texts=texts)
    engine.honour(TombstoneKey(pool))
    engine.maintenance.before_forgetting(agent.forget)
    return agent
