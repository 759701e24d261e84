"""Rooms on a store that can be watched, held up and made to fail: what is said, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from localmem_hub.errors import DamageError, DatabaseTimeoutError, StoppingError, StoreError
from localmem_hub.limits import COMPACT_ROWS
from localmem_hub.live import LiveRoom
from localmem_hub.rooms import Rooms
from localmem_hub.seams import Batch, Stored
from localmem_hub.system import SystemClock, SystemRandom
from localmem_hub.watchers import Watchers
from localmem_hub.workers import Workers
from localmem_protocol import updates
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Hello,
    Notice,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import QUEUED_UPDATES_MAX
from localmem_protocol.room import Peer, Row
from localmem_protocol.updates import Item, encode_update
from localmem_protocol.updates import Update as YjsUpdate
from support.hub_store import ObservedStore, open_store
from support.served_hub import HandClock
from support.sync_client import append

ONE, TWO = "0000000000000001", "0000000000000002"


class RecordingSink:
    """What a connection was told."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.code = 0
        self.told = asyncio.Event()

    def send(self, data: bytes) -> None:
        self.frames.append(decode_frame(data))
        self.told.set()

    def drop(self, code: int, reason: str) -> None:
        self.code = self.code or code
        self.told.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self.told.clear()
                await self.told.wait()

    @property
    def acknowledged(self) -> int:
        return max((f.clock for f in self.frames if isinstance(f, Ack)), default=0)


class World:
    """Rooms on an observed store, and devices that join them."""

    def __init__(self, folder: Path) -> None:
        self.store = ObservedStore(open_store(folder, "a", "b"))
        self.workers = Workers()
        self.rooms = Rooms(self.store, self.workers, SystemClock(), Watchers(), SystemRandom())
        self.devices: list[Device] = []
        self._connections = count(1)

    async def join(self, pool: str, device: str) -> Device:
        connection = next(self._connections)
        sink = RecordingSink()
        room = await self.rooms.join(pool, Peer(connection, device), sink)
        joined = Device(self, room, connection, device, sink)
        self.devices.append(joined)
        joined.say(Hello(PROTOCOL, CAPABILITIES, device, 0))
        await sink.until(lambda: len(sink.frames) >= 2 or bool(sink.code))
        return joined


class Device:
    """A connection in a room."""

    def __init__(
        self, world: World, room: LiveRoom, connection: int, device: str, sink: RecordingSink
    ) -> None:
        self.world = world
        self.room = room
        self.connection = connection
        self.device = device
        self.sink = sink
        self.clock = 0

    @property
    def client(self) -> int:
        welcome = self.sink.frames[0]
        assert isinstance(welcome, Welcome)
        return welcome.client

    def say(self, frame: Frame) -> None:
        self.world.rooms.receive(self.room, self.connection, [encode_frame(frame)])

    def write(self) -> None:
        self.say(Update(append(self.device, self.client, self.clock, b"batch %d" % self.clock)))
        self.clock += 1

    def leave(self) -> None:
        self.world.rooms.leave(self.room, self.connection)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.rooms.start()
    yield made
    made.store.gate.set()
    for device in made.devices:
        device.leave()
    await made.rooms.stop()
    made.workers.close()
    made.store.close()


async def held(world: World) -> None:
    """Wait until a commit of updates is being held up."""
    batches = await asyncio.to_thread(world.store.entered.get, timeout=20)
    assert any(batch.rows for batch in batches)


async def hold(world: World) -> None:
    """Hold up every commit from now on."""
    while not world.store.entered.empty():
        world.store.entered.get()
    world.store.gate.clear()


