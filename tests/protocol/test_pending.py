"""When a session sends: by who would see it, and never later than the longest wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.batching import DEFAULT, Batching
from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    NOTICES,
    Ack,
    Frame,
    Notice,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.padding import Padding, bucket
from localmem_protocol.presence import LISTENING, WAITING, WAITING_S
from localmem_protocol.replica import Replica
from localmem_protocol.session import UNACKNOWLEDGED_MAX, Session
from localmem_protocol.simulation import MemoryJournal, MemoryLog
from localmem_protocol.updates import NOTHING, decode_update

POOL = PoolKey("pool", 1, bytes(32))
DEVICE = "11" * 8


class Device:
    """A session that gathers, and a hub that says what the test says, at moments of its own."""

    def __init__(
        self,
        batching: Batching = DEFAULT,
        padding: Padding = Padding.NONE,
        capabilities: tuple[str, ...] = CAPABILITIES,
        *,
        writer: bool = True,
    ) -> None:
        self.log, self.now_s = MemoryLog(DEVICE), 1000.0
        self.session = Session(POOL, self.log, MemoryJournal(), batching=batching, padding=padding)
        self.session.hello()
        self.give(Welcome(capabilities, 7, 0, bytes(16), writer))
        self.give(Step1(b"\x00"))
        self.give(Step2(NOTHING))
        self.upload()

    def give(self, frame: Frame) -> None:
        self.session.receive(encode_frame(frame))

    def listeners(self, count: int) -> None:
        self.give(Notice(LISTENING, count))

    def record(self, text: str = "x") -> str:
        return self.log.record(text, int(1000 * self.now_s)).id

    def upload(self, *, ack: bool = True) -> list[Frame]:
        """All that is sent now."""
        sent: list[Frame] = []
        while frames := self.session.upload(self.now_s):
            sent += map(decode_frame, frames)
        if ack and sent and self.session.unacknowledged:
            self.give(Ack(7, self.session.replica.clock))
        return sent

    def sleep(self) -> list[Frame]:
        """Wait until the session is to be called again; what it sends then."""
        assert self.session.due_s is not None
        assert self.session.due_s > self.now_s
        self.now_s = self.session.due_s
        return self.upload()


def test_what_nobody_would_see_is_gathered_and_goes_as_one() -> None:
    device = Device()
    device.listeners(0)
    for _ in range(3):
        device.record()
        assert device.upload() == []
        device.now_s += 1
    assert device.session.gathered == 3
    assert not device.session.settled
    assert device.session.due_s == 1002 + DEFAULT.idle_pause_s
    assert [type(frame) for frame in device.sleep()] == [Update]
    assert device.session.replica.clock == 1
    assert device.session.settled
    assert device.session.due_s is None


def test_who_says_nothing_of_listeners_may_have_some() -> None:
    device = Device()
    device.record()
    assert device.upload() == []
    assert device.session.due_s == 1000 + DEFAULT.pause_s


def test_what_waits_goes_when_somebody_begins_to_listen() -> None:
    device = Device()
    device.listeners(0)
    device.record()
    device.upload()
    device.now_s += 30
    assert device.upload() == []
    device.listeners(1)
    assert len(device.upload()) == 1


def test_who_waits_elsewhere_is_sent_everything_at_once_for_a_while() -> None:
    device = Device()
    device.listeners(0)
    device.record()
    assert device.upload() == []
    device.give(Notice(WAITING, 10**9))
    assert len(device.upload()) == 1
    device.now_s += WAITING_S - 1
    device.record()
    assert len(device.upload()) == 1
    device.now_s += 1
    device.record()
    assert device.upload() == []


@pytest.mark.parametrize("known", ["in the document", "to others alone"])
def test_what_is_forgotten_is_told_at_once(known: str) -> None:
    device = Device()
    device.listeners(0)
    name = device.record()
    device.session.hurry()
    assert len(device.upload()) == 1
    device.now_s += 2 * WAITING_S
    device.record()
    assert device.upload() == []
    device.session.forget([name if known == "in the document" else "a" * 16])
    assert device.session.untold == 1
    assert device.upload()
    assert device.session.untold == 0
    assert device.session.unsent() == (known == "in the document"), (
        "a batch that goes takes it along"
    )


def test_what_waited_for_a_connection_goes_as_soon_as_there_is_one() -> None:
    device = Device()
    device.session.disconnect()
    for _ in range(3):
        device.record()
    assert device.upload() == []
    device.session.hello()
    device.give(Welcome(CAPABILITIES, 7, 0, bytes(16)))
    device.listeners(0)
    device.give(Step1(b"\x00"))
    device.give(Step2(NOTHING))
    assert len(device.upload()) == 1


def test_nothing_is_due_while_the_hub_is_behind() -> None:
    device = Device()
    device.give(Notice(WAITING, WAITING_S))
    for _ in range(UNACKNOWLEDGED_MAX):
        device.record()
        assert len(device.upload(ack=False)) == 1
    device.record()
    assert device.upload(ack=False) == []
    assert device.session.due_s is None
    device.give(Ack(7, UNACKNOWLEDGED_MAX))
    assert len(device.upload()) == 1


def test_a_user_who_waits_sends_what_is_here_and_asks_the_others() -> None:
    device = Device()
    device.listeners(1)
    device.record()
    device.session.hurry(ask=True)
    assert device.upload()[0] == Notice(WAITING, WAITING_S)
    assert device.session.settled
    assert device.upload() == [], "once is enough"


@pytest.mark.parametrize("reason", ["nobody is there", "the hub does not understand"])
def test_nobody_is_asked_in_vain(reason: str) -> None:
    known = tuple(one for one in CAPABILITIES if one != NOTICES)
    device = Device(capabilities=known if reason.startswith("the hub") else CAPABILITIES)
    if reason.startswith("nobody"):
        device.listeners(0)
    device.session.hurry(ask=True)
    assert device.upload() == []


def test_a_reader_may_ask_too() -> None:
    device = Device(writer=False)
    device.record()
    device.session.hurry(ask=True)
    assert device.upload() == [Notice(WAITING, WAITING_S)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("event"), st.integers(1, 2000)),
            st.tuples(st.just("listening"), st.integers(0, 3)),
            st.tuples(st.just("pass"), st.integers(1, 400)),
            st.tuples(st.just("waiting"), st.integers(0, 60)),
        ),
        max_size=60,
    )
)
def test_whoever_listens_nothing_waits_too_long_and_nothing_while_somebody_waits(
    steps: list[tuple[str, int]],
) -> None:
    device = Device()
    recorded: dict[str, float] = {}
    held: dict[str, float] = {}
    waits_until_s = 0.0

    def upload() -> None:
        device.upload()
        sealed = {event.id for event in events_of(device.session)}
        for name in [name for name in held if name in sealed]:
            del held[name]
        assert device.now_s >= waits_until_s or not held
        assert all(device.now_s < came_s + DEFAULT.idle_wait_s for came_s in held.values())
        assert (device.session.due_s is None) == (not held)

    for kind, value in steps:
        if kind == "event":
            name = device.record("x" * value)
            recorded[name] = held[name] = device.now_s
        elif kind == "pass":
            end_s = device.now_s + value
            while device.session.due_s is not None and device.session.due_s <= end_s:
                device.now_s = device.session.due_s
                upload()
            device.now_s = end_s
        elif kind == "listening":
            device.listeners(value)
        else:
            device.give(Notice(WAITING, value))
            waits_until_s = max(waits_until_s, device.now_s + min(value, WAITING_S))
        upload()
    assert {event.id for event in events_of(device.session)} == recorded.keys() - held.keys()


@pytest.mark.parametrize("padding", [Padding.PADME, Padding.POWERS])
def test_batches_have_the_lengths_of_their_pool_and_open_without_knowing_them(
    padding: Padding,
) -> None:
    device = Device(padding=padding)
    device.give(Notice(WAITING, WAITING_S))
    names = []
    for number in range(40):  # more than a segment
        names.append(device.record("text " * (1 + number)))
        (sent,) = device.upload()
        assert isinstance(sent, Update)
        (item,) = decode_update(sent.update).items[7]
        (sealed,) = item.contents or ()
        plain = len(sealed) - 17
        assert plain == bucket(plain, padding)
    assert sorted(event.id for event in events_of(device.session)) == sorted(names)


def events_of(session: Session) -> list[Event]:
    """What another device would read in the document."""
    return Replica(POOL, "33" * 8, 0, [session.replica.export()]).loaded.events
