"""What events can be chosen by, as columns by slot: when, of which kind, tool, session, project, file.

An event costs some 25 bytes here. Names are kept once, for as long as an event has them; a path is
compared with the file that is asked for once, however many events it has and however often the
question comes again. Pure bookkeeping, not thread-safe: the engine holds a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.slots import grown
from localmem_node.selection import Selection, is_file
from localmem_protocol.events import KINDS, Event

NONE: Final = -1
"""The number of no name."""

NO_KIND: Final = 255
"""The kind of a slot without an event."""

FILES_KEPT: Final = 16
"""Files that were asked for lately, each with a bit for every path."""

LABELS: Final = ("project", "tool", "session", "file_path")
"""The named attributes, in the order of their columns."""

_SESSION: Final = LABELS.index("session")

Mask = npt.NDArray[np.bool_]


class Columns(NamedTuple):
    """Attributes of some events, a row each; labels are indexes into `names`, or NONE.

    `labels` is (len(LABELS), events); `names` has a list for each of LABELS.
    """

    timestamps: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    names: list[list[str]]

    def chosen(self, mask: Mask) -> Columns:
        """The rows that a mask names."""
        return Columns(self.timestamps[mask], self.kinds[mask], self.labels[:, mask], self.names)


class Names:
    """Texts by number; a number is given up, and used again, when nothing has it any more."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str | None] = []
        self._uses: list[int] = []
        self._free: list[int] = []
        self._ends: dict[str, Mask] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @classmethod
    def restore(cls, names: Sequence[str], column: npt.NDArray[np.int32]) -> Names:
        """The names that a column of numbers uses."""
        restored = cls()
        uses = np.bincount(column[column >= 0], minlength=len(names)).tolist()
        restored._uses = uses
        restored._names = [name if used else None for name, used in zip(names, uses, strict=True)]
        restored._numbers = {name: number for number, name in restored._live()}
        restored._free = [number for number, used in enumerate(uses) if not used]
        return restored

    def take(self, name: str | None) -> int:
        """The number of a name, which is used once more."""
        if name is None:
            return NONE
        number = self._numbers.get(name)
        if number is None:
            number = self._new(name)
        self._uses[number] += 1
        return number

    def give(self, number: int) -> None:
        """A number is used once less."""
        if number == NONE:
            return
        self._uses[number] -= 1
        if not self._uses[number]:
            name = self._names[number]
            assert name is not None
            del self._numbers[name]
            self._names[number] = None
            self._free.append(number)

    def numbers(self, names: Collection[str]) -> list[int]:
        """The numbers of those names that something has."""
        return [number for name in names if (number := self._numbers.get(name)) is not None]

    def ending(self, wanted: str) -> Mask:
        """By number, whether a path is the wanted file (`selection.is_file`)."""
        table = self._ends.pop(wanted, None)
        if table is None:
            table = np.zeros(len(self._names), np.bool_)
            within = wanted.strip("/")  # as a rule that alone tells
            live = ((number, name) for number, name in self._live() if within in name)
            table[[number for number, name in live if is_file(name, wanted)]] = True
            while len(self._ends) >= FILES_KEPT:
                del self._ends[next(iter(self._ends))]
        self._ends[wanted] = table = grown(table, len(self._names))
        return table

    def compact(self, column: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], list[str]]:
        """The names without gaps, and a column of numbers by them."""
        live = list(self._live())
        places = np.full(len(self._names) + 1, NONE, np.int32)  # the last is that of NONE
        places[[number for number, _ in live]] = np.arange(len(live), dtype=np.int32)
        return places[column], [name for _, name in live]

    def _live(self) -> Iterator[tuple[int, str]]:
        return ((number, name) for number, name in enumerate(self._names) if name is not None)

    def _new(self, name: str) -> int:
        if self._free:
            number = self._free.pop()
            self._names[number] = name
        else:
            number = len(self._names)
            self._names.append(name)
            self._uses.append(0)
        self._numbers[name] = number
        for wanted, table in self._ends.items():
            self._ends[wanted] = table = grown(table, number + 1)
            table[number] = is_file(name, wanted)
        return number


