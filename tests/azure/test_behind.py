"""Processes that do not know what the others stored, and find out by what they store themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from bench.azurite_server import AzuriteServer
from localmem_hub.app import Policy, create_app
from localmem_hub.blobs import open_store
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.store import BlobStore
from localmem_protocol.frames import Ack, Resume, Step2, Update
from localmem_protocol.updates import decode_update
from support.azure_hub import Storage, blob_settings
from support.http_client import Answer, HttpClient
from support.served_hub import HandClock

ONE, TWO = f"{1:016x}", f"{2:016x}"
POOL = "team"
POLICY = Policy(websocket=False, wait_seconds=0, recurring=False)


@dataclass
class Process:
    """One of several, with requests to it."""

    store: BlobStore
    way: httpx2.AsyncClient

    @property
    def requests(self) -> int:
        """What it asked of the storage so far."""
        return self.store.container.requests.total()


@dataclass
class World:
    """Two processes, and two devices whose next request goes wherever `at` says."""

    processes: list[Process]
    one: HttpClient
    two: HttpClient

    def at(self, device: HttpClient, number: int) -> HttpClient:
        device.http = self.processes[number].way
        return device


@asynccontextmanager
async def two_processes(storage: AzuriteServer) -> AsyncIterator[World]:
    settings = blob_settings(storage)
    address = Address.parse(settings["LOCALMEM_HUB_DATABASE"], connection=storage.connection())
    apps, processes = [], []
    for _ in range(2):
        store = open_store(address)
        apps.append(create_app(store, HandClock(), policy=POLICY))
        transport = httpx2.ASGITransport(app=apps[-1])
        processes.append(Process(store, httpx2.AsyncClient(transport=transport)))
    tokens = Storage(settings).tokens(POOL, [ONE, TWO])
    devices = [
        HttpClient("http://hub", POOL, name, token, http=processes[0].way)
        for name, token in zip((ONE, TWO), tokens, strict=True)
    ]
    world = World(processes, *devices)
    try:
        async with asyncio.timeout(60):
            for device in devices:
                await device.greet()
            for number in (0, 1):  # both have the room
                for device in devices:
                    await world.at(device, number).write(b"both")
            yield world
    finally:
        for app, process in zip(apps, processes, strict=True):
            await process.way.aclose()
            await app.state.hub.stop()
            process.store.close()


@pytest.fixture
async def world(storage: AzuriteServer) -> AsyncIterator[World]:
    async with two_processes(storage) as made:
        yield made


def texts(answer: Answer) -> list[bytes]:
    return [
        content
        for frame in answer.frames
        if isinstance(frame, Update | Step2)
        for run in decode_update(frame.update).items.values()
        for item in run
        for content in item.contents or ()
    ]


async def test_what_is_stored_where_nobody_else_did_costs_one_request(world: World) -> None:
    one, process = world.at(world.one, 1), world.processes[1]
    await one.write(b"now this process has everything")
    before = process.requests
    for number in range(5):
        assert (await one.write(b"%d" % number)).status == 200
    assert process.requests - before == 5


async def test_storing_tells_what_others_stored_before_and_the_answer_brings_it(
    world: World,
) -> None:
    await world.at(world.one, 0).write(b"in step")
    await world.at(world.two, 1).write(b"news", b"more news")
    answer = await world.at(world.one, 0).write(b"own")
    assert texts(answer)[-2:] == [b"news", b"more news"]
    assert (await world.one.poll()).status == 304


async def test_a_device_that_comes_from_a_process_ahead_is_heard_by_one_behind(
    world: World,
) -> None:
    for number in range(3):
        await world.at(world.one, 0).write(b"%d" % number)
    answer = await world.at(world.one, 1).write(b"here")
    assert answer.status == 200
    assert (await world.at(world.one, 0).poll()).status == 304


async def test_what_is_said_again_to_a_process_behind_is_acknowledged_again(world: World) -> None:
    one = world.at(world.one, 0)
    resume, position = one.resume, one.position
    assert isinstance(resume, Resume)
    update = one.update(b"once")
    assert (await one.post(resume, update, position=position)).status == 200
    assert one.position != position
    again = await world.at(one, 1).post(resume, update, position=position)
    assert again.status == 200
    assert again.the(Ack) == Ack(one.client, one.clock)
    # The other process appended it once more, unknowing, and that counts for nothing.
    assert world.processes[0].store.head(POOL) == 5
