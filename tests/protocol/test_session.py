from collections.abc import Sequence
from copy import deepcopy

import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import FrameError, GapError, RefusedError
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    Ack,
    Close,
    Frame,
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
from localmem_protocol.lineage import RUNS_MAX, Reach
from localmem_protocol.replica import Replica
from localmem_protocol.session import UNACKNOWLEDGED_MAX, Session, State
from localmem_protocol.simulation import MemoryJournal, MemoryLog, World
from localmem_protocol.updates import Item, encode_state_vector, encode_update
from localmem_protocol.updates import Update as Structs
from support.events import DEVICE

POOL = PoolKey("team", 1, bytes(32))
EMPTY = encode_frame(Step2(b"\x00\x00"))


class Bench:
    """A session with its log and journal, and a hub played by the test."""

    def __init__(self) -> None:
        self.log, self.journal = MemoryLog(DEVICE), MemoryJournal()
        self.session = Session(POOL, self.log, self.journal)

    def give(self, frame: Frame) -> list[Frame]:
        return [decode_frame(data) for data in self.session.receive(encode_frame(frame))]

    def upload(self) -> list[Frame]:
        return [decode_frame(data) for data in self.session.upload()]

    def ready(self, clock: int = 0, head: bytes = bytes(16)) -> None:
        self.session.hello()
        self.give(Welcome(CAPABILITIES, 5, clock, head))
        self.give(Step1(bytes([1, 5, clock])))
        self.session.receive(EMPTY)


@pytest.mark.parametrize(
    "damaged",
    [b"damaged", encode_update(Structs({5: [Item(7, 1, (b"x",), (5, 6))]}))],
    ids=["bytes", "gap"],
)
def test_a_journal_that_does_not_load_is_thrown_away_and_all_is_sealed_again(
    damaged: bytes,
) -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    bench.upload()
    bench.journal.save(damaged, 1, Reach(1))
    bench.session = Session(POOL, bench.log, bench.journal)
    (hello,) = bench.session.hello()
    assert decode_frame(hello) == Hello("localmem.sync.v1", CAPABILITIES, DEVICE, 0)
    assert bench.journal.saved.updates == ()
    bench.give(Welcome(CAPABILITIES, 6, 0, bytes(16)))
    bench.session.receive(EMPTY)
    (frame,) = bench.upload()
    assert isinstance(frame, Update)
    assert len(Replica(POOL, "22" * 8, 7, [frame.update]).loaded.events) == 1


def test_a_notice_is_kept_whenever_it_comes_and_one_of_another_kind_means_nothing() -> None:
    bench = Bench()
    bench.session.hello()
    assert bench.give(Notice("roster", 3)) == []
    assert bench.session.roster_length == 3
    bench.ready()
    assert bench.give(Notice("weather", 9)) == []
    assert (bench.session.state, bench.session.roster_length) == (State.READY, 0)  # told anew
    assert bench.give(Notice("roster", 4)) == []
    assert bench.session.roster_length == 4
    bench.session.disconnect()
    with pytest.raises(FrameError, match="Notice while offline"):
        bench.give(Notice("roster", 4))


def test_a_first_connection_asks_for_a_client_id_and_keeps_it() -> None:
    bench = Bench()
    (hello,) = bench.session.hello()
    assert decode_frame(hello) == Hello("localmem.sync.v1", CAPABILITIES, DEVICE, 0)
    assert bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16))) == []
    assert bench.journal.saved.client == 5
    answers = bench.give(Step1(b"\x00"))
    assert [type(answer) for answer in answers] == [Step1]
    bench.session.receive(EMPTY)
    assert bench.session.state is State.READY


def test_nothing_is_sealed_before_the_hub_is_ready_for_it() -> None:
    bench = Bench()
    bench.log.record("offline", 1)
    assert bench.upload() == []
    bench.session.hello()
    assert bench.upload() == []
    bench.ready()
    assert [type(frame) for frame in bench.upload()] == [Update]
    assert bench.upload() == []


def test_a_reader_keeps_its_batches_back_and_sends_them_once_it_may_write() -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    bench.upload()
    bench.log.record("two", 2)
    bench.session.disconnect()
    bench.session.hello()
    bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16), writer=False))
    assert [type(frame) for frame in bench.give(Step1(b"\x00"))] == [Step1]
    bench.session.receive(EMPTY)
    assert bench.upload() == []
    assert bench.session.settled
    assert bench.session.unsent()
    bench.session.disconnect()
    bench.session.hello()
    bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16)))
    assert [type(frame) for frame in bench.give(Step1(b"\x00"))] == [Step1]
    assert [type(frame) for frame in bench.give(Step2(b"\x00\x00"))] == [Update]
    assert [type(frame) for frame in bench.upload()] == [Update]
    assert not bench.session.settled


