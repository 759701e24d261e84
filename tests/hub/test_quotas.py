"""Rates and quotas: who is over one is told when to try again, nobody else waits, nothing is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from localmem_hub.app import Policy
from localmem_hub.plain.messages import decode
from localmem_hub.plain.room import NOTHING
from localmem_hub.quotas import (
    FULL_RETRY_SECONDS,
    MEASURE_SECONDS,
    MOVING_PART,
    RESUME_PART,
    Bounds,
    Bucket,
)
from localmem_hub.seams import Batch
from localmem_hub.system import SystemRandom
from localmem_protocol.envelope import FIRST_OF_SEGMENT, VERSION
from localmem_protocol.errors import FrameError
from localmem_protocol.frames import Close, Step1, decode_frame, is_update, later, wait_s
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.room import Room, Row
from localmem_protocol.updates import Item, Update, encode_state_vector, encode_update
from support.http_client import HttpClient
from support.hub_store import open_store
from support.plain_client import PlainClient
from support.served_hub import HandClock, ServedHub, serving
from support.sync_client import RawClient, append

POOL, OTHER = "team", "other"
ONE, TWO = (f"{number:016x}" for number in (1, 2))
Opened = Callable[..., AbstractAsyncContextManager[ServedHub]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A hub with such bounds."""

    @asynccontextmanager
    async def opening(**bounds: Any) -> AsyncIterator[ServedHub]:
        policy = Policy(plain_workers=1, bounds=Bounds(**bounds))
        async with asyncio.timeout(60), serving(tmp_path, policy=policy) as hub:
            yield hub

    return opening


def token(hub: ServedHub, pool: str, device: str | None, kind: Any = "sealed") -> str:
    made = hub.store.tokens.create(pool, device, "writer", SystemRandom(), 1, kind=kind)
    return made.text


async def join(hub: ServedHub, pool: str, device: str, client: int = 0) -> RawClient:
    return await RawClient.join(hub.url, pool, device, token(hub, pool, device), client=client)


async def ended(raw: RawClient | PlainClient) -> tuple[int, str]:
    """Read until the hub closes; its code and reason."""
    try:
        while True:
            await raw.next()
    except ConnectionClosed:
        return raw.socket.close_code or 0, raw.socket.close_reason or ""


def batch(size: int) -> bytes:
    """A batch that is a segment by itself, so that it can be deleted alone."""
    return bytes((VERSION | FIRST_OF_SEGMENT,)) + os.urandom(size - 1)


async def measured(hub: ServedHub) -> None:
    """Some time later, when what is under way is done."""
    tasks = [*hub.hub.quotas._tasks, *hub.hub.rooms._background]
    await asyncio.wait([*tasks, asyncio.create_task(asyncio.sleep(0))])
    hub.clock.ms += int(MEASURE_SECONDS * 1000)


def stored(hub: ServedHub, pool: str) -> int:
    """Bytes of batches that the hub has."""
    found = hub.store.inner.load(pool)
    room = Room(found.updates, found.clients)
    return sum(room.live_bytes(device) for device in set(found.clients.values()))


def test_a_bucket_holds_a_minutes_worth_and_may_owe() -> None:
    clock = HandClock()
    bucket = Bucket("things", 60, clock)
    for _ in range(60):
        assert bucket.wait_s("a") == 0
        bucket.take("a", 1)
    assert bucket.wait_s("a") == pytest.approx(60 * RESUME_PART)
    assert bucket.wait_s("b") == 0
    clock.ms += 1000
    bucket.take("a", 31)  # more than is there
    assert bucket.wait_s("a") == pytest.approx(30 + 60 * RESUME_PART)
    clock.ms += 30_000
    assert bucket.wait_s("a") == pytest.approx(60 * RESUME_PART)
    clock.ms += 1
    assert bucket.wait_s("a") == 0
    clock.ms += 3_600_000
    bucket.take("a", 60)
    assert bucket.wait_s("a") > 0  # no more than a minute's worth was kept
    free = Bucket("things", 0, clock)
    free.take("a", 10**9)
    assert free.wait_s("a") == 0


@pytest.mark.parametrize("seconds", [0.2, 1, 59.5, 600])
def test_a_reason_says_when_to_try_again(seconds: float) -> None:
    reason = later("over 100000000 bytes of this device in a minute", seconds)
    assert seconds <= wait_s(reason) < seconds + 1
    assert len(reason.encode()) <= 123  # what a close frame holds
    assert wait_s("no; try again") == wait_s("; try again in 5 s or so") == 0


