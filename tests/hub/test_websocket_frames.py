"""Frames are read as a library reads them, whatever pieces they come in, and nothing else is let through."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from localmem_hub.websocket_frames import (
    BINARY,
    CLOSE,
    NO_CODE,
    NOT_UTF8,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    FrameReader,
    FrameViolation,
    Message,
    close_frame,
    close_reason,
    head,
    read_close,
)

MOST = 200_000
SIZES = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]) | st.integers(0, 300)


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[Message, list[Frame]]]:
    """Messages and the frames they come in: whole, in fragments, and control frames between those."""
    found: list[tuple[Message, list[Frame]]] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([TEXT, BINARY, PING, CLOSE]))
        if kind in (PING, CLOSE):
            data = draw(st.binary(max_size=125))
            found.append((Message(kind, data), [Frame(Opcode(kind), data)]))
            continue
        data = bytes([draw(st.integers(0, 255))]) * draw(SIZES)
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
        parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        frames = [
            Frame(Opcode(kind if not place else 0), part, fin=place == len(parts) - 1)
            for place, part in enumerate(parts)
        ]
        found.append((Message(kind, data), frames))
    return found


def sent(frame: Frame) -> bytes:
    return frame.serialize(mask=True)


def read(data: bytes, pieces: list[int] | None = None, most: int = MOST) -> list[Message]:
    """What is read of bytes that come in pieces which end there."""
    reader, found = FrameReader(most), deque[Message]()
    ends = [*sorted(end for end in pieces or () if end < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        reader.feed(data[start:end], found)
    return list(found)


@given(messages(), st.data())
def test_messages_are_whole_whatever_pieces_they_come_in(
    said: list[tuple[Message, list[Frame]]], data: st.DataObject
) -> None:
    wire = b"".join(sent(frame) for _, frames in said for frame in frames)
    pieces = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert read(wire, pieces) == [message for message, _ in said]


def test_control_frames_may_come_between_fragments() -> None:
    wire = sent(Frame(Opcode.BINARY, b"one ", fin=False)) + sent(Frame(Opcode.PING, b"?"))
    wire += sent(Frame(Opcode.CONT, b"two"))
    for cut in range(len(wire)):
        assert read(wire, [cut]) == [Message(PING, b"?"), Message(BINARY, b"one two")]


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=3))
def test_what_the_library_refuses_is_refused(junk: bytes, pieces: list[int]) -> None:
    """Bytes that are mostly no frames. What is refused here that the library waits for the end of is in
    the tests below."""
    theirs = ServerProtocol(max_size=MOST)
    theirs.state = State.OPEN
    theirs.parser = super(ServerProtocol, theirs).parse()
    next(theirs.parser)
    theirs.receive_data(junk)
    wrong = isinstance(theirs.parser_exc, ProtocolError | PayloadTooBig)
    if wrong and not any(isinstance(one, Frame) for one in theirs.events_received()):
        with pytest.raises(FrameViolation):
            read(junk, pieces)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\xc2\x80" + bytes(4), PROTOCOL_ERROR),  # a bit of an extension
        (b"\x83\x80" + bytes(4), PROTOCOL_ERROR),  # a kind that nobody knows
        (b"\x82\x01a", PROTOCOL_ERROR),  # no mask
        (b"\x09\x80" + bytes(4), PROTOCOL_ERROR),  # a ping in parts
        (b"\x89\xfe\x00\x7e" + bytes(4 + 126), PROTOCOL_ERROR),  # a long ping
        (b"\x80\x80" + bytes(4), PROTOCOL_ERROR),  # the rest of nothing
        (b"\x02\x80" + bytes(4) + b"\x82\x80" + bytes(4), PROTOCOL_ERROR),  # two at once
        (b"\x82\xff" + (MOST + 1).to_bytes(8), TOO_BIG),  # before any of it came
        (b"\x82\xff" + b"\xff" * 8, TOO_BIG),
    ],
)
def test_a_violation_has_its_code_and_what_came_before_is_read(wire: bytes, code: int) -> None:
    reader, found = FrameReader(MOST), deque[Message]()
    with pytest.raises(FrameViolation) as refused:
        reader.feed(sent(Frame(Opcode.BINARY, b"before")) + wire, found)
    assert refused.value.code == code
    assert list(found) == [Message(BINARY, b"before")]


def test_fragments_are_bounded_together() -> None:
    part = sent(Frame(Opcode.BINARY, bytes(60), fin=False))
    more = sent(Frame(Opcode.CONT, bytes(60), fin=False))
    with pytest.raises(FrameViolation) as refused:
        read(part + more[:2], most=100)  # before any of it came
    assert refused.value.code == TOO_BIG
    ping, rest = Frame(Opcode.PING, bytes(100)), Frame(Opcode.CONT, bytes(40))
    assert len(read(part + sent(ping) + sent(rest), most=100)) == 2


@given(SIZES)
def test_heads_are_those_of_the_library(size: int) -> None:
    assert head(size) + bytes(size) == Frame(Opcode.BINARY, bytes(size)).serialize(mask=False)
    assert head(0, PING) == Frame(Opcode.PING, b"").serialize(mask=False)


@given(st.sampled_from([1000, 1002, 1011, 4400, 4999]), st.text(max_size=200))
def test_close_frames_are_valid_and_come_back(code: int, reason: str) -> None:
    (frame,) = read_unmasked(close_frame(code, reason))
    found = Close.parse(frame)
    found.check()
    assert (found.code, found.reason) == (code, close_reason(reason))
    assert reason.startswith(close_reason(reason))
    assert read_close(frame) == code


def read_unmasked(data: bytes) -> list[bytes]:
    assert len(data) == 2 + data[1]
    return [data[2:]]


def test_a_close_frame_may_be_empty() -> None:
    assert close_frame(NO_CODE) == b"\x88\x00"
    assert read_close(b"") == NO_CODE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x03", PROTOCOL_ERROR),
        *(
            (number.to_bytes(2), PROTOCOL_ERROR)
            for number in (0, 999, 1005, 1006, 1015, 2999, 5000)
        ),
        ((1000).to_bytes(2) + b"\xff", NOT_UTF8),
    ],
)
def test_what_must_not_stand_in_a_close_frame_is_refused(data: bytes, code: int) -> None:
    with pytest.raises(FrameViolation) as refused:
        read_close(data)
    assert refused.value.code == code


def test_a_reason_fits_into_a_close_frame() -> None:
    assert close_reason("short") == "short"
    assert close_reason("ä" * 100) == "ä" * 61
