"""Epochs that are over leave the hub when every member has read them, or after a while."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from localmem_hub import rooms
from localmem_hub.app import Policy
from localmem_hub.cli import group as cli
from localmem_hub.compaction import make_snapshot
from localmem_hub.limits import DAY_MS
from localmem_hub.past_epochs import is_due
from localmem_hub.seams import PastEpoch, Store
from localmem_hub.tables import roster_entries
from localmem_protocol.access import room_name
from localmem_protocol.frames import Close
from localmem_protocol.roster import RECOVERY
from support.pool_members import FOUR, ONE, TWO, Team
from support.served_hub import ServedHub, serving
from support.sync_client import RawClient, close_code, dial

SECRET = b"sealed in the first epoch" * 50


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(open=True, past_epochs_days=30)) as served:
        yield served


@pytest.fixture
async def team(hub: ServedHub) -> Team:
    """ONE and TWO, in their second epoch; something was written in the first."""
    made = Team()
    made.admit(TWO)
    await made.found_at(hub, None)
    raw = await RawClient.join(hub.url, room_name(made.pool, 1), ONE, await made.token(hub, ONE))
    await raw.next()
    await raw.write(SECRET)
    await raw.acknowledged(1)
    made.rotate()
    await made.post(hub)
    await close_code(raw.socket)
    return made


async def tell(hub: ServedHub, team: Team, device: str, epoch: int = 1) -> int:
    path = f"/v1/pools/{team.pool}/epochs/{epoch}/read"
    return (await hub.ask("POST", path, json={}, token=await team.token(hub, device))).status_code


async def read(hub: ServedHub, team: Team, device: str, epoch: int = 1) -> bytes:
    """What a device reads of an epoch."""
    room, token = room_name(team.pool, epoch), await team.token(hub, device)
    raw = await RawClient.join(hub.url, room, device, token)
    update = await raw.synchronise()
    await raw.socket.close()
    return update


def files_with(folder: Path, secret: bytes) -> list[str]:
    return [path.name for path in folder.glob("hub.db*") if secret in path.read_bytes()]


async def test_an_epoch_goes_when_all_members_have_read_it(
    hub: ServedHub, team: Team, tmp_path: Path
) -> None:
    async with asyncio.timeout(60):
        assert SECRET in await read(hub, team, TWO)
        assert await tell(hub, team, ONE) == 200
        assert await tell(hub, team, ONE) == 200
        assert SECRET in await read(hub, team, TWO)
        assert await tell(hub, team, TWO) == 200
        assert await read(hub, team, TWO) == b"\x00\x00"  # nothing, and nobody is stuck
        assert await tell(hub, team, TWO) == 200
        (past,) = hub.store.epochs.past(team.pool)
        assert (past.epoch, past.dropped_ms) == (1, hub.clock.ms)
        while files_with(tmp_path, SECRET):  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0.05)


async def test_whoever_reads_when_it_goes_begins_again(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        token = await team.token(hub, TWO)
        socket = await dial(hub.url, room_name(team.pool, 1), TWO, token)
        while not hub.hub.rooms._live:  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0)
        await tell(hub, team, ONE)
        await tell(hub, team, TWO)
        assert await close_code(socket) == Close.GOING_AWAY


async def test_who_is_no_member_has_no_say_and_who_came_later_has(
    hub: ServedHub, team: Team
) -> None:
    async with asyncio.timeout(60):
        await tell(hub, team, ONE)
        team.admit(FOUR)
        await team.post(hub)
        await tell(hub, team, TWO)
        assert SECRET in await read(hub, team, FOUR)
        team.remove(FOUR)
        await team.post(hub)
        await hub.hub.past_epochs.sweep()
        assert await read(hub, team, TWO) == b"\x00\x00"


@pytest.mark.parametrize("epoch", ["2", "3", "0", "x", "1000000000"])
async def test_only_an_epoch_that_is_over_can_have_been_read(
    hub: ServedHub, team: Team, epoch: str
) -> None:
    path = f"/v1/pools/{team.pool}/epochs/{epoch}/read"
    answer = await hub.ask("POST", path, json={}, token=await team.token(hub, ONE))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "epoch")
    assert (await hub.ask("POST", path, json={})).status_code == 401
    recovery = await team.token(hub, RECOVERY)
    path = f"/v1/pools/{team.pool}/epochs/1/read"
    assert (await hub.ask("POST", path, json={}, token=recovery)).status_code == 400


async def test_it_goes_after_a_while_whoever_has_not_read_it(hub: ServedHub, team: Team) -> None:
    async with asyncio.timeout(60):
        hub.clock.ms += 30 * DAY_MS - 1
        await hub.hub.past_epochs.sweep()
        assert SECRET in await read(hub, team, TWO)
        hub.clock.ms += 1
        await hub.hub.past_epochs.sweep()
        assert await read(hub, team, TWO) == b"\x00\x00"


@pytest.mark.parametrize(("days", "due"), [(0, False), (1, True)])
def test_with_no_bound_an_epoch_waits_for_ever(days: int, due: bool) -> None:
    past = PastEpoch("0" * 32, 1, 0)
    assert is_due(past, None, 1000 * DAY_MS, days) is due


async def test_an_operator_looks_and_drops(hub: ServedHub, team: Team, tmp_path: Path) -> None:
    await tell(hub, team, ONE)
    where = ["--json", "--database", f"sqlite:///{tmp_path / 'hub.db'}"]

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["pool", *arguments, *where])
        return result.exit_code, result.output

    code, output = run("epochs", team.pool)
    (past,) = json.loads(output)["past"]
    assert (code, past["epoch"], past["read_by"], past["members"]) == (0, 1, 1, 2)
    assert run("drop-epoch", team.pool, "2", "--yes")[0] != 0  # it is not over
    code, output = run("drop-epoch", team.pool, "1", "--yes")
    assert (code, json.loads(output)["dropped"]) == (0, True)
    assert hub.store.load(room_name(team.pool, 1)).rows == []
    assert run("drop-epoch", team.pool, "1", "--yes")[0] != 0
    assert hub.store.inner.pools.remove(team.pool)


async def test_a_compaction_under_way_does_not_bring_back_what_was_dropped(
    hub: ServedHub, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()
    make = make_snapshot

    def slow(store: Store, pool: str) -> tuple[int, bytes] | None:
        made = make(store, pool)
        began.set()
        assert go.wait(30)
        return made

    monkeypatch.setattr(rooms, "make_snapshot", slow)
    compacting = asyncio.create_task(hub.hub.rooms._compact(room_name(team.pool, 1)))
    assert await asyncio.to_thread(began.wait, 30)
    assert [await tell(hub, team, device) for device in (ONE, TWO)] == [200, 200]
    (past,) = hub.store.epochs.past(team.pool)
    assert past.dropped_ms is not None
    go.set()
    await compacting
    assert SECRET not in await read(hub, team, TWO)


async def test_a_damaged_roster_keeps_no_epoch_from_going(hub: ServedHub) -> None:
    teams = []
    for seed in (1, 2):
        made = Team(seed)
        await made.found_at(hub, None)
        made.rotate()
        await made.post(hub)
        made.admit(TWO)
        await made.post(hub)
        assert await tell(hub, made, ONE) == 200
        teams.append(made)
    with hub.store.inner._engine.begin() as connection:
        connection.execute(sa.update(roster_entries).values(bytes=b"x"))
    for made in teams:
        hub.hub.rosters._forget(made.pool)
    hub.clock.ms += 40 * DAY_MS
    await hub.hub.past_epochs.sweep()
    assert all(past.dropped_ms is not None for past in hub.store.epochs.past(None))
