"""Batches: events as columns, small enough to send.

Columns put like beside like: times as differences, names through a table, hashes as 8 raw bytes,
all text together at the end. zstd then sees runs. The layout (every number a varuint, signed ones
zigzag) is, for n events:

    n | timestamps (first, then differences) | clock mode, clocks | sequences | ranges
    | kinds | pinned | paths, tools, sessions, projects, devices (0 = none, else 1 + table index)
    | hashes (0 or 1 each, then 8 bytes for each 1) | table | snippet lengths | snippets

Clocks go in one of two modes, whichever is smaller: 0, what they are above the event's own
timestamp (live capture: nearly nothing); 1, differences (imports). Ids do not travel: they follow
from the rest (`events.with_id`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmem_protocol.clock import COUNTER_BITS
from localmem_protocol.errors import BatchError, EventError
from localmem_protocol.events import KINDS, Event, is_device_id, parse_draft, stamp
from localmem_protocol.limits import (
    BATCH_EVENTS_MAX,
    BATCH_PLAIN_BYTES_MAX,
    PATH_BYTES_MAX,
    SNIPPET_BYTES_MAX,
)
from localmem_protocol.wire import Reader, unzigzag, varbytes, varuint, zigzag

_WIDEST = 2**64 - 1  # a zigzagged clock; wider than lib0's own numbers, which these never meet
_NAMED = ("file_path", "tool", "session", "project", "device")


def encode_batch(events: Sequence[Event]) -> bytes:
    """The columns of 1 to BATCH_EVENTS_MAX events."""
    if not 1 <= len(events) <= BATCH_EVENTS_MAX:
        raise ValueError(f"a batch holds 1 to {BATCH_EVENTS_MAX} events, not {len(events)}")
    table: dict[str, int] = {}
    snippets = [event.snippet.encode() for event in events]
    ranges = [event.selection_range or (0, 0) for event in events]
    columns = [
        varuint(len(events)),
        _differences([event.timestamp for event in events]),
        _clocks(events),
        _differences([event.sequence for event in events]),
        _differences([first for first, _ in ranges]),
        _numbers(last - first for first, last in ranges),
        _numbers(KINDS.index(event.kind) for event in events),
        _numbers(int(event.pinned) for event in events),
        *(_names([getattr(event, name) for event in events], table) for name in _NAMED),
        _numbers(int(event.model_response_hash is not None) for event in events),
        b"".join(bytes.fromhex(event.model_response_hash or "") for event in events),
        varuint(len(table)),
        *(varbytes(name.encode()) for name in table),
        _numbers(len(snippet) for snippet in snippets),
        *snippets,
    ]
    return b"".join(columns)


def decode_batch(plain: bytes) -> list[Event]:
    """The events of a batch, validated like any that a user offers. Raises BatchError."""
    if len(plain) > BATCH_PLAIN_BYTES_MAX:
        raise BatchError(f"{len(plain)} bytes, over the limit of {BATCH_PLAIN_BYTES_MAX}")
    reader = Reader(plain, BatchError)
    count = reader.varuint(BATCH_EVENTS_MAX)
    if count == 0:
        raise BatchError("no events")

    def column() -> list[int]:
        return [reader.varuint(_WIDEST) for _ in range(count)]

    timestamps = _sums(column())
    clocks = _read_clocks(reader.varuint(1), column(), timestamps)
    sequences = _sums(column())
    firsts = _sums(column())
    lengths = column()
    kinds, pinned = column(), column()
    names = [column() for _ in _NAMED]
    flags = column()
    hashes = [reader.take(8).hex() if flag else None for flag in flags]
    table = [reader.text(PATH_BYTES_MAX) for _ in range(reader.varuint(len(_NAMED) * count))]
    sizes = [reader.varuint(SNIPPET_BYTES_MAX) for _ in range(count)]
    snippets = [reader.take(size) for size in sizes]
    reader.finish()
    paths, tools, sessions, projects, devices = (_lookup(indexes, table) for indexes in names)
    return [
        _event(
            {
                "timestamp": timestamps[i],
                "filePath": paths[i],
                "selectionRange": [firsts[i], firsts[i] + lengths[i]] if firsts[i] else None,
                "modelResponseHash": hashes[i],
                "kind": KINDS[kinds[i]] if kinds[i] < len(KINDS) else kinds[i],
                "pinned": bool(pinned[i]),
                "tool": tools[i],
                "session": sessions[i],
                "project": projects[i],
            },
            snippets[i],
            devices[i],
            clocks[i],
            sequences[i],
        )
        for i in range(count)
    ]


def _event(
    fields: dict[str, object], snippet: bytes, device: str | None, clock: int, sequence: int
) -> Event:
    try:
        fields["snippet"] = snippet.decode()
        draft = parse_draft(fields)
    except (EventError, UnicodeDecodeError) as error:
        raise BatchError(f"an event that no device records: {error}") from None
    if device is None or not is_device_id(device):
        raise BatchError("an event without a device")
    if not 0 < sequence < 2**63 or not 0 <= clock < 2**63:
        raise BatchError("a sequence or clock out of bounds")
    return stamp(draft, device=device, clock=clock, sequence=sequence)


def _numbers(values: Iterable[int]) -> bytes:
    return b"".join(map(varuint, values))


def _differences(values: Sequence[int]) -> bytes:
    return b"".join(
        varuint(zigzag(value - before)) for before, value in zip([0, *values], values, strict=False)
    )


def _sums(differences: Sequence[int]) -> list[int]:
    values: list[int] = []
    total = 0
    for difference in differences:
        total += unzigzag(difference)
        values.append(total)
    return values


def _clocks(events: Sequence[Event]) -> bytes:
    above = b"".join(
        varuint(zigzag(event.clock - (event.timestamp << COUNTER_BITS))) for event in events
    )
    stepped = _differences([event.clock for event in events])
    return b"\x00" + above if len(above) <= len(stepped) else b"\x01" + stepped


def _read_clocks(mode: int, column: list[int], timestamps: list[int]) -> list[int]:
    if mode == 1:
        return _sums(column)
    return [
        unzigzag(value) + (timestamp << COUNTER_BITS)
        for value, timestamp in zip(column, timestamps, strict=True)
    ]


def _names(values: Sequence[str | None], table: dict[str, int]) -> bytes:
    return _numbers(
        0 if value is None else 1 + table.setdefault(value, len(table)) for value in values
    )


def _lookup(indexes: list[int], table: list[str]) -> list[str | None]:
    if any(index > len(table) for index in indexes):
        raise BatchError("a name outside the table")
    return [table[index - 1] if index else None for index in indexes]
