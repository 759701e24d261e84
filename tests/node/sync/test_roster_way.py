"""The way to a pool with a roster, and an agent on it, with a hub that says what a test wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmem_node.errors import HubRefused, RemovedError, SyncError
from localmem_node.sync.agent import HURRY_S, SyncAgent, _MovedError
from localmem_node.sync.roster_way import PastJournal
from localmem_node.sync.way import Target
from localmem_protocol.errors import RefusedError
from localmem_protocol.frames import Close
from localmem_protocol.lineage import Lineage, Run
from localmem_protocol.reported import Reported
from localmem_protocol.roster import remove, rotate
from localmem_protocol.session import Session, State
from localmem_protocol.tombstones import TombstoneKey
from support.pool_members import TWO
from support.pool_way import Stopped, World
from support.telling_log import Log


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


def test_the_hub_is_told_once_which_past_epochs_were_read(world: World) -> None:
    world.do(rotate)
    target = world.way.next()
    assert (target.past, target.place.key.epoch, world.hub.heard) == (True, 1, [])
    world.way.finished(target)
    finished = world.hub.finished

    def unheard(epoch: int) -> None:
        raise SyncError("the hub cannot be reached")

    world.hub.finished = unheard  # type: ignore[method-assign]
    assert not world.way.next().past  # nobody is held up by that
    world.hub.finished = finished  # type: ignore[method-assign]
    assert not world.way.next().past
    assert not world.way.next().past
    assert world.hub.heard == [1]


def test_past_epochs_are_read_again_when_the_hub_was_restored(world: World) -> None:
    world.do(rotate)
    target = world.way.next()
    world.way.finished(target)
    assert not world.way.next().past
    assert world.hub.heard == [1]
    world.way.restored()
    again = world.way.next()
    assert (again.past, again.place.key.epoch) == (True, 1)
    world.way.finished(again)
    assert not world.again().next().past
    assert world.hub.heard == [1, 1]


def test_past_epochs_are_read_again_by_an_event_log_that_was_put_back(world: World) -> None:
    world.do(rotate)
    target = world.way.next()
    assert target.past
    world.way.finished(target)
    assert not world.way.next().past
    world.log.position = 39  # as long as the process runs, nobody puts back its log
    assert not world.way.next().past
    assert world.again().next().past
    world.log.position = 41
    assert world.again().next().past
    world.way.finished(target)
    assert not world.again().next().past
    world.log.lineage = Lineage((Run(30, b"another "),))
    assert world.again().next().past  # it has kept as many, but not these


def test_a_new_epoch_that_was_learned_of_otherwise_ends_what_is_under_way(world: World) -> None:
    world.way.next()
    session = Silent()
    agent = SyncAgent(world.way, Log(TWO), Stopped(), world.team.random)
    assert agent._uploaded(session) == [b"sealed"]
    world.do(rotate)
    world.way.standing.learn(world.team.entries[world.way.standing.length :])
    with pytest.raises(_MovedError):
        agent._uploaded(session)
    target: Target = world.way.next()
    assert agent._took(target, session, b"") == ([b"sealed"], False)
    world.do(rotate)
    world.way.standing.learn(world.team.entries[world.way.standing.length :])
    assert agent._took(target, session, b"") == ([], True)


class Silent(Session):
    """Always has something to say."""

    def __init__(self) -> None:
        self.roster_length = 0
        self.state = State.SYNCING

    def upload(self, now_s: float = 0.0) -> list[bytes]:
        return [b"sealed"]

    def receive(self, data: bytes) -> list[bytes]:
        return [b"sealed"]

    @property
    def reported(self) -> Reported:
        return Reported()
