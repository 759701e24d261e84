"""What is inside a record: an event, or the vectors of several, as bytes.

An event is its 10-byte id, then its fields as a msgpack array, compressed with the protocol's
dictionary. The store's own device is left out, and the clock is kept as its distance from the
timestamp. The id could be computed from the rest; kept in front, it lets an opening store find
repeated events without unpacking them.

Vectors are kept as int8: a unit vector is its direction, so no scale is needed. One record holds

    u16 dimensions | 8 bytes naming the encoder | per vector: u32 distance from the record's ordinal
    down to the event's | one int8 per dimension

What was forgotten is kept as marks of 16 bytes, keyed hashes of the events' ids, behind one byte: 1
once the events themselves are erased, 0 before.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import threading
from base64 import b32decode, b32encode
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from localmem_node.errors import StoreError
from localmem_protocol.clock import COUNTER_BITS
from localmem_protocol.dictionary import Decompressor, compress
from localmem_protocol.errors import BatchError
from localmem_protocol.events import DEVICE_ID_BYTES, ID_BYTES, KINDS, Event
from localmem_protocol.limits import (
    LABEL_BYTES_MAX,
    LINE_MAX,
    PATH_BYTES_MAX,
    SNIPPET_BYTES_MAX,
    TIMESTAMP_MS_MAX,
)

LEVEL: Final = 6
"""zstd level of a record: 2 % larger than at 19, in half the time, while somebody waits."""

PLAIN_BYTES_MAX: Final = SNIPPET_BYTES_MAX + PATH_BYTES_MAX + 4 * LABEL_BYTES_MAX + 256
DIMENSIONS_MAX: Final = 4096
ENCODER_BYTES: Final = 8

MARK_BYTES: Final = 16

_VECTORS: Final = struct.Struct(f"<H{ENCODER_BYTES}s")
_BASE32: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)
_UNIT_TOLERANCE: Final = 0.01

_Label = Annotated[str, Meta(max_length=LABEL_BYTES_MAX)] | None
_U63 = Meta(ge=0, le=2**63 - 1)


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    timestamp: Annotated[int, Meta(ge=0, le=TIMESTAMP_MS_MAX)]
    above: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    sequence: Annotated[int, _U63]
    device: Annotated[bytes, Meta(min_length=DEVICE_ID_BYTES, max_length=DEVICE_ID_BYTES)] | None
    kind: Annotated[int, Meta(ge=0, le=len(KINDS) - 1)]
    pinned: bool
    first: Annotated[int, Meta(ge=0, le=LINE_MAX)]
    lines: Annotated[int, Meta(ge=0, le=LINE_MAX)]
    response: Annotated[bytes, Meta(min_length=8, max_length=8)] | None
    tool: _Label
    session: _Label
    project: _Label
    path: Annotated[str, Meta(max_length=PATH_BYTES_MAX)] | None
    snippet: Annotated[str, Meta(max_length=SNIPPET_BYTES_MAX)]


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.unpack = Decompressor().decompress


_threads: Final = _PerThread()
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Row)


def encode_event(event: Event, device: str) -> bytes:
    """The record of an event in the store of `device`.

    Raises StoreError for an event that could not be read back.
    """
    first, last = event.selection_range or (0, 0)
    try:
        row = _Row(
            timestamp=event.timestamp,
            above=event.clock - (event.timestamp << COUNTER_BITS),
            sequence=event.sequence,
            device=None if event.device == device else bytes.fromhex(event.device),
            kind=KINDS.index(event.kind),
            pinned=event.pinned,
            first=first,
            lines=last - first,
            response=_optional_hex(event.model_response_hash),
            tool=event.tool,
            session=event.session,
            project=event.project,
            path=event.file_path,
            snippet=event.snippet,
        )
        plain = _ENCODER.encode(row)
        _DECODER.decode(plain)
        id_bytes = b32decode(event.id.upper())
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"event {event.id!r} cannot be stored: {error}") from None
    if len(id_bytes) != ID_BYTES or len(plain) > PLAIN_BYTES_MAX:
        raise StoreError(f"event {event.id!r} cannot be stored: its id or its text is too long")
    return id_bytes + compress(plain, level=LEVEL)


def decode_event(record: bytes, device: str) -> Event:
    """The inverse. Raises StoreError for bytes that are no event."""
    try:
        row = _DECODER.decode(_threads.unpack(record[ID_BYTES:], PLAIN_BYTES_MAX))
    except (BatchError, msgspec.DecodeError) as error:
        raise StoreError(f"a record that does not parse: {error}") from None
    return Event(
        id=b32encode(record[:ID_BYTES]).decode().lower(),
        timestamp=row.timestamp,
        file_path=row.path,
        selection_range=(row.first, row.first + row.lines) if row.first else None,
        snippet=row.snippet,
        model_response_hash=None if row.response is None else row.response.hex(),
        kind=KINDS[row.kind],
        tool=row.tool,
        session=row.session,
        project=row.project,
        pinned=row.pinned,
        device=device if row.device is None else row.device.hex(),
        clock=row.above + (row.timestamp << COUNTER_BITS),
        sequence=row.sequence,
    )


def event_id(record: bytes) -> bytes:
    """The 10 bytes of the id of an event's record."""
    return record[:ID_BYTES]


