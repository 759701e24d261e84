"""A real hub whose database was put back: devices that know more of a roster give it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from localmem_hub.backup import make_backup, put_back
from localmem_hub.system import SystemClock as HubClock
from localmem_hub.system import SystemRandom as HubRandom
from localmem_node.errors import HubRefused, SyncError
from localmem_node.sync.hub_client import HubClient
from localmem_node.sync.pool_admin import Opened, PoolAdmin
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles
from localmem_node.sync.sharing import NOTHING
from localmem_node.sync.standing import Identity, Standing
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.errors import ForkError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.pairing import Peer
from support.hub_process import HubProcess, running_hub

ONE, TWO = "11" * 8, "22" * 8


class Device:
    """A device of the pool; `client` asks the hub where it is now."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self.identity = Identity(device, DeviceKeys.generate(SystemRandom()))
        self.admin = PoolAdmin(PoolFiles(folder), self.identity, SystemClock(), SystemRandom())

    @property
    def opened(self) -> Opened:
        (opened,) = self.admin.pools
        return opened

    @property
    def standing(self) -> Standing:
        return self.opened.standing

    def client(self, hub: HubProcess) -> PoolClient:
        pool = self.opened.record.pool
        return PoolClient(HubClient(hub.http_url), pool, self.identity, SystemClock())

    def as_it_was(self, length: int) -> Standing:
        """This device as it was when the roster had so many entries."""
        folder = self.folder.with_name(f"{self.folder.name}-{length}")
        standing = Standing(PoolFiles(folder), self.standing.pool, self.identity)
        standing.learn(self.standing.entries[:length])
        return standing


class World:
    """A pool of two devices, and a backup of the hub from when its roster had two entries."""

    def __init__(self, folder: Path, hub: HubProcess) -> None:
        self.hub = hub
        self.backup = folder / "backup.db"
        with hub.store() as store:
            invitation = store.access.invite(1, 1, HubRandom(), HubClock().now_ms())
        self.one, self.two = Device(folder / "one", ONE), Device(folder / "two", TWO)
        opened, _ = self.one.admin.create(
            hub.http_url, "ours", NOTHING, label="desk", invitation=invitation
        )
        peer = Peer(TWO, self.two.identity.keys.public, "laptop")
        self.two.admin.join(self.one.admin.admit(opened, peer, "member"), NOTHING)
        make_backup(hub.database_url, self.backup)

    def rotate(self, standing: Standing) -> None:
        """Device ONE begins an epoch, as it knows the roster."""
        client = self.one.client(self.hub)
        opened = Opened(self.one.opened.record, standing, client)
        self.one.admin.rotate(opened)

    def put_back(self) -> None:
        self.hub.stop()
        put_back(self.hub.database_url, self.backup, HubClock().now_ms())
        self.hub.start()

    def length(self) -> int:
        (row,) = self.hub.query("SELECT length FROM rosters")
        return int(row[0])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_hub(tmp_path) as hub:
        yield World(tmp_path, hub)


@pytest.mark.parametrize("by", [ONE, TWO])
def test_it_is_given_back_what_it_lacks_by_whoever_knows_more(world: World, by: str) -> None:
    for _ in range(3):
        world.rotate(world.one.standing)
    world.two.client(world.hub).refresh(world.two.standing)
    entries = list(world.one.standing.entries)
    assert list(world.two.standing.entries) == entries
    world.put_back()
    assert world.length() == 2
    device = world.one if by == ONE else world.two
    client = device.client(world.hub)
    assert not client.refresh(device.standing)
    assert list(device.standing.entries) == entries
    assert world.length() == 5
    said = "the hub's roster is shorter (2) than what this device has verified (5)"
    assert (client.notice or "").startswith(said)
    late = world.two.as_it_was(2)
    assert world.two.client(world.hub).refresh(late)
    assert list(late.entries) == entries


def test_who_came_in_by_key_proves_it_again_and_an_invitation_is_void(world: World) -> None:
    client = world.two.client(world.hub)
    client.refresh(world.two.standing)
    before = client.token()
    with world.hub.store() as store:
        invitation = store.access.invite(1, 1, HubRandom(), HubClock().now_ms())
    make_backup(world.hub.database_url, world.backup)
    world.put_back()
    client.hub = HubClient(world.hub.http_url)  # the same token, of a roster as long as it is now
    headers = {"Authorization": f"Bearer {before}"}
    url = f"{world.hub.http_url}/v1/pools/{client.pool}/roster"
    assert httpx2.get(url, headers=headers, trust_env=False).status_code == 401
    assert not client.refresh(world.two.standing)
    assert client.token() != before
    stranger = Device(world.backup.with_name("stranger"), "33" * 8)
    with pytest.raises(HubRefused, match="not known here, used up, or expired"):
        stranger.admin.create(
            world.hub.http_url, "theirs", NOTHING, label="desk", invitation=invitation
        )


def test_who_wants_to_change_it_mends_it_first(world: World) -> None:
    world.rotate(world.one.standing)
    world.put_back()
    world.rotate(world.one.standing)
    assert (world.length(), world.one.standing.roster.epoch) == (4, 3)


@pytest.mark.parametrize("more", [1, 2, 3], ids=["shorter", "as long", "longer"])
def test_another_entry_at_the_same_place_is_a_fork_and_never_merged(
    world: World, more: int
) -> None:
    for _ in range(2):
        world.rotate(world.one.standing)
    entries = list(world.one.standing.entries)
    older = world.one.as_it_was(2)
    world.put_back()
    for _ in range(more):
        world.rotate(older)
    client = world.one.client(world.hub)
    with pytest.raises(ForkError) as caught:
        client.refresh(world.one.standing)
    assert caught.value.permanent
    assert list(world.one.standing.entries) == entries
    assert world.length() == 2 + more


def test_a_hub_that_does_not_take_it_is_not_believed_and_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rotate(world.one.standing)
    world.put_back()
    client = world.one.client(world.hub)

    def full(*_: object) -> bool:
        raise SyncError("no")

    monkeypatch.setattr(client, "append", full)
    with pytest.raises(SyncError, match=r"shorter \(2\) than what this device has verified \(3\)"):
        client.refresh(world.one.standing)
    assert world.one.standing.length == 3
