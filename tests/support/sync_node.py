"""A device below the daemon: a log and a journal in memory, and the real agent on top of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from localmem_node.config import HubSettings
from localmem_node.sync.agent import SyncAgent
from localmem_node.sync.choosing import open_transport
from localmem_node.sync.transport import Transport
from localmem_node.sync.way import FixedWay, Place, Target
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.batching import DEFAULT, Batching
from localmem_protocol.envelope import PoolKey
from support.served import POOL
from support.telling_log import Journal, Log
from support.waiting import WAIT_S

ONE, TWO, THREE = (f"{number:02x}" * 8 for number in (1, 2, 3))


class Node:
    """A device: what lasts, and an agent on top of it."""

    def __init__(self, device: str, token: str, way: str = "http") -> None:
        self.log, self.journal = Log(device), Journal()
        self.token = token
        self.way = way

    def settings(self, url: str) -> HubSettings:
        return HubSettings(url, self.token, POOL, bytes(32), transport=self.way)

    @asynccontextmanager
    async def running(
        self, url: str, transport: Transport | None = None
    ) -> AsyncIterator[SyncAgent]:
        hub = self.settings(url)
        clock, random = SystemClock(), SystemRandom()
        target = Target(
            Place(PoolKey(POOL, 1, bytes(32)), lambda: self.journal),
            transport or open_transport(hub, clock, random),
        )
        agent = SyncAgent(FixedWay(hub, target), self.log, clock, random)
        await agent.start()
        try:
            yield agent
        finally:
            await agent.stop()


class RunningHub(Protocol):
    """A hub that a device can be given: a process, or a function app."""

    transport: str

    @property
    def http_url(self) -> str: ...

    def token(self, pool: str) -> str: ...


class HubNode:
    """A device of a hub, reached as that says. `batching` says how long it gathers."""

    def __init__(
        self,
        hub: RunningHub,
        device: str,
        token: str | None = None,
        *,
        batching: Batching = DEFAULT,
    ) -> None:
        self.log, self.journal = Log(device), Journal()
        self.hub, self.batching = hub, batching
        self.token = token or hub.token("team")

    @asynccontextmanager
    async def running(self, key: bytes = bytes(32)) -> AsyncIterator[SyncAgent]:
        hub = HubSettings(self.hub.http_url, self.token, "team", key, transport=self.hub.transport)
        clock, random = SystemClock(), SystemRandom()
        place = Place(PoolKey("team", 1, key), lambda: self.journal)
        way = FixedWay(hub, Target(place, open_transport(hub, clock, random)))
        agent = SyncAgent(way, self.log, clock, random, self.batching)
        await agent.start()
        try:
            yield agent
        finally:
            await agent.stop()


async def settled(*agents: SyncAgent) -> None:
    for agent in agents:
        status = await agent.sync_now(WAIT_S)
        assert status["settled"], status["error"]
