"""Texts of references: what is found, asked for and answered, by whom, and what is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial

import pytest

from localmem_protocol import trimming
from localmem_protocol.envelope import Opener
from localmem_protocol.events import Event, parse_draft
from localmem_protocol.fetching import TURNS_MAX
from localmem_protocol.frames import Close
from localmem_protocol.parcels import Parcel
from localmem_protocol.references import Reference, refer
from localmem_protocol.replica import Replica
from localmem_protocol.session import Session
from localmem_protocol.signatures import QUIET_S, REST_S
from localmem_protocol.simulation import World
from localmem_protocol.simulation.memory import MemoryLog
from localmem_protocol.updates import Update, encode_update
from localmem_protocol.wants import Want
from support.healing import heal, joined
from support.seeded import SeededRandom


class Texts:
    """A checkout with these texts, of a device that sends references to what it has."""

    def __init__(self, *texts: str) -> None:
        self.here = set(texts)

    def texts(self, reference: Reference) -> Iterable[str]:
        return sorted(self.here)

    def shared(self, events: Sequence[Event]) -> Collection[str]:
        return {event.id for event in events if event.snippet in self.here}


class Team(World):
    """A world whose checkouts are set by the test; nobody has anything at first."""

    def __init__(self, devices: int, array_bytes_max: int = 2**24) -> None:
        super().__init__(devices, array_bytes_max=array_bytes_max, references=True)
        self.checkouts = [Texts() for _ in self.devices]
        for index in range(devices):
            self.crash(index)

    def crash(self, index: int) -> None:
        super().crash(index)
        self.devices[index].session._document.fetcher._texts = self.checkouts[index]

    def write(self, index: int, text: str, *also: int) -> Event:
        """An edit in a commit that these devices have."""
        for one in (index, *also):
            self.checkouts[one].here.add(text)
        return self.record(index, text)

    def log(self, index: int) -> MemoryLog:
        return self.devices[index].log

    def session(self, index: int) -> Session:
        return self.devices[index].session

    def has(self, index: int, event: Event) -> bool:
        return self.log(index).events.get(event.id) == event

    def sealed(self, index: int) -> list[Parcel]:
        """What is in a device's array now."""
        replica = joined(self)
        device = self.log(index).device
        parcels: list[Parcel] = []
        for client in replica.ledger.clients_of(device):
            opener = Opener(self.pool, device, client)
            for item in replica._document.run(client, 0):
                for clock, one in enumerate(item.contents or (), start=item.clock):
                    parcels.append(opener.open(one, clock))
        return parcels

    def said(self, index: int) -> list[str]:
        """The same, in words: how many events, references and wants each batch has."""
        return [
            f"{len(one.events)} {len(one.references)} {len(one.wants)}"
            for one in self.sealed(index)
        ]


def test_text_in_a_commit_travels_as_a_reference_and_is_the_same_event_elsewhere() -> None:
    team = Team(2)
    shared = team.write(0, "in a commit", 1)
    new = team.record(0, "in no commit")
    team.rest()
    assert team.has(1, shared)
    assert team.has(1, new)
    assert team.said(0) == ["1 1 0"]
    assert team.said(1) == []
    team.settle()


def test_who_finds_no_text_asks_once_and_whose_event_it_is_answers() -> None:
    team = Team(3)
    event = team.write(0, "of the first", 2)
    team.rest()
    assert team.has(1, event)
    assert (team.said(0), team.said(1), team.said(2)) == (["0 1 0", "1 0 0"], ["0 0 1"], [])
    for index in range(3):
        team.crash(index)
        team.rest()
        team.rest_long(index)
    team.rest()
    assert (team.said(0), team.said(1), team.said(2)) == (["0 1 0", "1 0 0"], ["0 0 1"], [])
    team.settle()


def test_others_answer_for_one_that_is_away_one_after_the_other() -> None:
    team = Team(4)
    for index in range(4):
        team.record(index, f"of device {index}")
    team.rest()
    team.cut(1)
    event = team.write(0, "of one that leaves", 2, 3)
    team.rest_of(0, 2, 3)
    team.cut(0)
    team.rest_of(1, 2, 3)
    assert not team.has(1, event)
    assert team.session(1).texts_waiting == 1
    assert team.session(3).rest(QUIET_S) == 3 * QUIET_S  # the second device before it
    assert team.session(2).rest(QUIET_S) == 2 * QUIET_S
    for quiet in (2, 3):
        for index in (2, 3):
            team._send(team.devices[index], partial(rested, team, index, quiet))
        team.rest_of(1, 2, 3)
    assert team.has(1, event)
    assert (team.said(2), team.said(3)) == (["1 0 0", "1 0 0"], ["1 0 0"])
    assert team.session(1).texts_waiting == 0


