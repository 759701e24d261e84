"""What the engine knows of every live event without reading it: ordinal, slot, id, order, project.

Ordinals are the store's (never reused), slots the index's (small, reused). Pure bookkeeping, not
thread-safe: the engine holds a lock. Kept small, since there is one entry per event: the events
themselves stay in the store.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from localmem_protocol.events import Event, Order

_GROWTH: Final = 1024
_LAST: Final = "\U0010ffff"  # sorts after every id
_Key = TypeVar("_Key", bound=tuple[Any, str])


@dataclass(slots=True)
class Entry:
    """One live event."""

    ordinal: int
    slot: int
    id: str
    order: Order
    project: str | None


class Catalogue:
    """The live events of a store; `device` is this device's id."""

    def __init__(self, device: str, reserved: Container[int] = (), width: int = 0) -> None:
        """`reserved` slots below `width` are given out only by name, until `release`."""
        self.position = 0  # the highest ordinal that was ever added
        self._device = device
        self._by_ordinal: dict[int, Entry] = {}
        self._by_id: dict[str, Entry] = {}
        self._by_slot: list[Entry | None] = [None] * width
        self._free = [slot for slot in range(width) if slot not in reserved]
        self._ordered: list[tuple[Order, str]] = []
        self._own: list[tuple[int, str]] = []
        self._projects: dict[str, int] = {}
        self._project_of = np.full(max(width, _GROWTH), -1, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._by_id

    def add(self, ordinal: int, event: Event, slot: int | None = None) -> int:
        """Take an event in; its slot, `slot` if that is given.

        Precondition: its id is not in the catalogue; a given slot is reserved and unused.
        """
        if slot is None:
            slot = self._free.pop() if self._free else len(self._by_slot)
        self.position = max(self.position, ordinal)
        entry = Entry(ordinal, slot, event.id, event.order, event.project)
        if slot == len(self._by_slot):
            self._by_slot.append(entry)
        else:
            self._by_slot[slot] = entry
        self._by_ordinal[ordinal] = self._by_id[event.id] = entry
        insort(self._ordered, (event.order, event.id))
        if event.device == self._device:
            insort(self._own, (event.sequence, event.id))
        if slot >= len(self._project_of):
            wider = np.full(2 * len(self._by_slot), -1, dtype=np.int32)
            wider[: len(self._project_of)] = self._project_of
            self._project_of = wider
        if event.project is not None:
            number = self._projects.setdefault(event.project, len(self._projects))
            self._project_of[slot] = number
        return slot

    def remove(self, ordinal: int) -> int | None:
        """Forget the event at an ordinal; its slot, free from now on. None if it is not known."""
        entry = self._by_ordinal.pop(ordinal, None)
        if entry is None:
            return None
        del self._by_id[entry.id]
        self._by_slot[entry.slot] = None
        self._free.append(entry.slot)
        self._project_of[entry.slot] = -1
        _discard(self._ordered, (entry.order, entry.id))
        if entry.order[1] == self._device:
            _discard(self._own, (entry.order[2], entry.id))
        return entry.slot

    def release(self, slot: int) -> None:
        """A reserved slot is not needed."""
        self._free.append(slot)

    def slot(self, ordinal: int) -> int | None:
        """The slot of the event at an ordinal, while it is live."""
        entry = self._by_ordinal.get(ordinal)
        return None if entry is None else entry.slot

    def ordinal(self, slot: int) -> int | None:
        """The ordinal of the event in a slot."""
        entry = self._by_slot[slot] if slot < len(self._by_slot) else None
        return None if entry is None else entry.ordinal

    def places(self) -> dict[int, int]:
        """Ordinal to slot of every live event."""
        return {ordinal: entry.slot for ordinal, entry in self._by_ordinal.items()}

    def ordinals(self) -> Iterator[int]:
        """Every live ordinal, oldest event first."""
        return (self._by_id[event_id].ordinal for _, event_id in self._ordered)

    def newest(self, k: int, project: str | None) -> list[int]:
        """Ordinals of the k newest events by `Event.order`, newest first."""
        found: list[int] = []
        for _, event_id in reversed(self._ordered):
            entry = self._by_id[event_id]
            if project is None or entry.project == project:
                found.append(entry.ordinal)
                if len(found) == k:
                    break
        return found

    def after(self, order: Order | None, limit: int) -> list[tuple[Order, int]]:
        """At most `limit` events after a place in the order: theirs and their ordinals, ascending."""
        first = 0 if order is None else bisect_right(self._ordered, (order, _LAST))
        chosen = self._ordered[first : first + limit]
        return [(order, self._by_id[event_id].ordinal) for order, event_id in chosen]

    def next_to_leave(self) -> Order | None:
        """The place in the order of the event with the lowest ordinal; None if there is none."""
        return next((entry.order for entry in self._by_ordinal.values()), None)

    def own_after(self, sequence: int, limit: int) -> list[int]:
        """Ordinals of at most `limit` events of this device above a sequence, ascending."""
        first = bisect_right(self._own, (sequence, _LAST))
        return [self._by_id[event_id].ordinal for _, event_id in self._own[first : first + limit]]

    def own_count(self) -> int:
        """Events of this device."""
        return len(self._own)

    def in_project(self, project: str) -> npt.NDArray[np.bool_]:
        """For every slot whether its event belongs to a project."""
        number = self._projects.get(project)
        width = len(self._by_slot)
        if number is None:
            return np.zeros(width, dtype=np.bool_)
        chosen: npt.NDArray[np.bool_] = self._project_of[:width] == number
        return chosen


def _discard(values: list[_Key], key: _Key) -> None:
    position = bisect_left(values, key)
    if position < len(values) and values[position] == key:
        del values[position]
