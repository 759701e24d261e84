"""What a real hub refuses, with which code, and that nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from localmem_hub.compaction import make_snapshot
from localmem_protocol.envelope import PoolKey
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Hello,
    Refusal,
    Update,
    encode_frame,
)
from localmem_protocol.limits import FRAME_BYTES_MAX
from localmem_protocol.updates import Item, decode_update, encode_update
from localmem_protocol.updates import Update as YjsUpdate
from localmem_protocol.wire import varuint
from support.hub_process import HubProcess, running_hub
from support.sync_client import RawClient, SyncClient, append, close_code, dial

POOL = PoolKey("team", 1, bytes(range(32)))
ONE, TWO, BAD = (f"{number:016x}" for number in (1, 2, 0xBAD))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def fresh_hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path) as running:
        yield running


async def refusal_code(hub: HubProcess, pool: str, device: str, token: str | None) -> int:
    async with asyncio.timeout(60):
        return await close_code(await dial(hub.url, pool, device, token))


async def test_a_wrong_token_is_told_so_by_its_code(hub: HubProcess) -> None:
    good = hub.token("door", ONE)
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    elsewhere = hub.token("another-door", ONE)
    for token in (None, "", "nonsense", "lmt_é", wrong, f"lmt_{'0' * 16}_{'0' * 64}", elsewhere):
        assert await refusal_code(hub, "door", ONE, token) == Close.BAD_TOKEN
    assert hub.query("SELECT * FROM clients WHERE pool = 'door'") == []


async def test_a_token_belongs_to_the_first_device_that_uses_it(hub: HubProcess) -> None:
    token = hub.token("first-come")
    raw = await RawClient.join(hub.url, "first-come", ONE, token)
    await raw.socket.close()
    assert await refusal_code(hub, "first-come", TWO, token) == Close.BAD_TOKEN
    again = await RawClient.join(hub.url, "first-come", ONE, token)
    await again.socket.close()


async def test_of_two_devices_that_use_a_new_token_at_once_one_gets_it(hub: HubProcess) -> None:
    token = hub.token("race")

    async def enter(device: str) -> bool:
        try:
            raw = await RawClient.join(hub.url, "race", device, token)
        except ConnectionClosed:
            return False
        await raw.socket.close()
        return True

    async with asyncio.timeout(60):
        entered = await asyncio.gather(*(enter(f"{number:016x}") for number in range(1, 9)))
    assert entered.count(True) == 1


async def test_a_revoked_token_opens_nothing(hub: HubProcess) -> None:
    token = hub.token("revoked", ONE)
    with hub.store() as store:
        assert store.tokens.revoke(token.split("_")[1], 2)
    assert await refusal_code(hub, "revoked", ONE, token) == Close.BAD_TOKEN


async def test_a_device_must_say_who_it_is(hub: HubProcess) -> None:
    token = hub.token("nameless")
    assert await refusal_code(hub, "nameless", "NOT-HEX", token) == Close.BAD_FRAME
    assert hub.query("SELECT device FROM tokens WHERE pool = 'nameless'") == [(None,)]


async def test_hello_must_name_the_device_of_the_token(hub: HubProcess) -> None:
    socket = await dial(hub.url, "hello", ONE, hub.token("hello", ONE))
    await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 0)))
    assert await close_code(socket) == Close.BAD_FRAME


@pytest.mark.parametrize("message", ["text", b"", b"\x07", b"\x00\x02\xff", b"\xff" * 12])
async def test_what_is_no_frame_closes_its_connection_alone(
    hub: HubProcess, message: str | bytes
) -> None:
    raw = await RawClient.join(hub.url, "frames", ONE, hub.token("frames", ONE))
    other = await RawClient.join(hub.url, "frames", TWO, hub.token("frames", TWO))
    await raw.socket.send(message)
    assert await close_code(raw.socket) == Close.BAD_FRAME
    await other.write(b"still here")
    await other.acknowledged(other.clock)
    await other.socket.close()


async def test_a_frame_over_the_limit_is_refused_as_too_large(hub: HubProcess) -> None:
    raw = await RawClient.join(hub.url, "large", ONE, hub.token("large", ONE))
    await raw.socket.send(bytes(FRAME_BYTES_MAX + 1))
    assert await close_code(raw.socket) == Close.TOO_LARGE


async def test_writing_as_another_device_is_refused_and_quarantined(fresh_hub: HubProcess) -> None:
    hub = fresh_hub
    tokens = {device: hub.token(POOL.pool, device) for device in (ONE, BAD)}
    async with asyncio.timeout(60):
        one = await RawClient.join(hub.url, POOL.pool, ONE, tokens[ONE])
        await one.write(b"honest")
        await one.acknowledged(1)
        forged = [
            append(BAD, one.client, 0, b"in another's name"),
            append(ONE, one.client + 1, 0, b"in another's array"),
            append(ONE, one.client, 0, b"other bytes at a known clock"),
        ]
        for update in forged:
            bad = await RawClient.join(hub.url, POOL.pool, BAD, tokens[BAD])
            await bad.send(Update(update))
            refusal = await bad.next()
            assert isinstance(refusal, Refusal)
            assert (refusal.code, refusal.permanent) == (Close.REFUSED_UPDATE, True)
            assert await close_code(bad.socket) == Close.REFUSED_UPDATE
        await one.write(b"undisturbed")
        await one.acknowledged(2)
        await one.socket.close()
    hub.stop()
    kept = hub.query("SELECT device, bytes FROM quarantine ORDER BY id")
    assert kept == [(BAD, update) for update in forged]
    assert hub.query("SELECT DISTINCT device FROM updates") == [(ONE,)]


def hostile(client: int) -> dict[str, bytes]:
    """Updates of one whose array holds one batch; the library loses, or fails on, what they bring."""
    runs = {
        "on itself": {client: [Item(1, 1, (b"x",), origin=(client, 1))]},
        "on its future": {client: [Item(1, 2, (b"x", b"y"), (client, 0), right=(client, 2))]},
        "in a circle": {
            client: [Item(1, 1, (b"x",), origin=(client + 1, 0))],
            client + 1: [Item(0, 1, (b"y",), origin=(client, 1))],
        },
        "endless": {client: [Item(1, 2**32, None, origin=(client, 0))]},
    }
    collected = bytes([1, 1]) + varuint(client) + bytes([1, 0]) + varuint(2**33) + b"\x00"
    return {name: encode_update(YjsUpdate(run)) for name, run in runs.items()} | {"gc": collected}


@pytest.mark.parametrize("name", hostile(1))
async def test_what_the_library_would_lose_or_fail_on_costs_its_sender_alone(
    hub: HubProcess, name: str
) -> None:
    pool = name.replace(" ", "-")
    async with asyncio.timeout(60):
        other = await RawClient.join(hub.url, pool, TWO, hub.token(pool, TWO))
        bad = await RawClient.join(hub.url, pool, BAD, hub.token(pool, BAD))
        await bad.write(b"honest")
        await bad.acknowledged(1)
        sent = hostile(bad.client)[name]
        await bad.send(Update(sent))
        refusal = await bad.next()
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.permanent) == (Close.REFUSED_UPDATE, True)
        await other.write(b"undisturbed")
        await other.acknowledged(1)
        fresh = await RawClient.join(hub.url, pool, ONE, hub.token(pool, ONE))
        ends = {c: run[-1].end for c, run in decode_update(await fresh.synchronise()).items.items()}
        assert ends == {other.client: 1, bad.client: 1}
        for raw in (fresh, other):
            await raw.socket.close()
    assert hub.query(f"SELECT bytes FROM quarantine WHERE pool = '{pool}'") == [(sent,)]


async def verdict(hub: HubProcess, token: str, mutate: object) -> int:
    """Send one mutated update as a device of its own; the close code, 0 for an acknowledgement."""
    assert callable(mutate)
    raw = await RawClient.join(hub.url, POOL.pool, BAD, token)
    valid = append(BAD, raw.client, raw.clock, b"8 bytes.")
    await raw.send(Update(mutate(valid)))
    try:
        while not isinstance(await raw.next(), Ack):
            pass
    except ConnectionClosed:
        return raw.socket.close_code or 0
    await raw.socket.close()
    return 0


async def test_no_flipped_bit_of_an_update_stops_the_room(fresh_hub: HubProcess) -> None:
    hub = fresh_hub
    token = hub.token(POOL.pool, BAD)
    one, two = (SyncClient(hub.url, POOL, n, hub.token(POOL.pool, n)) for n in (ONE, TWO))
    size = len(append(BAD, 1, 0, b"8 bytes."))
    assert size == 35
    codes: set[int] = set()
    async with asyncio.timeout(100), one, two:
        for bit in range(size * 8):

            def flip(update: bytes, bit: int = bit) -> bytes:
                changed = bytearray(update)
                changed[bit // 8 % len(changed)] ^= 1 << bit % 8
                return bytes(changed)

            codes.add(await verdict(hub, token, flip))
        assert hub.running
        one.record("the room goes on")
        await one.settle()
        await two.receive(1)
    assert codes <= {0, Close.BAD_FRAME, Close.REFUSED_UPDATE, Close.GAP}
    assert {0, Close.REFUSED_UPDATE} <= codes
    hub.stop()
    with hub.store() as store:
        assert make_snapshot(store, POOL.pool) is not None  # what was taken can be loaded again


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 4), st.binary(max_size=6)),
        min_size=1,
        max_size=4,
    )
)
def test_no_rewritten_update_stops_the_hub(
    hub: HubProcess, cuts: list[tuple[int, int, bytes]]
) -> None:
    def rewrite(update: bytes) -> bytes:
        for at, length, replacement in cuts:
            update = update[:at] + replacement + update[at + length :]
        return update

    async def attempt() -> None:
        async with asyncio.timeout(60):
            await verdict(hub, hub.token(POOL.pool, BAD), rewrite)
            one = await RawClient.join(hub.url, POOL.pool, ONE, hub.token(POOL.pool, ONE))
            await one.write(b"fine")
            await one.acknowledged(one.clock)
            await one.socket.close()

    asyncio.run(attempt())
    assert hub.running
    with hub.store() as store:
        assert make_snapshot(store, POOL.pool) is not None
