"""Pools of one device, with hubs that cannot be reached or say no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from localmem_node.errors import HubRefused, QueryError, SyncError
from localmem_node.sync.hub_client import HubClient
from localmem_node.sync.pool_admin import Opened, PoolAdmin
from localmem_node.sync.pool_client import PoolClient, Shown
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.pools import Pools
from localmem_node.sync.sending import Sending
from localmem_node.sync.sharing import EVERYTHING, NOTHING, Rule
from localmem_node.sync.standing import Identity, Standing
from localmem_node.sync.untold import Untold
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.errors import ForkError
from localmem_protocol.pairing import Invitation, Peer
from localmem_protocol.recovery import new_phrase, recovery_keys
from localmem_protocol.roster import RECOVERY, Entry, Roster, Tip, encode_entry, found
from support.pool_members import NOW, ONE, TWO, Team
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


def test_no_way_leads_into_more_pools_than_a_device_can_be_in(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_node.sync.pool_admin.POOLS_MAX", 2)
    device.keep(Team(1), "good")
    bad = device.keep(Team(2), "bad")
    (tmp_path / "pools" / bad / "pool.json").write_bytes(b"{")
    admin = device.admin()
    third = Team(3)
    invitation = Invitation(NOWHERE, third.pool, 1, third.roster.head)
    with pytest.raises(QueryError, match="at most 2 pools"):
        admin.join(invitation, NOTHING)
    with pytest.raises(QueryError, match="at most 2 pools"):
        admin.create(NOWHERE, "third", NOTHING, label="desk")
    assert len(device.files.pools()) == 2
    assert sorted(path.name for path in (tmp_path / "pools").iterdir()) == sorted(device.teams)


class Recoverable:
    """A hub, as far as a recovery phrase is concerned: pools of which it is the phrase."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, phrase: str, count: int) -> None:
        self.teams: dict[str, Team] = {}
        for seed in range(10, 10 + count):
            team = Team(seed)
            team.recovery = team.keys[RECOVERY] = recovery_keys(phrase)
            first = found(team.author(), team.random, NOW, team.recovery.public)
            team.entries = [encode_entry(first)]
            team.roster = Roster.load(team.entries)
            self.teams[team.pool] = team

        def shown(client: PoolClient, start: int) -> Shown:
            team = self.teams[client.pool]
            return Shown(len(team.entries), team.roster.head.hex(), team.entries[start:])

        def append(client: PoolClient, expected: int, entry: Entry) -> bool:
            assert expected == len(self.teams[client.pool].entries)
            self.teams[client.pool].take(entry)
            return True

        monkeypatch.setattr("localmem_node.sync.pool_admin.pools_of", lambda *_: list(self.teams))
        monkeypatch.setattr(PoolClient, "shown", shown)
        monkeypatch.setattr(PoolClient, "append", append)


