"""The worker thread: in order, off the loop, and errors come back."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from functools import partial
from threading import Event as Flag
from threading import current_thread

import pytest

from localmem_node.daemon.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("worker")
    yield worker
    worker.close()


async def test_results_come_back_in_order_from_one_thread(worker: Worker) -> None:
    done: list[int] = []
    threads: set[str] = set()

    def work(number: int) -> bytes:
        done.append(number)
        threads.add(current_thread().name)
        return bytes([number])

    results = await asyncio.gather(*(worker.run(partial(work, number)) for number in range(50)))
    assert results == [bytes([number]) for number in range(50)]
    assert done == list(range(50))
    assert threads == {"worker"}


async def test_what_work_raises_is_raised_where_it_was_asked_for(worker: Worker) -> None:
    def fail() -> bytes:
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here"):
        await worker.run(fail)
    assert await worker.run(lambda: b"still works") == b"still works"


async def test_an_asker_who_goes_away_harms_nobody(worker: Worker) -> None:
    go_on = Flag()

    def wait() -> bytes:
        assert go_on.wait(60)
        return b"late"

    asked = asyncio.create_task(worker.run(wait))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    go_on.set()
    assert await worker.run(lambda: b"next") == b"next"


async def test_what_was_done_is_not_held_until_there_is_more_to_do(worker: Worker) -> None:
    class Body:
        pass

    body = Body()
    gone = weakref.ref(body)
    await worker.run(partial(id, body))
    del body
    for _ in range(1000):  # the thread may be on its way back still
        if gone() is None:
            break
        await asyncio.sleep(0.01)
    assert gone() is None


async def test_closing_finishes_what_was_given() -> None:
    worker = Worker("closing")
    asked = [asyncio.create_task(worker.run(lambda: b"done")) for _ in range(5)]
    await asyncio.sleep(0)
    worker.close()
    assert await asyncio.gather(*asked) == [b"done"] * 5
