"""The way to a pool with a roster, and an agent on it, with a hub that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localmem_node.errors import HubRefused, RemovedError, SyncError
from localmem_node.sync.agent import HURRY_S, SyncAgent
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.roster_way import PastJournal, RosterWay
from localmem_node.sync.sharing import EVERYTHING
from localmem_node.sync.standing import Identity, Standing
from localmem_node.sync.way import Target
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import Close
from localmem_protocol.roster import Author, admit, encode_entry, remove, rotate
from localmem_protocol.tombstones import TombstoneKey
from support.pool_members import NOW, ONE, TWO, Team
from support.telling_log import Journal, Log


class Hub(PoolClient):
    """A client whose hub has these entries, or refuses."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.refusal: Exception | None = None

    def refresh(self, standing: Standing) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return standing.learn(self.team.entries[standing.length :])

    def token(self) -> str:
        return "lms_token"

    def forget_token(self) -> None:
        pass


class World:
    """Device TWO's way to a team's pool; `journals` are by epoch."""

    def __init__(self, folder: Path) -> None:
        self.team = Team()
        self.do(admit, device=TWO, keys=self.team.keys[TWO].public, role="member")
        files = PoolFiles(folder)
        record = PoolRecord(self.team.pool, "https://hub.example.org", "ours", EVERYTHING)
        standing = Standing(files, self.team.pool, Identity(TWO, self.team.keys[TWO]))
        self.hub = Hub(self.team)
        self.journals: dict[int, Journal] = {}

        def open_journal(key: PoolKey) -> Journal:
            return self.journals.setdefault(key.epoch, Journal())

        def open_transport(_: object) -> Any:
            return object()

        self.way = RosterWay(record, files, standing, self.hub, open_transport, open_journal)

    def do(self, make: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        team = self.team
        author = Author(ONE, team.keys[ONE])
        entry = make(team.roster, author, team.random, NOW, *arguments, **more)
        team.roster.apply(entry)
        team.entries.append(encode_entry(entry))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "pools")


def test_whoever_was_removed_still_forgets_in_the_last_epoch_it_knew(world: World) -> None:
    world.way.next()
    world.do(remove, TWO)
    with pytest.raises(RemovedError):
        world.way.next()
    assert world.way.here().key.epoch == 1
    agent = SyncAgent(world.way, Log(TWO), Stopped(), world.team.random)
    agent._forget(["0" * 32])
    assert len(world.journals[1].saved.outbox) == 1


def test_a_hub_that_tells_of_more_than_it_has_is_not_asked_again_and_again(world: World) -> None:
    world.way.next()
    assert not world.way.moved(2)
    assert world.way.moved(3)
    with pytest.raises(SyncError, match="longer roster than it shows"):
        world.way.next()
    assert world.way.next().place.key.epoch == 1


@pytest.mark.parametrize("code", ["removed", "proof", "token"])
def test_a_hub_that_does_not_know_the_device_has_removed_it(world: World, code: str) -> None:
    world.hub.refusal = HubRefused(401, code, "no", {})
    with pytest.raises(RemovedError):
        world.way.next()


@pytest.mark.parametrize(("status", "code"), [(403, "origin"), (401, ""), (429, "slow")])
def test_another_refusal_is_said_as_it_is(world: World, status: int, code: str) -> None:
    world.hub.refusal = HubRefused(status, code, "not by that address", {})
    with pytest.raises(HubRefused, match="not by that address"):
        world.way.next()


class Stopped:
    """A clock that a test moves."""

    seconds = 0.0

    def now_ms(self) -> int:
        return NOW

    def monotonic_s(self) -> float:
        return self.seconds


def test_a_past_epoch_s_journal_is_not_taken_for_the_newest_one_s(world: World) -> None:
    world.do(rotate)
    agent = SyncAgent(world.way, Log(TWO), Stopped(), world.team.random)
    target: Target = world.way.next()
    assert (target.past, target.place.key.epoch) == (True, 1)
    past = agent._session_at(target.place, past=target.past)
    assert not past.writer
    assert isinstance(agent._journal, PastJournal)
    agent._session = None  # as after an error that it does not outlive
    agent._forget(["0" * 32])
    key = TombstoneKey(world.way.here().key)
    assert tuple(world.journals[2].saved.outbox) == (key.of("0" * 32),)
    session = agent._session_at(world.way.here(), past=False)
    assert session.untold == 1


def test_a_refusal_is_hurried_after_once_in_a_while(world: World) -> None:
    clock = Stopped()
    agent = SyncAgent(world.way, Log(TWO), clock, world.team.random)
    error = RefusedError(Close.ROSTER_CHANGED, False, "connect again")
    assert world.way.refused(error)
    assert agent._may_hurry()
    assert not agent._may_hurry()
    clock.seconds = HURRY_S
    assert agent._may_hurry()
