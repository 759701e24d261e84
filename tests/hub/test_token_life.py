"""How tokens end while they are in use: revoked beside the hub, expired, or gone with their pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event as Flag

import httpx2
import pytest

from localmem_hub import endpoint, http_sync
from localmem_hub.app import Policy
from localmem_hub.database import open_engine
from localmem_hub.errors import CommitError, ConfigError, TokenError
from localmem_hub.limits import DAY_MS
from localmem_hub.seams import Kind, RosterMark
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemRandom
from localmem_hub.workers import READERS
from localmem_protocol.access import room_name
from localmem_protocol.exchange import Mark
from localmem_protocol.frames import Close
from localmem_protocol.simulation import SeededRandom
from support.plain_client import PlainClient
from support.pool_members import Team
from support.served_hub import START_MS, ServedHub, serving
from support.sync_client import RawClient, close_code, dial

POOL, ROOM = "team", "notes"
ONE, TWO = (f"{number:016x}" for number in (1, 2))


@pytest.fixture(autouse=True)
def no_other_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen here is not seen by the slow look at all tokens."""
    monkeypatch.setattr(endpoint, "RECHECK_SECONDS", 1_000_000)
    monkeypatch.setattr(http_sync, "LOOK_SECONDS", 1_000_000)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path, policy=Policy(plain_workers=1)) as served:
        yield served


@pytest.fixture
def beside(hub: ServedHub) -> Iterator[SqlStore]:
    """The same database, as another process has it."""
    store = SqlStore(open_engine(hub.store.inner.url.render_as_string(hide_password=False)))
    yield store
    store.close()


def create(
    store: SqlStore, pool: str = POOL, device: str | None = None, days: int | None = None
) -> str:
    kind: Kind = "plain" if pool == ROOM else "sealed"
    made = store.tokens.create(
        pool, device, "writer", SystemRandom(), START_MS, kind=kind, days=days
    )
    return made.text


def failing() -> int:
    raise CommitError("the database does not answer")


def number(token: str) -> str:
    return token.split("_")[1]


async def waiting(hub: ServedHub, token: str) -> asyncio.Task[httpx2.Response]:
    """A request that waits for news."""
    headers = {"X-Localmem-Device": ONE, "If-None-Match": f'"{Mark(0, True).text}"'}
    path = f"/v1/sync/{POOL}/updates?wait=25"
    task = asyncio.create_task(hub.ask("GET", path, token=token, headers=headers))
    while not hub.hub.watchers._waiting:
        await asyncio.sleep(0.01)
        assert not task.done(), task.result().text
    return task


@asynccontextmanager
async def busy(hub: ServedHub) -> AsyncIterator[None]:
    """While every reader has something to do that takes long, as to load a large room."""
    go_on = Flag()
    reading = [
        asyncio.create_task(hub.hub.workers.read(lambda: go_on.wait(60))) for _ in range(READERS)
    ]
    try:
        yield
        assert not any(task.done() for task in reading)
    finally:
        go_on.set()
        await asyncio.gather(*reading)


async def test_who_loses_a_right_is_cut_off_while_large_rooms_are_loaded(
    hub: ServedHub, beside: SqlStore
) -> None:
    async with asyncio.timeout(60):
        revoked, expires = create(beside, device=ONE), create(beside, device=TWO, days=7)
        team = Team()
        team.admit(TWO)
        await team.found_at(hub, beside.access.invite(1, 1, SystemRandom(), START_MS))
        session = await team.token(hub, TWO)
        one = await RawClient.join(hub.url, POOL, ONE, revoked)
        two = await RawClient.join(hub.url, POOL, TWO, expires)
        three = await RawClient.join(hub.url, room_name(team.pool, 1), TWO, session)
        async with busy(hub):
            assert (await hub.ask("GET", "/readyz")).status_code == 200
            beside.tokens.revoke(number(revoked), 2)
            assert await close_code(one.socket) == Close.BAD_TOKEN
            entry, roster = team.remove(TWO), team.roster
            mark = RosterMark(roster.length, roster.head)
            beside.rosters.append(team.pool, entry, mark, roster.epoch, START_MS)
            assert await close_code(three.socket) == Close.BAD_TOKEN
            hub.clock.ms += 7 * DAY_MS
            assert await close_code(two.socket) == Close.BAD_TOKEN


async def test_a_token_expires_while_the_database_says_nothing(
    hub: ServedHub, beside: SqlStore
) -> None:
    go_on = Flag()
    async with asyncio.timeout(60):
        one = await RawClient.join(hub.url, POOL, ONE, create(beside, device=ONE, days=7))
        looking = asyncio.create_task(hub.hub.workers.look(lambda: go_on.wait(60)))
        try:
            while not hub.hub.workers._lookout._work_queue.qsize():  # noqa: ASYNC110  it is looked at from outside
                await asyncio.sleep(0.01)
            hub.clock.ms += 7 * DAY_MS
            assert await close_code(one.socket) == Close.BAD_TOKEN
        finally:
            go_on.set()
            await looking