@pytest.mark.parametrize(
    "bounds",
    [{"device_updates_per_minute": 5}, {"device_bytes_per_minute": 500}],
    ids=["updates", "bytes"],
)
async def test_a_device_over_its_rate_comes_back_with_all_it_has(
    opened: Opened, bounds: dict[str, int]
) -> None:
    async with opened(**bounds) as hub:
        two = await join(hub, POOL, TWO)
        await two.synchronise()
        one = await join(hub, POOL, ONE)
        sent = [bytes([number]) * 100 for number in range(8)]
        for content in sent:
            await one.write(content)
        code, reason = await ended(one)
        assert (code, 0 < wait_s(reason) <= 60) == (Close.LIMITED, True)
        await two.write(b"does not wait")
        await two.acknowledged(1)
        hub.clock.ms += wait_s(reason) * 1000 + 1
        again = await join(hub, POOL, ONE, one.client)
        assert 0 < again.clock < len(sent)  # what came before is there
        for place in range(again.clock, len(sent)):
            await again.write(sent[place])
            await again.acknowledged(place + 1)
            hub.clock.ms += 30_000
        assert stored(hub, POOL) == 800 + len(b"does not wait")
        for raw in (again, two):
            await raw.socket.close()


async def test_a_pool_over_its_rate_holds_up_no_other(opened: Opened) -> None:
    async with opened(pool_updates_per_minute=3) as hub:
        one, two = await join(hub, POOL, ONE), await join(hub, POOL, TWO)
        other = await join(hub, OTHER, ONE)
        for number in range(2):
            await one.write(b"x")
            await one.acknowledged(number + 1)
        await two.write(b"x")
        await two.acknowledged(1)
        await two.write(b"too much for this pool")
        assert (await ended(two))[0] == Close.LIMITED
        await other.write(b"another pool")
        await other.acknowledged(1)
        for raw in (one, other):
            await raw.socket.close()


async def test_requests_over_a_rate_are_answered_with_when_to_come(opened: Opened) -> None:
    async with opened(device_updates_per_minute=2, device_requests_per_minute=50) as hub:
        given = token(hub, POOL, ONE)
        async with HttpClient(hub.origin, POOL, ONE, given) as one:
            await one.greet()
            # Two at once are let through, and owed for.
            for content in (b"one", b"two"):
                assert (await one.write(content)).status == 200
            refused = await one.write(b"three")
            assert (refused.status, refused.code) == (429, Close.LIMITED)
            seconds = int(refused.headers["Retry-After"])
            assert 0 < seconds <= 60
            one.clock -= 1  # it was not taken
            hub.clock.ms += seconds * 1000 + 1
            assert (await one.write(b"three")).status == 200
            for _ in range(60):
                polled = await one.poll()
                if polled.status == 429:
                    break
            assert (polled.status, polled.code) == (429, Close.LIMITED)
            hub.clock.ms += int(polled.headers["Retry-After"]) * 1000 + 1
            assert (await one.poll()).status in (200, 304)
        assert stored(hub, POOL) == len(b"onetwothree")


async def test_questions_for_all_that_is_missing_are_requests(opened: Opened) -> None:
    async with opened(device_requests_per_minute=10) as hub:
        one = await join(hub, POOL, ONE)
        for _ in range(11):
            await one.send(Step1(encode_state_vector({})))
        assert (await ended(one))[0] == Close.LIMITED


@pytest.mark.parametrize("bound", ["pool_bytes", "document_bytes", "device_bytes"])
async def test_a_full_quota_takes_no_more_until_something_is_deleted(
    opened: Opened, bound: str
) -> None:
    async with opened(**{bound: 26_000}) as hub:
        one = await join(hub, POOL, ONE)
        for clock in range(1, 4):
            await one.write(batch(5000))
            await one.acknowledged(clock)
        await measured(hub)
        await one.write(batch(5))
        await one.acknowledged(4)
        await measured(hub)
        await one.write(batch(12_000))
        code, reason = await ended(one)
        assert (code, wait_s(reason)) == (Close.LIMITED, FULL_RETRY_SECONDS)
        again = await join(hub, POOL, ONE, one.client)
        assert again.clock == 4
        deleted = encode_update(Update({}, {again.client: [(0, 2)]}))
        await again.send(UpdateFrame(deleted))
        await again.synchronise()
        await again.socket.close()
        for _ in range(4):
            await measured(hub)
            again = await join(hub, POOL, ONE, one.client)
            await again.write(batch(12_000))
            with suppress(ConnectionClosed):
                await again.acknowledged(5)
                break
            assert again.socket.close_code == Close.LIMITED
        else:
            pytest.fail("it stays full")
        await again.socket.close()
        assert stored(hub, POOL) == 5000 + 5 + 12_000


async def test_a_device_over_its_quota_is_so_in_a_room_that_has_to_be_loaded(
    opened: Opened,
) -> None:
    async with opened(device_bytes=10_000) as hub:
        async with HttpClient(hub.origin, POOL, ONE, token(hub, POOL, ONE)) as one:
            await one.greet()
            assert (await one.write(batch(9_500))).status == 200
            await measured(hub)
            hub.hub.rooms.suspend("nobody stays in memory")
            hub.hub.rooms.resume()
            assert not hub.hub.rooms.pools
            refused = await one.write(batch(5_000))
            assert (refused.status, refused.code) == (429, Close.LIMITED)
        assert stored(hub, POOL) == 9_500


