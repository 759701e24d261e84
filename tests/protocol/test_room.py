import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.frames import (
    CAPABILITIES,
    NEEDED,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Held,
    Hello,
    Notice,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import (
    CLIENTS_PER_DEVICE_MAX,
    SEGMENT_BATCHES_MAX,
    UPDATE_STRUCTS_MAX,
)
from localmem_protocol.parcels import Parcel
from localmem_protocol.replica import Replica
from localmem_protocol.room import Drop, Effect, Peer, Room, Send
from localmem_protocol.updates import (
    Item,
    decode_update,
    encode_state_vector,
    encode_update,
)
from localmem_protocol.updates import Update as Structs
from support.events import event

POOL = PoolKey("team", 1, bytes(32))
ONE, TWO = "11" * 8, "22" * 8


class Bench:
    """A room with two devices that have said hello, and a store played by the test."""

    def __init__(self, *, writer: bool = True) -> None:
        self.room = Room()
        self.rows: list[bytes] = []
        self.clients: dict[int, str] = {}
        for connection, device in ((1, ONE), (2, TWO)):
            self.room.join(Peer(connection, device, writer))
            self.give(connection, Hello(PROTOCOL, CAPABILITIES, device, 0))
            self.commit()
            self.give(connection, Step1(b"\x00"))
        self.replica = Replica(POOL, ONE, 1)

    def give(self, connection: int, frame: Frame) -> list[Effect]:
        return self.room.receive(connection, encode_frame(frame))

    def again(self, connection: int) -> None:
        """A device whose connection was dropped comes back."""
        device = {1: ONE, 2: TWO}[connection]
        self.room.join(Peer(connection, device))
        self.give(connection, Hello(PROTOCOL, CAPABILITIES, device, connection))
        self.give(connection, Step1(b"\x00"))

    def write(self, number: int) -> list[Effect]:
        return self.give(1, Update(self.replica.append([event(number, ONE)])))

    def commit(self) -> list[tuple[int, Frame]]:
        commit = self.room.take()
        assert commit is not None
        self.rows += [row.update for row in commit.rows]
        self.clients |= commit.clients
        return sent(self.room.committed())


def sent(effects: list[Effect]) -> list[tuple[int, Frame]]:
    return [(e.connection, decode_frame(e.data)) for e in effects if isinstance(e, Send)]


def refused(effects: list[Effect]) -> int:
    """The code of a refusal: said, then closed."""
    assert isinstance(effects[-1], Drop)
    ((_, refusal),) = sent(effects)
    assert isinstance(refusal, Refusal)
    assert refusal.code == effects[-1].code
    return refusal.code


def test_nothing_is_acknowledged_or_broadcast_before_it_is_stored() -> None:
    bench = Bench()
    assert bench.write(1) == []
    told = bench.commit()
    assert (1, Ack(1, 1)) in told
    assert (2, Update(bench.rows[-1])) in told
    assert len(told) == 2


def test_writes_during_a_commit_wait_for_the_next_one() -> None:
    bench = Bench()
    bench.write(1)
    assert bench.room.take() is not None
    bench.write(2)
    assert bench.room.take() is None
    assert (1, Ack(1, 1)) in sent(bench.room.committed())
    assert (1, Ack(1, 2)) in bench.commit()


def test_what_one_device_wrote_in_a_commit_is_passed_on_as_one_update() -> None:
    bench = Bench()
    other = Replica(POOL, TWO, 2)
    for number in range(3):
        bench.write(number)
        bench.give(2, Update(other.append([event(10 + number, TWO)])))
    told = bench.commit()
    assert len(bench.rows) == 6
    for reader, author in ((1, 2), (2, 1)):
        (passed,) = [f for c, f in told if c == reader and isinstance(f, Update)]
        update = decode_update(passed.update)
        assert list(update.items) == [author]
        assert (update.items[author][0].clock, update.items[author][-1].end) == (0, 3)
    assert [frame for _, frame in told if isinstance(frame, Ack)] == [Ack(1, 3), Ack(2, 3)]


def test_what_builds_on_another_connections_update_is_passed_on_after_it() -> None:
    bench = Bench()
    bench.room.join(Peer(3, ONE))
    bench.give(3, Hello(PROTOCOL, CAPABILITIES, ONE, 7))
    bench.commit()
    content = (b"x",)

    def give(connection: int, update: Structs) -> None:
        bench.give(connection, Update(encode_update(update)))

    give(1, Structs({1: [Item(0, 1, content, None, None, ONE)]}))
    give(3, Structs({7: [Item(0, 1, content, (1, 0))]}))
    give(1, Structs({1: [Item(1, 1, content, (7, 0))]}))
    give(2, Structs({2: [Item(0, 1, content, None, None, TWO)]}))
    give(1, Structs({1: [Item(2, 1, content, (1, 1))]}, {1: [(0, 1)]}))
    passed = [f.update for c, f in bench.commit() if c == 2 and isinstance(f, Update)]
    replayed = Ledger()
    for data in passed:  # each can be merged after those before it
        update = decode_update(data)
        replayed.note(update, replayed.check(update))
    assert (replayed.clock(1), replayed.clock(7)) == (3, 1)


def test_a_question_after_an_uncommitted_write_is_answered_after_its_commit() -> None:
    bench = Bench()
    bench.write(1)
    assert bench.give(2, Step1(b"\x00")) == []
    answers = [frame for connection, frame in bench.commit() if connection == 2]
    assert [type(frame) for frame in answers] == [Update, Held, Step2]


def test_a_device_that_has_not_caught_up_gets_no_broadcast() -> None:
    bench = Bench()
    bench.give(2, Hello(PROTOCOL, CAPABILITIES, TWO, 2))
    bench.write(1)
    assert [connection for connection, _ in bench.commit()] == [1]


def test_a_notice_reaches_those_who_said_that_they_know_what_it_is() -> None:
    bench = Bench()
    notice = Notice("roster", 2)
    bench.give(2, Hello(PROTOCOL, NEEDED, TWO, 2))
    bench.room.join(Peer(3, "33" * 8))  # has not said hello yet
    assert sent(bench.room.notify(notice)) == [(1, notice)]
    bench.give(2, Hello(PROTOCOL, CAPABILITIES, TWO, 2))
    bench.room.leave(1)
    assert sent(bench.room.notify(notice)) == [(2, notice)]


def test_who_is_welcomed_later_is_told_the_last_notice() -> None:
    bench = Bench()
    bench.room.notify(Notice("roster", 2))
    bench.room.notify(Notice("roster", 3))
    for capabilities, told in ((CAPABILITIES, [Notice("roster", 3)]), (NEEDED, [])):
        greeting = sent(bench.give(1, Hello(PROTOCOL, capabilities, ONE, 1)))
        assert [type(frame) for _, frame in greeting[:2]] == [Welcome, Step1]
        assert [frame for _, frame in greeting[2:]] == told


def test_a_notice_of_a_device_means_nothing_if_its_kind_is_not_known() -> None:
    bench = Bench()
    bench.room.join(Peer(3, "33" * 8))
    bench.give(2, Hello(PROTOCOL, CAPABILITIES, TWO, 2))
    assert bench.give(2, Notice("roster", 2)) == []
    assert refused(bench.give(3, Notice("waiting", 2))) == Close.BAD_FRAME


def test_what_is_known_is_acknowledged_again_and_not_stored_again() -> None:
    bench = Bench()
    update = Update(bench.replica.append([event(1, ONE)]))
    bench.give(1, update)
    bench.commit()
    assert sent(bench.give(1, update)) == [(1, Ack(1, 1))]
    assert bench.room.take() is None


def test_a_room_comes_back_from_its_rows_and_from_its_snapshot() -> None:
    bench = Bench()
    for number in range(1, 30):
        bench.write(number)
    bench.commit()
    for rows in (bench.rows, [bench.room.snapshot()]):
        again = Room(rows, bench.clients)
        again.join(Peer(9, ONE))
        (_, welcome), _ = sent(
            again.receive(9, encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 1)))
        )
        assert isinstance(welcome, Welcome)
        assert (welcome.client, welcome.clock) == (1, 29)
        assert welcome.head == bench.replica.head_before(29)


