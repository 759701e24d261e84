"""Any bytes as frames, updates and state vectors, and as what a hub says to a device.

Each `check_…` takes bytes, as a fuzzer or a seed makes them, and raises unless they are refused with an
error of the protocol or are what they decode to. Each says which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import FrameError, GapError, ProtocolError, UpdateError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Held,
    Hello,
    Notice,
    Refusal,
    Resume,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.presence import notices_text, read_notices
from localmem_protocol.replica import Replica
from localmem_protocol.room import Drop, Peer, Room
from localmem_protocol.session import Session
from localmem_protocol.simulation import MemoryJournal, MemoryLog
from localmem_protocol.updates import (
    decode_state_vector,
    decode_update,
    encode_state_vector,
    encode_update,
)
from support.events import event
from support.seeded import SeededRandom

POOL = PoolKey("fuzz", 1, bytes(32))
ONE, TWO = "11" * 8, "22" * 8


def check_frame(data: bytes) -> str:
    """A frame: what it says is said again by what it encodes to."""
    try:
        frame = decode_frame(data)
    except FrameError:
        return "refused"
    assert decode_frame(encode_frame(frame)) == frame
    return "a frame"


def check_update(data: bytes) -> str:
    """An update, as a device sends it and as a store has it."""
    said = "refused"
    for stored in (False, True):
        try:
            update = decode_update(data, stored=stored)
        except (UpdateError, GapError):
            continue
        assert decode_update(encode_update(update), stored=True) == update
        said = "an update"
    return said


def check_vector(data: bytes) -> str:
    """A state vector."""
    try:
        vector = decode_state_vector(data)
    except (FrameError, UpdateError):
        return "refused"
    assert decode_state_vector(encode_state_vector(vector)) == vector
    return "a vector"


def check_session(data: bytes) -> str:
    """A frame to a device that has greeted, and to one that is in sync."""
    said = "taken"
    for beginning in ((), (Welcome(CAPABILITIES, 5, 0, bytes(16)), Step1(b"\x00"), Step2(b"\0\0"))):
        session = Session(POOL, MemoryLog(ONE), MemoryJournal())
        session.hello()
        try:
            for frame in beginning:
                session.receive(encode_frame(frame))
            session.receive(data)
            session.upload()
        except ProtocolError as error:
            said = type(error).__name__
    return said


def check_room(data: bytes) -> str:
    """A frame to a hub's room from somebody who was welcomed, and from somebody else."""
    room = Room(random=SeededRandom(1))
    for connection, device in enumerate((ONE, TWO), start=1):
        room.join(Peer(connection, device))
    room.receive(1, encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
    effects = [effect for connection in (1, 2) for effect in room.receive(connection, data)]
    if room.take() is not None:
        effects += room.committed()
    assert not room.broken
    ends = sorted({effect.code for effect in effects if isinstance(effect, Drop)})
    return f"closed {ends}" if ends else "taken"


def check_notices(data: bytes) -> str:
    """The notices in a header of an answer."""
    notices = read_notices(data.decode("latin-1"))
    assert read_notices(notices_text(notices)) == notices
    return "notices" if notices else "nothing"


@cache
def samples() -> dict[Callable[[bytes], str], list[bytes]]:
    """What is valid, for each check."""
    replica = Replica(POOL, TWO, 7)
    updates = [replica.append([event(number, TWO)]) for number in range(1, 4)]
    whole = replica.export()
    frames = [
        encode_frame(frame)
        for frame in (
            Hello(PROTOCOL, CAPABILITIES, ONE, 0),
            Welcome(CAPABILITIES, 5, 0, bytes(16)),
            Step1(replica.state_vector()),
            Step2(whole),
            Update(updates[0]),
            Ack(5, 0),
            Held(((7, 3, 12345),)),
            Notice("roster", 3),
            Notice("waiting", 30),
            Refusal(4500, False, "again"),
            Resume(5, 0, bytes(16)),
        )
    ]
    return {
        check_frame: frames,
        check_update: [*updates, whole],
        check_vector: [replica.state_vector(), b"\x00"],
        check_session: frames,
        check_room: frames,
        check_notices: [b"listening=1", b"listening=0 waiting=17"],
    }