def test_an_own_batch_is_in_the_journal_before_it_is_sent() -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    (frame,) = bench.upload()
    assert isinstance(frame, Update)
    assert bench.journal.saved.updates == (frame.update,)
    assert bench.journal.saved.watermark == 1


def test_unacknowledged_batches_are_bounded_and_acknowledgements_make_room() -> None:
    bench = Bench()
    bench.ready()
    for number in range(UNACKNOWLEDGED_MAX):
        bench.log.record(f"event {number}", number)
        assert bench.upload()
    bench.log.record("one more", 99)
    assert bench.upload() == []
    bench.give(Ack(5, UNACKNOWLEDGED_MAX))
    assert bench.upload()
    assert not bench.session.settled
    bench.give(Ack(5, UNACKNOWLEDGED_MAX + 1))
    assert bench.session.settled


def test_a_lost_batch_is_sent_again_after_reconnecting() -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    (sent,) = bench.upload()
    bench.session.disconnect()
    bench.session.hello()
    bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16)))
    assert [type(frame) for frame in bench.give(Step1(b"\x00"))] == [Step1]
    assert bench.give(Step2(b"\x00\x00")) == [sent]


@pytest.mark.parametrize(
    ("clock", "head"), [(7, b"\x01" * 16), (1, b"\x01" * 16)], ids=["knows more", "other batch"]
)
def test_a_hub_with_batches_we_did_not_write_means_a_new_incarnation(
    clock: int, head: bytes
) -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    bench.upload()
    bench.session.disconnect()
    bench.session.hello()
    (again,) = bench.give(Welcome(CAPABILITIES, 5, clock, head))
    assert isinstance(again, Hello)
    assert again.client == 0
    assert bench.give(Step1(b"\x00")) == [], "what came with the first Welcome"
    with pytest.raises(FrameError):
        bench.give(Step1(b"\x00"))
    bench.give(Welcome(CAPABILITIES, 6, 0, bytes(16)))
    bench.give(Step1(b"\x00"))
    bench.session.receive(EMPTY)
    assert bench.session.replica.client == 6
    assert len(bench.upload()) == 1, "what the hub lacks is sealed again"


def test_a_journal_ahead_of_its_event_log_is_not_believed() -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("one", 1)
    bench.upload()
    restored = Session(POOL, MemoryLog(DEVICE), bench.journal)
    assert restored.replica.client == 0


def test_an_older_event_log_that_went_further_than_the_journal_is_noticed() -> None:
    bench = Bench()
    bench.log.begin(b"original")
    bench.log.record("one", 1)
    older = deepcopy(bench.log)
    bench.ready()
    bench.log.record("two", 2)
    bench.upload()
    assert Session(POOL, bench.log, bench.journal).replica.client == 5
    older.begin(b"put back")
    for number in range(3, 9):
        older.record(f"event {number}", number)
    session = Session(POOL, older, bench.journal)
    assert session.replica.client == 0
    assert session.unsent()


def test_a_session_that_opens_keeps_a_journal_that_is_seldom_written_to_known() -> None:
    bench = Bench()
    bench.log.record("one", 1)
    bench.ready()
    bench.upload()
    for run in range(2 * RUNS_MAX):
        bench.log.begin(b"run %4d" % run)
        bench.log.record("of another pool", run)
        assert Session(POOL, bench.log, bench.journal).replica.client == 5


@pytest.mark.parametrize(
    "frame", [Ack(5, 1), Step1(b"\x00"), Update(b"\x00\x00")], ids=lambda f: type(f).__name__
)
def test_a_frame_out_of_turn_is_refused(frame: Frame) -> None:
    bench = Bench()
    bench.session.hello()
    with pytest.raises(FrameError):
        bench.give(frame)


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    bench = Bench()
    bench.ready()
    with pytest.raises(FrameError):
        bench.give(Ack(5, 1))


def test_a_refusal_says_whether_to_try_again() -> None:
    bench = Bench()
    with pytest.raises(RefusedError) as caught:
        bench.give(Refusal(Close.BAD_TOKEN, permanent=True, reason="no"))
    assert (caught.value.close_code, caught.value.permanent) == (Close.BAD_TOKEN, True)