def id_texts(ids: npt.NDArray[np.uint8]) -> list[str]:
    """Rows of ten bytes as ids: base32 (RFC 4648, section 6) in lower case, all at once."""
    bits = np.unpackbits(ids, axis=1).reshape(len(ids), ID_BYTES * 8 // 5, 5)
    places = np.packbits(bits, axis=2)[..., 0] >> 3
    texts: list[str] = _BASE32[places].view(f"S{places.shape[1]}").astype(str)[:, 0].tolist()
    return texts


def encoder_id(fingerprint: str) -> bytes:
    """The 8 bytes that stand for an encoder beside its vectors."""
    return hashlib.blake2b(fingerprint.encode(), digest_size=ENCODER_BYTES).digest()


def vectors_size(count: int, dimensions: int) -> int:
    """Bytes of a record of so many vectors."""
    return _VECTORS.size + count * _row_type(dimensions).itemsize


def check_vectors(vectors: Sequence[tuple[int, npt.NDArray[np.float32]]]) -> None:
    """Raises StoreError for a vector that is no unit vector, or not as long as the others."""
    dimensions = len(vectors[0][1]) if vectors else 1
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise StoreError(f"a vector of {dimensions} dimensions; 1 to {DIMENSIONS_MAX} can be kept")
    for of, vector in vectors:
        if vector.shape != (dimensions,):
            raise StoreError(f"vectors of different shapes: ({dimensions},) and {vector.shape}")
        if not abs(float(vector @ vector) - 1) <= 2 * _UNIT_TOLERANCE:
            raise StoreError(f"the vector of event {of} is not a unit vector")


def encode_vectors(
    ordinal: int, encoder: bytes, vectors: Sequence[tuple[int, npt.NDArray[np.float32]]]
) -> bytes:
    """The record `ordinal`, with the vectors of earlier events.

    Raises StoreError for a vector that is no unit vector, or not as long as the others.
    """
    check_vectors(vectors)
    dimensions = len(vectors[0][1])
    rows = np.empty(len(vectors), _row_type(dimensions))
    for row, (of, vector) in zip(rows, vectors, strict=True):
        row["back"] = ordinal - of
        row["code"] = np.rint(vector * (127 / np.abs(vector).max()))
    return _VECTORS.pack(dimensions, encoder) + rows.tobytes()


def decode_vectors(
    ordinal: int, record: bytes
) -> tuple[bytes, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The encoder, the event ordinals and the unit vectors (one row each) of record `ordinal`.

    Raises StoreError for bytes that are no vectors.
    """
    if len(record) < _VECTORS.size:
        raise StoreError("a record of vectors that is too short")
    dimensions, encoder = _VECTORS.unpack_from(record)
    row_type = _row_type(dimensions)
    if not dimensions or (len(record) - _VECTORS.size) % row_type.itemsize:
        raise StoreError("a record of vectors with a part of one")
    rows = np.frombuffer(record, row_type, offset=_VECTORS.size)
    codes = rows["code"].astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", codes, codes))
    if not norms.all():
        raise StoreError("a record with a vector of zeros")
    return encoder, ordinal - rows["back"].astype(np.int64), codes / norms[:, None]


def mark_of(event_id: str, key: bytes) -> bytes:
    """What stands for a forgotten event. `key` is the store's for this purpose."""
    return hmac.digest(key, event_id.encode(), "sha256")[:MARK_BYTES]


def encode_marks(marks: Iterable[bytes], *, erased: bool) -> bytes:
    """The record of some marks."""
    return bytes([erased]) + b"".join(marks)


def decode_marks(record: bytes) -> tuple[bool, list[bytes]]:
    """Whether the events are erased, and the marks. Raises StoreError for bytes that are none."""
    if len(record) % MARK_BYTES != 1:
        raise StoreError("a record of marks with a part of one")
    return record[0] != 0, [
        record[at : at + MARK_BYTES] for at in range(1, len(record), MARK_BYTES)
    ]


def _row_type(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([("back", "<u4"), ("code", "i1", (dimensions,))])


def _optional_hex(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)