def test_a_gap_is_never_acknowledged_and_asks_for_a_new_try() -> None:
    bench = Bench()
    bench.replica.append([event(1, ONE)])
    assert refused(bench.write(2)) == Close.GAP
    assert bench.room.take() is None


def another_devices_client(bench: Bench) -> bytes:
    bench.give(2, Update(Replica(POOL, TWO, 2).append([event(1, TWO)])))
    return encode_update(Structs({2: [Item(0, 1, (b"x",), root=ONE)]}))


def another_devices_array(_: Bench) -> bytes:
    return encode_update(Structs({1: [Item(0, 1, (b"x",), root=TWO)]}))


def other_bytes_at_a_known_clock(bench: Bench) -> bytes:
    bench.write(1)
    return Replica(POOL, ONE, 1).append([event(7, ONE)])


def another_devices_array_by_an_origin(bench: Bench) -> bytes:
    bench.give(2, Update(Replica(POOL, TWO, 2).append([event(1, TWO)])))
    return encode_update(Structs({3: [Item(0, 1, (b"x",), origin=(2, 0))]}))


def on_itself(_: Bench) -> bytes:
    return encode_update(Structs({1: [Item(0, 1, (b"x",), origin=(1, 0))]}))


def on_its_future(_: Bench) -> bytes:
    first = Item(0, 1, (b"x",), root=ONE)
    return encode_update(Structs({1: [first, Item(1, 1, (b"y",), (1, 0), right=(1, 1))]}))


