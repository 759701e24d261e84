"""A real hub that is put back to a backup from when it ran: devices notice, and nothing is lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from localmem_hub.backup import make_backup, put_back
from localmem_hub.system import SystemClock
from localmem_protocol.envelope import PoolKey
from localmem_protocol.replica import Replica
from localmem_protocol.simulation.production import canonical
from support.hub_process import HubProcess, running_hub
from support.served import POOL
from support.sync_node import ONE, THREE, TWO, Node, settled
from support.waiting import until


class Backups:
    """A backup of a hub, made while it runs; what was given out before it is put back is void then."""

    def __init__(self, hub: HubProcess, copy: Path) -> None:
        self.hub, self.copy = hub, copy

    def make(self) -> None:
        make_backup(self.hub.database_url, self.copy)

    def put_back(self, *nodes: Node) -> None:
        self.hub.stop()
        voided, _ = put_back(self.hub.database_url, self.copy, SystemClock().now_ms())
        self.hub.start()
        assert voided.tokens == len(nodes)
        for node in nodes:
            node.token = self.hub.token(POOL)


async def connected(hub: HubProcess, *nodes: Node) -> None:
    """Everybody connects, and all is exchanged."""
    async with contextlib.AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(node.running(hub.http_url)) for node in nodes]
        await settled(*agents)
        await settled(*agents)


def document(node: Node) -> bytes:
    """What a device has of the pool, in one form."""
    saved = node.journal.load()
    key = PoolKey(POOL, 1, bytes(32))
    return canonical(Replica(key, node.log.device, saved.client, saved.updates).export())


@pytest.mark.parametrize("way", ["websocket", "http"])
async def test_devices_converge_and_lose_nothing_after_the_hub_was_restored(
    tmp_path: Path, way: str
) -> None:
    (tmp_path / "hub").mkdir()
    with running_hub(tmp_path / "hub") as hub:
        one, two, three = nodes = [Node(n, hub.token(POOL), way) for n in (ONE, TWO, THREE)]
        backups = Backups(hub, tmp_path / "backup.db")
        one.log.happen("before the backup")
        await connected(hub, one, two)
        backups.make()
        for node in (one, two):  # the third device gets its client id in what is lost
            node.log.happen(f"{node.log.device} in what is lost")
        three.log.happen("the third in what is lost")
        await connected(hub, *nodes)
        await connected(hub, *nodes)
        assert all(len(node.log.events) == 4 for node in nodes)
        backups.put_back(*nodes)
        four = Node("04" * 8, hub.token(POOL), way)  # comes first, and is given a client id
        four.log.happen("after")
        await connected(hub, four)
        assert len(four.log.events) == 2
        # The second device is gone for good: what it wrote is only at those who received it.
        for _ in range(3):
            await connected(hub, one, three, four)
        wanted = one.log.ordered()
        assert len(wanted) == 5
        assert [node.log.ordered() for node in (three, four)] == [wanted] * 2
        assert document(one) == document(three) == document(four)
        await connected(hub, two, one)
        await connected(hub, one, two, three, four)
        await until(lambda: two.log.ordered() == wanted)
        assert hub.query("SELECT count(*) FROM quarantine") == [(0,)]
