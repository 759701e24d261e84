"""A hub that listens in this process, so that a test can watch and hold up its store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from localmem_hub.app import Hub, Policy, create_app
from localmem_hub.limits import WAIT_SECONDS_MAX
from localmem_hub.server import HubServer, listen
from localmem_hub.system import SystemClock, SystemRandom
from support.http_client import HttpClient
from support.hub_store import ObservedStore, open_store

POOL = "team"


class Served:
    """An application that listens in this process, so that its store can be watched."""

    def __init__(
        self, store: ObservedStore, *, websocket: bool = True, wait_seconds: int = WAIT_SECONDS_MAX
    ) -> None:
        self.store = store
        policy = Policy(websocket=websocket, wait_seconds=wait_seconds)
        self.app = create_app(store, SystemClock(), policy=policy)
        self.listening = asyncio.Event()
        self.server = HubServer(self.app, self.listening.set)
        self.port = 0

    @property
    def hub(self) -> Hub:
        hub = self.app.state.hub
        assert isinstance(hub, Hub)
        return hub

    def device(self, device: str) -> HttpClient:
        return HttpClient(self.url, POOL, device, self.token(device))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, device: str) -> str:
        return self.store.tokens.create(POOL, device, "writer", SystemRandom(), 1).text

    async def start(self) -> asyncio.Task[None]:
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        running = asyncio.create_task(self.server.serve([listener]))
        await self.listening.wait()
        return running


@asynccontextmanager
async def serving(
    folder: Path, *, websocket: bool = True, wait_seconds: int = WAIT_SECONDS_MAX
) -> AsyncIterator[Served]:
    """A hub on a new store, stopped at the end."""
    store = ObservedStore(open_store(folder, POOL))
    made = Served(store, websocket=websocket, wait_seconds=wait_seconds)
    running = await made.start()
    try:
        yield made
    finally:
        store.gate.set()
        made.server.should_exit = True
        await running
        store.close()
