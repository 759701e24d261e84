"""Signed heads between agents, through a real hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from localmem_node.config import HubSettings
from localmem_node.sync import agent as agents
from localmem_node.sync.agent import SyncAgent
from localmem_node.sync.choosing import open_transport
from localmem_node.sync.way import FixedWay, Place, Target
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol import session
from localmem_protocol.envelope import PoolKey
from support.authors import Authors, Table
from support.hub_process import HubProcess, running_hub
from support.telling_log import Journal, Log

ONE, TWO = "11" * 8, "22" * 8
WAIT_S = 60.0
TABLE = Table({int(ONE, 16): "member", int(TWO, 16): "member"})


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as hub:
        yield hub


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "QUIET_S", 0.05)
    monkeypatch.setattr(session, "rest_s", lambda unsigned: 0.05)


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what another process and thread bring about."""
    async with asyncio.timeout(WAIT_S):
        while not reached():  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(hub: HubProcess, log: Log, authorship: Authors) -> AsyncIterator[SyncAgent]:
    settings = HubSettings(hub.http_url, hub.token("team"), "team", bytes(32))
    place = Place(PoolKey("ab" * 16, 1, bytes(32)), Journal, authorship)
    target = Target(place, open_transport(settings, SystemClock(), SystemRandom()))
    agent = SyncAgent(FixedWay(settings, target), log, SystemClock(), SystemRandom())
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


async def test_who_rests_signs_and_others_see_it(hub: HubProcess) -> None:
    one, two = Log(ONE), Log(TWO)
    signs, hears = Authors(ONE, TABLE), Authors(TWO, TABLE)
    async with running(hub, one, signs) as agent, running(hub, two, hears) as other:
        one.happen("hello")
        assert (await agent.sync_now(WAIT_S))["settled"]
        await until(lambda: len(two.events) == 1)
        await until(lambda: other.status()["provisional"] == 0)
        assert agent.status()["provisional"] == 0
        assert (other.status()["problem_count"], other.status()["problems"]) == (0, [])
        await until(lambda: agent.status()["state_code"] is not None)
        await until(lambda: agent.status()["state_code"] == other.status()["state_code"])
        before = agent.status()["state_code"]
        two.happen("again")
        assert (await other.sync_now(WAIT_S))["settled"]
        await until(lambda: agent.status()["state_code"] == other.status()["state_code"] != before)


async def test_what_another_signed_is_in_the_status_and_the_log(
    hub: HubProcess, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Log(ONE), Log(TWO)
    forges, hears = Authors(ONE, TABLE, keys=7), Authors(TWO, TABLE)
    async with running(hub, one, forges), running(hub, two, hears) as other:
        one.happen("hello")
        await until(lambda: other.status()["problem_count"] > 0)
        (problem,) = other.status()["problems"]
        assert (problem["kind"], problem["device"]) == ("signature", ONE)
        assert other.status()["provisional"] == 2
        await until(lambda: len(two.events) == 1)  # nothing is lost by it
    logged = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert any(f"signature: device {ONE}" in one.getMessage() for one in logged)
