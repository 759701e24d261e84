"""Pools of one device, with hubs that cannot be reached or say no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from localmem_node.errors import HubRefused, QueryError, SyncError
from localmem_node.sync.pool_admin import PoolAdmin
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.pools import Pools
from localmem_node.sync.sharing import EVERYTHING, NOTHING, Rule
from localmem_node.sync.standing import Identity, Standing
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.errors import ForkError
from localmem_protocol.pairing import Peer
from localmem_protocol.roster import Entry, Tip
from support.pool_members import ONE, TWO, Team
from support.telling_log import Log

NOWHERE = "http://127.0.0.1:9"


class Device:
    """Device ONE, the owner of each team's pool."""

    def __init__(self, folder: Path) -> None:
        self.files = PoolFiles(folder)
        self.teams: dict[str, Team] = {}

    def keep(self, team: Team, name: str, rule: Rule = NOTHING) -> str:
        self.files.save(PoolRecord(team.pool, NOWHERE, name, rule))
        Standing(self.files, team.pool, Identity(ONE, team.keys[ONE])).learn(team.entries)
        self.teams[team.pool] = team
        return team.pool

    def admin(self) -> PoolAdmin:
        keys = next(iter(self.teams.values())).keys[ONE]
        return PoolAdmin(self.files, Identity(ONE, keys), SystemClock(), SystemRandom())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "pools")


def test_a_pool_that_is_named_like_another_s_id_is_not_taken_for_it(device: Device) -> None:
    ours = device.keep(Team(1), "ours")
    device.keep(Team(2), ours[:8])
    device.keep(Team(3), ours)
    admin = device.admin()
    assert admin.find("ours").record.pool == admin.find(ours).record.pool == ours
    assert admin.find(ours[:12]).record.pool == ours
    with pytest.raises(QueryError, match="means more than one"):
        admin.find(ours[:8])
    with pytest.raises(QueryError, match="is no pool"):
        admin.find("----")


@pytest.mark.parametrize("name", ["pool.json", "roster"])
def test_a_damaged_pool_is_in_nobody_s_way(device: Device, tmp_path: Path, name: str) -> None:
    good, bad = device.keep(Team(1), "good"), device.keep(Team(2), "bad")
    (tmp_path / "pools" / bad / name).write_bytes(b"\xc1")
    admin = device.admin()
    assert [one.record.pool for one in admin.pools] == [good]
    assert list(admin.damaged) == [bad]


class Told:
    """What stands for the hub of a `PoolClient`: it takes every entry, or refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusal: Exception | None = None
        self.entries: list[Entry] = []

        def refresh(_: PoolClient, standing: Standing) -> bool:
            if self.refusal is not None:
                raise self.refusal
            return False

        def append(_: PoolClient, expected: int, entry: Entry) -> bool:
            self.entries.append(entry)
            return True

        monkeypatch.setattr(PoolClient, "refresh", refresh)
        monkeypatch.setattr(PoolClient, "append", append)


def test_a_device_that_did_not_hear_of_its_admission_is_invited_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, told = Team(1), Told(monkeypatch)
    device.keep(team, "ours")
    admin = device.admin()
    peer = Peer(TWO, team.keys[TWO].public, "desk")
    (opened,) = admin.pools
    first = admin.admit(opened, peer, "member")
    assert admin.admit(opened, peer, "member") == first
    assert len(told.entries) == 1
    assert opened.standing.roster.contains(Tip(first.length, first.head))
    with pytest.raises(QueryError):
        admin.admit(opened, peer, "owner")


def test_whoever_was_removed_can_leave(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    device.keep(Team(1), "ours")
    admin = device.admin()
    told.refusal = HubRefused(401, "challenge", "ask again", {})
    with pytest.raises(HubRefused):
        admin.leave(admin.find("ours"))
    told.refusal = HubRefused(403, "removed", "not in the pool any more", {})
    admin.leave(admin.find("ours"))
    assert admin.pools == []
    assert device.files.pools() == []


class Listeners:
    """Who is told before something is forgotten."""

    def __init__(self) -> None:
        self.told: list[Callable[[Sequence[str]], object]] = []

    def add(self, forget: Callable[[Sequence[str]], object]) -> Callable[[], None]:
        self.told.append(forget)
        return lambda: self.told.remove(forget)


def pools_of(device: Device, listeners: Listeners) -> Pools:
    def no_transport(_: object) -> Any:
        raise SyncError("no hub")

    source = Log(ONE)
    return Pools(device.admin(), source, listeners.add, no_transport, SystemClock(), SystemRandom())


async def test_a_pool_whose_hub_shows_a_fork_is_shown_and_left(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(monkeypatch)
    told.refusal = ForkError("another list")
    device.keep(Team(1), "ours")
    pools = pools_of(device, Listeners())
    await pools.start()
    shown = await pools.members("ours")
    assert (len(shown["members"]), shown["problem"]) == (1, "another list")
    with pytest.raises(ForkError):
        await pools.leave("ours", force=False)
    await pools.leave("ours", force=True)
    assert pools.status()["pools"] == []
    await pools.stop()


async def test_what_is_forgotten_while_more_is_shared_is_told_or_refused(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    Told(monkeypatch).refusal = SyncError("no hub")
    device.keep(Team(1), "ours")
    listeners = Listeners()
    pools = pools_of(device, listeners)
    await pools.start()

    def look(_: object) -> None:
        (forget,) = listeners.told
        with pytest.raises(SyncError, match="try again"):
            forget(["0" * 32])
        raise SyncError("the disk is full")

    monkeypatch.setattr(pools, "_look_again", look)
    with pytest.raises(SyncError, match="the disk is full"):
        await pools.share("ours", lambda _: EVERYTHING)
    (forget,) = listeners.told
    forget(["0" * 32])
    (status,) = pools.status()["pools"]
    assert status["tombstones_waiting"] == 1
    await pools.stop()
    assert listeners.told == []


def test_a_roster_that_could_not_be_saved_goes_on(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(1)
    pool = device.keep(team, "ours")
    standing = Standing(device.files, pool, Identity(ONE, team.keys[ONE]))
    entries = [team.admit(TWO), team.rotate()]

    def full(*_: object) -> None:
        raise SyncError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(device.files, "save_roster", full)
        with pytest.raises(SyncError):
            standing.learn(entries[:1])
    assert standing.length == standing.roster.length == 2
    assert standing.learn(entries[1:])
    assert Standing(device.files, pool, Identity(ONE, team.keys[ONE])).length == 3
