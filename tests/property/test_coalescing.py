"""What a device sends at once leads a room to where the same frames lead it one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.coalescing import coalesced
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Hello,
    Refusal,
    Step1,
    decode_frame,
    encode_frame,
)
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.limits import CLOCK_MAX, STEP_BYTES, UPDATE_STRUCTS_MAX
from localmem_protocol.room import Peer, Room, Send
from localmem_protocol.updates import Item, Update, decode_update, encode_update

ONE, TWO = "11" * 8, "22" * 8
OWN, SECOND, OTHERS = 1, 2, 3


def begun() -> Room:
    """A room in which both devices have written something."""
    rows = [
        encode_update(Update({OWN: [Item(0, 2, (b"a", b"b"), root=ONE)]})),
        encode_update(Update({OTHERS: [Item(0, 1, (b"of another",), root=TWO)]})),
    ]
    room = Room(rows, {OWN: ONE, SECOND: ONE, OTHERS: TWO})
    room.join(Peer(1, ONE))
    room.receive(1, encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, OWN)))
    return room


def outcome(room: Room, frames: list[bytes]) -> tuple[bytes, list[bytes], int, int]:
    """What the room holds then, what it stores, how far it acknowledges, and the code of a refusal."""
    effects = [effect for frame in frames if not room.broken for effect in room.receive(1, frame)]
    commit = room.take()
    if commit is not None:
        effects += room.committed()
    said = [decode_frame(effect.data) for effect in effects if isinstance(effect, Send)]
    acknowledged = max((one.clock for one in said if isinstance(one, Ack)), default=0)
    code = next((one.code for one in said if isinstance(one, Refusal)), 0)
    rows = [] if commit is None else [row.update for row in commit.rows]
    return room.snapshot(), rows, acknowledged, code


@st.composite
def updates(draw: st.DrawFn) -> Update:
    """Mostly what goes on where the last one of a client ended; sometimes anything else."""
    client = draw(st.sampled_from([OWN] * 6 + [SECOND, OTHERS]))
    clock = draw(st.integers(0, 6))
    contents = tuple(draw(st.lists(st.binary(max_size=3), min_size=1, max_size=2)))
    origin = draw(st.sampled_from([(client, clock - 1)] * 8 + [(OWN, 0), (OTHERS, 0), None]))
    origin = None if origin is not None and origin[1] < 0 else origin
    right = draw(st.sampled_from([None] * 8 + [(OWN, 1)]))
    root = None if origin or right else draw(st.sampled_from([ONE, TWO]))
    gone = draw(st.sampled_from([False] * 8 + [True]))
    item = Item(clock, len(contents), None if gone else contents, origin, right, root)
    deletes = draw(st.sampled_from([{}] * 8 + [{OWN: [(0, 1)]}]))
    return Update({client: [item]}, deletes)


def frame_of(*items: Item) -> bytes:
    return encode_frame(UpdateFrame(encode_update(Update({OWN: list(items)}))))


def appended(clock: int, *contents: bytes) -> Item:
    return Item(clock, len(contents), contents, (OWN, clock - 1))


@st.composite
def runs(draw: st.DrawFn) -> list[bytes]:
    """Frames of which many continue each other."""
    found: list[bytes] = []
    clock = 2
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 3)):
            contents = tuple(draw(st.lists(st.binary(max_size=3), min_size=1, max_size=2)))
            item = Item(clock, len(contents), contents, (OWN, clock - 1))
            clock = item.end
            update = encode_update(Update({OWN: [item]}))
        else:
            update = draw(updates().map(encode_update) | st.binary(max_size=12))
        asks = draw(st.integers(0, 2)) == 0
        found.append(encode_frame(Step1(update) if asks else UpdateFrame(update)))
    return found


@given(runs())
def test_it_leads_to_the_same_document_and_the_same_answer(frames: list[bytes]) -> None:
    alone, together = outcome(begun(), frames), outcome(begun(), list(coalesced(frames)))
    if not alone[3]:
        assert together[0] == alone[0]
    assert together[2:] == alone[2:] or (alone[3] and together[2] <= alone[2])
    assert bool(together[3]) == bool(alone[3])


@given(runs())
def test_what_is_sent_is_what_was_sent(frames: list[bytes]) -> None:
    """The same contents in the same order, and what cannot be read as it was."""

    def said(frames: list[bytes]) -> list[object]:
        found: list[object] = []
        for frame in frames:
            try:
                decoded = decode_frame(frame)
                assert isinstance(decoded, UpdateFrame)
                update = decode_update(decoded.update)
            except Exception:
                found.append(frame)
                continue
            for client, run in update.items.items():
                for item in run:
                    found += [
                        (client, item.clock + at, one) for at, one in enumerate(item.contents or ())
                    ]
            found += update.deletes.items()
        return found

    assert said(list(coalesced(frames))) == said(frames)


def test_appends_become_one_row() -> None:
    frames = [
        encode_frame(
            UpdateFrame(encode_update(Update({OWN: [Item(at, 1, (b"x",), (OWN, at - 1))]})))
        )
        for at in range(2, 100)
    ]
    _, rows, acknowledged, code = outcome(begun(), list(coalesced(frames)))
    assert (len(rows), acknowledged, code) == (1, 100, 0)


def test_none_becomes_larger_than_a_step() -> None:
    half = bytes(STEP_BYTES // 2 - 100)
    frames = [
        encode_frame(
            UpdateFrame(encode_update(Update({OWN: [Item(at, 1, (half,), (OWN, at - 1))]})))
        )
        for at in range(2, 7)
    ]
    sizes = [len(frame) for frame in coalesced(frames)]
    assert len(sizes) == 3
    assert max(sizes) <= STEP_BYTES


def test_what_is_refused_for_a_later_part_takes_nothing_before_it_along() -> None:
    """An update may hold more than what continues the one before it."""
    elsewhere = Item(4, 1, (b"in an array of another",), (OTHERS, 0))
    frames = [frame_of(appended(2, b"good")), frame_of(appended(3, b"so far"), elsewhere)]
    alone, together = outcome(begun(), frames), outcome(begun(), list(coalesced(frames)))
    assert alone[3] == Close.REFUSED_UPDATE
    assert together == alone


def test_none_holds_more_batches_than_an_update_may() -> None:
    most = UPDATE_STRUCTS_MAX
    frames = [frame_of(appended(2, *[b""] * most)), frame_of(appended(2 + most, b"", b""))]
    assert outcome(begun(), list(coalesced(frames)))[2:] == (most + 4, 0)


@given(
    st.integers(1, 2**53 - 1),
    st.integers(1, CLOCK_MAX - 20),
    st.lists(st.binary(max_size=300), min_size=1, max_size=20),
)
def test_what_only_appends_has_one_encoding(client: int, clock: int, contents: list[bytes]) -> None:
    """On this the room rests that stores such an update as it came."""
    update = Update({client: [Item(clock, len(contents), tuple(contents), (client, clock - 1))]})
    assert update.appended == (client, update.items[client][0])
    data = encode_update(update)
    assert encode_update(decode_update(data)) == data
