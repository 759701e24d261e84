"""Batches: events as columns, small enough to send.

Columns put like beside like, as differences from what came before: in the batch, or in an earlier
one of the same segment (`recall`). Everything but the snippets is bits (`bits`), in this order:

    how many, less 1 | which are references, unless all are alike
    | whether any column up to the line is not all 0
    kinds | devices | tools | sessions | projects | pinned | at no lines | response hashes
    | sequences, beyond the next | how clocks are written, clocks
    -----
    timestamps | paths | line feeds in snippets | lines of ranges, beyond those | of references
    | first lines, by distance to the last range of the path | first lines of those that are far
    | hashes of the texts that references stand for

A column of zeros is one bit. Names come by recency; behind their column each new one is spelt
(`names`), and new response hashes follow theirs. The snippets are one text, with a line feed between
each two: how many line feeds a snippet holds tells where it ends.

Ids do not travel: they follow from the rest (`events.with_id`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from localmem_protocol.bits import BitReader, BitWriter
from localmem_protocol.clock import COUNTER_BITS
from localmem_protocol.errors import BatchError, EventError
from localmem_protocol.events import Event, is_device_id, parse_draft, stamp
from localmem_protocol.limits import (
    BATCH_EVENTS_MAX,
    LINE_MAX,
    MARK_MAX,
    SNIPPET_BYTES_MAX,
    TIMESTAMP_MS_MAX,
)
from localmem_protocol.recall import Recall
from localmem_protocol.references import TEXT_HASH_BYTES, Reference
from localmem_protocol.wire import unzigzag, zigzag

Row = Event | Reference

NEAR_LINES: Final = 15
"""Up to this distance from the last range of its path, a range is written as that distance."""

_TIMESTAMP_BITS: Final = TIMESTAMP_MS_MAX.bit_length()
_RESPONSE_HASH_BITS: Final = 64
_WIDEST: Final = 2**66
_NO_HASH, _SAME_HASH, _NEW_HASH = 0, 1, 2
_FROM_TIMESTAMP, _FROM_CLOCK = 0, 1
_LABELS: Final = ("kind", "device", "tool", "session", "project")


def encode_rows(rows: Sequence[Row], recall: Recall) -> tuple[bytes, bytes]:
    """The columns of 1 to BATCH_EVENTS_MAX events, and their text. Changes `recall`."""
    if not 1 <= len(rows) <= BATCH_EVENTS_MAX:
        raise ValueError(f"a batch holds 1 to {BATCH_EVENTS_MAX} events, not {len(rows)}")
    columns = _Encoder(rows, recall).write()
    return columns, "\n".join(row.snippet for row in rows if isinstance(row, Event)).encode()


def decode_rows(data: bytes, recall: Recall, unpack: Callable[[bytes], bytes]) -> list[Row]:
    """The inverse; `unpack` makes the text of what follows the columns. Changes `recall`.

    Events are validated like any that a user offers. Raises BatchError, also for columns that are
    not written as `encode_rows` writes them.
    """
    before = recall.copy()
    decoder = _Decoder(data, recall)
    columns = decoder.read()
    text = unpack(data[len(columns) :])
    rows = decoder.rows(text)
    if encode_rows(rows, before) != (columns, text):
        raise BatchError("columns that are not written as they must be")
    return rows


class _Encoder:
    def __init__(self, rows: Sequence[Row], recall: Recall) -> None:
        self._bits = BitWriter()
        self._rows = rows
        self._recall = recall
        self._known = {name: len(names.values) for name, names in recall.names.items()}

    def write(self) -> bytes:
        rows, recall = self._rows, self._recall
        self._bits.number(recall.column("count"), len(rows) - 1)
        self._write_references([isinstance(row, Reference) for row in rows])
        labels = {
            name: self._ranks(name, [getattr(row, name) for row in rows])[0] for name in _LABELS
        }
        flags = {
            "pinned": [int(row.pinned) for row in rows],
            "nowhere": [int(row.selection_range is None) for row in rows],
        }
        response, hashes = _response_hashes(rows, recall)
        sequences = _steps([row.sequence for row in rows], recall.sequence)
        mode, clocks = _clocks(rows, recall.clock)
        usual = not mode and not any(
            map(any, [*labels.values(), *flags.values(), response, sequences, clocks])
        )
        self._bits.flat(int(not usual), 1)
        if not usual:
            for name, ranks in labels.items():
                self._names(name, ranks)
            for name, column in flags.items():
                self._numbers(name, column)
            self._numbers("response", response)
            for digits in hashes:
                self._bits.flat(int(digits, 16), _RESPONSE_HASH_BITS)
            self._numbers("sequence", sequences)
            self._bits.flat(mode, 1)
            self._numbers("clock", clocks)
        self._timestamps()
        path_ranks, paths = self._ranks("path", [row.file_path for row in rows])
        self._names("path", path_ranks)
        self._lines(paths)
        for row in rows:
            if isinstance(row, Reference):
                self._bits.flat(int.from_bytes(row.text_hash, "big"), 8 * TEXT_HASH_BYTES)
        recall.clock, recall.sequence = rows[-1].clock, rows[-1].sequence
        return self._bits.to_bytes()

    def _write_references(self, flags: Sequence[bool]) -> None:
        mixed = any(flags) and not all(flags)
        self._bits.flat(int(mixed), 1)
        for flag in flags if mixed else flags[:1]:
            self._bits.flat(int(flag), 1)

    def _numbers(self, name: str, numbers: Sequence[int]) -> None:
        if numbers:
            self._bits.numbers(self._recall.column(name), numbers)

    def _ranks(self, name: str, values: Sequence[str | None]) -> tuple[list[int], list[int]]:
        """A column of names by recency; the number of each."""
        names = self._recall.names[name]
        places = [names.rank(value) for value in values]
        return [rank for rank, _ in places], [number for _, number in places]

    def _names(self, name: str, ranks: Sequence[int]) -> None:
        """A column of names, and what the new ones are."""
        self._numbers(name, ranks)
        names = self._recall.names[name]
        for number in range(self._known[name], len(names.values)):
            names.write(self._bits, number)

    def _timestamps(self) -> None:
        times = [row.timestamp for row in self._rows]
        if self._recall.timestamp is None:
            self._bits.flat(times[0], _TIMESTAMP_BITS)
        else:
            times.insert(0, self._recall.timestamp)
        self._numbers("timestamp", [zigzag(after - before) for before, after in pairwise(times)])
        self._recall.timestamp = times[-1]

    def _lines(self, paths: Sequence[int]) -> None:
        lines = self._recall.lines
        columns: dict[str, list[int]] = {
            name: [] for name in ("ends", "height", "span", "near", "far")
        }
        for row, path in zip(self._rows, paths, strict=True):
            feeds = row.snippet.count("\n") if isinstance(row, Event) else None
            if feeds is not None:
                columns["ends"].append(feeds)
            if row.selection_range is None:
                continue
            first, last = row.selection_range
            if feeds is None:
                columns["span"].append(last - first)
            else:
                columns["height"].append(zigzag(last - first - feeds))
            distance = first - lines[path] if path in lines else NEAR_LINES + 1
            if abs(distance) <= NEAR_LINES:
                columns["near"].append(1 + zigzag(distance))
            else:
                columns["near"].append(0)
                columns["far"].append(first - 1)
            lines[path] = first
        for name, column in columns.items():
            self._numbers(name, column)


class _Decoder:
    def __init__(self, data: bytes, recall: Recall) -> None:
        self._data = data
        self._recall = recall
        self._bits = BitReader(data)
        self._count = 0

    def read(self) -> bytes:
        """Read all columns; the bytes that they are."""
        bits, recall = self._bits, self._recall
        self._count = count = 1 + bits.number(recall.column("count"))
        if count > BATCH_EVENTS_MAX:
            raise BatchError(f"more than {BATCH_EVENTS_MAX} events")
        self._references = self._read_references()
        written = count * bits.flat(1)
        zeros = [0] * count
        self._labels = {name: self._names(name, written) for name in _LABELS}
        self._pinned = self._numbers("pinned", written, 1) or zeros
        self._nowhere = self._numbers("nowhere", written, 1) or zeros
        self._read_response_hashes(self._numbers("response", written, _NEW_HASH) or zeros)
        self._sequences = _after(self._numbers("sequence", written) or zeros, recall.sequence)
        mode = bits.flat(1) if written else _FROM_TIMESTAMP
        clocks = self._numbers("clock", written) or zeros
        self._timestamps()
        self._clocks = _after(clocks, recall.clock) if mode else _above(clocks, self._times)
        self._paths = self._names("path", count)
        self._lines()
        self._text_hashes = [
            bits.flat(8 * TEXT_HASH_BYTES).to_bytes(TEXT_HASH_BYTES, "big") if flag else b""
            for flag in self._references
        ]
        recall.clock, recall.sequence = self._clocks[-1], self._sequences[-1]
        return self._data[: bits.bytes_read]

    def rows(self, text: bytes) -> list[Row]:
        """The events, their snippets taken from `text`, and the references."""
        snippets = iter(self._snippets(text))
        return [
            self._row(index, None if reference else next(snippets))
            for index, reference in enumerate(self._references)
        ]

    def _snippets(self, text: bytes) -> list[str]:
        try:
            lines = text.decode().split("\n") if text else []
        except UnicodeDecodeError:
            raise BatchError("text that is not UTF-8") from None
        if len(lines) != sum(self._ends) + len(self._ends):
            raise BatchError("a text of more or fewer lines than there must be")
        snippets: list[str] = []
        start = 0
        for feeds in self._ends:
            snippets.append("\n".join(lines[start : start + feeds + 1]))
            start += feeds + 1
        return snippets

    def _row(self, index: int, snippet: str | None) -> Row:
        labels = {name: self._value(name, self._labels[name][index]) for name in _LABELS}
        fields: dict[str, object] = {
            "timestamp": self._times[index],
            "filePath": self._value("path", self._paths[index]),
            "selectionRange": self._ranges[index],
            "snippet": "a reference's" if snippet is None else snippet,
            "modelResponseHash": self._response_hashes[index],
            "pinned": bool(self._pinned[index]),
            "kind": labels["kind"],
            "tool": labels["tool"],
            "session": labels["session"],
            "project": labels["project"],
        }
        place = _Place(labels["device"] or "", self._clocks[index], self._sequences[index])
        return (
            _event(fields, place) if snippet is not None else self._reference(index, fields, place)
        )

    def _reference(self, index: int, fields: dict[str, object], place: _Place) -> Reference:
        event = _event(fields, place)
        if event.file_path is None or event.selection_range is None:
            raise BatchError("a reference to no place in a file")
        return Reference(
            text_hash=self._text_hashes[index],
            file_path=event.file_path,
            selection_range=event.selection_range,
            **{name: getattr(event, name) for name in _SHARED},
        )

    def _value(self, name: str, number: int) -> str | None:
        return self._recall.names[name].values[number]

    def _read_references(self) -> list[int]:
        if self._bits.flat(1):
            return [self._bits.flat(1) for _ in range(self._count)]
        return [self._bits.flat(1)] * self._count

    def _numbers(self, name: str, count: int, most: int = _WIDEST) -> list[int]:
        if not count:
            return []
        numbers = self._bits.numbers(self._recall.column(name), count)
        if max(numbers) > most:
            raise BatchError(f"{name}: {max(numbers)} is over the limit of {most}")
        return numbers

    def _names(self, name: str, written: int) -> list[int]:
        """A column of names: the number of each."""
        names = self._recall.names[name]
        ranks = self._numbers(name, written) or [0] * self._count
        numbers = [names.at(rank) for rank in ranks]
        for _ in range(names.new()):
            names.read_new(self._bits)
        return numbers

    def _read_response_hashes(self, kinds: Sequence[int]) -> None:
        self._response_hashes: list[str | None] = []
        for kind in kinds:
            if kind == _NEW_HASH:
                self._recall.response_hash = f"{self._bits.flat(_RESPONSE_HASH_BITS):016x}"
            self._response_hashes.append(self._recall.response_hash if kind else None)

    def _timestamps(self) -> None:
        time = self._recall.timestamp
        self._times: list[int] = []
        if time is None:
            time = self._bits.flat(_TIMESTAMP_BITS)
            self._times.append(time)
        for difference in self._numbers("timestamp", self._count - len(self._times)):
            time += unzigzag(difference)
            self._times.append(time)
        self._recall.timestamp = time

    def _lines(self) -> None:
        self._ends = self._numbers("ends", self._count - sum(self._references), SNIPPET_BYTES_MAX)
        placed = [not nowhere for nowhere in self._nowhere]
        spanning = sum(a and b for a, b in zip(self._references, placed, strict=True))
        heights = iter(self._numbers("height", sum(placed) - spanning))
        spans = iter(self._numbers("span", spanning, LINE_MAX))
        near = self._numbers("near", sum(placed), 2 * NEAR_LINES + 1)
        far = iter(self._numbers("far", near.count(0), LINE_MAX))
        steps, feeds = iter(near), iter(self._ends)
        self._ranges: list[tuple[int, int] | None] = []
        for path, reference, there in zip(self._paths, self._references, placed, strict=True):
            feed = 0 if reference else next(feeds)
            if not there:
                self._ranges.append(None)
                continue
            span = next(spans) if reference else unzigzag(next(heights)) + feed
            first = self._first_line(path, next(steps), far)
            self._ranges.append((first, first + span))

    def _first_line(self, path: int, step: int, far: Iterator[int]) -> int:
        lines = self._recall.lines
        if step and path not in lines:
            raise BatchError("lines near those of a path that had none")
        lines[path] = lines[path] + unzigzag(step - 1) if step else next(far) + 1
        return lines[path]


@dataclass(frozen=True)
class _Place:
    device: str
    clock: int
    sequence: int


_SHARED: Final = tuple(
    name
    for name in Reference.__struct_fields__
    if name not in {"text_hash", "file_path", "selection_range"}
)


def _event(fields: dict[str, object], place: _Place) -> Event:
    try:
        draft = parse_draft(fields)
    except EventError as error:
        raise BatchError(f"an event that no device records: {error}") from None
    if not is_device_id(place.device):
        raise BatchError("an event without a device")
    if not 1 <= place.sequence <= MARK_MAX or not 0 <= place.clock <= MARK_MAX:
        raise BatchError("a sequence or clock out of bounds")
    return stamp(draft, device=place.device, clock=place.clock, sequence=place.sequence)


def _response_hashes(rows: Sequence[Row], recall: Recall) -> tuple[list[int], list[str]]:
    """Whether each has none, the last one again, or a new one; the new ones."""
    kinds: list[int] = []
    new: list[str] = []
    for row in rows:
        digits = row.model_response_hash
        if digits is None:
            kinds.append(_NO_HASH)
        elif digits == recall.response_hash:
            kinds.append(_SAME_HASH)
        else:
            kinds.append(_NEW_HASH)
            new.append(digits)
            recall.response_hash = digits
    return kinds, new


def _steps(values: Sequence[int], before: int) -> list[int]:
    """How far each value is from one more than the value before it."""
    return [zigzag(value - last - 1) for last, value in pairwise([before, *values])]


def _after(steps: Sequence[int], before: int) -> list[int]:
    """The inverse of `_steps`."""
    values: list[int] = []
    for step in steps:
        before += 1 + unzigzag(step)
        values.append(before)
    return values


def _above(clocks: Sequence[int], times: Sequence[int]) -> list[int]:
    return [
        unzigzag(value) + (time << COUNTER_BITS) for value, time in zip(clocks, times, strict=True)
    ]


def _clocks(rows: Sequence[Row], before: int) -> tuple[int, list[int]]:
    """Clocks as what they are above the event's own time (live capture), or as steps (imports)."""
    above = [zigzag(row.clock - (row.timestamp << COUNTER_BITS)) for row in rows]
    steps = _steps([row.clock for row in rows], before)
    if sum(map(int.bit_length, above)) <= sum(map(int.bit_length, steps)):
        return _FROM_TIMESTAMP, above
    return _FROM_CLOCK, steps