def in_a_circle(bench: Bench) -> bytes:
    bench.write(1)
    pair = {1: [Item(1, 1, (b"x",), (3, 0))], 3: [Item(0, 1, (b"y",), (1, 1))]}
    return encode_update(Structs(pair))


def where_a_collected_one_was(bench: Bench) -> bytes:
    bench.write(1)
    return b"\x01\x02\x01\x01\x00\x02\x88\x01\x01\x01\x01t\x01x\x00"


def too_long_a_run(bench: Bench) -> bytes:
    bench.write(1)
    return encode_update(Structs({1: [Item(1, 2**32, None, (1, 0))]}))


def not_binary(_: Bench) -> bytes:
    return b"\x01\x01\x01\x00\x04\x01\x01t\x01a\x00"


@pytest.mark.parametrize(
    "attack",
    [
        another_devices_client,
        another_devices_array,
        other_bytes_at_a_known_clock,
        another_devices_array_by_an_origin,
        on_itself,
        on_its_future,
        in_a_circle,
        where_a_collected_one_was,
        too_long_a_run,
        not_binary,
    ],
)
def test_a_forbidden_update_is_refused_for_good_and_kept_for_the_operator(attack) -> None:  # type: ignore[no-untyped-def]
    bench = Bench()
    data = attack(bench)
    before = bench.room.snapshot()
    assert refused(bench.give(1, Update(data))) == Close.REFUSED_UPDATE
    assert bench.room.snapshot() == before
    commit = bench.room.take()
    assert commit is not None
    (kept,) = commit.quarantined
    assert (kept.device, kept.update) == (ONE, data)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Structs:
    """What a defect in the check would let through, and the library holds back."""

    def check(ledger: Ledger, update: Structs) -> dict[int, str]:
        return {
            client: run[0].root or ""
            for client, run in update.items.items()
            if client not in ledger
        }

    monkeypatch.setattr(Ledger, "check", check)
    return Structs({1: [Item(2, 1, (b"x",), origin=(1, 2))]})


def test_an_update_that_the_library_holds_back_costs_its_sender_alone(unchecked: Structs) -> None:
    bench = Bench()
    bench.room.join(Peer(3, "33" * 8))
    bench.write(1)
    bench.commit()
    bench.write(2)
    bad = encode_update(unchecked)
    assert refused(bench.give(1, Update(bad))) == Close.REFUSED_UPDATE
    assert bench.room.broken
    with pytest.raises(ValueError, match="broken"):
        bench.give(2, Step1(b"\x00"))
    assert bench.give(1, Step1(b"\x00")) == []  # it has left
    commit = bench.room.take()
    assert commit is not None
    assert [kept.update for kept in commit.quarantined] == [bad]
    bench.rows += [row.update for row in commit.rows]
    assert [connection for connection, _ in sent(bench.room.committed())] == [2]
    bench.room.mend(Room(bench.rows, bench.clients))
    *_, (_, answer) = sent(bench.give(2, Step1(b"\x00")))
    assert isinstance(answer, Step2)
    assert Replica(POOL, TWO, 2, [answer.update]).loaded.events == [event(1, ONE), event(2, ONE)]


def test_a_room_is_mended_when_it_is_broken_and_all_is_stored(unchecked: Structs) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="mended"):
        bench.room.mend(Room())
    bench.write(1)
    bench.write(2)
    bench.give(1, Update(encode_update(unchecked)))
    with pytest.raises(ValueError, match="mended"):
        bench.room.mend(Room())
    bench.commit()
    assert bench.room.to_mend


