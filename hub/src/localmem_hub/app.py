"""The hub as an ASGI application: where its parts are put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from localmem_hub.endpoint import Endpoint
from localmem_hub.errors import StoreError
from localmem_hub.rooms import Rooms
from localmem_hub.seams import Store
from localmem_hub.workers import Workers
from localmem_protocol.seams import Clock

log: Final = logging.getLogger(__name__)


class Hub:
    """The parts of a running hub."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.workers = Workers()
        self.rooms = Rooms(store, self.workers, clock)
        self.endpoint = Endpoint(self.rooms, store.tokens, self.workers, clock)
        self._rechecking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve; needs a running event loop."""
        self.rooms.start()
        self._rechecking = asyncio.create_task(self.endpoint.recheck_forever())

    async def stop(self) -> None:
        """Commit what has arrived and send everybody away. A second call does nothing."""
        rechecking, self._rechecking = self._rechecking, None
        if rechecking is not None:
            rechecking.cancel()
            await self.rooms.stop()
            self.workers.close()


def create_app(store: Store, clock: Clock) -> Starlette:
    """The application on a store that is ready to use; the store stays the caller's.

    `app.state.hub` is its `Hub`, for a server that wants to stop it before the connections.
    """
    hub = Hub(store, clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        hub.start()
        try:
            yield
        finally:
            await hub.stop()

    async def healthz(_: Request) -> JSONResponse:
        """200 while the store answers, else 503."""
        try:
            await hub.workers.read(store.ping)
        except StoreError as error:
            log.error("unhealthy: %s", error)
            return JSONResponse({"status": "the store does not answer"}, 503)
        return JSONResponse({"status": "ok", "rooms": len(hub.rooms)})

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/v1/sync/{pool}", hub.endpoint.introduce),
            WebSocketRoute("/v1/sync/{pool}", hub.endpoint.serve),
        ],
        lifespan=lifespan,
    )
    app.state.hub = hub
    return app
