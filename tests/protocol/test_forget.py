"""Forgetting across devices: sessions and rooms, in every order that matters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, islice

import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.replica import Replica
from localmem_protocol.session import Session
from localmem_protocol.simulation import MemoryJournal, MemoryLog, World
from localmem_protocol.tombstones import TombstoneKey
from localmem_protocol.updates import Item, Update, decode_update, encode_update
from support.events import event
from support.healing import heal, joined

POOL = PoolKey("team", 1, bytes(32))


def world_of(devices: int = 3, events: int = 3) -> World:
    """Devices in sync, each with some events."""
    world = World(devices)
    for index in range(devices):
        world.connect(index)
    world.settle()
    for number in range(events):
        for index in range(devices):
            world.record(index, f"event {number} of {index}")
            world.rest()
    world.settle()
    return world


def ids_of(world: World, index: int) -> list[str]:
    """The events that a device has recorded, oldest first."""
    device = world.devices[index].log.device
    return [one.id for one in world.recorded.values() if one.device == device]


@pytest.mark.parametrize("owner", range(3))
@pytest.mark.parametrize("which", range(3))
def test_what_is_forgotten_on_one_device_is_nowhere(owner: int, which: int) -> None:
    world = world_of()
    world.forget(1, ids_of(world, owner)[which])
    heal(world)
    assert all(len(device.log.events) == 8 for device in world.devices)


def test_an_event_forgotten_before_it_was_ever_uploaded_never_is() -> None:
    world = world_of()
    world.cut(0)
    event = world.record(0, "never mind")
    world.forget(0, event.id)
    heal(world)


def test_what_is_not_here_yet_can_be_forgotten_and_does_not_come() -> None:
    world = world_of()
    world.cut(0)
    event = world.record(0, "on its way")
    world.forget(1, event.id)
    heal(world)


def test_a_device_that_was_offline_hears_of_it_and_its_unsent_events_follow() -> None:
    world = world_of()
    world.cut(2)
    mine = world.record(2, "written offline")
    world.forget(0, ids_of(world, 2)[1])
    world.rest_of(0, 1)
    assert ids_of(world, 2)[1] in world.devices[2].log.events
    heal(world)
    assert all(mine.id in device.log.events for device in world.devices)


def test_two_forget_events_of_one_segment_at_once() -> None:
    world = world_of()
    one, two, _ = ids_of(world, 2)
    world.cut(0)
    world.cut(1)
    world.forget(0, one)
    world.forget(1, two)
    heal(world)


def test_two_forget_the_same_event_at_once() -> None:
    world = world_of()
    world.cut(0)
    world.cut(1)
    for index in range(3):
        world.forget(index, ids_of(world, 2)[1])
    heal(world)


@pytest.mark.parametrize("restarted", [False, True])
def test_the_owner_goes_on_with_a_segment_that_was_deleted_meanwhile(restarted: bool) -> None:
    world = world_of()
    world.cut(0)
    world.forget(0, ids_of(world, 2)[0])
    more = [world.record(2, f"more {number}") for number in range(3)]
    world.rest_of(1, 2)
    if restarted:
        world.crash(0)
    heal(world)
    assert all(one.id in device.log.events for one in more for device in world.devices)
    assert len(joined(world).loaded.events) == 11


def test_the_owner_is_away_while_its_running_segment_is_deleted() -> None:
    world = world_of()
    world.cut(2)
    more = [world.record(2, f"more {number}") for number in range(3)]
    world.forget(0, ids_of(world, 2)[2])
    world.rest_of(0, 1)
    client = world.devices[2].session.replica.client
    world.hub.compact()
    world.crash_hub()
    heal(world)
    assert all(one.id in device.log.events for one in more for device in world.devices)
    assert world.devices[2].session.replica.client == client, "no new incarnation was needed"


class Interrupted(Exception):
    """A crash, at a step of a journal or a log."""


@pytest.mark.parametrize(
    ("part", "step"),
    [("log", "forget"), ("journal", "save"), ("journal", "compact"), ("journal", "delivered")],
)
def test_a_crash_at_any_step_of_forgetting_loses_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, part: str, step: str
) -> None:
    world = world_of()
    device = world.devices[1]
    wrong = ids_of(world, 2)[1]

    def crash(*given: object) -> None:
        raise Interrupted

    with monkeypatch.context() as crashing, contextlib.suppress(Interrupted):
        crashing.setattr(getattr(device, part), step, crash)
        world.forget(1, wrong)
        world.rest()
    world.crash(1)
    assert wrong not in device.log.events
    heal(world)


def test_what_cannot_be_queued_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    wrong = ids_of(world, 2)[1]

    def fail(tombstones: Sequence[bytes]) -> None:
        raise Interrupted

    monkeypatch.setattr(world.devices[1].journal, "queue", fail)
    with pytest.raises(Interrupted):
        world.devices[1].session.forget([wrong])
    assert wrong in world.devices[1].log.events


def test_a_reader_forgets_for_itself_and_tells_when_it_may_write() -> None:
    world = world_of()
    world.give_role(1, writer=False)
    world.rest()
    wrong = ids_of(world, 2)[1]
    world.forget(1, wrong)
    world.rest()
    assert wrong not in world.devices[1].log.events
    assert wrong in world.devices[0].log.events
    assert world.devices[1].session.untold == 1
    heal(world)


def test_what_its_owner_takes_out_in_silence_is_in_no_journal_of_those_who_had_forgotten_it() -> (
    None
):
    """As after an epoch in which it was forgotten, and that its owner read later than the newest."""
    world = world_of(2)
    back = world.record(0, "back again").id
    key = world.devices[0].session.replica.tombstone_key
    for index in (1, 0):
        world.devices[index].log.forget([key.of(back)], key)
        world.rest()
    assert back in journalled(world, 1)
    world.crash(0)
    world.rest()
    assert back not in journalled(world, 0) | journalled(world, 1)


def journalled(world: World, index: int) -> set[str]:
    """The events whose content is in a device's journal, deleted or not."""
    updates = world.devices[index].journal.saved.updates
    return {one.id for one in Replica(world.pool, "ee" * 8, 0, updates).loaded.events}


