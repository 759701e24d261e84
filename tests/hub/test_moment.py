"""Whoever waits for a moment goes on when it comes, and nobody else is disturbed."""

from __future__ import annotations

import asyncio

import pytest

from localmem_hub.moment import Moment


async def test_everybody_who_waits_goes_on_once_it_has_come() -> None:
    moment, went_on = Moment(), list[int]()

    async def wait(number: int) -> None:
        await moment.wait()
        went_on.append(number)

    moment.has_come()  # for nobody, and not for later
    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert went_on == []
    waiting[1].cancel()
    await asyncio.wait({waiting[1]})
    moment.has_come()
    moment.has_come()
    await asyncio.gather(waiting[0], waiting[2])
    assert went_on == [0, 2]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(moment.wait(), 0.01)
