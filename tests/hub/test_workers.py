"""The threads of a hub, when it stops."""

import asyncio
from threading import Event as Flag

import pytest

from localmem_hub.errors import StoppingError
from localmem_hub.workers import READERS, Workers


async def test_what_is_still_queued_is_told_that_the_hub_stops_and_what_runs_finishes() -> None:
    workers, busy, go_on = Workers(), asyncio.Semaphore(0), Flag()
    loop = asyncio.get_running_loop()

    def hold() -> str:
        loop.call_soon_threadsafe(busy.release)
        assert go_on.wait(60)
        return "done"

    running = [asyncio.create_task(workers.read(hold)) for _ in range(READERS)]
    for _ in running:
        await busy.acquire()
    queued = asyncio.create_task(workers.read(lambda: "never"))
    await asyncio.sleep(0)
    workers.close()
    with pytest.raises(StoppingError):
        await queued
    with pytest.raises(StoppingError):
        await workers.read(lambda: "never")
    go_on.set()
    assert await asyncio.gather(*running) == ["done"] * READERS


async def test_a_task_that_is_cancelled_itself_is_no_stopping_hub() -> None:
    workers, go_on = Workers(), Flag()
    asking = asyncio.create_task(workers.read(lambda: go_on.wait(60)))
    await asyncio.sleep(0)
    workers.close()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
