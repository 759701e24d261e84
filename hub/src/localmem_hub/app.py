"""The hub as an ASGI application: where its parts are put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute

from localmem_hub import openapi
from localmem_hub.audit import Audit
from localmem_hub.authentication import Authentication
from localmem_hub.client_address import ClientAddress, Proxies
from localmem_hub.connections import Connections
from localmem_hub.counts import Counts
from localmem_hub.endpoint import Endpoint
from localmem_hub.errors import PlainStoreError, StoreError
from localmem_hub.headroom import Headroom
from localmem_hub.health import Health
from localmem_hub.http_sync import HttpSync
from localmem_hub.limits import (
    DISK_FREE_MB,
    LAST_WORDS_SECONDS,
    PAST_EPOCHS_DAYS,
    STOP_SECONDS,
    STOP_STEPS,
    WAIT_SECONDS_MAX,
)
from localmem_hub.mailboxes import Mailboxes
from localmem_hub.past_epochs import PastEpochs
from localmem_hub.pools import Pools
from localmem_hub.quotas import DEFAULT, Bounds, Quotas
from localmem_hub.recent import RecentRosters, RecentTokens
from localmem_hub.replication import Links, Replication
from localmem_hub.rooms import Rooms
from localmem_hub.rosters import Rosters
from localmem_hub.seams import RosterStore, Store, TokenStore
from localmem_hub.system import SystemRandom
from localmem_hub.watchers import Watchers
from localmem_hub.workers import Workers
from localmem_protocol.roster import Roster
from localmem_protocol.seams import Clock, Random

if TYPE_CHECKING:
    from localmem_hub.plain.rooms import PlainRooms

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """What the operator decided: may anybody make pools, and under which origins devices dial.

    `plain_workers` is how many processes hold the documents of plain rooms; 0 for no such rooms, as it
    must be on a store of several replicas.
    A server without WebSocket, or one that pays for requests that wait, says so here. `past_epochs_days`
    is how long the document of an epoch that is over waits for those who have not read it; 0 for ever.
    `/readyz` wants `disk_free_mb` free megabytes where the database is. `proxies` are those whose word
    about addresses is taken, `bounds` what devices and pools may send. With `recurring` off the hub does
    nothing by itself, as where a process may be frozen between two requests: then each request looks at
    what let it in (`recent.py`), and a timer of the host's calls `Hub.care`.
    """

    open: bool = False
    origins: frozenset[str] = frozenset()
    websocket: bool = True
    plain_workers: int = 0
    wait_seconds: int = WAIT_SECONDS_MAX
    past_epochs_days: int = PAST_EPOCHS_DAYS
    disk_free_mb: int = DISK_FREE_MB
    proxies: Proxies | None = None
    bounds: Bounds = DEFAULT
    stop_seconds: float = STOP_SECONDS
    recurring: bool = True


class Hub:
    """The parts of a running hub; with `links` it is one replica of several.

    Raises PlainStoreError.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: Random,
        policy: Policy,
        links: Links | None = None,
    ) -> None:
        if policy.plain_workers and store.shared:
            raise PlainStoreError
        self.store = store
        self.random = random
        self.policy = policy
        self.workers = Workers()
        self.audit = Audit(clock)
        self.watchers = Watchers()
        self.counts = Counts()
        self.connections = Connections()
        self.headroom = Headroom(store, self.workers)
        self.health = Health(
            store,
            self.workers,
            self.headroom,
            lambda: self.in_touch,
            policy.disk_free_mb * 1_000_000,
            clock,
        )
        self.replication = Replication(links, clock, random) if links is not None else None
        self.rooms = Rooms(
            store,
            self.workers,
            clock,
            self.watchers,
            random,
            herald=self.replication,
            headroom=self.headroom,
            counts=self.counts,
        )
        self.quotas = Quotas(policy.bounds, store, self.workers, clock, self.rooms.shrink)
        tokens: TokenStore = store.tokens
        entries: RosterStore = store.rosters
        if not policy.recurring:
            tokens, entries = RecentTokens(tokens, clock), RecentRosters(entries, clock)
        self.rosters = Rosters(entries, self.workers, self._roster_changed)
        self.authentication = Authentication(
            store.access, self.rosters, self.workers, clock, random, policy.origins, self.audit
        )
        self.pools = Pools(
            entries,
            self.rosters,
            self.authentication,
            self.workers,
            clock,
            self.audit,
            open_to_all=policy.open,
        )
        self.endpoint = Endpoint(
            self.rooms,
            self.rosters,
            self.authentication,
            tokens,
            self.workers,
            clock,
            self.audit,
            self.quotas,
            self.connections,
            ["websocket", "http"] if policy.websocket else ["http"],
            self.counts,
        )
        self.http = HttpSync(
            self.endpoint,
            self.rooms,
            store,
            self.watchers,
            self.workers,
            clock,
            wait_seconds=policy.wait_seconds,
        )
        self.past_epochs = PastEpochs(
            store.epochs,
            self.rooms,
            self.rosters,
            self.authentication,
            self.workers,
            clock,
            self.audit,
            days=policy.past_epochs_days,
        )
        self.mailboxes = Mailboxes(store.mailboxes, self.workers, clock, random)
        self.plain: PlainRooms | None = None
        self._plain_routes: list[BaseRoute] = []
        if policy.plain_workers and policy.websocket:
            from localmem_hub.plain.endpoint import PlainEndpoint
            from localmem_hub.plain.rooms import PlainRooms
            from localmem_hub.plain.workshop import Processes

            workshop = Processes(policy.plain_workers)
            self.plain = PlainRooms(
                store, self.workers, clock, workshop, self.headroom, self.counts
            )
            entrance = PlainEndpoint(self.plain, self.endpoint, store.tokens, self.workers, clock)
            self._plain_routes = entrance.routes()
        self._started = False
        self._recurring: list[asyncio.Task[None]] = []
        self._replicating: asyncio.Task[None] | None = None
        if self.replication is not None:
            self.replication.attach(self)

    @property
    def in_touch(self) -> bool:
        """Whether it may serve: one of several replicas has to hear the database for that."""
        return self.replication is None or self.replication.in_touch

    def _roster_changed(self, pool: str, roster: Roster | None) -> None:
        self.endpoint.roster_changed(pool, roster)
        self.watchers.roster_changed(pool)

    def plain_routes(self) -> list[BaseRoute]:
        """What to serve for plain rooms: nothing, unless the operator has turned them on."""
        return self._plain_routes

    def start(self) -> None:
        """Begin to serve; needs a running event loop."""
        self.rooms.start()
        self._started = True
        for recurring in self._recurring_work() if self.policy.recurring else ():
            self._recurring.append(asyncio.create_task(recurring))
        if self.replication is not None:
            self._replicating = asyncio.create_task(self.replication.run())

    def _recurring_work(self) -> Iterable[Coroutine[None, None, None]]:
        yield self.endpoint.recheck_forever()
        yield self.endpoint.expire_forever()
        if self.replication is None:
            yield self.endpoint.watch_changes(self.watchers.wake)
        yield self.mailboxes.sweep_forever()
        yield self.past_epochs.sweep_forever()

    async def care(self) -> list[str]:
        """Once, what a hub that runs all the time does now and then; what of it failed.

        Any process may do so at any time, and be ended in the middle of it.
        """
        failed = []
        for name, work in (
            ("mailboxes", self.mailboxes.sweep),
            ("epochs", self.past_epochs.sweep),
            ("compaction", self.rooms.compact_all),
        ):
            try:
                await work()
            except StoreError as error:
                log.warning("%s not seen to: %s", name, error)
                failed.append(name)
        return failed

    async def stop(self) -> None:
        """Commit what has arrived and send everybody away. A second call does nothing."""
        self.health.stopping = True
        started, self._started = self._started, False
        step_s = self.policy.stop_seconds / STOP_STEPS
        for task in self._recurring:
            task.cancel()
        if started:
            self.mailboxes.stop()
            self.watchers.close()
            await asyncio.gather(
                self.rooms.stop(step_s),
                *([self.plain.stop(step_s)] if self.plain is not None else []),
            )
            if self.replication is not None and self._replicating is not None:
                # Not before: the others are to hear of the last commits, and these of theirs.
                await self.replication.settle(min(step_s, LAST_WORDS_SECONDS))
                self._replicating.cancel()
                await asyncio.wait({self._replicating}, timeout=step_s)
            self.workers.close()


