"""The agent against a real hub process, with an event log and a journal in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_node.errors import StoreFailed, SyncError
from support.hub_process import HubProcess, running_hub
from support.sync_node import HubNode as Node
from support.waiting import WAIT_S, until

ONE, TWO = "11" * 8, "22" * 8


@pytest.fixture(params=["websocket", "http"])
def hub(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    """A hub, reached in both ways; what the agent promises holds for each."""
    with running_hub(tmp_path) as hub:
        hub.transport = request.param
        yield hub


async def test_what_one_device_records_reaches_the_other_by_itself(hub: HubProcess) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    async with one.running() as agent, two.running() as other:
        assert (await agent.sync_now(WAIT_S))["settled"]
        assert (await other.sync_now(WAIT_S))["settled"]
        event = one.log.happen("hello")
        await until(lambda: two.log.events.get(event.id) == event)
        assert (await agent.sync_now(WAIT_S))["bytes_sent"] > 0
        assert agent.status()["unacknowledged"] == 0


async def test_what_was_recorded_offline_follows_when_the_hub_is_there(
    hub: HubProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, two = Node(hub, ONE), Node(hub, TWO)
    hub.kill()
    events = [one.log.happen(f"offline {number}") for number in range(300)]
    async with one.running() as agent:
        status = await agent.sync_now(WAIT_S)
        assert not status["settled"]
        assert "cannot be reached" in status["error"]
        assert "tried again by itself; check hub.url" in status["error"]
    hub.start()
    async with one.running() as agent, two.running() as other:
        assert (await agent.sync_now(WAIT_S))["settled"]
        assert (await other.sync_now(WAIT_S))["settled"]
        await until(lambda: len(two.log.events) == len(events))
        assert two.log.ordered() == one.log.ordered()


async def test_a_hub_that_is_killed_again_and_again_loses_nothing(hub: HubProcess) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    for round_ in range(4):
        async with one.running() as agent, two.running() as other:
            for number in range(20):
                one.log.happen(f"one {round_} {number}")
                two.log.happen(f"two {round_} {number}")
            await asyncio.sleep(0)
            hub.kill()
            assert not (await agent.sync_now(WAIT_S))["settled"]
            assert not (await other.sync_now(WAIT_S))["settled"]
        hub.start()
    async with one.running() as agent, two.running() as other:
        assert (await agent.sync_now(WAIT_S))["settled"]
        assert (await other.sync_now(WAIT_S))["settled"]
        await until(lambda: len(one.log.events) == len(two.log.events) == 160)
        assert one.log.ordered() == two.log.ordered()


async def test_a_wrong_token_is_said_and_not_tried_again_and_again(hub: HubProcess) -> None:
    node = Node(hub, ONE, token="lmt_wrong_token")
    async with node.running() as agent:
        status = await agent.sync_now(WAIT_S)
        assert not status["settled"]
        assert "4401" in status["error"]
        assert "`localmem-hub token create --pool team`" in status["error"]


async def test_a_reading_token_brings_what_others_wrote_and_keeps_ours_until_it_may_write(
    hub: HubProcess,
) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO, hub.token("team", role="reader"))
    theirs, ours = one.log.happen("theirs"), two.log.happen("ours")
    async with one.running() as agent:
        assert (await agent.sync_now(WAIT_S))["settled"]
        async with two.running() as reader:
            status = await reader.sync_now(WAIT_S)
            assert (status["settled"], status["read_only"], status["error"]) == (True, True, None)
            later = one.log.happen("later")
            await until(lambda: {theirs.id, later.id} <= two.log.events.keys())
        assert ours.id not in one.log.events
        two.token = hub.token("team")
        async with two.running() as writer:
            status = await writer.sync_now(WAIT_S)
            assert (status["settled"], status["read_only"]) == (True, False)
            await until(lambda: ours.id in one.log.events)


async def test_another_pool_key_is_counted_as_unreadable_and_harms_nobody(hub: HubProcess) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    one.log.happen("sealed with another key")
    async with one.running() as agent:
        assert (await agent.sync_now(WAIT_S))["settled"]
    async with two.running(key=b"\x01" * 32) as other:
        status = await other.sync_now(WAIT_S)
        assert status["settled"]
        assert status["unreadable"] == 1
        assert two.log.events == {}


async def test_an_event_log_that_fails_gets_the_events_again(
    hub: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    event = one.log.happen("precious")
    async with one.running() as agent:
        await agent.sync_now(WAIT_S)
    failures = []

    def fail(events: object) -> None:
        failures.append(events)
        raise StoreFailed("disk full")

    monkeypatch.setattr(two.log, "insert", fail)
    async with two.running() as other:
        status = await other.sync_now(WAIT_S)
        assert failures
        assert status["error"] == "disk full"
        monkeypatch.undo()
        await other.sync_now(WAIT_S)
        await until(lambda: event.id in two.log.events)


async def test_nothing_is_left_when_the_agent_stops(hub: HubProcess) -> None:
    node = Node(hub, ONE)
    async with node.running() as agent:
        await agent.sync_now(WAIT_S)
    assert node.journal.closed
    assert node.log._callbacks == []
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_what_one_forgets_leaves_the_other_and_many_share_a_rewriting(
    hub: HubProcess,
) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    async with one.running() as agent, two.running() as other:
        events = [one.log.happen(f"event {number}") for number in range(60)]
        assert (await agent.sync_now(WAIT_S))["settled"]
        assert (await other.sync_now(WAIT_S))["settled"]
        await until(lambda: len(two.log.events) == 60)
        for event in events[:50]:
            await asyncio.to_thread(other.forget, [event.id])
        assert len(two.log.events) == 10
        await until(lambda: sorted(one.log.events) == sorted(event.id for event in events[50:]))
        assert agent.status()["erasing"]
        await until(lambda: one.log.rewritten > 0 and not agent.status()["erasing"])
        assert one.log.rewritten < 10
        assert (await other.sync_now(WAIT_S))["tombstones_waiting"] == 0


async def test_what_is_forgotten_offline_waits_and_is_told(hub: HubProcess) -> None:
    one, two = Node(hub, ONE), Node(hub, TWO)
    async with one.running() as agent:
        event = one.log.happen("never mind")
        assert (await agent.sync_now(WAIT_S))["settled"]
    async with two.running() as other:
        assert (await other.sync_now(WAIT_S))["settled"]
    hub.kill()
    async with one.running() as agent:
        await asyncio.to_thread(agent.forget, [event.id])
        assert one.log.events == {}
        assert agent.status()["tombstones_waiting"] == 1
        assert not (await agent.sync_now(WAIT_S))["settled"]
    with pytest.raises(SyncError, match="stopping"):
        agent.forget([event.id])
    hub.start()
    async with one.running() as agent, two.running() as other:
        assert (await agent.sync_now(WAIT_S))["tombstones_waiting"] == 0
        await until(lambda: two.log.events == {})
