"""Wants: who has not found the text of a reference asks the others for it.

A want names an event by its device and sequence, and by the hash of its text: two copies of a machine
give one sequence to events of each. So it stays right whatever becomes of the batch that the reference
is in. It travels sealed, like all else, and whoever has the event answers with the event itself.

    how many devices | for each, ascending: its id, 8 bytes | how many
                     | for each, ascending: sequence, less the one before | the hash of the text
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

from localmem_protocol.errors import BatchError
from localmem_protocol.limits import BATCH_WANTS_MAX, MARK_MAX
from localmem_protocol.references import TEXT_HASH_BYTES
from localmem_protocol.wire import Reader, varuint

_DEVICE_BYTES: Final = 8


class Want(NamedTuple):
    """The event of a device at a sequence whose text has this hash (TEXT_HASH_BYTES)."""

    device: str
    sequence: int
    text_hash: bytes


def encode_wants(wants: Sequence[Want]) -> bytes:
    """1 to BATCH_WANTS_MAX wants, each once and in their order. Raises ValueError for others."""
    if len(wants) > BATCH_WANTS_MAX:
        raise ValueError(f"a parcel holds at most {BATCH_WANTS_MAX} wants")
    if list(wants) != sorted(set(wants)):
        raise ValueError("wants that are not in their order")
    if any(len(want.text_hash) != TEXT_HASH_BYTES for want in wants):
        raise ValueError(f"the hash of a text is {TEXT_HASH_BYTES} bytes")
    groups = [(device, list(some)) for device, some in groupby(wants, lambda want: want.device)]
    parts = [varuint(len(groups))]
    for device, some in groups:
        parts += [bytes.fromhex(device), varuint(len(some))]
        before = 0
        for want in some:
            parts += [varuint(want.sequence - before), want.text_hash]
            before = want.sequence
    return b"".join(parts)


def read_wants(reader: Reader) -> list[Want]:
    """The inverse. Raises BatchError, also for what `encode_wants` would write otherwise."""
    start = reader.at
    wants: list[Want] = []
    for _ in range(reader.varuint(BATCH_WANTS_MAX)):
        device, sequence = reader.take(_DEVICE_BYTES).hex(), 0
        for _ in range(reader.varuint(BATCH_WANTS_MAX - len(wants))):
            sequence += reader.varuint(MARK_MAX - sequence)
            wants.append(Want(device, sequence, reader.take(TEXT_HASH_BYTES)))
    if wants != sorted(set(wants)) or encode_wants(wants) != reader.data[start : reader.at]:
        raise BatchError("wants that are not written as they must be")
    return wants
