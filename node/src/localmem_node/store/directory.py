"""Which records are live, and where: a dense table by ordinal, 19 bytes a record.

Pure; not thread-safe. Its columns can be saved and loaded, so that opening a store need not read
every record again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.store.layout import KIND_EVENT, KIND_FORGOTTEN, KIND_PINNED, KIND_VECTORS
from localmem_protocol.events import ID_BYTES

EVENT: Final = KIND_EVENT
VECTORS: Final = KIND_VECTORS
FORGOTTEN: Final = KIND_FORGOTTEN
PINNED: Final = KIND_PINNED

_LOST: Final = 0
_DEAD: Final = 0x80
_UNPINNED: Final = 0xFF & ~PINNED
_COMPACT_ENTRIES: Final = 4096
NO_ID: Final = bytes(ID_BYTES)
"""Of a record that is no event."""


@dataclass(frozen=True)
class Columns:
    """A directory as bytes: u64 distances between positions, one kind byte, ten bytes of id each."""

    first: int
    distances: bytes
    kinds: bytes
    ids: bytes

    def sound(self) -> bool:
        """Whether the columns belong together."""
        entries = len(self.kinds)
        return len(self.distances) == 8 * entries and len(self.ids) == ID_BYTES * entries


class Directory:
    """The records with ordinals from `first` up to `next`, without gaps.

    An entry is live, dead (a newer record repeats the event), or lost to damage. Positions ascend;
    a lost entry has that of the entry before it.
    """

    def __init__(self, first: int) -> None:
        self._base = first
        self._start = 0
        self._positions: array[int] = array("Q")
        self._kinds = bytearray()
        self._ids = bytearray()
        self.events = 0
        self.lost = 0

    @property
    def first(self) -> int:
        """The lowest ordinal that has an entry."""
        return self._base + self._start

    @property
    def next(self) -> int:
        """The ordinal after the highest."""
        return self._base + len(self._kinds)

    def put(self, ordinal: int, position: int, kind: int, event_id: bytes = NO_ID) -> None:
        """Enter a record; ordinals left out since the last one are lost."""
        self.lose_until(ordinal)
        self._positions.append(position)
        self._kinds.append(kind)
        self._ids += event_id
        self.events += kind & _UNPINNED == EVENT

    def lose_until(self, ordinal: int) -> None:
        """Enter every ordinal below `ordinal` that has no entry yet as lost."""
        missing = ordinal - self.next
        if missing < 0:
            raise ValueError(f"ordinal {ordinal} comes after {self.next - 1}")
        if missing:
            last = self._positions[-1] if self._positions else 0
            self._positions.extend(array("Q", [last]) * missing)
            self._kinds.extend(bytes(missing))
            self._ids.extend(bytes(ID_BYTES * missing))
            self.lost += missing

    def lose(self, ordinal: int) -> None:
        """A record that turns out to be unreadable."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and self._kinds[index] != _LOST:
            self.events -= self._kinds[index] & _UNPINNED == EVENT
            self.lost += 1
            self._kinds[index] = _LOST

    def supersede(self, ordinal: int) -> None:
        """A record that a newer one repeats, or whose event is to be forgotten."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and not self._kinds[index] & _DEAD:
            self.events -= self._kinds[index] & _UNPINNED == EVENT
            self._kinds[index] |= _DEAD if self._kinds[index] != _LOST else _LOST

    def position(self, ordinal: int, kind: int) -> int | None:
        """Where the live record of this ordinal and kind is, pinned or not."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and self._kinds[index] & _UNPINNED == kind:
            return self._positions[index]
        return None

    def pinned(self, ordinal: int) -> bool:
        """Whether there is a live pinned event at an ordinal."""
        index = ordinal - self._base
        return self._start <= index < len(self._kinds) and self._kinds[index] == EVENT | PINNED

    def kept_ordinals(self) -> list[int]:
        """What eviction passes over: pinned events and marks, oldest first."""
        kinds = np.frombuffer(bytes(self._kinds[self._start :]), np.uint8)
        kept = (kinds == EVENT | PINNED) | (kinds == FORGOTTEN)
        found: list[int] = (np.flatnonzero(kept) + self.first).tolist()
        return found

    def event_ids(self, ordinals: Sequence[int]) -> npt.NDArray[np.uint8]:
        """The ids of the events at ordinals that have an entry, a row of bytes each."""
        table = np.frombuffer(bytes(self._ids), np.uint8).reshape(-1, ID_BYTES)
        rows: npt.NDArray[np.uint8] = table[np.array(ordinals, np.int64) - self._base]
        return rows

    def event_id(self, ordinal: int) -> bytes:
        """The id of the event at an ordinal that has an entry."""
        at = ID_BYTES * (ordinal - self._base)
        return bytes(self._ids[at : at + ID_BYTES])

    def ordinals(self, kind: int, start: int = 0) -> list[int]:
        """The live records of a kind with ordinals from `start`, oldest first."""
        first = max(self._start, start - self._base)
        kinds = np.frombuffer(bytes(self._kinds[first:]), np.uint8)
        found: list[int] = (
            np.flatnonzero(kinds & np.uint8(_UNPINNED) == kind) + (self._base + first)
        ).tolist()
        return found

    def newest(self) -> dict[bytes, int]:
        """The live event of each id."""
        return {self.event_id(ordinal): ordinal for ordinal in self.ordinals(EVENT)}

    def lost_ranges(self) -> list[tuple[int, int]]:
        """Runs of lost ordinals, as (first, one past the last)."""
        ranges: list[tuple[int, int]] = []
        index = self._kinds.find(_LOST, self._start)
        while index >= 0:
            end = index
            while end < len(self._kinds) and self._kinds[end] == _LOST:
                end += 1
            ranges.append((self._base + index, self._base + end))
            index = self._kinds.find(_LOST, end)
        return ranges

    def between(self, start: int, stop: int) -> list[tuple[int, int]]:
        """(ordinal, kind) of the live records that start at positions from `start` below `stop`.

        A pinned event is of kind EVENT | PINNED.
        """
        low = bisect_left(self._positions, start, lo=self._start)
        high = bisect_left(self._positions, stop, lo=low)
        return [
            (self._base + index, self._kinds[index])
            for index in range(low, high)
            if self._kinds[index] != _LOST and not self._kinds[index] & _DEAD
        ]

    def before(self, position: int) -> int | None:
        """The ordinal of the last entry that starts before a position."""
        index = bisect_left(self._positions, position, lo=self._start) - 1
        return self._base + index if index >= self._start else None

    def evict_before(self, position: int) -> list[int]:
        """Drop every record before a position; returns the live events among them.

        A lost record goes with the first live one after it.
        """
        evicted: list[int] = []
        index = stop = self._start
        while index < len(self._kinds):
            kind = self._kinds[index]
            if kind != _LOST:
                if self._positions[index] >= position:
                    break
                if kind & _UNPINNED == EVENT:
                    evicted.append(self._base + index)
                stop = index + 1
            index += 1
        else:
            stop = index
        self.lost -= self._kinds.count(_LOST, self._start, stop)
        self.events -= len(evicted)
        self._start = stop
        self._compact()
        return evicted

    def save(self) -> Columns:
        """The columns, for `load`."""
        positions = np.array(self._positions[self._start :], dtype="<u8")
        return Columns(
            first=self.first,
            distances=np.diff(positions, prepend=np.uint64(0)).astype("<u8").tobytes(),
            kinds=bytes(self._kinds[self._start :]),
            ids=bytes(self._ids[ID_BYTES * self._start :]),
        )

    @classmethod
    def load(cls, columns: Columns) -> Directory:
        """The directory that was saved. Precondition: the columns are sound."""
        directory = cls(columns.first)
        positions = np.cumsum(np.frombuffer(columns.distances, "<u8"), dtype=np.uint64)
        directory._positions.frombytes(positions.tobytes())
        directory._kinds = bytearray(columns.kinds)
        directory._ids = bytearray(columns.ids)
        directory.events = sum(directory._kinds.count(kind) for kind in (EVENT, EVENT | PINNED))
        directory.lost = directory._kinds.count(_LOST)
        return directory

    def _compact(self) -> None:
        if self._start >= _COMPACT_ENTRIES and self._start * 2 >= len(self._kinds):
            del self._positions[: self._start]
            del self._kinds[: self._start]
            del self._ids[: ID_BYTES * self._start]
            self._base += self._start
            self._start = 0
