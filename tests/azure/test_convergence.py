"""Many devices at two processes of the function: nothing that was acknowledged is lost, whatever ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.azure_devices import CONFLICT, NOT_MODIFIED, Device, Told
from bench.azurite_server import AzuriteServer
from support.azure_hub import AzureHub, azure_hub, blob_settings

POOL = "team"
UPDATES = 5


@pytest.fixture
def hub(newer: Path, storage: AzuriteServer, tmp_path: Path) -> Iterator[AzureHub]:
    with azure_hub(tmp_path, newer, blob_settings(storage)) as running:
        yield running


def names(count: int) -> list[str]:
    return [f"{number:016x}" for number in range(1, count + 1)]


async def enter(hub: AzureHub, count: int) -> list[Device]:
    told, tokens = Told(), hub.tokens(POOL, names(count))
    devices = [
        Device(hub.http_url, POOL, name, token, told)
        for name, token in zip(names(count), tokens, strict=True)
    ]
    await asyncio.gather(*(device.greet() for device in devices))
    return devices


def refused_appends(storage: AzuriteServer, before: int) -> int:
    """Appends that the storage did not take: somebody would have had to try again."""
    return sum(
        status >= 400 for _, path, status in storage.noted()[before:] if "comp=appendblock" in path
    )


@pytest.mark.parametrize("count", [8, 32, pytest.param(64, marks=pytest.mark.full)])
async def test_devices_converge_and_lose_nothing_when_a_process_is_killed(
    hub: AzureHub, storage: AzuriteServer, count: int
) -> None:
    async with asyncio.timeout(100):
        devices = await enter(hub, count)
        told, before = devices[0].told, len(storage.noted())

        async def kill() -> None:
            while len(told.times_s) < count * UPDATES // 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            hub.app.kill()

        await asyncio.gather(kill(), *(device.write_all(UPDATES) for device in devices))
        assert len(hub.app.processes) == 1
        hub.app.ready(hub.app.launch())
        found = []
        for device in devices:
            await device.greet()
            found.append(await device.catch_up())
        for device in devices:
            device.check(found[0])
        assert told.lost_acknowledged == 0
        assert all(one == found[0] for one in found)
        assert {len(held) for held in found[0].values()} == {UPDATES}
        assert refused_appends(storage, before) == 0
        # Who was cut off asked whether it had arrived; nobody was sent away because of the others.
        assert set(told.refused) <= {CONFLICT}
        assert sum(told.refused.values()) <= told.unanswered


async def test_a_process_that_was_frozen_goes_on_where_the_others_are(
    hub: AzureHub, storage: AzuriteServer
) -> None:
    async with asyncio.timeout(60):
        devices = await enter(hub, 4)
        for _ in range(3):  # both processes have the room
            for device in devices:
                await device.write()
        with hub.app.frozen():
            # Whoever reaches the frozen one waits; the others go on.
            writing = [asyncio.create_task(device.write_all(8)) for device in devices]
            await asyncio.sleep(1.0)
        await asyncio.gather(*writing)
        found = await devices[0].catch_up()
        for device in devices:
            device.check(found)
        assert devices[0].told.lost_acknowledged == 0
        assert {len(held) for held in found.values()} == {8}


async def test_an_idle_poll_costs_about_one_request_at_the_storage(
    hub: AzureHub, storage: AzuriteServer
) -> None:
    async with asyncio.timeout(60):
        (device,) = await enter(hub, 1)
        await device.catch_up()
        for _ in range(6):  # both processes have the room
            await device.write()
        before = len(storage.noted())
        for _ in range(10):
            assert (await device.poll()).status == NOT_MODIFIED
        assert len(storage.noted()) - before <= 20
