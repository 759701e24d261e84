"""The application under a server in this process: health, revocation, a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from localmem_hub.app import Hub, create_app
from localmem_hub.errors import CommitError
from localmem_hub.server import HubServer, listen
from localmem_hub.system import SystemClock, SystemRandom
from localmem_protocol.frames import Close
from support.hub_store import ObservedStore, open_store
from support.sync_client import RawClient, close_code, dial

POOL = "team"
ONE, TWO = "0000000000000001", "0000000000000002"


class Served:
    """A hub that listens."""

    def __init__(self, folder: Path) -> None:
        self.store = ObservedStore(open_store(folder, POOL))
        self.app = create_app(self.store, SystemClock())
        self.listening = asyncio.Event()
        self.server = HubServer(self.app, self.listening.set)
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def hub(self) -> Hub:
        hub = self.app.state.hub
        assert isinstance(hub, Hub)
        return hub

    def token(self, device: str) -> str:
        return self.store.tokens.create(POOL, device, "writer", SystemRandom(), 1).text

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    listener = listen("127.0.0.1", 0)
    made.port = listener.getsockname()[1]
    running = asyncio.create_task(made.server.serve([listener]))
    await made.listening.wait()
    yield made
    made.server.should_exit = True
    await running
    made.store.close()


async def test_there_is_nothing_else_to_get(served: Served) -> None:
    assert (await served.get("/")).status_code == 404
    assert (await served.get(f"/v1/pools/{POOL}")).status_code == 404


async def test_a_token_says_whom_it_stands_for(served: Served) -> None:
    assert (await served.get(f"/v1/sync/{POOL}")).status_code == 401
    asked = {"Authorization": f"Bearer {served.token(ONE)}"}
    answer = await served.get(f"/v1/sync/{POOL}", asked | {"X-Localmem-Device": ONE})
    introduced = {"pool": POOL, "role": "writer", "transports": ["websocket", "http"]}
    assert (answer.status_code, answer.json()) == (200, introduced)
    answer = await served.get(f"/v1/sync/{POOL}", asked | {"X-Localmem-Device": TWO})
    assert answer.status_code == 401
    assert "another device" in answer.json()["error"]["message"]


async def test_a_store_that_is_away_is_no_refusal(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CommitError("the database does not answer")

    monkeypatch.setattr(served.store.tokens, "check", fail)
    asked = {"Authorization": f"Bearer {served.token(ONE)}"}
    assert (await served.get(f"/v1/sync/{POOL}", asked)).status_code == 503


async def test_a_recheck_ends_the_connections_of_a_revoked_token(served: Served) -> None:
    token = served.token(ONE)
    async with asyncio.timeout(60):
        one = await RawClient.join(served.url, POOL, ONE, token)
        two = await RawClient.join(served.url, POOL, TWO, served.token(TWO))
        await served.hub.endpoint.recheck()
        await one.write(b"still valid")
        await one.acknowledged(1)
        served.store.tokens.revoke(token.split("_")[1], 2)
        await served.hub.endpoint.recheck()
        assert await close_code(one.socket) == Close.BAD_TOKEN
        await two.write(b"not concerned")
        await two.acknowledged(1)
        await two.socket.close()


async def test_a_store_that_is_away_is_no_wrong_token(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object) -> None:
        raise CommitError("the database does not answer")

    token = served.token(ONE)
    monkeypatch.setattr(served.store.tokens, "check", away)
    async with asyncio.timeout(60):
        socket = await dial(served.url, POOL, ONE, token)
        assert await close_code(socket) == Close.STORE_FAILED


async def test_a_failed_store_closes_with_try_again_and_acknowledges_nothing(
    served: Served,
) -> None:
    async with asyncio.timeout(60):
        one = await RawClient.join(served.url, POOL, ONE, served.token(ONE))
        two = await RawClient.join(served.url, POOL, TWO, served.token(TWO))
        served.store.failing.add(POOL)
        await one.write(b"lost")
        with pytest.raises(Exception, match="4503"):
            await one.next()
        assert await close_code(two.socket) == Close.STORE_FAILED
    assert served.store.load(POOL).rows == []
