"""Parcels: everything that one sealed batch can hold, as bytes.

A parcel has parts, each of them optional but not all: events and references to events;
tombstones, which say what was forgotten; signed chain heads, opaque here; wants, which ask for the text
of references; and with a head what a device has of others' chains (views). Its first byte has a bit
for each part that is there, so that those that are not cost nothing more, and the form of the text:

    first byte: 1 tombstones, 2 heads, 4 events or references, 8 wants, 16 views | the form times 32
    tombstones: how many, 16 bytes each | heads: how many, each behind its length | `wants` | `views`
    | events and references: the columns of `batches`, then their text by `texts`, to the end

Events and references are merged by clock, then sequence. But for zstd, which may pack a text in many
ways, a parcel has one encoding in its place: what is written any other way is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from localmem_protocol.batches import Row, decode_rows, encode_rows
from localmem_protocol.errors import BatchError
from localmem_protocol.events import Event
from localmem_protocol.limits import (
    BATCH_EVENTS_MAX,
    BATCH_HEADS_MAX,
    BATCH_PLAIN_BYTES_MAX,
    BATCH_TOMBSTONES_MAX,
    HEAD_BYTES_MAX,
)
from localmem_protocol.recall import Recall
from localmem_protocol.references import Reference
from localmem_protocol.texts import compress_text, decompress_text
from localmem_protocol.views import View, decode_views, encode_views
from localmem_protocol.wants import Want, encode_wants, read_wants
from localmem_protocol.wire import Reader, varbytes, varuint

TOMBSTONE_BYTES: Final = 16

_TOMBSTONES, _HEADS, _ROWS, _WANTS, _VIEWS = 1, 2, 4, 8, 16
_FORM_SHIFT: Final = 5
"""Above the bits of the parts."""


@dataclass(frozen=True)
class Parcel:
    """What a sealed batch holds.

    `tombstones` are keyed hashes of event ids, TOMBSTONE_BYTES each; `heads` are encoded signed
    chain heads of 1 to HEAD_BYTES_MAX bytes. Events and references together are at most
    BATCH_EVENTS_MAX. `wants` are in their order, each once. `views` ascend by client id, and go with a
    head, which signs them.
    """

    events: tuple[Event, ...] = ()
    tombstones: tuple[bytes, ...] = ()
    heads: tuple[bytes, ...] = ()
    references: tuple[Reference, ...] = ()
    wants: tuple[Want, ...] = ()
    views: tuple[View, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.tombstones or self.heads or self.references or self.wants)


@dataclass(frozen=True)
class Context:
    """What sender and receiver remember of a segment: never changed, but followed by another.

    `history` is the text of its batches, each ended by a line feed.
    """

    recall: Recall
    history: bytes = b""
    batches: int = 0

    @classmethod
    def of(cls, device: str) -> Context:
        """That of a segment of this device's that is about to begin."""
        return cls(Recall(device))


def encode_parcel(parcel: Parcel, context: Context) -> tuple[bytes, Context]:
    """The bytes of a segment's next parcel, and the context of the one after it.

    Raises ValueError for an empty one and for one over the limits.
    """
    _check(parcel)
    recall, text, form, parts = context.recall, b"", 0, [b""]
    if parcel.tombstones:
        parts += [varuint(len(parcel.tombstones)), *parcel.tombstones]
    if parcel.heads:
        parts += [varuint(len(parcel.heads)), *map(varbytes, parcel.heads)]
    if parcel.wants:
        parts.append(encode_wants(parcel.wants))
    if parcel.views:
        parts += [encode_views(parcel.views)]
    rows = _merged(parcel)
    if rows:
        recall = recall.copy()
        columns, text = encode_rows(rows, recall)
        form, packed = compress_text(text, context.history)
        parts += [columns, packed]
    parts[0] = bytes([_mask(parcel) | form << _FORM_SHIFT])
    return b"".join(parts), _following(context, recall, text)


