"""What the hub acknowledged survives its death, and a disk that fails stops acknowledgements."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from localmem_protocol.envelope import PoolKey
from localmem_protocol.frames import Ack, Close
from localmem_protocol.simulation import SeededRandom
from localmem_protocol.updates import decode_update
from support.hub_process import HubProcess, running_hub
from support.plain_client import PlainClient
from support.sync_client import RawClient, SyncClient, close_code

POOL = PoolKey("team", 1, bytes(32))
ONE, TWO = "000000000000000a", "000000000000000b"
KILLS = 10
AHEAD = 200  # batches that are not acknowledged yet


def contents(update: bytes, client: int) -> list[bytes]:
    return [
        content
        for item in decode_update(update).items.get(client, [])
        for content in item.contents or ()
    ]


async def write_until_killed(hub: HubProcess, raw: RawClient, acks: int, burst: int) -> int:
    """Write in bursts, kill the hub at the nth acknowledgement; the clock that it confirmed."""
    confirmed = raw.clock
    try:
        for _ in range(acks):
            for _ in range(burst):
                await raw.write(b"batch %d" % raw.clock)
            frame = await raw.next()
            assert isinstance(frame, Ack)
            confirmed = max(confirmed, frame.clock)
        hub.kill()
        while True:
            frame = await raw.next()
            if isinstance(frame, Ack):
                confirmed = max(confirmed, frame.clock)
    except ConnectionClosed:
        return confirmed


async def test_everything_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    chance = SeededRandom(20261123)
    with running_hub(tmp_path) as hub:
        token = hub.token(POOL.pool, ONE)
        client, confirmed = 0, 0
        for _ in range(KILLS):
            async with asyncio.timeout(60):
                raw = await RawClient.join(hub.url, POOL.pool, ONE, token, client=client)
                assert raw.clock >= confirmed
                client = raw.client
                burst = 1 + chance.below(8)
                confirmed = await write_until_killed(hub, raw, 1 + chance.below(20), burst)
                hub.start()
                again = await RawClient.join(hub.url, POOL.pool, ONE, token, client=client)
                kept = contents(await again.synchronise(), client)
                await again.socket.close()
            assert len(kept) == again.clock >= confirmed > 0
            assert kept == [b"batch %d" % clock for clock in range(again.clock)]


async def test_devices_go_on_where_they_were_after_the_hub_died(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        devices = [SyncClient(hub.url, POOL, n, hub.token(POOL.pool, n)) for n in (ONE, TWO)]
        clients: set[tuple[int, ...]] = set()
        for life in range(3):
            async with asyncio.timeout(60), devices[0] as one, devices[1] as two:
                one.record(f"one {life}")
                two.record(f"two {life}")
                await asyncio.gather(one.settle(), two.settle())
                await asyncio.gather(one.receive(2 * life + 2), two.receive(2 * life + 2))
                clients.add(tuple(device.session.replica.client for device in devices))
                hub.kill()
            hub.start()
            for device in devices:
                device.url = hub.url
    assert [e.id for e in one.log.ordered()] == [e.id for e in two.log.ordered()]
    assert len(clients) == 1


async def test_a_hub_that_is_stopped_under_load_keeps_what_it_acknowledged(
    tmp_path: Path,
) -> None:
    with running_hub(tmp_path) as hub:
        token = hub.token(POOL.pool)  # bound to the first
        raws = [await RawClient.join(hub.url, POOL.pool, ONE, token)]
        raws.append(await RawClient.join(hub.url, POOL.pool, TWO, hub.token(POOL.pool, TWO)))

        async def flood(raw: RawClient) -> int:
            confirmed = 0

            async def read() -> None:
                nonlocal confirmed
                while True:
                    frame = await raw.next()
                    if isinstance(frame, Ack):
                        confirmed = max(confirmed, frame.clock)
                        flowing.set()
                        room.set()

            room = asyncio.Event()
            reading = asyncio.create_task(read())
            reading.add_done_callback(lambda _: room.set())
            with contextlib.suppress(ConnectionClosed):
                while not reading.done():
                    if raw.clock - confirmed >= AHEAD:
                        room.clear()
                        await room.wait()
                    await raw.write(b"batch %d" % raw.clock)
            with pytest.raises(ConnectionClosed):
                await reading
            return confirmed

        flowing = asyncio.Event()
        async with asyncio.timeout(60):
            flooding = [asyncio.create_task(flood(raw)) for raw in raws]
            await flowing.wait()
            assert await asyncio.to_thread(hub.stop) == 0
            confirmed = await asyncio.gather(*flooding)
            assert {raw.socket.close_code for raw in raws} == {Close.GOING_AWAY}
            hub.start()
            again = await RawClient.join(hub.url, POOL.pool, ONE, token)
            update = await again.synchronise()
            await again.socket.close()
        for raw, clock in zip(raws, confirmed, strict=True):
            kept = contents(update, raw.client)
            assert kept == [b"batch %d" % number for number in range(len(kept))]
            assert raw.clock >= len(kept) >= clock
        assert sum(confirmed) > 0


async def test_a_hub_whose_database_does_not_answer_stops_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALMEM_HUB_STOP_SECONDS", "0.6")
    with running_hub(tmp_path) as hub:
        token = hub.token(POOL.pool, ONE)
        async with asyncio.timeout(60):
            raw = await RawClient.join(hub.url, POOL.pool, ONE, token)
            await raw.write(b"stored")
            await raw.acknowledged(1)
            with contextlib.closing(sqlite3.connect(hub.database)) as other:
                other.execute("BEGIN IMMEDIATE")  # for as long as the hub lives
                await raw.write(b"waits")
                assert await asyncio.to_thread(hub.stop) == 1
            assert await close_code(raw.socket) == Close.GOING_AWAY
        assert "stopping took too long" in hub.log.read_text()
        hub.start()
        again = await RawClient.join(hub.url, POOL.pool, ONE, token, client=raw.client)
        assert again.clock == 1
        await again.socket.close()


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_hub_whose_worker_does_not_end_stops_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALMEM_HUB_STOP_SECONDS", "1.8")  # less than a worker may take otherwise
    monkeypatch.setenv("LOCALMEM_HUB_PLAIN_ENABLED", "true")
    with running_hub(tmp_path) as hub:
        async with asyncio.timeout(60):
            one = await PlainClient.join(hub.url, "notes", hub.token("notes", kind="plain"))
            (worker,) = children(hub.pid)
            os.kill(worker, signal.SIGSTOP)
            assert await asyncio.to_thread(hub.stop) == 0
            assert await close_code(one.socket) == Close.GOING_AWAY
        assert "stopping took too long" not in hub.log.read_text()
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


async def write_until_refused(raw: RawClient) -> int:
    """Write one batch after the other until the hub closes; the clock that it confirmed."""
    confirmed = 0
    try:
        while True:
            await raw.write(bytes(60_000))
            frame = await raw.next()
            assert isinstance(frame, Ack)
            confirmed = frame.clock
    except ConnectionClosed:
        return confirmed


async def test_a_full_disk_ends_acknowledgements_and_loses_none(tmp_path: Path) -> None:
    with running_hub(tmp_path, file_bytes_max=1024 * 1024) as hub:
        token = hub.token(POOL.pool, ONE)
        async with asyncio.timeout(60):
            raw = await RawClient.join(hub.url, POOL.pool, ONE, token)
            confirmed = await write_until_refused(raw)
            assert raw.socket.close_code == Close.STORE_FAILED
            assert hub.running
            # The room is loaded again for whoever comes back, and holds no more than was stored.
            again = await RawClient.join(hub.url, POOL.pool, ONE, token, client=raw.client)
            assert again.clock == confirmed > 0
            assert len(contents(await again.synchronise(), raw.client)) == confirmed
            await again.socket.close()
        hub.kill()
        hub.start()
        async with asyncio.timeout(60):
            again = await RawClient.join(hub.url, POOL.pool, ONE, token, client=raw.client)
            assert again.clock == confirmed
            await again.write(b"there is room again")
            await again.acknowledged(confirmed + 1)
            await again.socket.close()
        assert "commit failed pool=team" in hub.log.read_text()