async def test_who_forgets_is_heard_a_little_over_a_quota(opened: Opened) -> None:
    async with opened(device_bytes=10_000) as hub:
        one = await join(hub, POOL, ONE)
        await one.write(batch(9_500))
        await one.acknowledged(1)
        item = Item(1, 1, (batch(1000),), (one.client, 0), None, None)
        moving = Update({one.client: [item]}, {one.client: [(0, 1)]})
        await one.send(UpdateFrame(encode_update(moving)))
        await one.acknowledged(2)
        item = Item(2, 1, (batch(int(10_000 * MOVING_PART)),), (one.client, 1), None, None)
        moving = Update({one.client: [item]}, {one.client: [(1, 1)]})
        await one.send(UpdateFrame(encode_update(moving)))
        assert (await ended(one))[0] == Close.LIMITED


async def test_an_update_over_the_size_that_is_allowed_is_refused_for_good(opened: Opened) -> None:
    size = 100_000
    async with opened(update_bytes=size) as hub:
        one = await join(hub, POOL, ONE)
        await one.write(b"a" * (size - 100))
        await one.acknowledged(1)
        await one.write(b"a" * size)
        assert (await ended(one))[0] == Close.TOO_LARGE
        async with HttpClient(hub.origin, POOL, TWO, token(hub, POOL, TWO)) as two:
            await two.greet()
            refused = await two.write(b"a" * size)
            assert (refused.status, refused.code) == (413, Close.TOO_LARGE)


@pytest.mark.parametrize("over", [0, 1])
async def test_a_largest_update_is_taken_whatever_stands_around_it(
    opened: Opened, over: int
) -> None:
    size = 100_000
    async with opened(update_bytes=size) as hub:
        one = await join(hub, POOL, ONE)
        around = len(append(ONE, one.client, 0, bytes(size))) - size
        update = append(ONE, one.client, 0, b"a" * (size - around + over))
        assert len(update) == size + over
        await one.send(UpdateFrame(update))
        if over:
            assert (await ended(one))[0] == Close.TOO_LARGE
        else:
            await one.acknowledged(1)
            await one.socket.close()


async def test_plain_rooms_have_rates_and_quotas_too(opened: Opened) -> None:
    async with opened(device_updates_per_minute=3, document_bytes=5000) as hub:
        one = await PlainClient.join(hub.url, "notes", token(hub, "notes", None, "plain"), client=7)
        two = await PlainClient.join(hub.url, "big", token(hub, "big", None, "plain"), client=8)
        for number in range(4):
            await one.write(str(number))
        code, reason = await ended(one)
        assert (code, wait_s(reason) > 0) == (Close.LIMITED, True)
        await two.write("x" * 6000)
        assert (await ended(two))[0] == Close.LIMITED


async def test_who_writes_in_a_full_plain_room_may_still_come_and_read(opened: Opened) -> None:
    async with opened(document_bytes=5000) as hub:
        given = token(hub, "notes", None, "plain")
        one = await PlainClient.join(hub.url, "notes", given, client=7)
        await one.write("x" * 4999)  # with what stands around it more than the quota
        assert (await ended(one))[0] == Close.LIMITED
        one = await PlainClient.join(hub.url, "notes", given, client=7)
        await one.write("x" * 4900)
        await one.synchronise()
        await one.leave()
        await measured(hub)
        two = await PlainClient.join(hub.url, "notes", given, client=8)
        await two.write("x" * 200)
        assert (await ended(two))[0] == Close.LIMITED
        two = await PlainClient.join(hub.url, "notes", given, client=8)
        for _ in range(200):  # enough to be over the quota, if they counted
            await two.send(NOTHING, offline=True)
        assert len(await two.synchronise()) > 4900
        deleted = b"\0\x01\x07\x01\0\x01"  # the first letter of client 7
        await two.send(deleted, offline=True)
        assert (await two.synchronise()).endswith(deleted[1:])
        await two.leave()


def test_what_a_pool_has_stored_is_counted_over_its_epochs(tmp_path: Path) -> None:
    pool = "ab" * 16
    store = open_store(tmp_path, "plain", pool[:-1] + "c")
    with store._engine.begin() as connection:
        for name in (f"{pool}.1", f"{pool}.22", f"{pool[:-1]}a.1"):
            connection.exec_driver_sql(
                "INSERT INTO pools (pool, head, epoch, created_ms) VALUES (?, 0, 1, 1)", (name,)
            )
    for name, size in ((f"{pool}.1", 10), (f"{pool}.22", 200), (f"{pool[:-1]}a.1", 3000)):
        store.commit([Batch(name, 0, [Row(ONE, bytes(size))])], 1)
    assert store.sizes(f"{pool}.1", pool) == (10, 210)
    store.compact(f"{pool}.22", 1, bytes(50))
    assert store.sizes(f"{pool}.22", pool) == (50, 60)
    assert store.sizes("plain", "plain") == (0, 0)
    store.close()


@pytest.mark.parametrize("padded", [b"\x80\x00\x02", b"\x00\x82\x00"])
def test_nothing_is_an_update_that_is_not_counted_as_one(padded: bytes) -> None:
    """The beginning of a frame is all that is looked at before it is counted."""
    data = padded + b"\x02\x00\x00"
    assert not is_update(data)
    with pytest.raises(FrameError, match="more bytes than it needs"):
        decode_frame(data)
    with pytest.raises(FrameError, match="more bytes than it needs"):
        decode(data)