def test_a_writer_may_delete_in_anothers_array_but_only_whole_segments() -> None:
    bench = Bench()
    for number in range(1, 4):
        bench.write(number)
    bench.commit()
    before = bench.room.snapshot()
    for first, length in [(0, 1), (0, 2), (1, 1)]:
        part = encode_update(Structs({}, {1: [(first, length)]}))
        assert refused(bench.give(2, Update(part))) == Close.GAP
        bench.again(2)
    assert bench.room.snapshot() == before
    # Its last ones may go: nothing has to be opened after them.
    bench.give(2, Update(encode_update(Structs({}, {1: [(1, 1), (2, 1)]}))))
    commit = bench.room.take()
    assert commit is not None
    assert commit.erases
    assert not commit.quarantined
    bench.room.committed()
    assert refused(bench.give(1, Update(bench.replica.append([event(4, ONE)])))) == Close.GAP


def test_a_segment_that_was_deleted_is_not_continued_but_a_new_one_follows_it() -> None:
    bench = Bench()
    bench.write(1)
    bench.commit()
    whole = encode_update(Structs({}, {1: [(0, 1)]}))
    bench.give(2, Update(whole))
    bench.commit()
    ahead = bench.replica.append([event(2, ONE)])
    assert refused(bench.give(1, Update(ahead))) == Close.GAP
    bench.again(1)
    bench.replica.integrate(whole)
    moved = bench.replica.move({1: [(1, 1)]}, [Parcel((event(2, ONE),))], lambda one: True)
    both = bench.replica.own_part(b"\x01\x01\x01", bench.replica.deletes_beyond({1: [(0, 1)]}))
    assert len(both) == 1
    assert moved != both[0]
    bench.give(1, Update(both[0]))
    assert (1, Ack(1, 3)) in bench.commit()
    joiner = Replica(POOL, TWO, 9, [bench.room.snapshot()])
    assert joiner.loaded.events == [event(2, ONE)]
    assert joiner.loaded.problems == []


def test_who_evicts_erases_nothing_and_who_moves_does() -> None:
    bench = Bench()
    last = SEGMENT_BATCHES_MAX + 3
    for number in range(1, last + 1):
        bench.write(number)
    bench.commit()
    evicted = bench.replica.evict(0)
    assert evicted is not None
    bench.give(1, Update(evicted))
    commit = bench.room.take()
    assert commit is not None
    assert commit.rows
    assert not commit.erases
    bench.room.committed()
    segment = bench.replica.segments.segment_of(1, last - 1)
    assert segment is not None
    (moved,) = bench.replica.trim([segment], lambda one: one.sequence != last)
    bench.give(1, Update(moved))
    commit = bench.room.take()
    assert commit is not None
    assert commit.erases


def test_a_reading_token_is_told_so_and_does_not_write() -> None:
    bench = Bench(writer=False)
    (_, welcome), *_ = sent(bench.give(1, Hello(PROTOCOL, CAPABILITIES, ONE, 1)))
    assert isinstance(welcome, Welcome)
    assert not welcome.writer
    assert refused(bench.write(1)) == Close.READ_ONLY


@pytest.mark.parametrize(
    "frame",
    [
        Hello("other", (), ONE, 0),
        Hello(PROTOCOL, CAPABILITIES, TWO, 0),
        Hello(PROTOCOL, CAPABILITIES, ONE, -1),
        Hello(PROTOCOL, CAPABILITIES, ONE, 2**40),
        Ack(1, 1),
        Step1(b"\xff"),
    ],
    ids=["protocol", "device", "negative", "too-high", "ack", "vector"],
)
def test_a_frame_that_no_device_sends_is_refused(frame: Frame) -> None:
    assert refused(Bench().give(1, frame)) in (Close.BAD_FRAME,)


def test_nothing_is_heard_before_hello_or_after_leaving() -> None:
    room = Room()
    room.join(Peer(1, ONE))
    assert refused(room.receive(1, encode_frame(Step1(b"\x00")))) == Close.BAD_FRAME
    assert room.receive(1, encode_frame(Step1(b"\x00"))) == []
    assert room.idle


def test_a_client_id_has_one_connection_and_the_newer_one_stays() -> None:
    bench = Bench()
    bench.room.join(Peer(3, ONE))
    dropped, *_ = bench.give(3, Hello(PROTOCOL, CAPABILITIES, ONE, 1))
    assert dropped == Drop(1, Close.REPLACED, "another connection took over")
    assert bench.room.peers == 2