def test_recovering_enters_as_many_pools_as_there_is_room_for_and_names_the_others(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = new_phrase(SystemRandom())
    hub = Recoverable(monkeypatch, phrase, 3)
    admin = PoolAdmin(device.files, Identity(TWO, Team(9).keys[TWO]), SystemClock(), SystemRandom())
    monkeypatch.setattr("localmem_node.sync.pool_admin.POOLS_MAX", 2)
    first, second, third = hub.teams
    done = admin.recover(NOWHERE, phrase, NOTHING, "desk", [ONE])
    assert [one.record.pool for one in done.entered] == [first, second]
    assert done.left_out == [third]
    assert device.files.pools() == sorted([first, second])
    assert list(hub.teams[first].roster.members) == [TWO]
    assert len(hub.teams[third].entries) == 1
    with pytest.raises(QueryError, match="at most 2 pools"):
        admin.recover(NOWHERE, phrase, NOTHING, "desk", [])


def test_recovering_where_this_device_is_a_member_removes_what_is_lost(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = new_phrase(SystemRandom())
    hub = Recoverable(monkeypatch, phrase, 1)
    (team,) = hub.teams.values()
    team.admit(TWO)
    admin = PoolAdmin(device.files, Identity(TWO, team.keys[TWO]), SystemClock(), SystemRandom())
    with pytest.raises(QueryError, match="names this device"):
        admin.recover(NOWHERE, phrase, NOTHING, "desk", [TWO])
    team.set_role(TWO, "owner")
    admin.recover(NOWHERE, phrase, NOTHING, "desk", [ONE])
    assert list(team.roster.members) == [TWO]


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
    untold = Untold(device.files, bytes(32), SystemRandom())
    return Pools(
        device.admin(), source, listeners.add, no_transport, SystemClock(), SystemRandom(), untold
    )


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


async def test_what_is_forgotten_while_more_is_shared_is_told_then_or_later(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    Told(monkeypatch).refusal = SyncError("no hub")
    pool = device.keep(Team(1), "ours")
    listeners = Listeners()
    pools = pools_of(device, listeners)
    await pools.start()

    def look(_: object) -> None:
        (forget,) = listeners.told
        forget(["1" * 16])
        assert pools.status()["untold"] == {pool: 1}
        raise SyncError("the disk is full")

    monkeypatch.setattr(pools, "_look_again", look)
    with pytest.raises(SyncError, match="the disk is full"):
        await pools.share("ours", lambda _: EVERYTHING)
    (forget,) = listeners.told
    forget(["0" * 16])
    (status,) = pools.status()["pools"]
    assert status["tombstones_waiting"] == 2
    assert pools.status()["untold"] == {}
    await pools.stop()
    assert listeners.told == []


@pytest.mark.parametrize("name", ["pool.json", "roster", "1.sqlite"])
async def test_what_is_forgotten_while_a_pool_is_damaged_is_told_once_it_is_not(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Told(monkeypatch).refusal = SyncError("no hub")
    team = Team(1)
    bad = device.keep(team, "bad")
    path = tmp_path / "pools" / bad / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(b"\xc1" * 1000)
    for ids in (["0" * 16, "1" * 16], ["2" * 16, "0" * 16]):
        listeners = Listeners()
        pools = pools_of(device, listeners)
        await pools.start()
        for forget in tuple(listeners.told):
            await asyncio.to_thread(forget, ids)
        assert pools.status()["untold"][bad] == len({"0" * 16, "1" * 16, *ids})
        await pools.stop()
        assert listeners.told == []
    path.unlink() if before is None else path.write_bytes(before)
    listeners = Listeners()
    pools = pools_of(device, listeners)
    await pools.start()
    for forget in tuple(listeners.told):
        await asyncio.to_thread(forget, ["3" * 16])
    assert bad not in pools.status()["untold"]
    waiting = {one["id"]: one["tombstones_waiting"] for one in pools.status()["pools"]}
    assert waiting[bad] == 4
    await pools.stop()


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


async def test_a_damaged_pool_that_is_entered_again_is_told_and_nothing_is_kept_beside(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Told(monkeypatch).refusal = SyncError("no hub")
    team = Team(1)
    pool = device.keep(team, "ours")
    record = tmp_path / "pools" / pool / "pool.json"
    before = record.read_bytes()
    record.write_bytes(b"{")
    listeners = Listeners()
    pools = pools_of(device, listeners)
    await pools.start()
    record.write_bytes(before)
    files = device.files
    entered = Opened(
        files.record(pool),
        Standing(files, pool, Identity(ONE, team.keys[ONE])),
        PoolClient(HubClient(NOWHERE), pool, Identity(ONE, team.keys[ONE]), SystemClock()),
    )
    pools._admin.pools.append(entered)
    await pools._begin(entered)
    for digit in "012":
        for forget in tuple(listeners.told):
            await asyncio.to_thread(forget, [digit * 16])
    assert pools.status()["untold"] == {}
    (status,) = pools.status()["pools"]
    assert status["tombstones_waiting"] == 3
    await pools.stop()
    assert listeners.told == []


async def test_a_pool_that_is_left_while_it_begins_again_stays_left(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    Told(monkeypatch).refusal = SyncError("no hub")
    pool = device.keep(Team(1), "ours")
    listeners = Listeners()
    pools = pools_of(device, listeners)
    await pools.start()
    monkeypatch.setattr(pools._admin, "leave", lambda opened: None)
    stops, goes_on = asyncio.Event(), asyncio.Event()
    stop = pools._running[pool].agent.stop

    async def slow(*, say: bool = True) -> None:
        stops.set()
        await goes_on.wait()
        await stop(say=say)

    monkeypatch.setattr(pools._running[pool].agent, "stop", slow)
    changing = asyncio.create_task(pools.send("ours", lambda _: Sending(references=True)))
    await stops.wait()
    await pools.leave("ours", force=True)
    goes_on.set()
    await changing
    assert pools.status()["pools"] == []
    assert listeners.told == []
    await pools.stop()