def create_app(
    store: Store,
    clock: Clock,
    random: Random | None = None,
    policy: Policy | None = None,
    links: Links | None = None,
) -> Starlette:
    """The application on a store that is ready to use; the store stays the caller's.

    `app.state.hub` is its `Hub`, for a server that wants to stop it before the connections.
    """
    hub = Hub(store, clock, random or SystemRandom(), policy or Policy(), links)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        hub.start()
        try:
            yield
        finally:
            await hub.stop()

    app = Starlette(
        routes=[
            *hub.health.routes(),
            *openapi.routes(),
            Route("/v1/sync/{pool}", hub.endpoint.introduce),
            Route("/v1/sync/{pool}", hub.http.post, methods=["POST"]),
            Route("/v1/sync/{pool}/updates", hub.http.updates),
            *(
                [WebSocketRoute("/v1/sync/{pool}", hub.endpoint.serve)]
                if hub.policy.websocket
                else []
            ),
            *hub.plain_routes(),
            *hub.authentication.routes(),
            *hub.pools.routes(),
            *hub.past_epochs.routes(),
            *hub.mailboxes.routes(),
        ],
        lifespan=lifespan,
    )
    if hub.policy.proxies is not None:
        app.add_middleware(ClientAddress, proxies=hub.policy.proxies)
    app.state.hub = hub
    return app
