"""Agents at a real hub gather what nobody would see, and send at once what somebody waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_node.sync.agent import SyncAgent
from localmem_protocol.batching import Batching
from support.hub_process import HubProcess, running_hub
from support.sync_node import HubNode
from support.waiting import WAIT_S, until

ONE, TWO = "11" * 8, "22" * 8
NEVER = 1e6
WITH_LISTENERS = Batching(0.2, 0.4, NEVER, NEVER)
ONLY_WHEN_ASKED = Batching(NEVER, NEVER, NEVER, NEVER)


@pytest.fixture(params=["websocket", "http"])
def hub(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        hub.transport = request.param
        yield hub


async def gathers(agent: SyncAgent, count: int) -> None:
    await until(lambda: agent.status()["events_gathered"] == count)


async def test_what_a_listener_would_see_goes_after_the_pause(hub: HubProcess) -> None:
    one, two = (
        HubNode(hub, ONE, batching=WITH_LISTENERS),
        HubNode(hub, TWO, batching=WITH_LISTENERS),
    )
    async with one.running() as agent, two.running() as other:
        assert (await agent.sync_now(WAIT_S))["settled"]
        assert (await other.sync_now(WAIT_S))["settled"]
        event = one.log.happen("look")
        await until(lambda: event.id in two.log.events)


async def test_what_nobody_would_see_waits_for_somebody(hub: HubProcess) -> None:
    one, two = (
        HubNode(hub, ONE, batching=WITH_LISTENERS),
        HubNode(hub, TWO, batching=WITH_LISTENERS),
    )
    async with one.running() as agent:
        await until(lambda: bool(agent.status()["settled"]))
        events = [one.log.happen(f"event {number}") for number in range(3)]
        await gathers(agent, 3)
        assert hub.query("SELECT count(*) FROM updates") == [(0,)]
        async with two.running():
            await until(lambda: {event.id for event in events} <= two.log.events.keys())
        assert hub.query("SELECT count(*) FROM updates") == [(1,)]


async def test_who_asks_gets_what_others_gather(hub: HubProcess) -> None:
    one, two = (
        HubNode(hub, ONE, batching=ONLY_WHEN_ASKED),
        HubNode(hub, TWO, batching=ONLY_WHEN_ASKED),
    )
    async with one.running() as agent, two.running() as other:
        await until(lambda: agent.status()["settled"] and other.status()["settled"])
        event = one.log.happen("the newest")
        await gathers(agent, 1)
        assert (await other.sync_now(WAIT_S))["settled"]
        await until(lambda: event.id in two.log.events)


async def test_a_user_who_waits_leaves_nothing_waiting(hub: HubProcess) -> None:
    one = HubNode(hub, ONE, batching=ONLY_WHEN_ASKED)
    async with one.running() as agent:
        await until(lambda: bool(agent.status()["settled"]))
        one.log.happen("gathered")
        await gathers(agent, 1)
        status = await agent.sync_now(WAIT_S)
        assert (status["settled"], status["events_gathered"]) == (True, 0)
        assert hub.query("SELECT count(*) FROM updates") == [(1,)]


async def test_a_daemon_that_stops_says_what_it_has(hub: HubProcess) -> None:
    one, two = (
        HubNode(hub, ONE, batching=ONLY_WHEN_ASKED),
        HubNode(hub, TWO, batching=ONLY_WHEN_ASKED),
    )
    async with one.running() as agent:
        await until(lambda: bool(agent.status()["settled"]))
        event = one.log.happen("the last of the day")
        await gathers(agent, 1)
    async with two.running():
        await until(lambda: event.id in two.log.events)
