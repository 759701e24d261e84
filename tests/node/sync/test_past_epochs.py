"""A device whose hub does not show an epoch that is over lives in the newest one all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from localmem_node.errors import SyncError
from localmem_node.sync.agent import SyncAgent
from localmem_node.sync.transport import Connection
from localmem_protocol.access import room_name
from localmem_protocol.envelope import NO_HASH
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import (
    CAPABILITIES,
    Close,
    Hello,
    Step1,
    Step2,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.parcels import Parcel
from localmem_protocol.past_epochs import PAST_FIRST_S
from localmem_protocol.references import refer
from localmem_protocol.replica import Replica
from localmem_protocol.roster import rotate
from localmem_protocol.updates import NOTHING
from support.events import event
from support.pool_members import ONE, TWO
from support.pool_way import World
from support.telling_log import Log

WAIT_S = 60.0


class Empty:
    """A connection to a room that has nothing, for one that writes nothing."""

    sent = received = 0

    def __init__(self) -> None:
        self._said: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        match decode_frame(frame):
            case Hello():
                self._say(Welcome(CAPABILITIES, 1, 0, NO_HASH), Step1(b"\0"))
            case Step1():
                self._say(Step2(NOTHING))

    async def receive(self) -> bytes:
        return await self._said.get()

    async def settle(self, *, ask: bool) -> None:
        pass

    def _say(self, *frames: Welcome | Step1 | Step2) -> None:
        for frame in frames:
            self._said.put_nowait(encode_frame(frame))


class Silent(Empty):
    """A connection to a hub that answers nothing."""

    async def send(self, frame: bytes) -> None:
        pass


class Room:
    """A transport to a room; `fails` is how connecting ends, or what the room is like."""

    def __init__(self, name: str, came: list[str]) -> None:
        self.fails: Exception | None = None
        self.like: type[Empty] = Empty
        self._name, self._came = name, came

    @asynccontextmanager
    async def connect(self, device: str) -> AsyncIterator[Connection]:
        self._came.append(self._name)
        if self.fails is not None:
            raise self.fails
        yield self.like()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not reached():  # noqa: ASYNC110  nothing here would set an event
            await asyncio.sleep(0.01)


class Living:
    """Device TWO in a pool of three epochs, with an agent."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.do(rotate)
        world.do(rotate)
        self.came: list[str] = []
        self.rooms = {
            epoch: Room(str(epoch), self.came) for epoch in range(1, world.team.roster.epoch + 1)
        }
        for epoch, room in self.rooms.items():
            world.transports[room_name(world.team.pool, epoch)] = room
        self.agent = SyncAgent(world.way, Log(TWO), world.clock, world.team.random)

    def unread(self) -> dict[int, str | None]:
        return {one["epoch"]: one["problem"] for one in self.agent.status()["epochs_unread"]}


@pytest.fixture
async def living(tmp_path: Path) -> AsyncIterator[Living]:
    living = Living(World(tmp_path / "pools"))
    yield living
    await living.agent.stop()


FAILURES = [
    SyncError("the hub cannot be reached"),
    RefusedError(Close.BAD_TOKEN, True, "no such room"),
    RefusedError(Close.STORE_FAILED, False, "damaged"),
    ValueError("a defect"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: type(one).__name__)
async def test_the_newest_is_lived_in_and_the_others_are_read_when_they_can_be(
    living: Living, failure: Exception
) -> None:
    living.rooms[1].fails = failure
    await living.agent.start()
    assert (await living.agent.sync_now(WAIT_S))["settled"]
    assert living.came == ["1", "3"]
    unread = living.unread()
    assert list(unread) == [1, 2]
    assert str(failure) in (unread[1] or "")
    assert unread[2] is None
    assert living.agent.status()["error"] is None


async def test_what_failed_is_read_later_from_within_the_newest(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_protocol.past_epochs.PAST_FIRST_S", 0.05)
    living.rooms[1].fails = SyncError("the hub cannot be reached")
    await living.agent.start()
    await until(lambda: len(living.came) >= 2)
    living.world.clock.seconds = PAST_FIRST_S
    await until(lambda: living.came[:4] == ["1", "3", "2", "1"])
    await until(lambda: list(living.unread()) == [1])
    living.rooms[1].fails = None
    living.world.clock.seconds = 3 * PAST_FIRST_S
    await until(lambda: not living.unread())
    assert (await living.agent.sync_now(WAIT_S))["settled"]
    assert living.came[-1] == "3"


async def test_a_hub_that_says_nothing_of_an_epoch_is_not_waited_for(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem_node.sync.agent.PAST_ANSWER_S", 0.05)
    living.rooms[1].like = Silent
    await living.agent.start()
    assert (await living.agent.sync_now(WAIT_S))["settled"]
    assert "says nothing" in (living.unread()[1] or "")


async def test_an_epoch_with_texts_that_are_not_here_is_not_read_to_its_end(living: Living) -> None:
    living.world.way.next()
    key = living.world.way.standing.epochs()
    reference = refer(
        event(1, ONE, filePath="a.py", selectionRange=[1, 1], project="p" * 16),
        key[1].reference_key(),
    )
    assert reference is not None
    update = Replica(key[1], ONE, 7).append_parcel(Parcel(references=(reference,)))

    class Referring(Empty):
        async def send(self, frame: bytes) -> None:
            if isinstance(decode_frame(frame), Step1):
                self._say(Step2(update))
            else:
                await super().send(frame)

    living.rooms[1].like = Referring
    await living.agent.start()
    assert (await living.agent.sync_now(WAIT_S))["settled"]
    assert "1 events wait for their text" in (living.unread()[1] or "")
    assert 1 not in living.world.hub.heard