async def test_a_defect_in_one_look_does_not_end_all_looks(
    hub: ServedHub, beside: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def defect() -> int:
        loop.call_soon_threadsafe(failed.set)
        raise RuntimeError("a defect")

    async with asyncio.timeout(60):
        token = create(beside, device=ONE)
        one = await RawClient.join(hub.url, POOL, ONE, token)
        with monkeypatch.context() as broken:
            broken.setattr(hub.store.tokens, "changes", defect)
            await failed.wait()
        beside.tokens.revoke(number(token), 2)
        assert await close_code(one.socket) == Close.BAD_TOKEN


async def test_a_token_that_another_process_revokes_is_cut_off_everywhere(
    hub: ServedHub, beside: SqlStore
) -> None:
    async with asyncio.timeout(60):
        token, kept = create(beside, device=ONE), create(beside, device=TWO)
        plain = create(beside, ROOM)
        one = await RawClient.join(hub.url, POOL, ONE, token)
        two = await RawClient.join(hub.url, POOL, TWO, kept)
        three = await PlainClient.join(hub.url, ROOM, plain)
        request = await waiting(hub, token)
        beside.tokens.revoke(number(token), 2)
        assert await close_code(one.socket) == Close.BAD_TOKEN
        assert (await request).status_code == 401
        beside.tokens.revoke(number(plain), 2)
        assert await close_code(three.socket) == Close.BAD_TOKEN
        await two.write(b"not concerned")
        await two.acknowledged(1)
        await two.socket.close()


async def test_whoever_is_in_a_pool_that_another_process_removes_is_cut_off(
    hub: ServedHub, beside: SqlStore
) -> None:
    async with asyncio.timeout(60):
        one = await RawClient.join(hub.url, POOL, ONE, create(beside))
        beside.pools.remove(POOL)
        assert await close_code(one.socket) == Close.BAD_TOKEN


async def test_whom_another_process_takes_out_of_a_roster_is_cut_off(
    hub: ServedHub, beside: SqlStore
) -> None:
    async with asyncio.timeout(60):
        team = Team()
        team.admit(TWO)
        await team.found_at(hub, beside.access.invite(1, 1, SystemRandom(), START_MS))
        two = await RawClient.join(
            hub.url, room_name(team.pool, 1), TWO, await team.token(hub, TWO)
        )
        entry, roster = team.remove(TWO), team.roster
        mark = RosterMark(roster.length, roster.head)
        beside.rosters.append(team.pool, entry, mark, roster.epoch, START_MS)
        assert await close_code(two.socket) == Close.BAD_TOKEN


async def test_a_token_that_expires_is_cut_off_and_opens_nothing_more(
    hub: ServedHub, beside: SqlStore
) -> None:
    async with asyncio.timeout(60):
        token, plain = create(beside, device=ONE, days=7), create(beside, ROOM, days=8)
        one = await RawClient.join(hub.url, POOL, ONE, token)
        two = await PlainClient.join(hub.url, ROOM, plain)
        hub.clock.ms += 7 * DAY_MS - 1
        await one.write(b"to the last millisecond")
        await one.acknowledged(1)
        hub.clock.ms += 1
        assert await close_code(one.socket) == Close.BAD_TOKEN
        assert await close_code(await dial(hub.url, POOL, ONE, token)) == Close.BAD_TOKEN
        asked = await hub.ask("GET", f"/v1/sync/{POOL}", token=token)
        assert (asked.status_code, "expired" in asked.text) == (401, True)
        hub.clock.ms += DAY_MS
        assert await close_code(two.socket) == Close.BAD_TOKEN


async def test_a_token_that_is_revoked_while_its_device_comes_in_lets_it_not_stay(
    hub: ServedHub, beside: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub looked at the token before, and at all that are in use before it was one of them."""
    token, tokens = create(beside, device=ONE), hub.store.tokens
    monkeypatch.setattr(tokens, "changes", failing)  # nothing else finds out
    await RawClient.join(hub.url, POOL, ONE, token)  # its use is noted
    looked = tokens.check
    loop = asyncio.get_running_loop()

    def revoked_meanwhile(*given: object, **named: object) -> object:
        found = looked(*given, **named)  # type: ignore[arg-type]
        monkeypatch.setattr(tokens, "check", looked)
        beside.tokens.revoke(number(token), 2)
        asyncio.run_coroutine_threadsafe(hub.hub.endpoint.recheck(), loop).result(10)
        return found

    monkeypatch.setattr(tokens, "check", revoked_meanwhile)
    async with asyncio.timeout(60):
        assert await close_code(await dial(hub.url, POOL, ONE, token)) == Close.BAD_TOKEN


def test_a_token_is_good_for_its_days(beside: SqlStore) -> None:
    token = create(beside, device=ONE, days=1)
    (listed,) = beside.tokens.list()
    assert listed.expires_ms == START_MS + DAY_MS
    for_ever = beside.tokens.check(create(beside), POOL, ONE, START_MS)
    assert for_ever.expires_ms is None
    beside.tokens.check(token, POOL, ONE, START_MS + DAY_MS - 1)
    with pytest.raises(TokenError, match="expired"):
        beside.tokens.check(token, POOL, ONE, START_MS + DAY_MS)
    for days in (0, -1, 4000):
        with pytest.raises(ConfigError, match="days"):
            beside.tokens.create(POOL, None, "writer", SeededRandom(1), 1, days=days)
