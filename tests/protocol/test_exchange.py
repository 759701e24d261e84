"""The framing of bodies, the device's half, and a request's stay in a room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.envelope import NO_HASH, PoolKey
from localmem_protocol.errors import FrameError, GapError
from localmem_protocol.exchange import (
    Body,
    Exchange,
    Mark,
    News,
    NumberedRow,
    Visit,
    decode_body,
    encode_body,
    follow,
    is_position,
    pack,
    parse_position,
)
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Held,
    Hello,
    Resume,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.limits import (
    CLOCK_MAX,
    EXCHANGE_BYTES_MAX,
    EXCHANGE_FRAMES_MAX,
    FRAME_BYTES_MAX,
    POSITION_BYTES_MAX,
    SEGMENT_BATCHES_MAX,
    STEP_BYTES,
)
from localmem_protocol.replica import Replica
from localmem_protocol.room import Drop, Peer, Room, Send
from localmem_protocol.updates import decode_update
from support.events import event

POOL = PoolKey("team", 1, bytes(32))
ONE, TWO = "11" * 8, "22" * 8

positions = st.text("0123456789abcXYZ._-", max_size=POSITION_BYTES_MAX)
bodies = st.builds(
    Body, st.lists(st.binary(max_size=300), max_size=5).map(tuple), positions, st.booleans()
)


@given(bodies)
def test_a_body_round_trips(body: Body) -> None:
    assert decode_body(encode_body(body)) == body


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body_or_a_frame_error(data: bytes) -> None:
    try:
        body = decode_body(data)
    except FrameError:
        return
    assert encode_body(body) == data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends too early"),
        (b"\x02\x00", "limit"),
        (b"\x00\x02\xc3\xa4", "other characters"),
        (b"\x00\x02\xff\xff", "UTF-8"),
        (b"\x00\x00\x05ab", "ends too early"),
        (b"\x00\x80\x00", "more bytes than it needs"),
        (b"\x00\x41" + b"x" * 65, "limit"),
        (b"\x00\x00" + b"\x00" * (EXCHANGE_FRAMES_MAX + 1), "frames"),
        (bytes(EXCHANGE_BYTES_MAX + 1), "limit"),
    ],
)
def test_what_is_no_body_is_refused_with_the_reason(data: bytes, problem: str) -> None:
    with pytest.raises(FrameError, match=problem):
        decode_body(data)


@given(st.integers(0, 2**63 - 1), st.booleans(), st.binary(max_size=9), st.integers(0, 4096))
def test_a_mark_round_trips(head: int, writer: bool, update: bytes, roster: int) -> None:
    for tag in ("", follow("", update)):
        mark = Mark(head, writer, tag, roster)
        assert Mark.parse(mark.text) == mark
        assert is_position(mark.text)


@pytest.mark.parametrize(
    "text", ["", "01.w.", "1", "1.x.", "-1.w.", f"{2**63}.w.", "1.w", "1.w.abcdefg", "1.w..0"]
)
def test_a_position_of_another_hub_asks_for_a_greeting(text: str) -> None:
    with pytest.raises(GapError, match="greet again"):
        Mark.parse(text)


def test_a_position_that_was_given_as_a_reader_asks_for_a_greeting() -> None:
    assert parse_position("7.r.", writer=False).head == 7
    with pytest.raises(GapError, match="role"):
        parse_position("7.r.", writer=True)


def hello(client: int = 0, device: str = ONE) -> bytes:
    return encode_frame(Hello(PROTOCOL, CAPABILITIES, device, client))


def answer(*frames: Frame, position: str = "", more: bool = False) -> bytes:
    return encode_body(Body(tuple(map(encode_frame, frames)), position, more))


def posted(exchange: Exchange) -> Body:
    post = exchange.post()
    assert post is not None
    return decode_body(post.body)


RESUME = Resume(3, 0, NO_HASH)


def test_a_device_greets_then_goes_on_with_what_the_hub_gave() -> None:
    exchange = Exchange()
    exchange.send(hello())
    assert posted(exchange) == Body((hello(),))
    assert exchange.post() is None  # one at a time
    welcome, step = Welcome(CAPABILITIES, 3, 0, NO_HASH), Step1(b"\x00")
    assert len(exchange.answered(answer(welcome, step, RESUME))) == 2
    assert exchange.poll() is None  # nothing is known of the log yet
    exchange.send(encode_frame(step))
    assert posted(exchange) == Body((encode_frame(RESUME), encode_frame(step)))
    assert exchange.answered(answer(Step2(b"\x00\x00"), RESUME, position="5.w"))
    poll = exchange.poll()
    assert poll is not None
    assert poll.position == "5.w"
    exchange.send(encode_frame(Update(b"\x00\x00")))
    assert posted(exchange).position == "5.w"


def test_a_new_hello_forgets_everything_and_stands_alone() -> None:
    exchange = Exchange()
    exchange.send(hello())
    posted(exchange)
    exchange.answered(answer(RESUME, position="5.w"))
    exchange.send(encode_frame(Update(b"\x00\x00")))
    exchange.send(hello(3))
    assert len(posted(exchange).frames) == 2
    exchange.answered(answer(RESUME, position="6.w"))
    assert posted(exchange) == Body((hello(3),))
    assert exchange.poll() is None


def test_news_that_a_posted_request_overtook_are_left_out() -> None:
    exchange = Exchange()
    exchange.send(hello())
    posted(exchange)
    exchange.answered(answer(RESUME, position="5.w"))
    poll = exchange.poll()
    assert poll is not None
    news = answer(Update(b"\x00\x00"), position="6.w", more=True)
    assert len(exchange.polled(poll, news)) == 1
    assert (exchange.position, exchange.more) == ("6.w", True)
    assert exchange.polled(poll, news) == []
    again = exchange.poll()
    assert again is not None
    with pytest.raises(FrameError, match="nowhere"):
        exchange.polled(again, news)


def test_a_hub_that_gives_nothing_to_go_on_with_is_no_hub() -> None:
    exchange = Exchange()
    exchange.send(hello())
    posted(exchange)
    exchange.answered(answer(Step1(b"\x00")))
    exchange.send(encode_frame(Update(b"\x00\x00")))
    with pytest.raises(FrameError, match="go on with"):
        exchange.post()


def test_what_is_posted_at_once_is_bounded_and_the_largest_frame_fits() -> None:
    exchange = Exchange()
    exchange.send(hello())
    posted(exchange)
    exchange.answered(answer(RESUME, position="9" * 19 + ".w"))
    sizes = [STEP_BYTES // 2 - 100, STEP_BYTES // 2 - 100, 200, FRAME_BYTES_MAX, 10]
    for size in sizes:
        exchange.send(bytes([1]) + bytes(size - 1))
    bodies = []
    while exchange.waiting:
        body = posted(exchange)
        bodies.append([len(frame) for frame in body.frames[1:]])
        exchange.answered(answer(RESUME, position="9" * 19 + ".w"))
    assert bodies == [sizes[:2], sizes[2:3], sizes[3:4], sizes[4:]]


class Shop:
    """A room with a store played by the test, and visits to it."""

    def __init__(self) -> None:
        self.room = Room()
        self.rows: list[NumberedRow] = []
        self.effects: list[Send | Drop] = []
        self._numbers = 100

    def visit(self, *frames: Frame, device: str = ONE, position: str = "") -> Visit:
        """From joining to the answer."""
        self._numbers += 1
        peer = Peer(self._numbers, device, transient=True)
        body = Body(tuple(map(encode_frame, frames)), position)
        visit = Visit(peer, body)
        self.room.join(peer)
        for frame in body.frames:
            self.carry_out(visit, self.room.receive(self._numbers, frame))
            visit.heard(frame, len(self.rows) + self.room.pending_rows)
        self.carry_out(visit, self.room.finish(self._numbers))
        commit = self.room.take()
        if commit is not None:
            assert visit.closed is None or visit.refusal
            for row in commit.rows:
                self.rows.append(NumberedRow(len(self.rows) + 1, row.device, row.update))
            self.carry_out(visit, self.room.committed())
        self.room.leave(self._numbers)
        return visit

    def carry_out(self, visit: Visit, effects: list[Send | Drop]) -> None:
        for effect in effects:
            if effect.connection != self._numbers:
                self.effects.append(effect)
            elif isinstance(effect, Drop):
                visit.drop(effect.code, effect.reason)
            else:
                visit.send(effect.data)

    def said(self, visit: Visit) -> tuple[list[Frame], str]:
        assert visit.refusal is None
        wanted = visit.wanted
        rows = self.rows[wanted[0] : wanted[1]] if wanted else []
        body = visit.answer(News(rows))
        return [decode_frame(frame) for frame in body.frames], body.position


def resume_of(frames: list[Frame]) -> Resume:
    assert isinstance(frames[-1], Resume)
    return frames[-1]


def test_a_visit_greets_writes_and_hears_of_others() -> None:
    shop = Shop()
    frames, position = shop.said(shop.visit(Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
    assert [type(frame) for frame in frames] == [Welcome, Step1, Resume]
    assert position == ""
    replica = Replica(POOL, ONE, 1)
    update = Update(replica.append([event(1, ONE)]))
    vector = Step1(replica.state_vector())
    frames, position = shop.said(shop.visit(resume_of(frames), update, vector))
    assert [type(frame) for frame in frames] == [Held, Step2, Ack, Resume]
    assert (resume_of(frames).clock, position) == (1, "1.w.")

    others, _ = shop.said(shop.visit(Hello(PROTOCOL, CAPABILITIES, TWO, 0), device=TWO))
    theirs = Replica(POOL, TWO, 2)
    news = Update(theirs.append([event(2, TWO)]))
    shop.said(shop.visit(resume_of(others), news, device=TWO))

    update = Update(replica.append([event(3, ONE)]))
    frames, position = shop.said(shop.visit(resume_of(frames), update, position=position))
    assert [type(frame) for frame in frames] == [Ack, Resume, Update]
    assert (frames[0], frames[2], position) == (Ack(1, 2), news, "3.w.")
    assert shop.effects == []


def greeted(shop: Shop) -> tuple[Resume, Replica]:
    frames, _ = shop.said(shop.visit(Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
    return resume_of(frames), Replica(POOL, ONE, 1)


def test_a_repeated_request_is_refused_for_now_and_changes_nothing() -> None:
    shop = Shop()
    resume, replica = greeted(shop)
    update = Update(replica.append([event(1, ONE)]))
    assert shop.visit(resume, update).refusal is None
    refusal = shop.visit(resume, update).refusal
    assert refusal is not None
    assert (refusal.close_code, refusal.permanent) == (Close.GAP, False)
    assert len(shop.rows) == 1


def test_a_clone_is_noticed_before_it_writes() -> None:
    shop = Shop()
    resume, replica = greeted(shop)
    twin = Replica(POOL, ONE, 1)
    shop.visit(resume, Update(replica.append([event(1, ONE)])))
    refusal = shop.visit(resume, Update(twin.append([event(2, ONE)]))).refusal
    assert refusal is not None
    assert refusal.close_code == Close.GAP
    for held in (Resume(1, 1, bytes(16)), Resume(1, 1, b""), Resume(2, 0, NO_HASH)):
        refusal = shop.visit(held).refusal
        assert refusal is not None
        assert refusal.close_code == Close.GAP


def test_a_request_cuts_no_connection_until_it_writes_under_its_client_id() -> None:
    shop = Shop()
    resume, replica = greeted(shop)
    shop.room.join(Peer(1, ONE))
    shop.room.receive(1, hello(1))
    shop.visit(Hello(PROTOCOL, CAPABILITIES, ONE, 1))
    shop.visit(resume, Step1(b"\x00"))
    assert shop.effects == []
    shop.visit(resume, Update(replica.append([event(1, ONE)])))
    assert shop.effects == [Drop(1, Close.REPLACED, "another connection took over")]


def test_a_connection_that_comes_cuts_no_request() -> None:
    shop = Shop()
    resume, replica = greeted(shop)
    shop.room.join(Peer(50, ONE, transient=True))
    shop.room.receive(50, encode_frame(resume))
    shop.room.receive(50, encode_frame(Update(replica.append([event(1, ONE)]))))
    shop.room.finish(50)
    shop.room.join(Peer(1, ONE))
    assert not [e for e in shop.room.receive(1, hello(1)) if isinstance(e, Drop)]
    shop.room.take()
    said = [e for e in shop.room.committed() if e.connection == 50]
    assert isinstance(said[-1], Drop)
    assert said[-1].code == Close.ANSWERED
    assert next(decode_frame(e.data) for e in said if isinstance(e, Send)) == Ack(1, 1)


def test_a_lasting_connection_greets_with_hello() -> None:
    room = Room()
    room.join(Peer(1, ONE))
    effects = room.receive(1, encode_frame(RESUME))
    assert [e.code for e in effects if isinstance(e, Drop)] == [Close.BAD_FRAME]


def test_a_request_begins_with_who_it_is() -> None:
    peer = Peer(1, ONE, transient=True)
    with pytest.raises(FrameError, match="before Hello"):
        Visit(peer, Body((encode_frame(Step1(b"\x00")),)))
    with pytest.raises(FrameError, match="without frames"):
        Visit(peer, Body())


def test_a_log_that_is_shorter_than_the_device_was_told_asks_for_a_greeting() -> None:
    shop = Shop()
    resume, _ = greeted(shop)
    visit = shop.visit(resume, position="7.w.")
    with pytest.raises(GapError, match="does not reach"):
        shop.said(visit)


def test_rows_are_packed_into_one_update_that_says_the_same() -> None:
    replica = Replica(POOL, ONE, 1)
    rows = [replica.append([event(number, ONE)]) for number in range(1, SEGMENT_BATCHES_MAX + 4)]
    evicted = replica.evict(400)
    assert evicted is not None
    rows.append(evicted)
    numbered = [NumberedRow(n, ONE, row) for n, row in enumerate(rows, 1)]
    (frame,) = pack(numbered)
    update = decode_frame(frame)
    assert isinstance(update, Update)
    assert len(update.update) < sum(map(len, rows))
    one, all_ = Replica(POOL, TWO, 2), Replica(POOL, TWO, 2)
    joined = one.integrate(update.update)
    single = [found for row in rows for found in all_.integrate(row).events]
    assert joined.events == single
    assert one.state_vector() == all_.state_vector()
    assert decode_update(one.export()).deletes == decode_update(all_.export()).deletes
    assert pack(numbered, ONE, 1) == []
    assert pack(numbered, ONE, 2) == [frame]
    assert len(rows) < CLOCK_MAX