def test_a_client_id_of_another_device_is_not_given_away() -> None:
    bench = Bench()
    bench.room.join(Peer(3, "33" * 8))
    bench.give(3, Hello(PROTOCOL, CAPABILITIES, "33" * 8, 1))
    ((_, welcome), *_) = bench.commit()
    assert isinstance(welcome, Welcome)
    assert welcome.client == 3


def test_an_unused_client_id_is_given_again_to_its_device_only() -> None:
    bench = Bench()
    bench.room.leave(1)
    bench.room.join(Peer(3, ONE))
    (_, welcome), *_ = sent(bench.give(3, Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
    assert isinstance(welcome, Welcome)
    assert welcome.client == 1


def test_an_unused_client_id_of_before_is_not_given_again_unless_there_can_be_no_more() -> None:
    """The hub may have been restored from a backup, and lost what was written under it."""
    for had, again in ((1, False), (CLIENTS_PER_DEVICE_MAX, True)):
        clients = dict.fromkeys(range(1, had + 1), ONE)
        room = Room((), clients)
        room.join(Peer(3, ONE))
        effects = room.receive(3, encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
        if room.take() is not None:
            effects += room.committed()
        (_, welcome), *_ = sent(effects)
        assert isinstance(welcome, Welcome)
        assert (welcome.client in clients) == again


def test_when_the_store_fails_everybody_goes_and_nobody_is_told_it_is_stored() -> None:
    bench = Bench()
    bench.write(1)
    bench.room.take()
    effects = bench.room.failed("disk full")
    assert {(e.connection, e.code) for e in effects if isinstance(e, Drop)} == {
        (1, Close.STORE_FAILED),
        (2, Close.STORE_FAILED),
    }
    assert not sent(effects)


def test_a_large_answer_comes_in_parts_and_broadcasts_begin_after_the_last() -> None:
    writer = Replica(POOL, ONE, 1)
    rows = [writer.append([event(number, ONE)]) for number in range(1, 21)]
    room = Room(rows, {1: ONE, 2: TWO}, step_bytes=200)
    room.join(Peer(2, TWO))
    room.receive(2, encode_frame(Hello(PROTOCOL, CAPABILITIES, TWO, 2)))
    reader = Replica(POOL, TWO, 2)
    parts = 0
    while True:
        *_, (_, answer) = sent(room.receive(2, encode_frame(Step1(reader.state_vector()))))
        assert isinstance(answer, Update | Step2)
        reader.integrate(answer.update)
        parts += 1
        room.join(Peer(1, ONE))
        room.receive(1, encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 1)))
        room.receive(1, encode_frame(Update(writer.append([event(100 + parts, ONE)]))))
        assert room.take() is not None
        heard = [connection for connection, _ in sent(room.committed())]
        assert (2 in heard) == isinstance(answer, Step2)
        if isinstance(answer, Step2):
            break
    assert parts > 3


def test_many_tiny_batches_are_told_in_updates_that_a_device_takes() -> None:
    """One device must not make what the hub says too much for all others."""
    bench = Bench()
    some, clock = UPDATE_STRUCTS_MAX // 2 + 1, 0
    for _ in range(3):
        origin, root = (None, ONE) if clock == 0 else ((1, clock - 1), None)
        item = Item(clock, some, (b"",) * some, origin, root=root)
        bench.give(1, Update(encode_update(Structs({1: [item]}))))
        clock += some
    told = [one.update for where, one in bench.commit() if where == 2 and isinstance(one, Update)]
    assert sum(map(batches, told)) == clock
    reached, answer = 0, None
    while not isinstance(answer, Step2):
        vector = encode_state_vector({1: reached} if reached else {})
        *_, (_, answer) = sent(bench.give(2, Step1(vector)))
        assert isinstance(answer, Update | Step2)
        reached += batches(answer.update)
    assert reached == clock


def batches(update: bytes) -> int:
    return sum(item.length for run in decode_update(update).items.values() for item in run)


def test_one_device_cannot_use_up_the_client_ids_of_all() -> None:
    bench = Bench()
    bench.room.join(Peer(3, "33" * 8, writer=False))
    for client in range(1000, 1000 + CLIENTS_PER_DEVICE_MAX + 50):
        bench.give(3, Hello(PROTOCOL, CAPABILITIES, "33" * 8, client))
    assert len(bench.room._ledger.clients_of("33" * 8)) == CLIENTS_PER_DEVICE_MAX
    bench.give(2, Hello(PROTOCOL, CAPABILITIES, TWO, 0))
    told = bench.commit()
    (welcome,) = [one for where, one in told if where == 2 and isinstance(one, Welcome)]
    assert welcome.client < 1000
