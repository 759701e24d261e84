"""Hubs that do not show everybody the same, or not what they showed before: each is found out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localmem_protocol.envelope import Opener, PoolKey
from localmem_protocol.frames import Step1, Step2, decode_frame, encode_frame
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.heads import Position
from localmem_protocol.limits import BATCH_VIEWS_MAX, SEGMENT_BATCHES_MAX, VIEWS_WAITING_MAX
from localmem_protocol.lineage import Reach
from localmem_protocol.parcels import Parcel
from localmem_protocol.replica import Replica
from localmem_protocol.session import Session
from localmem_protocol.signatures import Signatures
from localmem_protocol.simulation import World
from localmem_protocol.updates import (
    Item,
    Update,
    clipped,
    decode_state_vector,
    decode_update,
    encode_state_vector,
    encode_update,
)
from localmem_protocol.views import View, Views, check_of, digest_of
from support.authors import author
from support.events import event
from support.pools import device_id

POOL = PoolKey("ab" * 16, 1, bytes(range(32)))
X, Y, Z = device_id(1), device_id(2), device_id(3)

Found = tuple[str, str, int, int, int]
"""Kind, device, client, clock, sequence."""


class DishonestHub(World):
    """A world whose hub shows each device at most so much (`most`), or other batches (`instead`)."""

    def __init__(self, devices: int = 3) -> None:
        super().__init__(devices, authorship=lambda device: author(int(device, 16)), pool=POOL.pool)
        self.most: dict[int, dict[int, int]] = {}
        self.instead: dict[int, dict[bytes, bytes]] = {}

    def check(self) -> None:
        """Problems are what is looked for."""

    def deliver_down(self, index: int) -> bool:
        link = self.devices[index].link
        if link is not None and link.down:
            link.down[0] = self.shown(index, link.down[0])
        return super().deliver_down(index)

    def shown(self, index: int, data: bytes) -> bytes:
        most = self.most.get(index, {})
        match decode_frame(data):
            case Step1(vector):
                clocks = decode_state_vector(vector)
                held = {c: min(clock, most.get(c, clock)) for c, clock in clocks.items()}
                return encode_frame(
                    Step1(encode_state_vector({c: n for c, n in held.items() if n}))
                )
            case UpdateFrame(update):
                return encode_frame(UpdateFrame(self._cut(index, update)))
            case Step2(update):
                return encode_frame(Step2(self._cut(index, update)))
        return data

    def _cut(self, index: int, data: bytes) -> bytes:
        update, most = decode_update(data), self.most.get(index, {})
        items = {
            client: [
                one for one in (self._part(index, item, most.get(client)) for item in run) if one
            ]
            for client, run in update.items.items()
        }
        ends = {client: most.get(client, 2**31) for client in update.deletes}
        kept = {client: run for client, run in items.items() if run}
        return encode_update(Update(kept, clipped(update.deletes, ends)))

    def _part(self, index: int, item: Item, most: int | None) -> Item | None:
        length = item.length if most is None else max(0, min(item.length, most - item.clock))
        if not length:
            return None
        instead = self.instead.get(index, {})
        contents = item.contents and tuple(instead.get(one, one) for one in item.contents[:length])
        return item._replace(length=length, contents=contents)

    def client(self, index: int) -> int:
        return self.devices[index].session.replica.client

    def clock(self, index: int) -> int:
        return self.devices[index].session.replica.clock

    def session(self, index: int) -> Session:
        return self.devices[index].session

    def work(self, index: int, *texts: str) -> None:
        """Something happens, everybody hears of it, and it is signed."""
        for text in texts:
            self.record(index, text)
        self.rest()
        self.rest_long(index)
        self.rest()

    def again(self, index: int) -> None:
        """A device connects anew."""
        self.cut(index)
        self.rest()

    def found(self, index: int) -> list[Found]:
        """What a device reports when nothing has come for a while."""
        self.rest_long(index)
        return [
            (one.kind, one.device, one.client, one.clock, one.sequence)
            for one in self.session(index).reported.take_news()
        ]

    def drop_document(self, index: int) -> None:
        """An event log from a backup: what the journal has of the document is of no use."""
        journal = self.devices[index].journal
        journal.saved = replace(journal.saved, reach=Reach(10**6))
        self.crash(index)


def world(devices: int = 3) -> DishonestHub:
    made = DishonestHub(devices)
    made.rest()
    return made


def sealed_by(update: bytes) -> list[bytes]:
    runs = decode_update(update, stored=True).items.values()
    return [sealed for run in runs for item in run for sealed in item.contents or ()]


def test_devices_that_were_shown_the_same_say_nothing() -> None:
    hub = world()
    for number in range(3):
        for index in range(3):
            hub.work(index, f"{number} of {index}", "more")
    assert [hub.found(index) for index in range(3)] == [[], [], []]
    assert hub.session(1).replica.state_code == hub.session(2).replica.state_code
    for index in range(3):
        assert hub.session(index).replica.signatures._views.waiting == []


def test_a_frozen_tail_is_reported_by_who_does_not_see_it() -> None:
    hub = world()
    hub.work(0, "one")
    client, clock = hub.client(0), hub.clock(0)
    hub.most[1] = {client: clock}
    hub.work(0, "two", "three")
    assert hub.found(1) == []  # nobody has said so yet
    hub.work(2, "of another device")
    assert hub.found(1) == [("withheld", X, client, clock, 2)]
    reason = hub.session(1).reported.problems[-1].reason
    assert reason == f"device {Z} was shown {hub.clock(0)} batches, this one {clock}"
    assert hub.found(1) == []
    hub.work(2, "and again")
    assert hub.found(1) == []  # it stays one problem
    assert hub.found(0) == hub.found(2) == []
    hub.most.clear()
    hub.again(1)
    assert hub.found(1) == []
    assert hub.session(1).replica.signatures._views.waiting == []


def test_a_device_that_is_kept_from_another_altogether_is_named() -> None:
    hub = world()
    hub.most[1] = {hub.client(0): 0}
    hub.work(0, "one", "two")
    hub.work(2, "of another device")
    assert hub.found(1) == [("withheld", X, hub.client(0), 0, 1)]


def test_a_forked_tail_is_reported_by_both_sides_and_by_its_owner() -> None:
    hub = world()
    hub.work(0, "one")
    client, clock = hub.client(0), hub.clock(0)
    copy = Replica(
        hub.pool, X, client, [hub.session(0).replica.export()], Signatures(hub.pool, X, author(1))
    )
    other = sealed_by(copy.append([event(90, device=X)]))
    hub.record(0, "two")
    (new,) = sealed_by(
        hub.session(0).replica.own_part(hub.session(1).replica.state_vector(), {})[0]
    )
    hub.instead[2] = {new: other[0]}
    hub.rest()
    hub.work(2, "after one of them")
    hub.work(1, "after the other")
    assert hub.found(1) == [("fork", X, client, clock, 2)]
    assert hub.found(2) == [("fork", X, client, clock, 90)]
    assert hub.found(0) == [("fork", X, client, clock, 2)]
    assert Z in hub.session(1).reported.problems[-1].reason


def test_an_older_state_after_a_restart_is_reported_at_once() -> None:
    hub = world()
    hub.work(0, "one")
    early = hub.clock(0)
    hub.work(0, "two", "three")
    client, late = hub.client(0), hub.clock(0)
    hub.cut(1)
    hub.crash(1)
    hub.most[1] = {client: early}
    hub.rest()
    assert hub.found(1) == [("replay", X, client, late, 2)]
    assert (
        hub.session(1).reported.problems[-1].reason
        == f"the hub shows {early} batches, and had {late}"
    )
    hub.again(1)
    assert hub.found(1) == []


def test_heads_outlive_the_document_and_show_that_a_hub_shows_less() -> None:
    hub = world()
    hub.work(0, "one")
    early = hub.clock(0)
    hub.work(0, "two", "three")
    client, late = hub.client(0), hub.clock(0)
    hub.most[1] = {client: early}
    hub.drop_document(1)
    assert hub.session(1).replica.clock == 0
    hub.rest()
    assert ("replay", X, client, late - 1, 3) in hub.found(1)
    journal = hub.devices[1].journal
    assert set(journal.saved.heads) == {client}
    journal.saved = replace(journal.saved, heads={})
    hub.drop_document(1)
    hub.rest()
    assert hub.found(1) == []  # it would not have been known


def test_heads_outlive_compaction_and_what_was_evicted_is_no_alarm() -> None:
    hub = world()
    for number in range(3 * SEGMENT_BATCHES_MAX):
        hub.record(0, f"event {number}")
        hub.rest()
    session = hub.session(0)
    evicted = session.replica.evict(2000)
    assert evicted is not None
    session._document.keep(evicted)
    hub.rest()
    hub.session(1)._document.compact_if_due(now=True)
    hub.crash(1)
    hub.rest()
    assert hub.found(1) == []
    assert hub.session(1).replica.signatures.newest[hub.client(0)].at.floor > SEGMENT_BATCHES_MAX


@pytest.mark.parametrize("damage", ["signature", "place", "device", "bytes", "epoch"])
def test_heads_that_do_not_hold_are_ignored(damage: str) -> None:
    hub = world()
    hub.work(0, "one", "two")
    client = hub.client(0)
    device, data = hub.devices[1].journal.saved.heads[client]
    altered = {
        "signature": (device, data[:-1] + bytes([data[-1] ^ 1])),
        "place": (device, data[:24] + b"\xff" + data[25:]),
        "device": (device_id(77), data),
        "bytes": (device, b"nothing"),
        "epoch": (
            device,
            author(1).sign(Position(POOL.pool, 2, client, 9, bytes(16), 1, 9)).encode(),
        ),
    }[damage]
    signatures = Signatures(hub.pool, Y, author(2), [altered])
    assert signatures.newest == {}
    whole = Signatures(hub.pool, Y, author(2), [(device, data)])
    assert [one.at.client for one in whole.newest.values()] == [client]


def test_a_hub_that_was_restored_is_named_and_all_is_well_when_its_devices_were_there() -> None:
    hub = world()
    hub.work(0, "one")
    backup = list(hub.hub.rows)
    hub.work(0, "two", "three")
    client, late = hub.client(0), hub.clock(0)
    for index in range(3):
        hub.cut(index)

    def restore() -> None:
        for index in range(3):
            hub.cut(index)
        hub.hub.rows = list(backup)
        hub.hub.restart()

    restore()
    hub.rest_of(1)
    expected = ("replay", X, client, late, 2)
    assert hub.found(1) == [expected]
    hub.cut(1)
    hub.rest_of(1)
    assert hub.found(1) == []  # said once
    hub.rest_of(0)
    assert hub.found(0) == [expected]  # its own chain, which it has sent again
    hub.cut(1)
    hub.rest()
    assert hub.found(1) == []
    assert [one.kind for one in hub.session(1).reported.problems] == [
        "replay"
    ]  # it stays in the list
    restore()
    hub.rest_of(1)
    found = hub.found(
        1
    )  # and is said when it happens again, with the own batches that are lost now
    assert expected in found
    assert {one[0] for one in found} == {"replay"}


def test_batches_in_another_order_do_not_open_and_are_named() -> None:
    hub = world()
    hub.work(0, "one")
    client, clock = hub.client(0), hub.clock(0)
    hub.cut(1)
    for text in ("two", "three"):
        hub.record(0, text)
        hub.rest_of(0)
    first, second = sealed_by(
        hub.session(0).replica.own_part(hub.session(1).replica.state_vector(), {})[0]
    )
    hub.instead[1] = {first: second, second: first}
    hub.rest()
    # More than once, since the hub also says by what digests it has that it shows something else.
    assert list(dict.fromkeys(one[:4] for one in hub.found(1))) == [
        ("unopened", X, client, clock),
        ("unopened", X, client, clock + 1),
    ]


def test_what_comes_again_is_nothing_new_and_another_in_its_place_is_a_fork() -> None:
    hub = world()
    hub.work(0, "one")
    client, clock = hub.client(0), hub.clock(0)
    before = hub.session(0).replica.state_vector()
    copy = Replica(
        hub.pool, X, client, [hub.session(0).replica.export()], Signatures(hub.pool, X, author(1))
    )
    other = copy.append([event(90, device=X)])
    hub.record(0, "two")
    hub.rest()
    (again,) = hub.session(0).replica.own_part(before, {})
    for update in (again, again):
        link = hub.devices[1].link
        assert link is not None
        link.down.append(encode_frame(UpdateFrame(update)))
        hub.rest()
    assert hub.found(1) == []
    link = hub.devices[1].link
    assert link is not None
    link.down.append(encode_frame(UpdateFrame(other)))
    hub.rest()
    assert hub.found(1) == [("fork", X, client, clock, 2)]
    assert len(hub.devices[1].log.events) == 2


def lines(*numbers: int) -> list[Replica]:
    return [
        Replica(POOL, device_id(n), n, (), Signatures(POOL, device_id(n), author(n)))
        for n in numbers
    ]


def test_a_member_that_lies_is_reported_once_and_changes_nothing() -> None:
    honest, liar, reader = lines(1, 2, 3)
    reader.integrate(honest.append([event(1, device=X)]))
    for clock in (9, 2**31 - 1):
        liar.append([event(clock, device=Y)])
        head = liar.head_before(liar.clock)
        assert head is not None
        views = (View(1, clock, b"lies"), View(77, clock, b"lies", "ff" * 8))
        signed = liar.signatures.head(2, liar.clock, head, views)
        assert signed is not None
        liar.append_parcel(Parcel(heads=(signed,), views=views))
    result = reader.integrate(liar.export())
    assert result.problems == []
    found = [(one.kind, one.device, one.client, one.clock) for one in reader.missing()]
    assert found == [("withheld", X, 1, 1), ("withheld", "", 77, 0)]
    assert len(reader.signatures._views.waiting) == 2


def test_views_in_another_s_name_are_not_heard() -> None:
    honest, victim, reader = lines(1, 2, 3)
    reader.integrate(honest.append([event(1, device=X)]))
    reader.integrate(victim.append([event(1, device=Y)]))
    forger = Replica(POOL, Y, 2, [victim.export()])
    forger._own.start_segment()
    head, views = forger.head_before(1), (View(1, 9, b"lies"),)
    assert head is not None
    genuine = victim.signatures.head(2, 1, head)  # signs no views
    assert genuine is not None
    problems = reader.integrate(
        forger.append_parcel(Parcel(heads=(genuine,), views=views))
    ).problems
    assert [one.kind for one in problems] == ["signature"]
    assert reader.missing() == []


def test_what_was_evicted_here_cannot_be_compared_and_is_no_fork() -> None:
    honest, viewer, reader = lines(1, 2, 3)
    update = honest.append([event(1, device=X)])
    viewer.integrate(update)
    reader.integrate(update)
    reader.integrate(viewer.append([event(1, device=Y)]))
    reader.integrate(encode_update(Update({}, {1: [(0, 1)]})))
    reader.missing()  # the owner will sign what it kept
    reader.integrate(viewer.append_head())
    assert [one for one in reader.missing() if one.kind != "gap"] == []


def test_only_what_is_new_is_said_and_a_device_is_named_once() -> None:
    honest, viewer, reader = lines(1, 2, 3)
    opener = Opener(POOL, Y, 2)

    def said(update: bytes) -> list[tuple[View, ...]]:
        return [
            opener.open(sealed, item.clock + number).views
            for item in decode_update(update, stored=True).items[2]
            for number, sealed in enumerate(item.contents or ())
        ]

    viewer.integrate(honest.append([event(1, device=X)]))
    said(viewer.append([event(1, device=Y)]))
    ((first,),) = said(viewer.append_head())
    assert (first.client, first.clock, first.device) == (1, 1, X)
    said(viewer.append([event(2, device=Y)]))
    assert said(viewer.append_head()) == [()]
    viewer.integrate(honest.append([event(2, device=X)]))
    said(viewer.append([event(3, device=Y)]))
    ((third,),) = said(viewer.append_head())
    assert (third.client, third.clock, third.device) == (1, 2, "")
    again = Replica(POOL, Y, 2, [viewer.export()], Signatures(POOL, Y, author(2)))
    assert again.signatures.views(bytes(16)) == ()  # after a restart, too
    reader.integrate(honest.export())
    reader.integrate(viewer.export())
    assert reader.missing() == []


def test_where_somebody_forgot_what_may_have_said_it_nothing_is_missing() -> None:
    """X evicts, says so, and goes; Z forgets something, and with it what X said; Y was away."""
    writer, reader, tidier = lines(1, 2, 3)
    for number in range(1, SEGMENT_BATCHES_MAX + 2):
        reader.integrate(writer.append([event(number, device=X)]))
    for number in range(SEGMENT_BATCHES_MAX + 2, 2 * SEGMENT_BATCHES_MAX + 3):
        writer.append([event(number, device=X)])
    assert writer.evict(writer._own.size - 100)
    tidier.integrate(writer.export())
    last = tidier.segments.segment_of(1, writer.clock - 1)
    assert last is not None
    gone = event(2 * SEGMENT_BATCHES_MAX + 2, device=X)
    tidier.trim([last], lambda one: one != gone, [tidier.tombstone_key.of(gone.id)])
    reader.integrate(tidier.export())
    assert reader.missing() == []
    writer.integrate(tidier.export())
    reader.integrate(writer.append_head())
    assert reader.missing() == []
    assert reader.signatures.newest[1].at.floor == SEGMENT_BATCHES_MAX + 1


def test_what_waits_is_bounded_and_the_newest_stays() -> None:
    views = Views()
    for number in range(VIEWS_WAITING_MAX + 10):
        views.hear(Y, 2, bytes(16), [View(number + 1, 1, b"seen", X)])
    assert len(views.waiting) == len(views._named) == VIEWS_WAITING_MAX
    assert views.waiting[-1].view.client == VIEWS_WAITING_MAX + 10


def test_more_than_fit_are_said_by_and_by() -> None:
    views = Views()
    newest = {client: (1, bytes(16)) for client in range(1, 3 * BATCH_VIEWS_MAX // 2 + 1)}
    owners = dict.fromkeys(newest, X)
    first = views.make(bytes(16), newest, owners)
    views.said(first)
    second = views.make(bytes(16), newest, owners)
    views.said(second)
    assert (len(first), len(second)) == (BATCH_VIEWS_MAX, BATCH_VIEWS_MAX // 2)
    assert {one.client for one in (*first, *second)} == set(newest)
    assert views.make(bytes(16), newest, owners) == ()


def test_a_check_depends_on_all_that_it_is_of() -> None:
    checks = {
        check_of(salt, client, clock, data)
        for salt in (bytes(16), b"s" * 16)
        for client in (1, 2)
        for clock in (1, 2)
        for data in (bytes(16), b"h" * 16)
    }
    assert len(checks) == 16
    assert digest_of(()) == bytes(16) != digest_of([View(1, 1, b"seen")])