def rested(team: Team, index: int, turns: int) -> list[bytes]:
    team.session(index).rest(turns * QUIET_S)
    return team.session(index).upload()


def test_a_reader_asks_nobody_and_says_how_many_wait() -> None:
    team = Team(3)
    found, lost = team.write(0, "found", 1), team.write(0, "not found")
    team.give_role(1, writer=False)
    team.rest_of(0, 1)
    team.rest_long(1)
    assert team.has(1, found)
    assert not team.has(1, lost)
    assert team.session(1).texts_waiting == 1
    assert team.session(1).settled
    assert team.said(1) == []
    team.checkouts[1].here.add("not found")  # it was pulled
    assert team.session(1).rest(QUIET_S) is None
    assert team.has(1, lost)
    team.settle()


def test_what_waits_is_looked_for_again_at_rest_and_at_a_start() -> None:
    team = Team(2)
    one, two = team.write(0, "one"), team.write(0, "two")
    team.give_role(1, writer=False)
    team.rest()
    assert team.session(1).rest(QUIET_S) == 2 * QUIET_S
    assert team.session(1).rest(REST_S) is None
    team.checkouts[1].here.add("one")
    team.session(1).rest(QUIET_S)
    assert team.has(1, one)
    assert team.session(1).texts_waiting == 1
    team.cut(1)
    team.checkouts[1].here = {"two"}
    team.devices[1].session = Session(
        team.pool, team.log(1), team.devices[1].journal, texts=team.checkouts[1]
    )
    assert team.has(1, two)
    assert team.session(1).texts_waiting == 0


def test_what_was_found_once_is_not_looked_for_though_it_left_the_log_and_can_be_forgotten() -> (
    None
):
    team = Team(2)
    event = team.write(0, "soon evicted", 1)
    team.rest()
    del team.log(1).events[event.id]  # as a full ring does
    team.checkouts[1].here.clear()
    team.crash(1)
    team.rest()
    assert team.session(1).texts_waiting == 0
    assert team.said(1) == []
    assert team.session(1).replica.segments.holding(
        {team.session(1).replica.tombstone_key.of(event.id)}
    )


@pytest.mark.parametrize("by", [0, 1])
def test_forgetting_takes_references_and_answers_along(by: int) -> None:
    team = Team(3)
    kept = team.write(0, "kept", 1)
    gone = team.write(0, "gone", 1)
    team.rest()
    assert all(team.has(index, gone) for index in range(3))
    team.forget(by, gone.id)
    heal(team)
    assert all(team.has(index, kept) for index in range(3))


def test_a_deletion_may_be_of_what_was_forgotten_where_nobody_here_knows_what_a_reference_is_to() -> (
    None
):
    """Then a journal is compacted: the reference would stay in it."""
    team = Team(2)
    event = team.write(0, "somewhere else")
    pool, (one, other) = team.pool, [device.log.device for device in team.devices]
    key = pool.reference_key()
    reference = refer(event, key)
    assert reference is not None
    writer, reader = Replica(pool, one, 1), Replica(pool, other, 2)
    reader.integrate(writer.append_parcel(Parcel(references=(reference,))))
    gone = encode_update(Update({}, {1: [(0, 1)]}))
    elsewhere = Replica(pool, other, 2, [reader.export()]).integrate(gone)
    assert not elsewhere.forgotten
    assert elsewhere.unclear  # in a document of another epoch it may be
    reader.integrate(writer.append((), [reader.tombstone_key.of("some other")]))
    assert reader.integrate(gone).forgotten


def test_a_reference_that_waits_moves_on_with_its_segment_and_is_answered_then() -> None:
    team = Team(3)
    waiting = team.write(0, "waits")
    also = team.record(0, "next to it")
    team.rest_of(0)
    team.cut(0)  # nobody can answer
    team.rest_of(1, 2)
    assert team.session(1).texts_waiting == 1
    team.forget(1, also.id)  # in the segment with the reference
    team.rest_of(1, 2)
    assert sum(len(one.references) for one in team.sealed(1)) == 1
    assert team.session(2).texts_waiting == 1
    heal(team)
    assert team.has(1, waiting)
    assert team.has(2, waiting)


def test_a_reference_to_what_was_forgotten_is_known_though_it_comes_from_one_who_cannot_tell() -> (
    None
):
    team = Team(3)
    gone = team.write(0, "gone", 1)
    other = team.record(0, "other")
    team.give_role(2, writer=True)
    team.rest_of(0)
    team.cut(0)
    team.rest_of(1)
    team.rest_of(2)
    team.cut(1)
    team.forget(2, other.id)  # which moves the reference, without knowing what it is to
    team.rest_of(2)
    team.forget(1, gone.id)
    team.cut(2)
    heal(team)