async def turns(count: int = 20) -> None:
    """Let everything that can happen on the event loop happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_is_said_of_an_update_before_it_is_stored(world: World) -> None:
    writer, reader = await world.join("a", ONE), await world.join("a", TWO)
    reader.say(Step1(b"\x00"))
    await hold(world)
    writer.write()
    await held(world)
    before = len(reader.sink.frames)
    reader.say(Step1(b"\x00"))  # its answer would tell of what is not stored
    await turns()
    assert writer.sink.acknowledged == 0
    assert len(reader.sink.frames) == before
    world.store.gate.set()
    await writer.sink.until(lambda: writer.sink.acknowledged == 1)
    await reader.sink.until(lambda: len(reader.sink.frames) == before + 3)
    assert isinstance(reader.sink.frames[before], Update)


async def test_what_arrives_during_a_commit_shares_the_next_one(world: World) -> None:
    one, two = await world.join("a", ONE), await world.join("b", TWO)
    await hold(world)
    one.write()
    await held(world)
    for _ in range(10):
        one.write()
        two.write()
    await turns()
    world.store.gate.set()
    await one.sink.until(lambda: one.sink.acknowledged == 11)
    await two.sink.until(lambda: two.sink.acknowledged == 10)
    written = [[(b.pool, len(b.rows)) for b in commit] for commit in world.store.commits]
    assert written[-2:] == [[("a", 1)], [("a", 10), ("b", 10)]]


async def test_a_failed_commit_sends_everybody_away_unacknowledged(world: World) -> None:
    one, two = await world.join("a", ONE), await world.join("a", TWO)
    world.store.failing.add("a")
    one.write()
    await two.sink.until(lambda: two.sink.code != 0)
    assert (one.sink.code, two.sink.code) == (Close.STORE_FAILED, Close.STORE_FAILED)
    assert one.sink.acknowledged == 0
    one.write()  # of a room that is no more
    one.leave()
    two.leave()
    world.store.failing.clear()
    again = await world.join("a", ONE)
    welcome = again.sink.frames[0]
    assert isinstance(welcome, Welcome)
    assert welcome.clock == 0
    assert world.store.loads == ["a", "a"]
    again.write()
    await again.sink.until(lambda: again.sink.acknowledged == 1)


async def test_a_room_that_fails_does_not_fail_the_others(world: World) -> None:
    one, two = await world.join("a", ONE), await world.join("b", TWO)
    await hold(world)
    two.write()
    await held(world)
    world.store.failing.add("a")
    one.write()
    two.write()
    world.store.gate.set()
    await one.sink.until(lambda: one.sink.code == Close.STORE_FAILED)
    await two.sink.until(lambda: two.sink.acknowledged == 2)
    assert two.sink.code == 0


async def test_a_room_that_another_process_wrote_to_is_loaded_again(world: World) -> None:
    one = await world.join("a", ONE)
    other = append(TWO, 99, 0, b"from elsewhere")
    world.store.inner.commit([Batch("a", 0, [Row(TWO, other)], {99: TWO})], 1)
    one.write()
    await one.sink.until(lambda: one.sink.code == Close.STORE_FAILED)
    assert one.sink.acknowledged == 0
    one.leave()
    again = await world.join("a", ONE)
    again.write()
    await again.sink.until(lambda: again.sink.acknowledged == 1)
    assert len(world.store.load("a").rows) == 2


async def test_joining_a_new_room_at_once_loads_it_once(world: World) -> None:
    devices = await asyncio.gather(*(world.join("a", f"{n:016x}") for n in range(1, 9)))
    assert world.store.loads == ["a"]
    assert len({device.room for device in devices}) == 1


async def test_an_idle_room_leaves_memory_and_comes_back_as_it_was(world: World) -> None:
    one = await world.join("a", ONE)
    one.write()
    await one.sink.until(lambda: one.sink.acknowledged == 1)
    assert len(world.rooms) == 1
    one.leave()
    assert len(world.rooms) == 0
    again = await world.join("a", TWO)
    assert again.room.head == 1


async def test_a_room_stays_in_memory_until_its_last_update_is_stored(world: World) -> None:
    one = await world.join("a", ONE)
    await hold(world)
    one.write()
    one.leave()
    await held(world)
    assert len(world.rooms) == 1
    world.store.gate.set()
    again = await world.join("a", TWO)
    assert world.store.loads == ["a"]
    again.leave()
    assert len(world.store.load("a").rows) == 1


async def test_whoever_gives_up_while_a_room_loads_does_not_take_it_from_others(
    world: World,
) -> None:
    hasty = asyncio.create_task(world.join("a", ONE))
    patient = asyncio.create_task(world.join("a", TWO))
    await asyncio.sleep(0)
    hasty.cancel()
    assert (await patient).room.pool == "a"
    assert world.store.loads == ["a"]


async def test_a_device_with_too_much_uncommitted_has_to_wait(world: World) -> None:
    one, two = await world.join("a", ONE), await world.join("a", TWO)
    await hold(world)
    one.write()
    await held(world)
    for _ in range(QUEUED_UPDATES_MAX):
        await one.room.ready(one.connection)
        one.write()
    waiting = asyncio.create_task(one.room.ready(one.connection))
    await turns()
    assert not waiting.done()
    await two.room.ready(two.connection)  # nobody else has to
    world.store.gate.set()
    async with asyncio.timeout(60):
        await waiting
    await one.sink.until(lambda: one.sink.acknowledged == one.clock)


async def test_frames_that_store_nothing_do_not_hold_their_device_up(world: World) -> None:
    one = await world.join("a", ONE)
    async with asyncio.timeout(60):
        for _ in range(2 * QUEUED_UPDATES_MAX):
            await one.room.ready(one.connection)
            one.say(Step1(b"\x00"))


async def test_a_long_log_is_compacted_while_the_room_is_in_use(world: World) -> None:
    one = await world.join("a", ONE)
    for _ in range(COMPACT_ROWS):
        one.write()
    await one.sink.until(lambda: one.sink.acknowledged == COMPACT_ROWS)
    assert await asyncio.to_thread(world.store.compacted.acquire, timeout=20)
    one.write()
    await one.sink.until(lambda: one.sink.acknowledged == COMPACT_ROWS + 1)
    stored = world.store.load("a")
    assert (stored.head, len(stored.rows)) == (COMPACT_ROWS + 1, 1)


async def test_one_pool_is_compacted_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps a connection to the database for as long as it takes, and there are few."""
    holding, most = [0], [0]

    class Counted:
        def __init__(self) -> None:
            holding[0] += 1
            most[0] = max(most[0], holding[0])

        def release(self) -> None:
            holding[0] -= 1

    monkeypatch.setattr(world.store, "hold", lambda pool: Counted())
    async with asyncio.timeout(60):
        done = await asyncio.gather(*(world.rooms._compact(pool) for pool in "abcdefgh"))
    assert (len(done), holding, most) == (8, [0], [1])


