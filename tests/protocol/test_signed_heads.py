"""Signed heads on their way: made, checked, and what of a hub's or a member's doing they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from localmem_protocol.envelope import NO_HASH, PoolKey, batch_hash
from localmem_protocol.events import Event
from localmem_protocol.limits import SEGMENT_BATCHES_MAX
from localmem_protocol.parcels import Parcel
from localmem_protocol.replica import Replica
from localmem_protocol.session import Session, State
from localmem_protocol.signatures import QUIET_BATCHES, QUIET_S, REST_S, Problem, Signatures, rest_s
from localmem_protocol.simulation import MemoryJournal, MemoryLog, World
from localmem_protocol.updates import Update, decode_update, encode_update
from support.authors import Authors, Table, author
from support.events import event
from support.pools import device_id
from support.seeded import SeededRandom

POOL = PoolKey("ab" * 16, 1, bytes(32))
WRITER, READER = device_id(1), device_id(2)


def replica(number: int, client: int = 0, table: Table | None = None, *, keys: int = 0) -> Replica:
    signatures = Signatures(POOL, device_id(number), author(number, table, keys=keys))
    return Replica(POOL, device_id(number), client or number, (), signatures)


def mine(sequence: int, device: str = WRITER) -> Event:
    return event(sequence, device=device)


class Line:
    """A writer with a reader that gets everything it says, unless the test is the hub."""

    def __init__(self) -> None:
        self.writer, self.reader = replica(1), replica(2)
        self.problems: list[Problem] = []

    def give(self, update: bytes) -> None:
        self.problems += self.reader.integrate(update).problems

    def write(self, first: int, last: int) -> None:
        for sequence in range(first, last + 1):
            self.give(self.writer.append([mine(sequence)]))

    def found(self) -> list[tuple[str, str, int, int]]:
        problems = self.problems + self.reader.missing()
        self.problems = []
        return [(one.kind, one.device, one.client, one.sequence) for one in problems]


def deletion(client: int, first: int, length: int) -> bytes:
    return encode_update(Update({}, {client: [(first, length)]}))


def test_batches_are_provisional_until_a_head_covers_them() -> None:
    line = Line()
    line.write(1, 3)
    assert line.reader.signatures.provisional == {WRITER: 3}
    line.give(line.writer.append_head())
    assert line.reader.signatures.provisional == line.writer.signatures.provisional == {}
    line.write(4, 4)
    assert line.reader.signatures.provisional == {WRITER: 1}
    assert line.reader.signatures.uncovered == 1
    assert line.found() == []


def test_the_first_batch_of_a_segment_signs_what_was_before() -> None:
    line = Line()
    line.write(1, SEGMENT_BATCHES_MAX + 1)
    assert line.reader.signatures.provisional == {WRITER: 1}
    at = line.reader.signatures.newest[1].at
    assert (at.clock, at.floor, at.sequence, at.holes) == (32, 1, 32, 0)
    assert line.found() == []


def test_a_head_is_made_once_and_after_a_restart_not_again() -> None:
    writer = replica(1)
    kept = [writer.append([mine(1)])]
    assert writer.signatures.unsigned(1) == 1
    kept.append(writer.append_head())
    assert writer.signatures.unsigned(1) == 0
    again = Replica(POOL, WRITER, 1, kept, Signatures(POOL, WRITER, author(1)))
    assert again.loaded.problems == []
    assert again.signatures.unsigned(1) == 0
    again.append([mine(2)])
    assert again.signatures.unsigned(1) == 1


def test_what_is_not_shared_is_a_hole_and_not_missing() -> None:
    line = Line()
    for sequence in (3, 4, 9):
        line.give(line.writer.append([mine(sequence)]))
    line.give(line.writer.append_head())
    at = line.reader.signatures.newest[1].at
    assert (at.floor, at.sequence, at.holes) == (3, 9, 4)
    assert line.found() == []


def test_eviction_says_so_and_is_told_from_loss() -> None:
    line = Line()
    line.write(1, SEGMENT_BATCHES_MAX + 2)
    evicted = line.writer.evict(1)
    assert evicted is not None
    line.give(evicted)
    at = line.reader.signatures.newest[1].at
    assert (at.floor, at.sequence) == (SEGMENT_BATCHES_MAX + 1, SEGMENT_BATCHES_MAX + 2)
    assert line.found() == []
    assert line.writer.signatures.unsigned(1) == 0


def test_a_hub_that_deletes_what_its_owner_keeps_is_noticed_by_all() -> None:
    line = Line()
    line.write(1, 2 * SEGMENT_BATCHES_MAX + 1)
    cut = deletion(1, 0, SEGMENT_BATCHES_MAX)
    line.give(cut)
    assert line.found() == [("gap", WRITER, 1, 1)]
    assert line.found() == []  # once
    line.writer.integrate(cut)
    assert [one.kind for one in line.writer.missing()] == ["gap"]
    joiner = replica(3)
    joiner.integrate(line.reader.export())
    (problem,) = joiner.missing()
    assert (problem.kind, problem.sequence) == ("gap", 1)
    assert f"{SEGMENT_BATCHES_MAX} events" in problem.reason


def test_what_others_forget_and_move_is_not_missing() -> None:
    line, tidier = Line(), replica(3)
    line.write(1, SEGMENT_BATCHES_MAX + 1)
    tidier.integrate(line.writer.export())
    segment = tidier.segments.segment_of(1, 4)
    assert segment is not None
    gone = mine(5)
    (update,) = tidier.trim([segment], lambda one: one != gone, [tidier.tombstone_key.of(gone.id)])
    line.give(update)
    assert line.found() == []
    line.writer.integrate(update)
    assert line.writer.missing() == []
    assert line.writer.signatures.unsigned(1) > 0  # its array is another than it signed
    line.give(line.writer.append_head())
    assert line.found() == []
    assert line.writer.signatures.unsigned(1) == 0


def test_what_was_taken_over_and_evicted_there_is_not_missing_to_who_had_it() -> None:
    line, tidier = Line(), replica(3)
    line.write(1, SEGMENT_BATCHES_MAX + 1)
    tidier.integrate(line.writer.export())
    segment = tidier.segments.segment_of(1, 4)
    assert segment is not None
    gone = mine(5)
    mark = tidier.tombstone_key.of(gone.id)
    updates = tidier.trim([segment], lambda one: one != gone, [mark])
    updates += [tidier.append([mine(n, device_id(3))]) for n in range(1, SEGMENT_BATCHES_MAX + 1)]
    evicted = tidier.evict(600)
    assert evicted is not None
    for update in updates:
        line.give(update)
        line.writer.integrate(update)
    line.give(evicted)
    line.writer.integrate(evicted)
    assert line.reader.segments.holding({tidier.tombstone_key.of(mine(6).id)}) == set()
    assert line.found() == []
    assert line.writer.missing() == []
    again = replica(2)
    again.signatures = line.reader.signatures.anew()
    again.integrate(line.reader.export())
    assert again.missing() == []  # another incarnation of who had it
    # Nobody says what was in that batch to who comes now: it looks as if a hub had taken it out.
    joiner = replica(4)
    joiner.integrate(line.reader.export())
    assert [(one.kind, one.device) for one in joiner.missing()] == [("gap", WRITER)]
    assert joiner.signatures.is_blind_beside(WRITER)
    assert not line.reader.signatures.is_blind_beside(WRITER)


def test_a_head_that_somebody_else_signed_is_a_problem_and_covers_nothing() -> None:
    """A member who knows the epoch's key, and a hub that lets it write in another's array."""
    forger, reader = replica(1, keys=3), replica(2)
    reader.integrate(forger.append([mine(1)]))
    result = reader.integrate(forger.append_head())
    assert [(one.kind, one.device, one.client, one.clock) for one in result.problems] == [
        ("signature", WRITER, 1, 1)
    ]
    assert reader.signatures.provisional == {WRITER: 2}


def test_batches_in_another_s_name_stay_provisional() -> None:
    line = Line()
    line.write(1, 2)
    line.give(line.writer.append_head())
    silent = Replica(POOL, WRITER, 1, [line.writer.export()])  # with no keys to sign with
    line.give(silent.append([mine(3)]))
    assert line.reader.signatures.provisional == {WRITER: 1}
    assert line.found() == []


def test_a_head_that_is_repeated_elsewhere_is_nobody_s_word() -> None:
    line = Line()
    line.write(1, 2)
    old = line.reader.signatures
    line.give(line.writer.append_head())
    copied = old.newest[1].compact()
    silent = Replica(POOL, WRITER, 1, [line.writer.export()])
    line.give(silent.append_parcel(Parcel((mine(3),), heads=(copied,))))
    assert line.found() == [("signature", WRITER, 1, 3)]
    line.give(silent.append_parcel(Parcel(heads=(b"\xff" * 70,))))
    assert line.found() == [("signature", WRITER, 1, 0)]
    assert line.reader.signatures.provisional == {WRITER: 2}


def test_a_segment_that_does_not_follow_is_a_problem_and_what_is_before_stays_provisional() -> None:
    line = Line()
    line.write(1, 2)
    # Another history of the same place: sealed by one who has the pool's key.
    elsewhere = Replica(POOL, WRITER, 1)
    elsewhere.append([mine(1)])
    elsewhere.append([mine(7)])
    resealed = Replica(POOL, WRITER, 1, [elsewhere.export()], Signatures(POOL, WRITER, author(1)))
    line.give(resealed.append([mine(3)]))
    assert ("chain", WRITER, 1, 3) in line.found()
    assert line.reader.signatures.provisional == {WRITER: 3}


def test_what_follows_a_deleted_batch_may_come_before_the_deletion() -> None:
    """As it does in the parts of an answer: what is deleted goes with the last."""
    line = Line()
    line.write(1, 2)
    cut = deletion(1, 0, 2)
    line.writer.integrate(cut)
    restarted = Replica(
        POOL, WRITER, 1, [line.writer.export()], Signatures(POOL, WRITER, author(1))
    )
    line.give(restarted.append([mine(3)]))  # it does not know the hash any more
    assert line.problems == []
    line.give(cut)
    assert line.problems == []


@pytest.mark.parametrize(
    ("sequence", "said"),
    [(1, "events went back from 9 to 1"), (9, "what it keeps went back from 9 to 1")],
)
def test_a_device_that_goes_back_is_a_replay(sequence: int, said: str) -> None:
    line = Line()
    line.give(line.writer.append([mine(9)]))
    line.give(line.writer.append_head())
    previous = line.writer.head_before(2)
    assert previous is not None
    before = line.writer.signatures.newest[1].at
    at = replace(before, clock=2, head=previous, floor=1, sequence=sequence, holes=0)
    silent = Replica(POOL, WRITER, 1, [line.writer.export()])
    # Its first batch opens a segment, and states the hash that this head is for.
    data = author(1).sign(at).compact()
    problems = line.reader.integrate(silent.append_parcel(Parcel(heads=(data,)))).problems
    assert [(one.kind, one.sequence) for one in problems] == [("replay", at.sequence)]
    assert said in problems[0].reason


def test_two_histories_of_one_device_are_a_fork_even_in_another_copy_of_the_document() -> None:
    line = Line()
    line.write(1, 2)
    line.give(line.writer.append_head())
    other = replica(1)
    again = Replica(POOL, READER, 5, (), line.reader.signatures.anew())
    problems = []
    for sequence in (1, 8):
        problems += again.integrate(other.append([mine(sequence)])).problems
    assert [(one.kind, one.client, one.clock) for one in problems] == [("fork", 1, 1)]


def test_a_hub_that_shows_less_than_before_is_noticed() -> None:
    line = Line()
    first = line.writer.append([mine(1)])
    line.give(first)
    line.write(2, 2)
    line.give(line.writer.append_head())
    again = Replica(POOL, READER, 5, (), line.reader.signatures.anew())
    again.integrate(first)
    assert [(one.kind, one.client, one.clock, one.sequence) for one in again.missing()] == [
        ("replay", 1, 2, 2),
        ("gap", 1, 2, 2),
    ]


@pytest.mark.parametrize("role", ["reader", None])
def test_what_no_writer_wrote_is_not_taken_in(role: str | None) -> None:
    table = Table()
    if role == "reader":
        table.roles[1] = "reader"
    else:
        del table.roles[1]
    reader, writer = replica(2, table=table), replica(1)
    result = reader.integrate(writer.append([mine(1)]))
    assert result.events == []
    assert [(one.kind, one.device, one.client) for one in result.problems] == [
        ("refused", WRITER, 1)
    ]
    assert reader.state_vector() == writer.state_vector()  # and the document is the same


def test_a_device_that_is_let_in_later_is_heard_from_its_next_segment_on() -> None:
    table = Table()
    del table.roles[1]
    reader, writer = replica(2, table=table), replica(1)
    reader.integrate(writer.append([mine(1)]))
    table.roles[1] = "member"
    restarted = Replica(POOL, WRITER, 1, [writer.export()], Signatures(POOL, WRITER, author(1)))
    result = reader.integrate(restarted.append([mine(2)]))
    assert result.events == [mine(2)]
    assert result.problems == []


def test_a_head_waits_for_rest_and_for_longer_when_there_is_little_to_sign() -> None:
    assert rest_s(1) == rest_s(QUIET_BATCHES - 1) == REST_S
    assert rest_s(QUIET_BATCHES) == QUIET_S
    world = signing_world(2)
    world.rest()
    session = world.devices[0].session
    assert session.rest(QUIET_S) is None  # nothing to sign
    world.record(0, "one")
    world.rest()
    assert session.state is State.READY
    assert session.rest(QUIET_S) == REST_S
    assert session.upload() == []
    world.rest_long(0)
    world.rest()
    assert session.rest(REST_S) is None
    assert session.upload() == []
    assert all(device.session.provisional == {} for device in world.devices)
    for number in range(QUIET_BATCHES):
        world.record(0, f"event {number}")
    world.rest()
    assert session.rest(QUIET_S) is None
    assert len(session.upload()) == 1


def test_a_session_reports_once_and_counts() -> None:
    table = Table()
    del table.roles[1]
    world = World(2, authorship=lambda device: Authors(device, table), pool=POOL.pool)
    for number in range(3):
        world.record(0, f"event {number}")
        with pytest.raises(AssertionError, match="refused"):
            world.settle()
    session = world.devices[1].session
    assert (
        session.reported.troubles
        == len(session.reported.problems)
        == len(session.reported.take_news())
        == 1
    )
    assert session.reported.take_news() == []
    assert session.reported.unreadable == 0
    assert not world.devices[1].log.events


def test_a_pool_without_a_roster_signs_nothing_and_asks_nothing() -> None:
    session = Session(POOL, MemoryLog(WRITER), MemoryJournal())
    assert session.rest(REST_S) is None
    writer = Replica(POOL, WRITER, 1)
    data = writer.append_parcel(Parcel((mine(1),)))
    (item,) = decode_update(data, stored=True).items[1]
    assert item.contents is not None
    link = (batch_hash(item.contents[0]), NO_HASH)
    assert writer.signatures.note(WRITER, 1, 0, link, Parcel((mine(1),))) == []
    assert writer.signatures.provisional == {}
    assert writer.missing() == []


def signing_world(devices: int, array_bytes_max: int = 2**24) -> World:
    return World(
        devices,
        (),
        array_bytes_max,
        authorship=lambda device: author(int(device, 16)),
        pool=POOL.pool,
    )


Step = Callable[[World, int], object]


@pytest.mark.parametrize("seed", range(12))
def test_honest_devices_never_accuse_each_other(seed: int) -> None:
    """Eviction, forgetting, restarts, partitions and restored backups, each with heads in between."""
    chance = SeededRandom(seed)
    world = signing_world(3, array_bytes_max=[2000, 2**24][seed % 2])
    steps: list[Step] = [
        lambda world, index: world.record(index, f"event {chance.below(10**6)}"),
        lambda world, index: world.record(index, "text " * (1 + chance.below(30))),
        lambda world, index: world.connect(index),
        lambda world, index: world.cut(index),
        lambda world, index: world.deliver_up(index),
        lambda world, index: world.deliver_down(index),
        lambda world, index: world.hub.commit(),
        lambda world, index: world.rest_long(index),
        lambda world, index: world.crash(index),
        lambda world, index: world.save_image(index),
        lambda world, index: world.roll_back(index),
        lambda world, index: world.rest(),
        forget_something,
    ]
    for _ in range(150):
        chance.choice(steps)(world, chance.below(3))
        world.check()
    world.settle()
    for _ in range(2):
        for index in range(3):
            world.rest_long(index)
        world.settle()
    for device in world.devices:
        assert device.session.replica.signatures.unsigned(device.session.replica.client) == 0
        assert device.session.rest(REST_S) is None


def forget_something(world: World, index: int) -> None:
    events = sorted(world.devices[index].log.events)
    if events:
        world.forget(index, events[len(events) // 2])


def test_who_cannot_sign_what_holds_does_not_try_again_and_again() -> None:
    writer = replica(1, keys=3)
    writer.append([mine(1)])
    assert writer.signatures.unsigned(1) == 1
    writer.append_head()
    assert writer.signatures.unsigned(1) == 0
    assert writer.append([mine(2)])
