"""The frames of a sync connection: y-sync's, and five of our own around them.

A frame is a varuint type and a body. Type 0 is y-sync as every Yjs client speaks it (step 1: a
state vector; step 2 and update: an update). The others say who is there and what is durable:

    device                          hub
      Hello(device, client)      ──▶
                                 ◀── Welcome(client, clock, head, writer), Step1(state vector)
      Step1(own state vector)    ──▶
                                 ◀── Held, Step2(what the device lacks), or Update(a part of it):
      Step1(own state vector)    ──▶    …then the device asks for the rest
      Update(what the hub lacks) ──▶
      Update …                   ──▶
                                 ◀── Ack(client, clock): everything before `clock` is on disk
                                 ◀── Update … of others
                                 ◀── Notice(kind, value), after Welcome and whenever it changes:
                                     only to devices whose Hello names the capability "notices"
                                 ◀── Refusal(code, permanent, reason), then the connection closes

Where no connection lasts (`exchange`), Resume carries over from one request to the next what a
connection would remember, and stands in the place of Hello.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Annotated, Final

import msgspec

from localmem_protocol.errors import CapabilityError, FrameError
from localmem_protocol.limits import (
    CLIENTS_MAX,
    FRAME_BYTES_MAX,
    MARK_MAX,
    NAME_BYTES_MAX,
    UPDATE_BYTES_MAX,
)
from localmem_protocol.wire import Reader, varbytes, varuint

PROTOCOL: Final = "localmem.sync.v1"
"""Name of this protocol: the WebSocket subprotocol, and what Hello must carry."""

NOTICES: Final = "notices"
"""The capability of a device that wants `Notice` frames."""

ROSTER_NOTICE: Final = "roster"
"""The notice that a pool's roster grew; its value is the roster's length."""

NEEDED: Final = ("segments", "batches-2")
"""What hub and device need of each other: whole segments are kept, and batches are of version 2."""

CAPABILITIES: Final = (*NEEDED, NOTICES)
"""What this release can do, negotiated by name: unknown ones are ignored."""

_SYNC: Final = 0
_UPDATES: Final = (b"\x00\x01", b"\x00\x02")
_LATER: Final = re.compile(r"; try again in ([0-9]{1,6}) s\Z", re.ASCII)


class Step1(msgspec.Struct, frozen=True):
    """A state vector: send me what I lack."""

    state_vector: bytes


class Step2(msgspec.Struct, frozen=True):
    """What you lack, as a Yjs update."""

    update: bytes


class Update(msgspec.Struct, frozen=True):
    """A Yjs update as it happens."""

    update: bytes


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """First frame of a device; `client` 0 asks for a new client id."""

    protocol: str
    capabilities: tuple[str, ...]
    device: str
    client: int


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The hub's answer: the client id to use, and what the hub holds of it: the clock after its
    newest batch, and that batch's hash. Without `writer` the hub takes no updates from this device."""

    capabilities: tuple[str, ...]
    client: int
    clock: int
    head: bytes
    writer: bool = True


class Ack(msgspec.Struct, frozen=True, array_like=True):
    """Everything of `client` before `clock` is durable on the hub."""

    client: int
    clock: int


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why the hub closes. `permanent`: the same again cannot help."""

    code: int
    permanent: bool
    reason: str


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """Something beside the document is new: look again. Kinds that are not known mean nothing."""

    kind: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]
    value: Annotated[int, msgspec.Meta(ge=0, le=MARK_MAX)]


class Resume(msgspec.Struct, frozen=True, array_like=True):
    """What the hub held of `client` when an exchange ended, as in Welcome. The device begins the next
    one with it: if nobody went on under that client id meanwhile, no greeting is needed. `notices` is
    whether its Hello asked for them."""

    client: int
    clock: int
    head: bytes
    notices: bool = False


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What the hub has in all with the Step2 that comes next: of every client id its clock, and
    `ledger.Account.digest` of what is live. A device that has something else of it, or more, has
    seen a future that this hub lost."""

    accounts: Annotated[tuple[tuple[int, int, int], ...], msgspec.Meta(max_length=CLIENTS_MAX)]


