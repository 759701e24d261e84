"""Which records are live, and where: a dense table by ordinal, 9 bytes a record.

Pure; not thread-safe.
"""

from __future__ import annotations

from array import array
from typing import Final

EVENT: Final = 1
VECTORS: Final = 2

_LOST: Final = 0
_SUPERSEDED: Final = 0x80
_COMPACT_ENTRIES: Final = 4096


class Directory:
    """The records with ordinals from `first` up to `next`, without gaps.

    An entry is live, superseded by a newer record of the same event, or lost to damage.
    """

    def __init__(self, first: int) -> None:
        self._base = first
        self._start = 0
        self._positions: array[int] = array("Q")
        self._kinds = bytearray()
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

    def put(self, ordinal: int, position: int, kind: int) -> None:
        """Enter a record; ordinals left out since the last one are lost."""
        self.lose_until(ordinal)
        self._positions.append(position)
        self._kinds.append(kind)
        self.events += kind == EVENT

    def lose_until(self, ordinal: int) -> None:
        """Enter every ordinal below `ordinal` that has no entry yet as lost."""
        missing = ordinal - self.next
        if missing < 0:
            raise ValueError(f"ordinal {ordinal} comes after {self.next - 1}")
        if missing:
            self._positions.extend(array("Q", bytes(8 * missing)))
            self._kinds.extend(bytes(missing))
            self.lost += missing

    def lose(self, ordinal: int) -> None:
        """A record that turns out to be unreadable."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and self._kinds[index] != _LOST:
            self.events -= self._kinds[index] == EVENT
            self.lost += 1
            self._kinds[index] = _LOST

    def supersede(self, ordinal: int) -> None:
        """An event that a newer record repeats."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and self._kinds[index] == EVENT:
            self.events -= 1
            self._kinds[index] = EVENT | _SUPERSEDED

    def position(self, ordinal: int, kind: int) -> int | None:
        """Where the live record of this ordinal and kind is."""
        index = ordinal - self._base
        if self._start <= index < len(self._kinds) and self._kinds[index] == kind:
            return self._positions[index]
        return None

    def ordinals(self, kind: int) -> list[int]:
        """The live records of a kind, oldest first."""
        found: list[int] = []
        index = self._kinds.find(kind, self._start)
        while index >= 0:
            found.append(self._base + index)
            index = self._kinds.find(kind, index + 1)
        return found

    def evict_before(self, position: int) -> list[int]:
        """Drop every record before a position; returns the events among them.

        A lost record goes with the first live one after it.
        """
        evicted: list[int] = []
        index = stop = self._start
        while index < len(self._kinds):
            kind = self._kinds[index]
            if kind != _LOST:
                if self._positions[index] >= position:
                    break
                if kind == EVENT:
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

    def _compact(self) -> None:
        if self._start >= _COMPACT_ENTRIES and self._start * 2 >= len(self._kinds):
            del self._positions[: self._start]
            del self._kinds[: self._start]
            self._base += self._start
            self._start = 0
