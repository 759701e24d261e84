"""A hub that is restored from a backup: ids that it gives, what devices notice, save and send again."""

from __future__ import annotations

import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import HistoryError
from localmem_protocol.frames import Held, Step2, decode_frame, encode_frame
from localmem_protocol.hub_view import HubView
from localmem_protocol.ledger import Account, Ledger
from localmem_protocol.limits import CLIENT_ID_BITS, CLIENTS_MAX
from localmem_protocol.replica import Replica
from localmem_protocol.restored import compare, rescued
from localmem_protocol.simulation import PRODUCTION, SeededRandom, Settings, World, simulate
from support.events import event

POOL = PoolKey("pool", 1, bytes(32))
ONE, TWO = "11" * 8, "22" * 8


def test_ids_are_drawn_short_and_longer_when_there_are_many() -> None:
    ledger, random = Ledger(), SeededRandom(1)
    drawn = []
    for number in range(CLIENTS_MAX):
        drawn.append(ledger.free(random))
        ledger.register(drawn[-1], f"{number:016x}")
    assert len(set(drawn)) == CLIENTS_MAX
    assert all(128 <= client < 1 << CLIENT_ID_BITS for client in drawn)

    class Stuck:
        """Draws the same number for a long time."""

        left = 200

        def token_bytes(self, size: int) -> bytes:
            self.left -= 1
            return bytes(size) if self.left > 0 else b"\x01" * size

    other = Ledger()
    other.register(128, ONE)
    assert other.free(Stuck()) != 128


def test_a_restored_hub_draws_others() -> None:
    random = SeededRandom(7)
    lost = {Ledger().free(random) for _ in range(5)}
    assert not lost & {Ledger().free(random) for _ in range(5)}


def held_by(*replicas: Replica) -> HubView:
    """The view of a hub that has what these have."""
    accounts = {
        client: (account.clock, account.digest(account.marks.values()))
        for replica in replicas
        for client in replica.ledger
        if (account := replica.ledger.account(client)) is not None
    }
    return HubView(held=accounts)


def test_equal_documents_have_equal_digests_however_they_came_about() -> None:
    writer = Replica(POOL, ONE, 300)
    reader = Replica(POOL, TWO, 400)
    for number in range(1, 8):
        reader.integrate(writer.append([event(number, ONE)]))
    again = Replica(POOL, TWO, 400, [reader.export()])
    for one in (reader, again):
        assert not compare(one, held_by(writer))
    assert not compare(Replica(POOL, TWO), held_by(writer))
    assert not compare(reader, HubView())


def test_what_the_hub_lost_of_others_or_has_otherwise_is_noticed_and_own_loss_is_not() -> None:
    before = Replica(POOL, ONE, 300)
    first = before.append([event(1, ONE)])
    after = Replica(POOL, ONE, 300, [first])
    second = after.append([event(2, ONE)])
    reader = Replica(POOL, TWO, 400, [first, second])
    assert compare(reader, held_by(before)).lost == {300: 1}
    assert not compare(after, held_by(before))
    instead = Replica(POOL, ONE, 300, [first])
    instead.append([event(3, ONE)])
    assert compare(reader, held_by(instead)).other == {300}
    assert compare(after, held_by(instead)).other == {300}
    nothing_yet = HubView(held={300: (0, Account("33" * 8).digest(()))})
    assert compare(reader, nothing_yet).other == {300}


def test_only_what_is_nowhere_else_is_saved() -> None:
    before = Replica(POOL, ONE, 300)
    first = before.append([event(1, ONE)])
    after = Replica(POOL, ONE, 300, [first])
    updates = [after.append([event(2, ONE)]), after.append([event(3, ONE)], [b"t" * 16])]
    reader = Replica(POOL, TWO, 400, [first, *updates])
    difference = compare(reader, held_by(before))
    saved = rescued(reader, difference)
    assert [one.sequence for parcel in saved for one in parcel.events] == [2, 3]
    assert [mark for parcel in saved for mark in parcel.tombstones] == [b"t" * 16]
    reader.move({}, saved, lambda one: True)
    assert rescued(reader, difference) == []  # after a crash it is not put there twice


def test_other_bytes_at_a_known_clock_and_another_array_are_another_history() -> None:
    reader = Replica(POOL, TWO, 400)
    update = Replica(POOL, ONE, 300).append([event(1, ONE)])
    reader.integrate(update)
    reader.integrate(update)
    other = Replica(POOL, ONE, 300).append([event(2, ONE)])
    with pytest.raises(HistoryError, match="other bytes"):
        reader.integrate(other)
    stranger = Replica(POOL, "33" * 8, 300)
    stranger.append([event(1, "33" * 8)])
    with pytest.raises(HistoryError, match="another device"):
        reader.integrate(stranger.append([event(2, "33" * 8)]) and stranger.export())


def restored(world: World) -> None:
    world.restore_hub()
    world.settle()