def test_tombstones_outlive_the_segments_that_are_evicted() -> None:
    world = World(2, array_bytes_max=4000)
    for number in range(40):
        world.record(0, f"event {number}")
        world.rest()
    world.cut(1)
    wrong = ids_of(world, 0)[30]
    assert wrong in world.devices[1].log.events
    world.forget(0, wrong)
    for number in range(200):
        world.record(0, f"later {number}")
        world.rest_of(0)
    assert world.devices[0].session.replica.segments.size([1]) < 5000
    heal(world, all_at_hub=False)


def test_what_nobody_here_can_open_is_left_to_its_owner() -> None:
    owner, other = Replica(POOL, "aa" * 8, 1), Replica(POOL, "bb" * 8, 2)
    log, journal = MemoryLog("bb" * 8), MemoryJournal()
    updates = [owner.append([event(number, "aa" * 8)]) for number in (1, 2)]
    updates.append(poisoned(owner))
    for update in updates:
        other.integrate(update)
    journal.reset(2)
    journal.compact(other.export())
    session = Session(POOL, log, journal)
    session.forget([event(1, "aa" * 8).id])
    assert session.replica.export() == other.export()
    assert session.untold == 1


def poisoned(owner: Replica) -> bytes:
    """A batch at the end of the running segment that opens for nobody."""
    sealed = bytes([1]) + bytes(40)
    item = Item(owner.clock, 1, (sealed,), (owner.client, owner.clock - 1))
    return encode_update(Update({owner.client: [item]}))


