import pytest

from localmem_protocol import envelope
from localmem_protocol.errors import CapabilityError, FrameError
from localmem_protocol.frames import (
    CAPABILITIES,
    NEEDED,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Hello,
    Notice,
    Refusal,
    Resume,
    Step1,
    Step2,
    Update,
    Welcome,
    check_capabilities,
    decode_frame,
    encode_frame,
    is_permanent,
)
from localmem_protocol.limits import FRAME_BYTES_MAX

FRAMES: list[Frame] = [
    Step1(b"\x00"),
    Step2(b"\x00\x00"),
    Update(b"\x01" * 200),
    Hello(PROTOCOL, CAPABILITIES, "00" * 8, 3),
    Welcome((), 3, 7, b"\x05" * 16),
    Welcome((), 3, 7, b"\x05" * 16, writer=False),
    Ack(3, 7),
    Refusal(Close.GAP, permanent=False, reason="ask again"),
    Notice("roster", 7),
    Resume(3, 7, b"\x05" * 16),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_round_trips_and_no_part_of_it_is_one(frame: Frame) -> None:
    data = encode_frame(frame)
    assert decode_frame(data) == frame
    for size in range(len(data)):
        with pytest.raises(FrameError):
            decode_frame(data[:size])


def test_sync_frames_are_those_of_y_protocols() -> None:
    assert encode_frame(Step1(b"\x01\x02\x03")) == b"\x00\x00\x03\x01\x02\x03"
    assert encode_frame(Update(b"\x07")) == b"\x00\x02\x01\x07"


def test_a_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(FrameError, match="limit"):
        decode_frame(bytes(FRAME_BYTES_MAX + 1))


def test_codes_say_whether_trying_again_helps() -> None:
    assert is_permanent(Close.BAD_TOKEN)
    assert not is_permanent(Close.GAP)


def test_what_is_nested_deeply_is_no_frame() -> None:
    """msgspec gives up with a RecursionError where it skips what it does not know."""
    hello = encode_frame(Hello("p", (), "11" * 8, 0))
    longer = hello[:1] + bytes([hello[1] + 1]) + hello[2:]  # an array with one element more
    for nested in (b"\x91" * 5_000 + b"\xc0", b"\x81\xa1x" * 5_000 + b"\xc0"):
        with pytest.raises(FrameError):
            decode_frame(longer + nested)


def test_what_is_needed_is_asked_of_the_other_side_by_name() -> None:
    assert f"batches-{envelope.VERSION}" in NEEDED
    check_capabilities("this hub", (*NEEDED, "teleport"))
    for name in NEEDED:
        with pytest.raises(CapabilityError, match=f"this hub lacks .*'{name}'") as caught:
            check_capabilities("this hub", [one for one in CAPABILITIES if one != name])
        assert (caught.value.capability, caught.value.permanent) == (name, True)
