"""What both sides remember of a segment's batches so far."""

from __future__ import annotations

from typing import Final

from localmem_protocol.bits import Column
from localmem_protocol.events import KINDS
from localmem_protocol.limits import LABEL_BYTES_MAX, PATH_BYTES_MAX
from localmem_protocol.names import Names

_EXPECTED: Final = {"count": 3, "timestamp": 17, "path": 1, "near": 2, "far": 8, "ends": 2}
"""Low bits that the first number of a column is expected to need; 0 in the others."""


class Recall:
    """The memory of one segment, which belongs to one device.

    Encoding and decoding a batch change it: work on a `copy`, to keep when all went well.
    """

    def __init__(self, device: str) -> None:
        self.timestamp: int | None = None
        self.clock = self.sequence = 0
        self.response_hash = ""
        self.lines: dict[int, int] = {}  # path number: first line of its last range
        kinds = sorted(KINDS, key=lambda kind: kind != "edit")
        self.names = {
            "kind": Names(kinds, LABEL_BYTES_MAX),
            "device": Names([device], LABEL_BYTES_MAX),
            "tool": Names([None], LABEL_BYTES_MAX),
            "session": Names([None], LABEL_BYTES_MAX),
            "project": Names([None], LABEL_BYTES_MAX),
            "path": Names([None], PATH_BYTES_MAX, paths=True),
        }
        self._columns: dict[str, Column] = {}

    def copy(self) -> Recall:
        """One that changes apart from this one."""
        other = Recall("")
        other.timestamp, other.clock, other.sequence = self.timestamp, self.clock, self.sequence
        other.response_hash, other.lines = self.response_hash, dict(self.lines)
        other.names = {name: names.copy() for name, names in self.names.items()}
        other._columns = {name: column.copy() for name, column in self._columns.items()}
        return other

    def column(self, name: str) -> Column:
        """What the numbers of a column are like."""
        if name not in self._columns:
            self._columns[name] = Column(_EXPECTED.get(name, 0))
        return self._columns[name]