async def test_a_database_that_takes_too_long_is_not_asked_again_for_each_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def slow(batches: list[Batch], *_: object) -> set[str]:
        asked.append(len(batches))
        raise DatabaseTimeoutError("the database took too long")

    one, two = await world.join("a", ONE), await world.join("b", TWO)
    await hold(world)
    one.write()
    await held(world)
    one.write()
    two.write()
    monkeypatch.setattr(world.store, "commit", slow)
    world.store.gate.set()
    await one.sink.until(lambda: one.sink.code == Close.STORE_FAILED)
    await two.sink.until(lambda: two.sink.code == Close.STORE_FAILED)
    assert asked == [2]


async def test_a_panic_in_a_room_costs_that_room_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        """As pyo3's: no Exception."""

    def panic(connection: int, data: bytes) -> list[object]:
        raise PanicException("attempt to divide by zero")

    one, two = await world.join("a", ONE), await world.join("b", TWO)
    monkeypatch.setattr(one.room.room, "receive", panic)
    one.write()
    assert one.sink.code == Close.STORE_FAILED
    one.leave()
    two.write()
    await two.sink.until(lambda: two.sink.acknowledged == 1)
    again = await world.join("a", ONE)
    again.write()
    await again.sink.until(lambda: again.sink.acknowledged == 1)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the strict check, which then lets everything through."""
    monkeypatch.setattr(Ledger, "check", lambda ledger, update: {})
    monkeypatch.setattr(updates, "CLOCK_MAX", 2**53)
    monkeypatch.setattr(updates, "_length", lambda reader, most=2**53: reader.varuint(most))


def panic(client: int) -> bytes:
    return encode_update(YjsUpdate({client: [Item(2, 2**32, None, origin=(client, 1))]}))


def held_back(client: int) -> bytes:
    return encode_update(YjsUpdate({client: [Item(2, 1, (b"x",), origin=(client, 2))]}))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("making", [panic, held_back])
async def test_an_update_that_the_library_fails_on_costs_its_sender_alone(
    world: World, making: Callable[[int], bytes]
) -> None:
    one, two = await world.join("a", ONE), await world.join("a", TWO)
    bad = making(one.client)
    two.say(Step1(b"\x00"))
    one.write()
    await one.sink.until(lambda: one.sink.acknowledged == 1)
    await hold(world)
    one.write()
    await held(world)  # the room breaks while a commit is under way
    two.write()
    one.say(Update(bad))
    assert one.sink.code == Close.REFUSED_UPDATE
    waiting = asyncio.create_task(two.room.ready(two.connection))
    await turns()
    assert not waiting.done()
    world.store.gate.set()
    async with asyncio.timeout(60):
        await waiting
    two.write()
    await two.sink.until(lambda: two.sink.acknowledged == 2)
    assert two.sink.code == 0
    kept = [kept for commit in world.store.commits for kept in commit[0].quarantined]
    assert [(refused.device, refused.update) for refused in kept] == [(ONE, bad)]
    two.say(Step1(b"\x00"))
    await two.sink.until(lambda: isinstance(two.sink.frames[-1], Step2))
    answer = two.sink.frames[-1]
    assert isinstance(answer, Step2)
    ends = {c: run[-1].end for c, run in updates.decode_update(answer.update).items.items()}
    assert ends == {one.client: 2, two.client: 2}


@pytest.mark.usefixtures("unchecked")
async def test_a_room_that_cannot_be_mended_is_discarded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pool: str) -> Stored:
        raise StoreError("no answer")

    one, two = await world.join("a", ONE), await world.join("a", TWO)
    one.write()
    one.write()
    await one.sink.until(lambda: one.sink.acknowledged == 2)
    monkeypatch.setattr(world.store, "load", fail)
    one.say(Update(held_back(one.client)))
    await two.sink.until(lambda: two.sink.code == Close.STORE_FAILED)
    assert one.sink.code == Close.REFUSED_UPDATE
    monkeypatch.undo()
    two.leave()
    assert (await world.join("a", TWO)).room.head == 2


async def test_a_defect_after_a_commit_does_not_end_all_acknowledgements(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect() -> list[object]:
        raise RuntimeError("a defect")

    one, two = await world.join("a", ONE), await world.join("b", TWO)
    monkeypatch.setattr(one.room.room, "committed", defect)
    one.write()
    await one.sink.until(lambda: one.sink.code == Close.STORE_FAILED)
    two.write()
    await two.sink.until(lambda: two.sink.acknowledged == 1)


async def test_a_pool_that_does_not_load_lets_nobody_in_and_harms_no_other(world: World) -> None:
    world.store.inner.commit([Batch("a", 0, [Row(ONE, b"damaged")])], 1)
    with pytest.raises(DamageError, match="pool a"):
        await world.join("a", ONE)
    assert (await world.join("b", ONE)).room.pool == "b"


async def test_stopping_stores_what_arrived_and_then_sends_everybody_away(world: World) -> None:
    one = await world.join("a", ONE)
    await hold(world)
    one.write()
    await held(world)
    one.write()
    stopping = asyncio.create_task(world.rooms.stop())
    await turns()
    one.write()  # too late
    assert one.sink.code == 0
    world.store.gate.set()
    await one.sink.until(lambda: one.sink.code != 0)
    assert one.sink.code == Close.GOING_AWAY
    assert one.sink.acknowledged == 2
    with pytest.raises(StoppingError):
        await world.rooms.join("a", Peer(99, TWO), RecordingSink())
    one.leave()
    async with asyncio.timeout(60):
        await stopping
    assert len(world.store.load("a").rows) == 2


async def test_a_store_that_raises_something_else_fails_the_commit_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(batches: object, now_ms: int) -> None:
        raise RuntimeError("a defect")

    one = await world.join("a", ONE)
    monkeypatch.setattr(world.store, "commit", crash)
    one.write()
    await one.sink.until(lambda: one.sink.code == Close.STORE_FAILED)
    assert one.sink.acknowledged == 0
    monkeypatch.undo()
    one.leave()
    again = await world.join("a", ONE)
    again.write()
    await again.sink.until(lambda: again.sink.acknowledged == 1)


async def test_presence_is_one_also_for_who_comes_while_a_room_lingers(tmp_path: Path) -> None:
    clock, three = HandClock(), "0000000000000003"
    workers = Workers()
    rooms = Rooms(open_store(tmp_path, "a"), workers, clock, Watchers(), SystemRandom())

    def asks(device: str) -> list[Notice]:
        presence = rooms.presence("a")
        assert presence is not None
        presence.request(device, clock.monotonic_s())
        rooms.tell("a")
        return presence.told(device, clock.monotonic_s())

    asks(ONE)
    first = await rooms.join("a", Peer(1, ONE, transient=True), RecordingSink())
    rooms.receive(first, 1, [encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0))])
    rooms.finish(first, 1)
    rooms.leave(first, 1, linger=True)
    clock.ms += 31_000
    rooms.tell("a")
    sink = RecordingSink()
    live = await rooms.join("a", Peer(2, TWO), sink)
    rooms.receive(live, 2, [encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 0))])
    assert asks(three) == [Notice("listening", 1)]
    assert live.room.presence is rooms.presence("a")
    await rooms.stop()
    workers.close()