def test_own_events_that_come_back_as_references_are_not_sent_again() -> None:
    team = Team(2)
    events = [team.write(0, f"event {number}", 1) for number in range(5)]
    team.rest()
    team.devices[0].journal.reset(0)  # a new incarnation
    team.crash(0)
    team.settle()
    assert sum(map(len, (one.references for one in team.sealed(0)))) == len(events)


def test_a_log_that_was_emptied_gets_its_events_back_and_nothing_goes_round() -> None:
    team = Team(2)
    events = [team.write(0, f"event {number}", 1) for number in range(5)]
    team.save_image(0)
    events += [team.write(0, f"later {number}", 1) for number in range(5)]
    team.rest()
    team.checkouts[0].here.clear()
    team.roll_back(0, journal_too=False)
    team.settle()
    assert all(team.has(0, event) for event in events)
    before = [team.said(0), team.said(1)]
    for index in (0, 1):
        team.crash(index)
        team.rest()
        team.rest_long(index)
    team.settle()
    assert [team.said(0), team.said(1)] == before


class Careful(MemoryLog):
    """Keeps one event from this pool."""

    def shares(self, event: Event) -> bool:
        return event.snippet != "private"


def test_a_want_brings_nothing_out_that_is_not_referred_to_or_not_shared_any_more() -> None:
    team = Team(2)
    log = Careful(team.log(0).device)
    team.devices[0].log = log
    team.crash(0)
    team.rest()
    assert team.repository is not None
    fields = {"timestamp": 1, "snippet": "of another pool", "kind": "edit"}
    unsent = log.keep(parse_draft(fields | team.repository.place("of another pool")))
    team.devices[0].session._document.pending.watermark = unsent.sequence  # its rule leaves it out
    private = team.write(0, "private")
    team.rest()
    key = team.pool.reference_key()
    asked = [refer(event, key) for event in (unsent, private)]
    wants = sorted(Want(one.device, one.sequence, one.text_hash) for one in asked if one)
    session = team.session(1)
    session._document.append(Parcel(wants=tuple(wants)), {}, 1 << 20)
    team.rest()
    team.rest_long(0)
    team.rest()
    assert not team.has(1, unsent)
    assert not team.has(1, private)
    assert all(not one.events for one in team.sealed(0))


def test_so_many_wait_for_each_other_and_the_others_come_together() -> None:
    team = Team(TURNS_MAX + 3)
    for index in range(len(team.devices)):
        team.record(index, f"of device {index}")
    team.rest()
    want = Want(team.log(1).device, 1, bytes(5))
    turns = [one.session._document.fetcher._turn(one.session.replica, want) for one in team.devices]
    assert turns == [TURNS_MAX, 0, *range(1, TURNS_MAX), TURNS_MAX, TURNS_MAX]


def test_answers_that_were_evicted_are_not_given_again_to_who_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trimming, "BATCH_SNIPPET_BYTES_MAX", 1000)
    team = Team(4, array_bytes_max=30_000)
    team.rest_of(0, 1)
    chance = SeededRandom(1)
    for _ in range(60):
        team.write(0, chance.token_bytes(700).hex(), 1)
    team.rest_of(0, 1)
    team.cut(0)
    team.rest_of(1, 2)
    for _ in range(8):
        team.rest_long(1)
        team.rest_of(1, 2)
    assert team.session(2).texts_waiting == 0
    rows = len(team.hub.rows)
    for _ in range(3):
        team.rest_long(1)
        team.rest_of(1, 2)
    assert len(team.hub.rows) == rows
    for _ in range(20):  # somebody new asks for itself
        team.rest_of(1, 2, 3)
        team.rest_long(1)
        team.rest_long(3)
    assert team.session(3).texts_waiting == 0


@pytest.mark.parametrize("how", ["crash", "replaced"])
def test_what_was_given_once_is_not_asked_for_again_in_a_new_incarnation(how: str) -> None:
    team = Team(3)
    team.rest_of(0, 1)
    events = [team.write(0, f"text number {number}", 1) for number in range(5)]
    team.rest_of(0, 1)
    for event in events:
        team.log(1).events.pop(event.id)  # the ring let them go
    team.checkouts[1].here.clear()  # and the checkout went on
    team.cut(1)
    if how == "crash":
        team.crash(1)
    else:
        team.session(1).disconnect(Close.REPLACED)
    team.rest_of(0, 1)
    assert not team.log(1).events.keys() & {event.id for event in events}
    assert not list(team.session(1).replica.segments.wants)
