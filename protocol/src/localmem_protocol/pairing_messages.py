"""What is said while two devices pair: the code, the messages, and what their boxes hold.

The messages are MessagePack arrays in their shortest form; any other form is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from localmem_protocol.entries import Device, Hash, RawKeys
from localmem_protocol.errors import PairingError
from localmem_protocol.keys import SIGNATURE_BYTES
from localmem_protocol.limits import (
    ADDRESS_BYTES_MAX,
    LABEL_BYTES_MAX,
    MAILBOX_MAX,
    PAIRING_BYTES_MAX,
    ROSTER_ENTRIES_MAX,
)
from localmem_protocol.seams import Random

ELEMENT_BYTES: Final = 32
SECRET_DIGITS: Final = 8
"""26.6 bits; one guess for each code is all that there is."""

_CODE: Final = re.compile(r"([1-9][0-9]{0,5})[-–\s]+([0-9]{4})[-–\s]*([0-9]{4})", re.ASCII)


@dataclass(frozen=True)
class Code:
    """What the host shows and the joiner's user types: a mailbox and a secret of eight digits."""

    mailbox: int
    secret: str = field(repr=False)

    @classmethod
    def generate(cls, mailbox: int, random: Random) -> Code:
        """A code for a mailbox (1 to MAILBOX_MAX) that the hub gave; draws 16 bytes."""
        if not 1 <= mailbox <= MAILBOX_MAX:
            raise PairingError(f"a mailbox outside 1 to {MAILBOX_MAX}")
        number = int.from_bytes(random.token_bytes(16), "big") % 10**SECRET_DIGITS
        return cls(mailbox, f"{number:0{SECRET_DIGITS}}")

    @classmethod
    def parse(cls, text: str) -> Code:
        """The code that somebody typed; spaces or hyphens between its groups. Raises PairingError."""
        match = _CODE.fullmatch(text.strip())
        if match is None:
            raise PairingError("no pairing code; it looks like 27-4821-9036")
        return cls(int(match[1]), match[2] + match[3])

    def __str__(self) -> str:
        return f"{self.mailbox}-{self.secret[:4]}-{self.secret[4:]}"


class Invitation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a joiner is given: where the pool is, which one, and how far its roster goes.

    The roster that it fetches has to be this pool's and to contain entry `length` - 1 with the hash
    `head`, its own admission. `token` is for hubs that ask for one beside the device's keys.
    """

    hub: Annotated[str, Meta(max_length=ADDRESS_BYTES_MAX)]
    pool: Annotated[str, Meta(pattern="^[0-9a-f]{32}\\Z", max_length=32)]
    length: Annotated[int, Meta(ge=1, le=ROSTER_ENTRIES_MAX)]
    head: Hash
    token: Annotated[str, Meta(max_length=ADDRESS_BYTES_MAX)] = ""


class Identity(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who somebody is, and that it holds these keys: the content of a box."""

    device: Device
    keys: RawKeys
    label: Annotated[str, Meta(max_length=LABEL_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


_Element = Annotated[bytes, Meta(min_length=ELEMENT_BYTES, max_length=ELEMENT_BYTES)]
_Box = Annotated[bytes, Meta(max_length=PAIRING_BYTES_MAX)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Offer(_Message, frozen=True, tag=0):
    """The joiner's half of SPAKE2."""

    element: _Element


class Answer(_Message, frozen=True, tag=1):
    """The host's half, the proof that it knows the code, and who it is."""

    element: _Element
    confirmation: Hash
    box: _Box


class Introduction(_Message, frozen=True, tag=2):
    """The joiner's proof, and who it is."""

    confirmation: Hash
    box: _Box


class Invite(_Message, frozen=True, tag=3):
    """The invitation."""

    box: _Box


class Failure(_Message, frozen=True, tag=4):
    """The sender gave up. Carries no reason: it could only help who guesses."""


Message = Offer | Answer | Introduction | Invite | Failure
_T = TypeVar("_T")


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    return msgspec.msgpack.encode(message)


def decode_message(data: bytes) -> Message:
    """Parse one message. Raises PairingError."""
    return decode(data, Message, "message")  # type: ignore[arg-type]


def decode(data: bytes, kind: type[_T], what: str) -> _T:
    """Parse a value in its shortest form; `what` is it called in errors. Raises PairingError."""
    if len(data) > PAIRING_BYTES_MAX:
        raise PairingError(f"a {what} of {len(data)} bytes, over the limit of {PAIRING_BYTES_MAX}")
    try:
        value = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PairingError(f"a {what} that does not parse: {error}") from None
    if msgspec.msgpack.encode(value) != data:
        raise PairingError(f"a {what} that is not in its shortest form")
    return value