class Attributes:
    """The columns of a catalogue, as wide as the slots that were ever used."""

    def __init__(self) -> None:
        self._timestamps = np.zeros(0, np.int64)
        self._kinds = np.zeros(0, np.uint8)
        self._labels = np.zeros((len(LABELS), 0), np.int32)
        self._names = [Names() for _ in LABELS]

    @classmethod
    def restore(cls, slots: npt.NDArray[np.int64], columns: Columns) -> Attributes:
        """The attributes of events in these slots."""
        restored = cls()
        restored._widen(int(slots.max(initial=-1)) + 1)
        restored._timestamps[slots] = columns.timestamps
        restored._kinds[slots] = columns.kinds
        restored._labels[:, slots] = columns.labels
        restored._names = [
            Names.restore(names, column)
            for names, column in zip(columns.names, columns.labels, strict=True)
        ]
        return restored

    def put(self, slot: int, event: Event) -> None:
        """Take an event in. Precondition: its slot is free."""
        if slot >= len(self._kinds):
            self._widen(slot + 1)
        self._timestamps[slot] = event.timestamp
        self._kinds[slot] = KINDS.index(event.kind)
        for row, (label, names) in enumerate(zip(LABELS, self._names, strict=True)):
            self._labels[row, slot] = names.take(getattr(event, label))

    def clear(self, slot: int) -> None:
        """Forget the event in a slot."""
        self._kinds[slot] = NO_KIND
        for row, names in enumerate(self._names):
            names.give(int(self._labels[row, slot]))
            self._labels[row, slot] = NONE

    def timestamp(self, slot: int) -> int:
        """When the event in a slot happened."""
        return int(self._timestamps[slot])

    def timestamps(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When the events in these slots happened."""
        return self._timestamps[slots]

    def columns(self, slots: npt.NDArray[np.int64]) -> Columns:
        """The rows of these slots, all of which hold an event."""
        compacted = [
            names.compact(self._labels[row, slots]) for row, names in enumerate(self._names)
        ]
        labels = np.array([column for column, _ in compacted], np.int32)
        names = [found for _, found in compacted]
        return Columns(self._timestamps[slots], self._kinds[slots], labels, names)

    def mask(self, selection: Selection, width: int) -> Mask:
        """For every slot below `width` whether its event has what is asked for.

        Ids and the device are not looked at.
        """
        kinds = self._kinds[:width]
        if selection.kind:
            chosen = _among(kinds, [KINDS.index(kind) for kind in selection.kind])
        else:
            chosen = kinds != NO_KIND
        asked = (selection.projects, selection.tool,
                 (selection.session,) if selection.session is not None else ())  # fmt: skip
        for row, wanted in enumerate(asked):
            if wanted:
                chosen &= _among(self._labels[row, :width], self._names[row].numbers(wanted))
        if selection.file is not None:
            # One place more, False, for what is in no file: its number is -1.
            table = np.append(self._names[-1].ending(selection.file), np.False_)
            chosen &= table[self._labels[-1, :width]]
        if selection.since is not None:
            chosen &= self._timestamps[:width] >= selection.since
        if selection.before is not None:
            chosen &= self._timestamps[:width] < selection.before
        if selection.unless is not None:
            session, since = selection.unless
            own = _among(self._labels[_SESSION, :width], self._names[_SESSION].numbers([session]))
            chosen &= ~(own & (self._timestamps[:width] >= since))
        return chosen

    def _widen(self, width: int) -> None:
        before = len(self._kinds)
        self._timestamps = grown(self._timestamps, width)
        self._kinds = grown(self._kinds, width)
        self._labels = grown(self._labels, width)
        self._kinds[before:] = NO_KIND
        self._labels[:, before:] = NONE


def _among(column: npt.NDArray[Any], numbers: Sequence[int]) -> Mask:
    found = np.zeros(len(column), np.bool_)
    for number in numbers:
        found |= column == number
    return found
