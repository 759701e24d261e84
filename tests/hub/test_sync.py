"""Devices and a real hub process: what honest devices see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_hub.limits import COMPACT_ROWS
from localmem_protocol.envelope import PoolKey
from localmem_protocol.frames import Ack, Close, Refusal, Step1, Update
from localmem_protocol.updates import decode_update
from support.hub_process import HubProcess, running_hub
from support.sync_client import RawClient, SyncClient, append, close_code, dial

ONE, TWO, THREE = (f"{number:016x}" for number in (1, 2, 3))
CANARY = "the quick brown fox keeps no secrets"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One hub for all who leave it running; each test has a pool of its own."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def fresh_hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> PoolKey:
    return PoolKey(request.node.name[-60:].strip("_"), 1, bytes(range(32)))


def device(hub: HubProcess, pool: PoolKey, name: str) -> SyncClient:
    return SyncClient(hub.url, pool, name, hub.token(pool.pool, name))


def ids(client: SyncClient) -> list[str]:
    return [event.id for event in client.log.ordered()]


async def test_two_devices_hold_the_same_events_in_the_same_order(
    hub: HubProcess, pool: PoolKey
) -> None:
    async with asyncio.timeout(60), device(hub, pool, ONE) as one, device(hub, pool, TWO) as two:
        await one.settle()
        await two.settle()
        for number in range(20):
            one.record(f"one {number}")
            two.record(f"two {number}")
            await asyncio.gather(one.settle(), two.settle())
        await asyncio.gather(one.receive(40), two.receive(40))
        assert ids(one) == ids(two)
        assert not one.session.reported.problems


async def test_what_a_device_records_offline_reaches_the_others_later(
    hub: HubProcess, pool: PoolKey
) -> None:
    one, two = device(hub, pool, ONE), device(hub, pool, TWO)
    async with asyncio.timeout(60):
        async with one:
            one.record("before")
            await one.settle()
        for number in range(5):
            one.record(f"offline {number}")
        async with two:
            two.record("meanwhile")
            await two.settle()
        async with one:
            await one.settle()
        async with two:
            await two.settle()
    assert len(ids(two)) == 7
    assert ids(one) == ids(two)


async def test_devices_that_open_a_new_room_at_once_all_get_the_same_one(
    hub: HubProcess, pool: PoolKey
) -> None:
    devices = [device(hub, pool, f"{number:016x}") for number in range(1, 9)]

    async def first_contact(client: SyncClient) -> None:
        async with client:
            client.record(f"hello from {client.log.device}")
            await client.settle()
            await client.receive(len(devices))

    async with asyncio.timeout(60):
        await asyncio.gather(*map(first_contact, devices))
    assert len({tuple(ids(client)) for client in devices}) == 1


async def test_a_reader_receives_everything_and_keeps_its_own_back(
    hub: HubProcess, pool: PoolKey
) -> None:
    reader = SyncClient(hub.url, pool, TWO, hub.token(pool.pool, TWO, "reader"))
    async with asyncio.timeout(60), device(hub, pool, ONE) as one:
        one.record("for readers")
        await one.settle()
        async with reader:
            reader.record("mine")
            await reader.settle()
            one.record("later")
            await one.settle()
            await reader.receive(3)
            assert len(ids(one)) == 2


async def test_what_a_reader_sends_all_the_same_is_refused(hub: HubProcess, pool: PoolKey) -> None:
    async with asyncio.timeout(60):
        raw = await RawClient.join(hub.url, pool.pool, TWO, hub.token(pool.pool, TWO, "reader"))
        await raw.write(b"mine")
        refusal = await raw.next()
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.permanent) == (Close.READ_ONLY, True)
        assert await close_code(raw.socket) == Close.READ_ONLY


async def test_a_newer_connection_of_a_client_id_replaces_the_older(
    hub: HubProcess, pool: PoolKey
) -> None:
    token = hub.token(pool.pool, ONE)
    async with asyncio.timeout(60):
        older = await RawClient.join(hub.url, pool.pool, ONE, token)
        await older.write(b"first")
        await older.acknowledged(1)
        newer = await RawClient.join(hub.url, pool.pool, ONE, token, client=older.client)
        assert await close_code(older.socket) == Close.REPLACED
        assert (newer.client, newer.clock) == (older.client, 1)
        await newer.write(b"second")
        await newer.acknowledged(2)
        await newer.socket.close()


async def test_a_gap_is_a_transient_refusal_and_is_never_acknowledged(
    hub: HubProcess, pool: PoolKey
) -> None:
    async with asyncio.timeout(60):
        raw = await RawClient.join(hub.url, pool.pool, ONE, hub.token(pool.pool, ONE))
        await raw.send(Update(append(ONE, raw.client, 5, b"from nowhere")))
        refusal = await raw.next()
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.permanent) == (Close.GAP, False)
        assert await close_code(raw.socket) == Close.GAP
    assert hub.query(f"SELECT * FROM updates WHERE pool = '{pool.pool}'") == []


async def test_a_late_joiner_gets_everything_after_compaction(
    fresh_hub: HubProcess, pool: PoolKey
) -> None:
    hub = fresh_hub
    writes = COMPACT_ROWS + 10
    async with asyncio.timeout(60):
        raw = await RawClient.join(hub.url, pool.pool, ONE, hub.token(pool.pool, ONE))
        for number in range(writes):
            await raw.write(b"batch %d" % number)
            await raw.acknowledged(number + 1)  # or several would be one row
        await raw.socket.close()
        assert hub.stop() == 0
        # Either the compaction is done, or the next start makes up for it.
        hub.start()
        for _ in range(2):
            late = await RawClient.join(hub.url, pool.pool, TWO, hub.token(pool.pool, TWO))
            everything = decode_update(await late.synchronise())
            await late.socket.close()
            contents = [c for item in everything.items[raw.client] for c in item.contents or ()]
            assert contents == [b"batch %d" % number for number in range(writes)]
            hub.stop()
            hub.start()
    assert hub.query("SELECT seq FROM snapshots") != []
    assert hub.query("SELECT count(*) FROM updates")[0][0] < COMPACT_ROWS


async def test_the_database_and_the_log_hold_no_text_and_no_token(
    fresh_hub: HubProcess, pool: PoolKey
) -> None:
    hub = fresh_hub
    one = device(hub, pool, ONE)
    async with asyncio.timeout(60), one:
        one.record(CANARY)
        await one.settle()
    hub.stop()
    kept = b"".join(path.read_bytes() for path in hub.database.parent.iterdir())
    assert len(hub.query("SELECT bytes FROM updates")) == 1
    for secret in (CANARY.encode(), one.token.encode(), one.token.split("_")[2].encode()):
        assert secret not in kept
    assert bytes.fromhex(one.token.split("_")[2]) not in kept


async def test_the_log_has_one_line_per_connection_with_its_counts(
    fresh_hub: HubProcess, pool: PoolKey
) -> None:
    hub = fresh_hub
    one = device(hub, pool, ONE)
    async with asyncio.timeout(60), one:
        one.record("counted")
        await one.settle()
    hub.stop()
    (line,) = [line for line in hub.log.read_text().splitlines() if "closed pool=" in line]
    for part in (f"pool={pool.pool}", f"device={ONE}", "role=writer", "code=1000", "frames_in=3"):
        assert part in line


async def test_a_stopping_hub_stores_what_arrived_and_says_that_it_goes(
    fresh_hub: HubProcess, pool: PoolKey
) -> None:
    hub = fresh_hub
    async with asyncio.timeout(60):
        raw = await RawClient.join(hub.url, pool.pool, ONE, hub.token(pool.pool, ONE))
        for number in range(50):
            await raw.write(b"%d" % number)
        await raw.acknowledged(1)
        stopping = asyncio.create_task(asyncio.to_thread(hub.stop))
        acknowledged = 1
        while isinstance(frame := await _next_or_none(raw), Ack):
            acknowledged = frame.clock
        assert await close_code(raw.socket) == Close.GOING_AWAY
        assert await stopping == 0
    with hub.store() as store:
        stored = store.load(pool.pool)
    updates = [decode_update(data, stored=True) for data in stored.updates]
    runs = [run for update in updates for run in update.items.values()]
    assert sum(item.length for run in runs for item in run) >= acknowledged


async def test_a_connection_must_offer_the_subprotocol(hub: HubProcess) -> None:
    token = hub.token("subprotocol", ONE)
    async with asyncio.timeout(60):
        socket = await dial(hub.url, "subprotocol", ONE, token, subprotocol="another")
        assert await close_code(socket) == Close.BAD_FRAME
    assert socket.subprotocol is None


async def _next_or_none(raw: RawClient) -> Ack | Step1 | None:
    try:
        frame = await raw.next()
    except Exception:
        return None
    assert isinstance(frame, Ack)
    return frame