def test_events_of_others_are_in_the_log_before_the_journal_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(2)
    for index in range(2):
        world.connect(index)
    world.settle()
    order: list[str] = []
    reader = world.devices[1]
    insert, save = reader.log.insert, reader.journal.save

    def note_insert(events: Sequence[Event]) -> None:
        order.append("log")
        insert(events)

    def note_save(update: bytes | None, watermark: int, reach: Reach) -> None:
        order.append("journal")
        save(update, watermark, reach)

    monkeypatch.setattr(reader.log, "insert", note_insert)
    monkeypatch.setattr(reader.journal, "save", note_save)
    world.record(0, "hello")
    world.settle()
    assert order == ["log", "journal"]


def test_a_part_of_the_answer_makes_the_session_ask_for_the_rest() -> None:
    writer = World(1)
    writer.settle()
    for number in range(3):
        writer.record(0, f"event {number}")
    client = writer.devices[0].session.replica.client
    parts = writer.devices[0].journal.saved.updates
    bench = Bench()
    bench.session.hello()
    bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16)))
    bench.give(Step1(encode_state_vector({client: 3})))
    for clock, part in enumerate(parts[:-1], start=1):
        assert bench.give(Update(part)) == [Step1(encode_state_vector({client: clock}))]
        assert bench.session.state is State.SYNCING
    assert bench.give(Step2(parts[-1])) == []
    assert bench.session.state is State.READY
    assert bench.journal.saved.updates == parts


def test_a_part_that_brings_nothing_is_refused() -> None:
    bench = Bench()
    bench.session.hello()
    bench.give(Welcome(CAPABILITIES, 5, 0, bytes(16)))
    bench.give(Step1(b"\x01\x01\x03"))
    with pytest.raises(FrameError, match="nothing"):
        bench.give(Update(b"\x00\x00"))


def test_a_gap_is_transient() -> None:
    bench, other = Bench(), World(1)
    bench.ready()
    other.settle()
    for text in ("one", "two"):
        other.record(0, text)
    second = other.devices[0].journal.saved.updates[1]
    with pytest.raises(GapError) as caught:
        bench.give(Update(second))
    assert not caught.value.permanent


def test_two_copies_of_a_machine_that_are_idle_at_equal_clocks_come_apart() -> None:
    bench = Bench()
    bench.ready()
    bench.log.record("before the copy was made", 1)
    bench.upload()
    bench.session.disconnect(Close.GOING_AWAY)
    assert bench.journal.saved.client == 5
    bench.session.disconnect(Close.REPLACED)
    (hello,) = bench.session.hello()
    assert decode_frame(hello) == Hello("localmem.sync.v1", CAPABILITIES, DEVICE, 0)
    bench.give(Welcome(CAPABILITIES, 6, 0, bytes(16)))
    bench.session.receive(EMPTY)
    assert [type(frame) for frame in bench.upload()] == [Update]


@pytest.mark.parametrize("by", ["count", "bytes"])
def test_events_of_two_copies_with_one_sequence_stay_on_one_side_of_a_batch(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, bound = BOUNDS[by]
    monkeypatch.setattr(f"localmem_protocol.trimming.{name}", bound)
    monkeypatch.setattr(f"localmem_protocol.session.{name}", bound, raising=False)
    bench, copy = Bench(), MemoryLog(DEVICE)
    for number in range(1, 7):
        bench.log.record(f"here, {number}", number)
        copy.record(f"there {number}", number)
    bench.log.insert(copy.ordered())
    bench.ready()
    reader = Replica(POOL, "22" * 8, 7)
    held = [
        event.id
        for frame in bench.upload() + bench.upload() + bench.upload() + bench.upload()
        if isinstance(frame, Update)
        for event in reader.integrate(frame.update).events
    ]
    assert sorted(held) == sorted(bench.log.events)


BOUNDS = {"count": ("BATCH_EVENTS_MAX", 5), "bytes": ("BATCH_SNIPPET_BYTES_MAX", 5 * 7)}


def test_a_reader_by_its_own_will_sends_nothing_whatever_the_hub_says() -> None:
    bench = Bench()
    bench.session = Session(POOL, bench.log, bench.journal, reader=True)
    bench.log.record("for those who are in now", 1)
    bench.ready()
    assert not bench.session.writer
    assert bench.upload() == []
    assert bench.session.settled


def test_however_much_is_there_already_is_passed_over() -> None:
    bench = Bench()
    bench.ready()
    for number in range(2000):
        bench.log.record("there", number + 1)
    bench.session._document.pending.note(bench.log.events.values())
    page = bench.log.own_events
    bench.log.own_events = lambda after, limit: page(after, min(limit, 1))  # type: ignore[method-assign]
    assert bench.upload() == []
    assert not bench.session.unsent()