Frame = Step1 | Step2 | Update | Hello | Welcome | Ack | Refusal | Notice | Resume | Held
_OWN: Final[dict[int, type[Hello | Welcome | Ack | Refusal | Notice | Resume | Held]]] = {
    100: Hello,
    101: Welcome,
    102: Ack,
    103: Refusal,
    104: Notice,
    105: Resume,
    106: Held,
}
_NUMBERS: Final = {kind: number for number, kind in _OWN.items()}


class Close:
    """Close codes. 44xx is permanent, 45xx means try again (as in Yjs' own hubs); ANSWERED is the
    orderly end of a request (RFC 6455, 7.4.1)."""

    ANSWERED: Final = 1000
    BAD_FRAME: Final = 4400
    BAD_TOKEN: Final = 4401
    READ_ONLY: Final = 4403
    REFUSED_UPDATE: Final = 4422
    TOO_LARGE: Final = 4413
    CAPABILITY: Final = 4426
    GAP: Final = 4500
    REPLACED: Final = 4501
    SLOW: Final = 4502
    STORE_FAILED: Final = 4503
    GOING_AWAY: Final = 4504
    ROSTER_CHANGED: Final = 4505
    LIMITED: Final = 4506


def is_permanent(code: int) -> bool:
    """Whether a close code says that trying again cannot help."""
    return 4400 <= code < 4500


def later(reason: str, seconds: float) -> str:
    """The reason of a refusal that says when to try again."""
    return f"{reason}; try again in {max(1, math.ceil(seconds))} s"


def wait_s(reason: str) -> int:
    """How long to wait, by the reason of a refusal; 0 when it does not say."""
    match = _LATER.search(reason)
    return int(match[1]) if match else 0


def is_update(data: bytes) -> bool:
    """Whether bytes begin as a frame with a Yjs update does; they are not read further."""
    return data[:2] in _UPDATES


def is_question(data: bytes) -> bool:
    """Whether bytes begin as a state vector does, which asks for what it lacks."""
    return data[:2] == b"\x00\x00"


def check_capabilities(peer: str, capabilities: Collection[str]) -> None:
    """Raise CapabilityError unless a peer, as it is to be called, named everything that is NEEDED."""
    for name in NEEDED:
        if name not in capabilities:
            raise CapabilityError(peer, name)


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame."""
    match frame:
        case Step1(state_vector):
            return b"\x00\x00" + varbytes(state_vector)
        case Step2(update):
            return b"\x00\x01" + varbytes(update)
        case Update(update):
            return b"\x00\x02" + varbytes(update)
        case _:
            return varuint(_NUMBERS[type(frame)]) + msgspec.msgpack.encode(frame)


def is_kind(data: bytes, kind: type[Hello | Welcome | Ack | Refusal | Resume]) -> bool:
    """Whether bytes begin as a frame of this kind does; they are not read further."""
    return data[:1] == varuint(_NUMBERS[kind])


def decode_frame(data: bytes) -> Frame:
    """Parse one frame. Raises FrameError."""
    if len(data) > FRAME_BYTES_MAX:
        raise FrameError(f"{len(data)} bytes, over the limit of {FRAME_BYTES_MAX}")
    reader = Reader(data, FrameError)
    number = reader.varuint()
    if number == _SYNC:
        return _decode_sync(reader)
    kind = _OWN.get(number)
    if kind is None:
        raise FrameError(f"a frame of unknown type {number}")
    try:
        return msgspec.msgpack.decode(data[reader.at :], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"a {kind.__name__} that does not parse: {error}") from None


def _decode_sync(reader: Reader) -> Step1 | Step2 | Update:
    step = reader.varuint()
    if step > 2:
        raise FrameError(f"an unknown sync step {step}")
    body = reader.varbytes(UPDATE_BYTES_MAX)
    reader.finish()
    return (Step1, Step2, Update)[step](body)
