"""Two replicas in this process, on a real PostgreSQL: what happens at one reaches the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.postgres_server import PostgresServer
from localmem_hub import http_sync, mailboxes, replication
from localmem_hub.app import Policy
from localmem_hub.seams import Stored
from localmem_hub.signals import (
    PAYLOAD_BYTES_MAX,
    Greeted,
    MailboxChanged,
    Moved,
    PoolEmptied,
    PoolRemoved,
    RosterGrew,
    Signal,
    TokenRevoked,
    decode,
    encode,
)
from localmem_protocol.access import room_name
from localmem_protocol.exchange import decode_body
from localmem_protocol.frames import Close, Frame, Notice, Step1, Step2, Update, decode_frame
from localmem_protocol.simulation import SeededRandom
from localmem_protocol.updates import decode_update, encode_state_vector
from support.http_client import HttpClient
from support.pool_members import THREE, Team
from support.served_hub import ServedHub, serving
from support.sync_client import RawClient, close_code, dial

ONE, TWO = "0000000000000001", "0000000000000002"
NOTHING = encode_state_vector({})


class Pair:
    """Two replicas, and what opens them."""

    def __init__(self, database: str, one: ServedHub, two: ServedHub) -> None:
        self.database = database
        self.one = one
        self.two = two
        self._seed = 0

    def token(self, pool: str, device: str | None = None) -> tuple[str, str]:
        """A new token's id and text."""
        self._seed += 1
        store = self.one.store.inner
        made = store.tokens.create(pool, device, "writer", SeededRandom(self._seed), 1)
        return made.id, made.text

    async def join(self, served: ServedHub, device: str, client: int = 0) -> RawClient:
        """A connection that hears what happens."""
        token = self.token("team", device)[1]
        raw = await RawClient.join(served.url, "team", device, token, client=client)
        await raw.synchronise()
        return raw


@pytest.fixture
async def pair(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Pair]:
    database = postgres.prepared()
    async with (
        serving(tmp_path, database, policy=Policy(open=True)) as one,
        serving(tmp_path, database, policy=Policy(open=True)) as two,
        asyncio.timeout(60),
    ):
        for served in (one, two):
            await until(lambda served=served: listens(served))  # type: ignore[misc]
        yield Pair(database, one, two)


async def until(done: Callable[[], bool | Awaitable[bool]]) -> None:
    while True:
        found = done()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.01)


def listens(served: ServedHub) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'localmem-hub listen'"
    with served.store.inner._engine.connect() as connection:
        here = f"{query} AND datname = current_database() AND query = 'SELECT 1'"
        return len(connection.exec_driver_sql(here).all()) >= 1


def contents(frame: Update) -> list[bytes]:
    runs = decode_update(frame.update).items.values()
    return [content for run in runs for item in run for content in item.contents or ()]


async def test_what_is_written_at_one_is_passed_on_by_the_other(pair: Pair) -> None:
    writer, reader = await pair.join(pair.one, ONE), await pair.join(pair.two, TWO)
    await writer.write(b"news")
    await writer.acknowledged(1)
    frame = await reader.next()
    assert isinstance(frame, Update)
    assert contents(frame) == [b"news"]
    for raw in (writer, reader):
        await raw.socket.close()


