"""The storage below the function is busy, or not what it should be; clocks differ."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bench.azurite_server import AzuriteServer
from localmem_hub.app import Policy, create_app
from localmem_hub.blobs import open_store
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.connecting import open_container
from localmem_protocol.frames import Close
from support.azure_hub import AzureHub, Storage, azure_hub, blob_settings, prepare
from support.busy_storage import BusyStorage, busy_storage
from support.http_client import HttpClient
from support.served_hub import HandClock

ONE, TWO = f"{1:016x}", f"{2:016x}"
POOL = "team"


@pytest.fixture
def busy(storage: AzuriteServer) -> Iterator[BusyStorage]:
    with busy_storage(storage.port) as proxy:
        yield proxy


def device(hub: AzureHub, name: str, token: str) -> HttpClient:
    client = httpx2.AsyncClient(trust_env=False, timeout=60)
    return HttpClient(hub.http_url, POOL, name, token, http=client)


async def test_while_the_storage_is_busy_devices_are_told_to_come_back_and_lose_nothing(
    newer: Path, storage: AzuriteServer, busy: BusyStorage, tmp_path: Path
) -> None:
    settings = blob_settings(storage)
    beside = Storage(settings)
    through = settings | {"LOCALMEM_HUB_STORAGE_CONNECTION": storage.connection(busy.port)}
    with azure_hub(tmp_path, newer, through, processes=1) as hub:
        async with asyncio.timeout(100), device(hub, ONE, beside.token(POOL, ONE)) as one:
            await one.greet()
            assert (await one.write(b"before")).status == 200
            busy.refuse_every = 1
            answer = await one.write(b"meanwhile")
            assert (answer.status, answer.code) == (503, Close.STORE_FAILED)
            async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
                ready = await client.get(f"{hub.http_url}/readyz")
                assert (ready.status_code, ready.json()["failing"]) == (503, ["database"])
                assert (await client.get(f"{hub.http_url}/healthz")).status_code == 200
            busy.refuse_every = 0
            await one.greet()  # which says how much of it arrived
            assert one.clock == 1
            busy.refuse_every = 3
            for number in range(10):
                assert (await one.write(b"%d" % number)).status == 200
            assert busy.refused > 3
            busy.refuse_every = 0
    assert beside.rows(POOL) == 11


async def test_without_its_container_a_hub_says_so_until_there_is_one(
    newer: Path, storage: AzuriteServer, tmp_path: Path
) -> None:
    settings = {
        "LOCALMEM_HUB_DATABASE": f"azure-blob://{storage.container()}",
        "LOCALMEM_HUB_STORAGE_CONNECTION": storage.connection(),
    }
    with azure_hub(tmp_path, newer, settings) as hub:
        async with httpx2.AsyncClient(trust_env=False, base_url=hub.http_url) as client:
            for path, code in (("/v1/sync/team", Close.STORE_FAILED), ("/readyz", "migration")):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
            assert "no such container" in hub.app.log.read_text()
            prepare(settings)
            assert (await client.get("/readyz")).status_code == 200
            token = hub.token(POOL, ONE)
            async with device(hub, ONE, token) as one:
                await one.greet()
                assert (await one.write(b"there")).status == 200
                address = Address.parse(
                    settings["LOCALMEM_HUB_DATABASE"], connection=storage.connection()
                )
                container = open_container(address)
                container.client.delete_container()
                container.close()
                written = await one.write(b"gone")
                assert (written.status, written.code) == (503, Close.STORE_FAILED)
                assert (await one.poll()).status in (401, 503)


async def test_processes_whose_clocks_differ_serve_the_same_pool(storage: AzuriteServer) -> None:
    settings = blob_settings(storage)
    address = Address.parse(settings["LOCALMEM_HUB_DATABASE"], connection=storage.connection())
    policy = Policy(websocket=False, wait_seconds=0, recurring=False)
    stores = [open_store(address) for _ in range(2)]
    clocks = [HandClock(), HandClock()]
    clocks[1].ms += 2 * 3600 * 1000
    apps = [
        create_app(store, clock, policy=policy) for store, clock in zip(stores, clocks, strict=True)
    ]
    tokens = {name: Storage(settings).token(POOL, name) for name in (ONE, TWO)}
    ways = [httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) for app in apps]
    devices = [
        HttpClient("http://hub", POOL, name, token, http=way)
        for (name, token), way in zip(tokens.items(), ways, strict=True)
    ]
    async with asyncio.timeout(60):
        for one in devices:
            await one.greet()
        for number in range(6):
            for place, one in enumerate(devices):
                one.http = ways[(number + place) % 2]
                assert (await one.write(b"%d" % number)).status == 200
                for clock in clocks:
                    clock.ms += 1_000
        heads = {store.head(POOL) for store in stores}
    assert heads == {12}
    for app, way, store in zip(apps, ways, stores, strict=True):
        await way.aclose()
        await app.state.hub.stop()
        store.close()