def decode_parcel(plain: bytes, context: Context) -> tuple[Parcel, Context]:
    """The inverse, its events validated like any that a user offers. Raises BatchError."""
    if len(plain) > BATCH_PLAIN_BYTES_MAX:
        raise BatchError(f"{len(plain)} bytes, over the limit of {BATCH_PLAIN_BYTES_MAX}")
    reader = Reader(plain, BatchError)
    first = reader.byte()
    mask, form = first & (1 << _FORM_SHIFT) - 1, first >> _FORM_SHIFT
    tombstones: list[bytes] = []
    heads: list[bytes] = []
    if mask & _TOMBSTONES:
        count = reader.varuint(BATCH_TOMBSTONES_MAX)
        tombstones = [reader.take(TOMBSTONE_BYTES) for _ in range(count)]
    if mask & _HEADS:
        heads = [reader.varbytes(HEAD_BYTES_MAX) for _ in range(reader.varuint(BATCH_HEADS_MAX))]
    wants = read_wants(reader) if mask & _WANTS else []
    views = decode_views(reader) if mask & _VIEWS else ()
    edge = reader.at
    recall, text = context.recall, b""
    rows: list[Row] = []

    def unpack(piece: bytes) -> bytes:
        nonlocal text
        text = decompress_text(form, piece, BATCH_PLAIN_BYTES_MAX, context.history)
        return text

    if mask & _ROWS:
        recall = recall.copy()
        rows = decode_rows(reader.take(len(plain) - edge), recall, unpack)
    reader.finish()
    parcel = Parcel(
        tuple(row for row in rows if isinstance(row, Event)),
        tuple(tombstones),
        tuple(heads),
        tuple(row for row in rows if isinstance(row, Reference)),
        wants=tuple(wants),
        views=views,
    )
    written = b"".join(
        [
            *([varuint(len(tombstones)), *tombstones] if tombstones else []),
            *([varuint(len(heads)), *map(varbytes, heads)] if heads else []),
            *([encode_wants(wants)] if wants else []),
            *([encode_views(views)] if views else []),
        ]
    )
    if not mask or mask != _mask(parcel) or not all(heads) or written != plain[1:edge]:
        raise BatchError("a parcel that is not written as it must be")
    if views and not heads:
        raise BatchError("views that no head goes with")
    if rows != _merged(parcel) or (form and not rows):
        raise BatchError("events in an order in which no device writes them")
    return parcel, _following(context, recall, text)


def _following(context: Context, recall: Recall, text: bytes) -> Context:
    history = context.history + text + b"\n" if text else context.history
    return Context(recall, history, context.batches + 1)


def _merged(parcel: Parcel) -> list[Row]:
    """Events and references in one order that keeps that of each."""
    rows: list[Row] = []
    references = list(reversed(parcel.references))
    for event in parcel.events:
        while references and _place(references[-1]) < _place(event):
            rows.append(references.pop())
        rows.append(event)
    return rows + references[::-1]


def _place(row: Row) -> tuple[int, int]:
    return row.clock, row.sequence


def _mask(parcel: Parcel) -> int:
    return (
        _TOMBSTONES * bool(parcel.tombstones)
        | _HEADS * bool(parcel.heads)
        | _ROWS * bool(parcel.events or parcel.references)
        | _WANTS * bool(parcel.wants)
        | _VIEWS * bool(parcel.views)
    )


def _check(parcel: Parcel) -> None:
    if not parcel:
        raise ValueError("an empty parcel")
    if len(parcel.events) + len(parcel.references) > BATCH_EVENTS_MAX:
        raise ValueError(f"a parcel holds at most {BATCH_EVENTS_MAX} events")
    if len(parcel.tombstones) > BATCH_TOMBSTONES_MAX or len(parcel.heads) > BATCH_HEADS_MAX:
        raise ValueError(
            f"a parcel holds at most {BATCH_TOMBSTONES_MAX} tombstones and {BATCH_HEADS_MAX} heads"
        )
    if any(len(tombstone) != TOMBSTONE_BYTES for tombstone in parcel.tombstones):
        raise ValueError(f"a tombstone is {TOMBSTONE_BYTES} bytes")
    if parcel.views and not parcel.heads:
        raise ValueError("views go with a signed head")
    if not all(1 <= len(head) <= HEAD_BYTES_MAX for head in parcel.heads):
        raise ValueError(f"a signed head is 1 to {HEAD_BYTES_MAX} bytes")