async def test_what_nobody_told_is_found_by_looking(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(payloads: object) -> bool:
        return True

    for served in (pair.one, pair.two):
        assert served.hub.replication is not None
        monkeypatch.setattr(served.hub.replication._bus, "tell", say_nothing)
    monkeypatch.setattr(replication, "POLL_SECONDS", 0.05)
    pair.two.hub.replication._to_look.set()  # type: ignore[union-attr]  # from now on so often
    writer, reader = await pair.join(pair.one, ONE), await pair.join(pair.two, TWO)
    await writer.write(b"news")
    frame = await reader.next()
    assert isinstance(frame, Update)
    for raw in (writer, reader):
        await raw.socket.close()


async def test_what_is_stored_last_by_one_that_stops_is_told_to_the_other(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Signal] = []
    here = pair.one.hub.replication
    assert here is not None
    tell = here._bus.tell

    async def note(payloads: list[str]) -> bool:
        await asyncio.sleep(0.05)  # so that nobody hears it who does not wait
        told = await tell(payloads)
        for payload in payloads:
            said.extend(decode(payload)[1])
        return told

    writer, reader = await pair.join(pair.one, ONE), await pair.join(pair.two, TWO)
    monkeypatch.setattr(here._bus, "tell", note)
    pair.one.store.gate.clear()
    await writer.write(b"last")
    while not any(
        batch.rows for batch in await asyncio.to_thread(pair.one.store.entered.get, timeout=20)
    ):
        pass
    stopping = asyncio.create_task(pair.one.hub.stop())
    await asyncio.sleep(0)
    pair.one.store.gate.set()
    await stopping
    assert any(isinstance(signal, Moved) for signal in said)
    frame = await reader.next()
    assert isinstance(frame, Update)
    assert contents(frame) == [b"last"]
    await reader.socket.close()


async def test_a_pool_that_is_removed_while_its_room_is_loaded_lets_nobody_stay(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms, load = pair.two.hub.rooms, pair.two.store.load
    loading, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(pool: str) -> Stored:
        stored = load(pool)
        loop.call_soon_threadsafe(loading.set)
        assert go_on.wait(20)
        return stored

    monkeypatch.setattr(pair.two.store, "load", slow)
    socket = await dial(pair.two.url, "team", ONE, pair.token("team", ONE)[1])
    await loading.wait()
    assert pair.one.store.inner.pools.remove("team")
    await until(lambda: "team" in rooms._heard)
    go_on.set()
    assert await close_code(socket) == Close.BAD_TOKEN


async def test_who_comes_from_another_replica_finds_what_it_wrote_there(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(payloads: object) -> bool:
        return True

    for served in (pair.one, pair.two):
        assert served.hub.replication is not None
        monkeypatch.setattr(served.hub.replication._bus, "tell", say_nothing)
    monkeypatch.setattr(replication, "POLL_SECONDS", 1000)
    there = await pair.join(pair.two, TWO)  # so that the room is in use
    moving = await pair.join(pair.one, ONE)
    await moving.write(b"mine")
    await moving.acknowledged(1)
    await moving.socket.close()
    token = pair.token("team", ONE)[1]
    moved = await RawClient.join(pair.two.url, "team", ONE, token, client=moving.client)
    assert b"mine" in await moved.synchronise()
    for raw in (there, moved):
        await raw.socket.close()


async def test_nobody_is_told_that_nobody_is_there(pair: Pair) -> None:
    token = pair.token("team", ONE)[1]
    raw = await RawClient.join(pair.one.url, "team", ONE, token)
    await raw.send(Step1(NOTHING))
    frames: list[Frame] = []
    while not frames or not isinstance(frames[-1], Step2):
        frames.append(decode_frame(await raw.socket.recv(decode=False)))
    assert not any(isinstance(frame, Notice) for frame in frames)
    await raw.socket.close()
    async with HttpClient(pair.two.origin, "team", ONE, token) as device:
        await device.greet()
        for answer in (await device.write(b"x"), await device.poll(wait=0)):
            assert http_sync.NOTICES_HEADER not in answer.headers


@pytest.mark.parametrize("heard", [True, False], ids=["told", "found"])
async def test_a_dropped_epoch_is_gone_at_every_replica(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    team = Team()
    team.admit(TWO)
    await team.found_at(pair.one, None)
    room = room_name(team.pool, 1)
    writer = await RawClient.join(pair.one.url, room, ONE, await team.token(pair.one, ONE))
    await writer.write(b"secret")
    await writer.acknowledged(1)
    team.rotate()
    await team.post(pair.one)
    await close_code(writer.socket)
    token = await team.token(pair.two, TWO)
    reader = await RawClient.join(pair.two.url, room, TWO, token)
    assert b"secret" in await reader.synchronise()
    linked = pair.two.hub.replication
    assert linked is not None
    if not heard:
        monkeypatch.setattr(linked, "_follow", lambda signal: None)
    for device in (ONE, TWO):
        path = f"/v1/pools/{team.pool}/epochs/1/read"
        answer = await pair.one.ask("POST", path, json={}, token=await team.token(pair.one, device))
        assert answer.status_code == 200
    if not heard:
        linked._look_everywhere()
    expected = Close.GOING_AWAY if heard else Close.STORE_FAILED
    assert await close_code(reader.socket) == expected
    again = await RawClient.join(pair.two.url, room, TWO, token)
    assert b"secret" not in await again.synchronise()
    await again.socket.close()


async def test_a_waiting_request_is_woken_by_a_roster_that_grew_elsewhere(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_sync, "LOOK_SECONDS", 1000)
    team = Team()
    team.admit(TWO)
    await team.found_at(pair.one, None)
    token = await team.token(pair.two, TWO)
    async with HttpClient(pair.two.origin, room_name(team.pool, 1), TWO, token) as reader:
        reader.http.timeout = 60
        await reader.greet()
        waiting = asyncio.create_task(reader.poll(wait=25))
        await until(lambda: bool(pair.two.hub.watchers.pools))
        await asyncio.to_thread(pair.two.store.head, "team")  # its own look is over
        team.admit(THREE)
        await team.post(pair.one)
        assert (await waiting).status == 200


async def test_a_waiting_request_is_woken_by_another_by_another_replica(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_sync, "LOOK_SECONDS", 1000)
    token = pair.token("team", TWO)[1]
    writer = await pair.join(pair.one, ONE)
    async with HttpClient(pair.two.origin, "team", TWO, token) as reader:
        reader.http.timeout = 60
        await reader.greet()
        waiting = asyncio.create_task(reader.poll(wait=25))
        await until(lambda: bool(pair.two.hub.watchers.pools))
        await asyncio.to_thread(pair.two.store.head, "team")  # its own look is over
        await writer.write(b"news")
        frames = [decode_frame(data) for data in decode_body((await waiting).content).frames]
        assert [contents(frame) for frame in frames if isinstance(frame, Update)] == [[b"news"]]
    await writer.socket.close()


async def test_a_device_may_ask_another_replica_with_each_request(pair: Pair) -> None:
    token = pair.token("team", ONE)[1]
    async with HttpClient(pair.one.origin, "team", ONE, token) as device:
        await device.greet()
        for number in range(6):
            device.url = (pair.two if number % 2 == 0 else pair.one).origin
            answer = await device.write(b"%d" % number)
            assert answer.status == 200
    assert len(pair.one.store.load("team").rows) == 6


async def test_a_revoked_token_is_cut_off_at_every_replica(pair: Pair) -> None:
    number, text = pair.token("team")
    raw = await RawClient.join(pair.two.url, "team", ONE, text)
    assert pair.one.store.inner.tokens.revoke(number, 2)
    assert await close_code(raw.socket) == Close.BAD_TOKEN


async def test_a_removed_pool_is_gone_at_every_replica(pair: Pair) -> None:
    raw = await pair.join(pair.two, ONE)
    token = pair.token("team", ONE)[1]
    assert pair.one.store.inner.pools.remove("team")
    assert await close_code(raw.socket) == Close.STORE_FAILED
    socket = await dial(pair.two.url, "team", ONE, token)
    assert await close_code(socket) == Close.BAD_TOKEN


async def test_a_message_in_a_mailbox_reaches_who_waits_elsewhere(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAILBOX_POLL_S", 1000)
    opened = (await pair.one.ask("POST", "/v1/mailboxes")).json()
    place = f"/v1/mailboxes/{opened['number']}"
    joined = (await pair.two.ask("POST", f"{place}/join")).json()
    asking = pair.two.ask("GET", f"{place}/0?wait=25", token=joined["secret"])
    waiting = asyncio.create_task(asking)
    await until(lambda: bool(pair.two.hub.mailboxes._waiting))
    await pair.one.ask("PUT", f"{place}/0", token=opened["secret"], content=b"hello")
    assert (await waiting).content == b"hello"


async def test_of_two_connections_under_one_client_id_the_newer_stays(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.Event()
    rooms = pair.two.hub.rooms
    taken_over = rooms.taken_over

    def note(pool: str, client: int) -> None:
        taken_over(pool, client)
        heard.set()

    monkeypatch.setattr(rooms, "taken_over", note)
    older = await pair.join(pair.one, ONE)
    await heard.wait()  # heard later, it would send the newer one away as well
    newer = await pair.join(pair.two, ONE, older.client)
    assert newer.client == older.client
    assert await close_code(older.socket) == Close.REPLACED
    await newer.write(b"goes on")
    await newer.acknowledged(1)
    await newer.socket.close()


async def test_who_is_out_of_touch_serves_nobody_until_the_database_is_heard_again(
    postgres: PostgresServer, pair: Pair
) -> None:
    raw = await pair.join(pair.two, ONE)
    name = pair.database.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    postgres.run(end)
    pair.two.clock.ms += 2000
    assert await close_code(raw.socket) == Close.STORE_FAILED

    async def status(expected: int) -> bool:
        return (await pair.two.ask("GET", "/readyz")).status_code == expected

    await until(lambda: status(503))
    socket = await dial(pair.two.url, "team", ONE, raw.device)
    assert await close_code(socket) == Close.STORE_FAILED
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await until(lambda: status(200))
    again = await pair.join(pair.two, ONE)
    await again.send(Step1(NOTHING))
    await again.socket.close()


async def test_a_defect_in_what_follows_leaves_nobody_served_blindly(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise RuntimeError("a defect")

    raw = await pair.join(pair.two, ONE)
    linked = pair.two.hub.replication
    assert linked is not None
    with monkeypatch.context() as broken:
        broken.setattr(pair.two.hub.endpoint, "recheck", fail)
        pair.one.store.inner.tokens.revoke(pair.token("other")[0], 2)
        assert await close_code(raw.socket) == Close.STORE_FAILED
    await until(lambda: linked.in_touch)
    await (await pair.join(pair.two, ONE)).socket.close()


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
NUMBERS = st.integers(0, 2**59)
SIGNALS = st.one_of(
    st.builds(Moved, NAMES, NUMBERS),
    st.builds(Greeted, NAMES, NUMBERS),
    st.builds(RosterGrew, NAMES),
    st.builds(PoolRemoved, NAMES),
    st.builds(PoolEmptied, NAMES),
    st.builds(TokenRevoked),
    st.builds(MailboxChanged, NUMBERS),
)


@given(st.lists(SIGNALS), st.integers(1, 60))
def test_signals_are_read_as_they_were_said(signals: list[Signal], times: int) -> None:
    payloads = encode(signals * times, "0123456789abcdef")
    assert all(len(payload) <= PAYLOAD_BYTES_MAX for payload in payloads)
    heard = [decode(payload) for payload in payloads]
    assert {origin for origin, _ in heard} <= {"0123456789abcdef"}
    assert [signal for _, found in heard for signal in found] == signals * times


@given(st.text() | st.from_regex(r"[ugrxetm0-9 \n.a]{0,60}"))
def test_what_no_replica_says_is_refused_or_read(payload: str) -> None:
    try:
        origin, signals = decode(payload)
    except ValueError:
        return
    assert encode(signals, origin) == ([payload] if signals else [])
