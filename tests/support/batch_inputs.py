"""Any bytes as parcels, sealed batches and names.

Each `check_…` takes bytes, as a fuzzer or a test makes them, and raises unless they are refused with
an error of the protocol, or decode to what is written as they are. Each says which it was.
"""

from __future__ import annotations

from typing import Final

from localmem_protocol.batches import decode_rows, encode_rows
from localmem_protocol.envelope import FIRST_OF_SEGMENT, NO_HASH, VERSION, Opener, PoolKey
from localmem_protocol.errors import BatchError, ProtocolError
from localmem_protocol.parcels import Context, Parcel, decode_parcel, encode_parcel
from localmem_protocol.recall import Recall
from support.events import DEVICE, event

_POOL: Final = PoolKey("ab" * 16, 1, bytes(range(32)))


def check_columns(data: bytes) -> str:
    """Columns and text without compression, so that a fuzzer gets far."""
    try:
        rows = decode_rows(data, Recall(DEVICE), lambda piece: piece)
    except BatchError as error:
        return type(error).__name__
    assert b"".join(encode_rows(rows, Recall(DEVICE))) == data
    return "valid"


def check_parcel(data: bytes) -> str:
    """A parcel at the start of a segment, and after another."""
    found = ""
    for context in (Context.of(DEVICE), _later()):
        try:
            parcel, _ = decode_parcel(data, context)
        except BatchError as error:
            found = type(error).__name__
            continue
        plain, _ = encode_parcel(parcel, context)
        assert decode_parcel(plain, context)[0] == parcel
        found = "valid"
    return found


def check_sealed(data: bytes) -> str:
    """A sealed batch, as it stands and as what a member could seal."""
    flags = VERSION | FIRST_OF_SEGMENT | (data[0] & 0xE0 if data else 0)
    opener = Opener(_POOL, DEVICE, 1)
    body = opener._aead.encrypt(bytes(12), data[1:], opener._associated(flags, 0, NO_HASH))
    found = ""
    for sealed in (data, bytes([flags]) + body):
        try:
            opener.open(sealed, 0)
        except ProtocolError as error:
            found = type(error).__name__
        else:
            found = "valid"
    return found


def _later() -> Context:
    _, context = encode_parcel(Parcel((event(1), event(2, tool="codex"))), Context.of(DEVICE))
    return context
