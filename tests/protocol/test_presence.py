"""What a hub tells of who is there, and how seldom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.frames import (
    CAPABILITIES,
    NEEDED,
    PROTOCOL,
    Hello,
    Notice,
    decode_frame,
    encode_frame,
)
from localmem_protocol.presence import (
    ALONE_FIRST_S,
    LISTENING,
    REQUEST_S,
    WAITING,
    WAITING_BURST,
    WAITING_EVERY_S,
    WAITING_S,
    Presence,
    notices_text,
    quickens,
    read_notices,
)
from localmem_protocol.room import Effect, Peer, Room, Send

ONE, TWO, THREE = ("11" * 8, "22" * 8, "33" * 8)
SOMEBODY, NOBODY = Notice(LISTENING, 1), Notice(LISTENING, 0)
DAY_S = 24 * 3600
IDLE_BYTES_A_DAY = 4096
FRAMING_BYTES = 2


def room() -> Room:
    made = Room()
    made.presence = Presence()
    return made


def greet(
    to: Room, connection: int, device: str, capabilities: tuple[str, ...] = CAPABILITIES
) -> list[Notice]:
    """Join and say hello: the notices in the answer."""
    to.join(Peer(connection, device))
    effects = to.receive(connection, encode_frame(Hello(PROTOCOL, capabilities, device, 0)))
    if to.take():
        effects += to.committed()
    return [notice for one, notice in notices(effects) if one == connection]


def notices(effects: list[Effect]) -> list[tuple[int, Notice]]:
    sent = [(one.connection, decode_frame(one.data)) for one in effects if isinstance(one, Send)]
    return [(connection, frame) for connection, frame in sent if isinstance(frame, Notice)]


def test_who_is_welcomed_is_told_who_is_there_and_those_there_that_somebody_came() -> None:
    hub = room()
    assert greet(hub, 1, ONE) == [NOBODY]
    assert greet(hub, 2, TWO) == [SOMEBODY]
    assert notices(hub.tell(1)) == [(1, SOMEBODY)]
    assert greet(hub, 3, THREE) == [Notice(LISTENING, 2)]
    assert notices(hub.tell(2)) == [], "that there are more changes nothing"


def test_another_connection_of_the_same_device_is_nobody_else() -> None:
    hub = room()
    greet(hub, 1, ONE)
    assert greet(hub, 2, ONE) == [NOBODY]
    assert notices(hub.tell(1)) == []


def test_who_does_not_know_notices_counts_and_is_told_nothing() -> None:
    hub = room()
    greet(hub, 1, ONE)
    assert greet(hub, 2, TWO, NEEDED) == []
    assert notices(hub.tell(1)) == [(1, SOMEBODY)]


def test_that_nobody_is_there_is_told_after_a_while_and_each_time_later() -> None:
    hub, now_s = room(), 0.0
    presence = hub.presence
    assert presence is not None
    greet(hub, 1, ONE)
    for patience_s in (ALONE_FIRST_S, 2 * ALONE_FIRST_S, 4 * ALONE_FIRST_S):
        greet(hub, 2, TWO)
        assert notices(hub.tell(now_s)) == [(1, SOMEBODY)]
        hub.leave(2)
        assert notices(hub.tell(now_s)) == []
        assert presence.due_s == now_s + patience_s
        assert notices(hub.tell(now_s + patience_s - 1)) == []
        now_s += patience_s
        assert notices(hub.tell(now_s)) == [(1, NOBODY)]


def test_who_comes_back_in_time_was_never_away() -> None:
    hub = room()
    greet(hub, 1, ONE)
    greet(hub, 2, TWO)
    hub.tell(0)
    hub.leave(2)
    hub.tell(1)
    greet(hub, 3, TWO)
    assert notices(hub.tell(2)) == []
    assert notices(hub.tell(1 + ALONE_FIRST_S)) == []


def test_requests_count_for_a_while() -> None:
    hub = room()
    presence = hub.presence
    assert presence is not None
    greet(hub, 1, ONE)
    presence.request(TWO, 100, wait_s=25)
    assert notices(hub.tell(100)) == [(1, SOMEBODY)]
    assert presence.told(TWO, 100) == [SOMEBODY]
    assert presence.due_s == 100 + 25 + REQUEST_S
    hub.tell(presence.due_s)
    assert notices(hub.tell(presence.due_s)) == [(1, NOBODY)]
    hub.leave(1)
    assert presence.told(TWO, 300) == [NOBODY]
    assert not presence


def test_who_waits_is_told_to_the_others_and_not_to_itself() -> None:
    hub = room()
    for connection, device in ((1, ONE), (2, TWO), (3, THREE)):
        greet(hub, connection, device)
    hub.tell(0)
    assert hub.receive(2, encode_frame(Notice(WAITING, WAITING_S))) == []
    asked = Notice(WAITING, WAITING_S)
    assert notices(hub.tell(1)) == [(1, asked), (3, asked)]
    assert notices(hub.tell(2)) == []
    presence = hub.presence
    assert presence is not None
    assert presence.told(ONE, 11) == [Notice(LISTENING, 2), Notice(WAITING, WAITING_S - 10)]
    assert presence.told(TWO, 11) == [Notice(LISTENING, 2)]
    assert presence.told(ONE, 1 + WAITING_S) == [Notice(LISTENING, 2)]


def test_so_many_who_wait_are_passed_on_and_then_one_now_and_then() -> None:
    hub = room()
    greet(hub, 1, ONE)
    greet(hub, 2, TWO)
    hub.tell(0)

    def passed(now_s: float) -> int:
        hub.receive(2, encode_frame(Notice(WAITING, WAITING_S)))
        return len(notices(hub.tell(now_s)))

    assert [passed(1) for _ in range(WAITING_BURST + 2)] == [1] * WAITING_BURST + [0, 0]
    assert [passed(1 + WAITING_EVERY_S) for _ in range(2)] == [1, 0]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4000)), min_size=1, max_size=50))
def test_whatever_a_peer_does_all_day_an_idle_device_pays_little(
    habits: list[tuple[bool, int]],
) -> None:
    """A peer stays and stays away for these times, over and over, and asks whenever it comes."""
    hub, now_s, told = room(), 0.0, 0
    presence = hub.presence
    assert presence is not None
    told += len(greet(hub, 1, ONE))
    there, steps = False, 0
    while now_s < DAY_S and steps < 3000:
        comes, length_s = habits[steps % len(habits)]
        steps += 1
        if comes and not there:
            greet(hub, 1 + steps, TWO)
            here = 1 + steps
        elif there and not comes:
            hub.leave(here)
        there = comes
        if there:
            hub.receive(here, encode_frame(Notice(WAITING, WAITING_S)))
        told += spent(hub.tell(now_s))
        end_s = now_s + length_s
        while presence.due_s is not None and presence.due_s <= end_s:
            now_s = max(now_s, presence.due_s)
            told += spent(hub.tell(now_s))
        now_s = end_s
    assert told <= IDLE_BYTES_A_DAY


def spent(effects: list[Effect]) -> int:
    """Bytes that device 1 is sent, with what frames them."""
    return sum(
        len(one.data) + FRAMING_BYTES
        for one in effects
        if isinstance(one, Send) and one.connection == 1
    )


def test_a_header_says_the_same() -> None:
    told = [Notice(LISTENING, 2), Notice(WAITING, 17)]
    assert notices_text(told) == "listening=2 waiting=17"
    assert read_notices(notices_text(told)) == told
    assert read_notices("listening=0") == [NOBODY]
    assert read_notices("weather=fine; listening=x listening=-1") == []


def test_what_lets_a_device_send_sooner() -> None:
    asked = Notice(WAITING, 9)
    assert quickens([NOBODY], [SOMEBODY])
    assert quickens([SOMEBODY], [SOMEBODY, asked])
    assert not quickens([SOMEBODY], [NOBODY])
    assert not quickens([SOMEBODY, asked], [Notice(LISTENING, 3), asked])