def test_the_owner_sends_again_what_the_hub_lost_under_its_client_id() -> None:
    world = World(1)
    world.settle()
    world.hub.back_up()
    (device,) = world.devices
    client = device.session.replica.client
    for number in range(40):
        world.record(0, f"event {number}")
    world.settle()
    world.restore_hub()
    world.rest()
    assert device.session.replica.client == client
    assert world.hub.stored[client] == device.session.replica.clock
    assert not device.session.unacknowledged


def test_an_acknowledgement_is_void_until_it_is_given_again() -> None:
    world = World(1)
    world.settle()
    world.hub.back_up()
    (device,) = world.devices
    world.record(0, "acknowledged, and lost")
    world.settle()
    waiting = [device.session.unacknowledged]
    world.restore_hub()
    world.connect(0)
    while world.deliver_up(0) or world.hub.commit() or world.deliver_down(0):
        waiting.append(device.session.unacknowledged)
        assert not (device.session.unacknowledged and device.session.settled)
    assert (waiting[0], max(waiting), waiting[-1]) == (0, 1, 0)
    world.settle()


def test_what_only_another_device_received_comes_back_without_its_owner() -> None:
    world = World(3)
    world.settle()
    world.hub.back_up()
    world.save_image(0)
    lost = world.record(0, "recorded by a device that is restored, too")
    world.rest_of(0, 1)
    assert lost.id in world.devices[1].log.events
    world.cut(2)
    world.devices[2].log.events.pop(lost.id, None)
    world.roll_back(0)
    restored(world)
    assert all(lost.id in device.log.events for device in world.devices)


def test_what_was_forgotten_in_a_lost_future_stays_forgotten() -> None:
    world = World(2)
    event_ = world.record(0, "to be forgotten")
    world.settle()
    world.hub.back_up()
    world.forget(1, event_.id)
    world.settle()
    restored(world)
    assert all(event_.id not in device.log.events for device in world.devices)
    document = world.devices[0].session.replica
    assert not document.segments.holding({document.tombstone_key.of(event_.id)})


def test_a_hub_that_contradicts_itself_is_not_greeted_for_ever() -> None:
    world = World(2)
    world.record(0, "something")
    world.settle()
    world.cut(1)
    room = world.hub.room
    honest = room._all_held

    def wrong() -> Held:
        accounts = honest().accounts
        return Held(tuple((client, clock, digest ^ 1) for client, clock, digest in accounts))

    room._all_held = wrong  # type: ignore[method-assign]
    world.rest()
    clients = len(world.hub.clients)
    for _ in range(3):
        world.cut(1)
        world.rest()
    assert len(world.hub.clients) <= clients + 6


def test_who_has_seen_a_lost_future_begins_anew_and_saves_what_it_had() -> None:
    world = World(2)
    world.settle()
    world.hub.back_up()
    lost = world.record(0, "lost")
    world.settle()
    client = world.devices[1].session.replica.client
    world.restore_hub()
    world.rest_of(1)
    session = world.devices[1].session
    assert session.replica.client != client
    assert session.replica.segments.holding({session.replica.tombstone_key.of(lost.id)})
    world.settle()


@pytest.mark.parametrize("frame", [Held(()), Held(((3, 0, 0), (2**31 - 1, 7, 2**32 - 1)))])
def test_what_a_hub_holds_round_trips(frame: Held) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize("transport", ["stream", "requests"])
def test_worlds_converge_although_the_hub_is_restored(transport: str) -> None:
    faults = ("restore", "rollback", "clone", "partition", "crash")
    struck = 0
    for seed in range(3):
        report = simulate(Settings(seed, hours=6, faults=faults, transport=transport), PRODUCTION)
        assert report.passed, report.explanation()
        struck += report.faults["restore"]
    assert struck > 3


def test_the_answer_before_ready_is_preceded_by_what_the_hub_has() -> None:
    world = World(1)
    world.connect(0)
    seen: list[type] = []
    for _ in range(6):
        world.deliver_up(0)
        world.hub.commit()
        link = world.devices[0].link
        assert link is not None
        while link.down:
            seen.append(type(decode_frame(link.down[0])))
            world.deliver_down(0)
    assert seen[seen.index(Step2) - 1] is Held


@pytest.mark.parametrize("forgetter", [0, 1])
def test_nothing_is_lost_where_the_own_place_at_a_restored_hub_was_forgotten(
    forgetter: int,
) -> None:
    """The hub cannot be gone on with, since what it has there is deleted here; yet it lost what is here."""
    world = World(3)
    world.rest_of(0, 1)
    older = [world.record(1, f"older {number}") for number in range(3)]
    world.record(0, "of the other")
    world.rest_of(0, 1)
    world.hub.back_up()
    world.save_image(0)
    lost = world.record(0, "lost by the hub and by its author")
    world.record(1, "more")
    world.rest_of(0, 1)
    world.forget(forgetter, older[2].id)
    world.rest_of(0, 1)
    world.restore_hub()
    world.roll_back(0)
    world.settle()
    assert all(lost.id in device.log.events for device in world.devices)
