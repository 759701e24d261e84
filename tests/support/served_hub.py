"""A hub that listens in this process, with a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette

from localmem_hub.app import Hub, create_app
from localmem_hub.database import open_engine
from localmem_hub.exposition import metrics_app
from localmem_hub.replication import Links
from localmem_hub.server import HubServer, listen
from localmem_hub.store import SqlStore
from support.described import check_described
from support.hub_store import ObservedStore, open_store

START_MS = 1_760_000_000_000


class HandClock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class ServedHub:
    """The hub, its store, and a client of it."""

    def __init__(self, store: ObservedStore, clock: HandClock, app: Starlette, port: int) -> None:
        self.store = store
        self.clock = clock
        self.app = app
        self.hub: Hub = app.state.hub
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"ws://127.0.0.1:{port}"
        self.client = httpx2.AsyncClient(trust_env=False, base_url=self.origin, timeout=60)

    async def ask(
        self, method: str, path: str, *, json: Any = None, token: str | None = None, **more: Any
    ) -> httpx2.Response:
        """One request."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        answer = await self.client.request(method, path, json=json, headers=headers, **more)
        check_described(method, path, answer)
        return answer


@asynccontextmanager
async def serving(
    folder: Path, database: str | None = None, **settings: Any
) -> AsyncIterator[ServedHub]:
    """A hub on a new store in a folder, or a replica on a database that is prepared."""
    inner = open_store(folder) if database is None else SqlStore(open_engine(database))
    store, clock = ObservedStore(inner), HandClock()
    if database is not None:
        settings["links"] = Links(inner.url)
    app = create_app(store, clock, **settings)
    listening = asyncio.Event()
    server = HubServer(app, listening.set)
    listener = listen("127.0.0.1", 0)
    running = asyncio.create_task(server.serve([listener]))
    await listening.wait()
    served = ServedHub(store, clock, app, listener.getsockname()[1])
    try:
        async with served.client:
            yield served
    finally:
        server.should_exit = True
        await running
        store.close()


async def scrape(served: ServedHub, accept: str = "") -> httpx2.Response:
    """What Prometheus is told."""
    transport = httpx2.ASGITransport(app=metrics_app(served.hub))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:
        return await client.get("/metrics", headers={"Accept": accept})


def error_of(answer: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, whose form is checked."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "field"}
    assert error["message"]
    return answer.status_code, error["code"], error["field"]