@pytest.mark.parametrize("step", [50, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.timeout(600)
def test_five_hundred_forgets_in_anothers_array_keep_the_document_small(step: int) -> None:
    world = World(2)
    words = [f"{number * 2654435761 % 2**32:x}" for number in range(600)]
    for number in range(1200):
        if number % 10 == 0:
            world.cut(0)
        text = " ".join(words[(number * 31 + place * 17 + place**3) % 600] for place in range(20))
        world.record(0, text)
        if number % 10 == 9:
            world.rest()
    recorded = list(world.recorded.values())
    names = [one.id for one in recorded]
    for start in range(0, 500, step):
        chosen = [names[(start + offset) * 701 % 1200] for offset in range(step)]
        world.forgotten |= {name: {"one"} for name in chosen}
        world.devices[1].session.forget(chosen)
        world.rest()
        left = [one for one in recorded if one.id not in world.forgotten]
        live = Replica(world.pool, "aa" * 8, 1)
        for at in range(0, len(left), 10):
            live.append(left[at : at + 10])
        assert len(world.hub.room.snapshot()) <= 1.15 * len(live.export())
    assert len(world.forgotten) == 500
    heal(world)


Deed = Callable[[World, int], object]


def forgets(owner: int, which: int) -> Deed:
    """A device forgets an event of the owner's."""
    return lambda world, index: world.forget(index, ids_of(world, owner)[which])


def records(world: World, index: int) -> None:
    """A device goes on."""
    world.record(index, "something new")


def restarts(world: World, index: int) -> None:
    """A device's process ends, and begins again."""
    world.crash(index)
    world.connect(index)


def says(world: World, index: int) -> None:
    """The hub hears the next frame of a device, and stores what it said."""
    world.deliver_up(index)
    world.hub.commit()


def hears(world: World, index: int) -> None:
    """A device hears the next frame."""
    world.deliver_down(index)


def orders(*lengths: int) -> Iterator[tuple[int, ...]]:
    """Every way of doing several rows of steps by turns: whose turn it is."""
    if not any(lengths):
        yield ()
    for who, left in enumerate(lengths):
        if left:
            less = [length - (one == who) for one, length in enumerate(lengths)]
            yield from ((who, *rest) for rest in orders(*less))


def play(deeds: Sequence[Deed], order: Iterable[int]) -> None:
    """Each device does its deed, says so, hears and says more, in this order; then all heals."""
    world = world_of(len(deeds), 2)
    rows = [iter([deed, says, hears, says]) for deed in deeds]
    for who in order:
        next(rows[who])(world, who)
    heal(world)


DEEDS: dict[str, Deed] = {
    "first": forgets(0, 0),
    "last": forgets(0, -1),
    "other": forgets(1, 0),
    "record": records,
    "restart": restarts,
}


@pytest.mark.parametrize("names", list(combinations_with_replacement(DEEDS, 2)), ids="-".join)
def test_two_devices_in_every_order(names: tuple[str, ...]) -> None:
    for order in orders(4, 4):
        play([DEEDS[name] for name in names], order)


@pytest.mark.parametrize(
    "deeds",
    [
        (records, forgets(0, 0), forgets(0, -1)),
        (records, forgets(0, 0), forgets(0, 0)),
        (forgets(1, 0), forgets(2, 0), forgets(0, 0)),
        (forgets(0, 0), forgets(0, 1), restarts),
    ],
)
def test_three_devices_in_many_orders(deeds: tuple[Deed, ...]) -> None:
    for order in islice(orders(4, 4, 4), 0, None, 991):
        play(deeds, order)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_copy_of_this_machine_goes_on_although_its_running_segment_was_evicted(
    restarted: bool,
) -> None:
    world = World(2, array_bytes_max=1_500)
    world.devices.append(world._device(world.devices[0].log.device, 0))
    for index in range(3):
        world.connect(index)
    world.settle()
    world.record(2, "by the copy")
    world.settle()
    copy = world.devices[2].session.replica.client
    unsent = world.record(2, "by the copy, on its way")
    world.cut(2)
    for number in range(60):
        world.record(0, f"event {number}")
        world.rest_of(0, 1)
    replica = world.devices[0].session.replica
    assert copy != replica.client
    assert not any(client == copy for client, _ in replica._own.batches())
    if restarted:
        world.crash(2)
    world.settle()
    late = world.record(2, "and later")
    world.settle()
    for device in world.devices:
        assert {unsent.id, late.id} <= device.log.events.keys()
    joined(world)


def test_what_was_forgotten_in_another_epoch_s_document_leaves_the_journal_of_this_one() -> None:
    """Others took it out of an array before anybody here knew why; then the log heard of it elsewhere."""
    pool, elsewhere = PoolKey("team", 2, bytes(32)), PoolKey("team", 1, bytes(32))
    log, journal, writer = MemoryLog("bb" * 8), MemoryJournal(), Replica(pool, "aa" * 8, 1)
    gone = event(1)
    for update in (writer.append([gone]), encode_update(Update({}, {1: [(0, 1)]}))):
        journal.save(update, 0, log.reach)
    log.insert([gone])
    key = TombstoneKey(elsewhere)
    log.forget([key.of(gone.id)], key)
    Session(pool, log, journal)
    (kept,) = journal.saved.updates
    (items,) = decode_update(kept, stored=True).items.values()
    assert [item.contents for item in items] == [None]
