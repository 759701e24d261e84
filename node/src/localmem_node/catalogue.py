"""What the engine knows of every live event without reading it: ordinal, slot, id, order, and what
it can be chosen by (`attributes`).

Ordinals are the store's (never reused; an event that is copied forward gets another), slots the
index's (small, reused). Pure bookkeeping in columns by slot, not thread-safe: the engine holds a
lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.attributes import Attributes, Columns
from localmem_node.selection import EVERYTHING, Selection
from localmem_protocol.events import Event, Order

_FREE: Final = -1
_LAST: Final = "\U0010ffff"  # sorts after every id

_Key = tuple[int, int, int, str]


class Rows(NamedTuple):
    """A catalogue as parallel columns, one row per event, in any order; `devices` are ids as numbers."""

    slots: npt.NDArray[np.int64]
    ordinals: npt.NDArray[np.int64]
    clocks: npt.NDArray[np.uint64]
    devices: npt.NDArray[np.uint64]
    sequences: npt.NDArray[np.uint64]
    about: Columns

    def newness(self) -> npt.NDArray[np.uint64]:
        """Clock, device and sequence by slot, (3, slots); zeros for a slot without an event."""
        width = int(self.slots.max(initial=-1)) + 1
        newness = np.zeros((3, width), np.uint64)
        newness[:, self.slots] = (self.clocks, self.devices, self.sequences)
        return newness

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """The rows that a mask names."""
        return Rows(
            self.slots[mask],
            self.ordinals[mask],
            self.clocks[mask],
            self.devices[mask],
            self.sequences[mask],
            self.about.chosen(mask),
        )


class Catalogue:
    """The live events of a store; `device` is this device's id."""

    def __init__(self, device: str) -> None:
        self._device = int(device, 16)
        self._ordinals = array("q")
        self._clocks, self._devices, self._sequences = array("Q"), array("Q"), array("Q")
        self._ids: list[str] = []
        self._about = Attributes()
        self._by_ordinal: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._free: list[int] = []
        self._ordered: list[int] = []  # slots
        self._own: list[int] = []  # slots

    @classmethod
    def restore(cls, device: str, rows: Rows, ids: Sequence[str]) -> Catalogue:
        """The catalogue of these rows; `ids` are those of their events."""
        catalogue = cls(device)
        newness = rows.newness()
        width = newness.shape[1]
        slots = rows.slots.tolist()
        ordinals = np.full(width, _FREE, np.int64)
        ordinals[rows.slots] = rows.ordinals
        catalogue._ordinals.frombytes(ordinals.tobytes())
        columns = (catalogue._clocks, catalogue._devices, catalogue._sequences)
        for column, values in zip(columns, newness, strict=True):
            column.frombytes(values.tobytes())
        catalogue._ids = [""] * width
        for slot, event_id in zip(slots, ids, strict=True):
            catalogue._ids[slot] = event_id
        catalogue._about = Attributes.restore(rows.slots, rows.about)
        oldest_first = np.argsort(rows.ordinals)
        catalogue._by_ordinal = dict(
            zip(
                rows.ordinals[oldest_first].tolist(),
                rows.slots[oldest_first].tolist(),
                strict=True,
            )
        )
        catalogue._by_id = dict(zip(ids, slots, strict=True))
        taken = set(slots)
        catalogue._free = [slot for slot in range(width) if slot not in taken]
        in_order = np.lexsort((rows.sequences, rows.devices, rows.clocks))
        catalogue._ordered = rows.slots[in_order].tolist()
        own = np.flatnonzero(rows.devices == np.uint64(catalogue._device))
        own = own[np.argsort(rows.sequences[own], kind="stable")]
        catalogue._own = rows.slots[own].tolist()
        # Only ids tell the events of two clones apart, which have equal numbers.
        if _repeats(rows.clocks[in_order], rows.devices[in_order], rows.sequences[in_order]):
            catalogue._ordered.sort(key=catalogue._order)
        if _repeats(rows.sequences[own]):
            catalogue._own.sort(key=catalogue._own_order)
        return catalogue

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._by_id

    def add(self, ordinal: int, event: Event) -> int:
        """Take an event in; its slot. Precondition: its id is not in the catalogue."""
        slot = self._free.pop() if self._free else self._new_slot()
        self._ordinals[slot] = ordinal
        self._clocks[slot], self._sequences[slot] = event.clock, event.sequence
        self._devices[slot] = int(event.device, 16)
        self._ids[slot] = event.id
        self._by_ordinal[ordinal] = self._by_id[event.id] = slot
        _insert(self._ordered, slot, self._order)
        if self._devices[slot] == self._device:
            _insert(self._own, slot, self._own_order)
        self._about.put(slot, event)
        return slot

    def move(self, old: int, new: int) -> bool:
        """The event at an ordinal was copied to another; whether it is known here."""
        slot = self._by_ordinal.pop(old, None)
        if slot is None:
            return False
        self._by_ordinal[new] = slot
        self._ordinals[slot] = new
        return True

    def renumber(self, ordinals: dict[int, int]) -> list[int]:
        """Give every event its new ordinal; those without one are removed: their slots."""
        gone = [ordinal for ordinal in self._by_ordinal if ordinal not in ordinals]
        slots = [slot for ordinal in gone if (slot := self.remove(ordinal)) is not None]
        for old in sorted(self._by_ordinal, key=ordinals.__getitem__):
            self.move(old, ordinals[old])
        return slots

    def remove(self, ordinal: int) -> int | None:
        """Forget the event at an ordinal; its slot, free from now on. None if it is not known."""
        slot = self._by_ordinal.pop(ordinal, None)
        if slot is None:
            return None
        _discard(self._ordered, slot, self._order)
        if self._devices[slot] == self._device:
            _discard(self._own, slot, self._own_order)
        del self._by_id[self._ids[slot]]
        self._ids[slot] = ""
        self._ordinals[slot] = _FREE
        self._about.clear(slot)
        self._free.append(slot)
        return slot

    def slot(self, ordinal: int) -> int | None:
        """The slot of the event at an ordinal, while it is live."""
        return self._by_ordinal.get(ordinal)

    def ordinal(self, slot: int) -> int | None:
        """The ordinal of the event in a slot."""
        ordinal = self._ordinals[slot] if slot < len(self._ordinals) else _FREE
        return None if ordinal == _FREE else ordinal

    def ordinal_of(self, event_id: str) -> int | None:
        """The ordinal of the event with an id."""
        slot = self._by_id.get(event_id)
        return None if slot is None else self._ordinals[slot]

    def ordinals(self) -> Iterator[int]:
        """Every live ordinal, oldest event first."""
        return (self._ordinals[slot] for slot in self._ordered)

    def newest(self, k: int, selection: Selection = EVERYTHING) -> list[int]:
        """Ordinals of the k newest events that are meant, by `Event.order`, newest first."""
        mask = self.mask(selection)
        if mask is None:
            return [self._ordinals[slot] for slot in self._ordered[: -k - 1 : -1]]
        meant = np.flatnonzero(mask)
        if len(meant) > k:
            clocks = np.frombuffer(self._clocks, np.uint64)[meant]
            meant = meant[clocks >= np.partition(clocks, -k)[-k]]
        newest = sorted(meant.tolist(), key=self._order, reverse=True)[:k]
        return [self._ordinals[slot] for slot in newest]

    def after(self, order: Order | None, limit: int) -> list[tuple[Order, int]]:
        """At most `limit` events after a place in the order: theirs and their ordinals, ascending."""
        first = 0
        if order is not None:
            key = (order[0], int(order[1], 16), *order[2:])
            first = bisect_right(self._ordered, key, key=self._order)
        chosen = self._ordered[first : first + limit]
        return [(self._public(slot), self._ordinals[slot]) for slot in chosen]

    def around(
        self, event_id: str, older: int, newer: int, selection: Selection = EVERYTHING
    ) -> list[int]:
        """Ordinals of an event and of its neighbours in time among those meant, oldest first.

        At most `older` before it and `newer` after it. Empty if the event is not here.
        """
        slot = self._by_id.get(event_id)
        if slot is None:
            return []
        mask = self.mask(selection)
        meant = np.array(self._ordered, np.int64) if mask is None else np.flatnonzero(mask)
        times, moment = self._about.timestamps(meant), self._about.timestamp(slot)
        same = sorted(meant[times == moment].tolist(), key=self._order)
        before = self._by_time(meant[times < moment], -older)
        before += [one for one in same if self._order(one) < self._order(slot)]
        after = [one for one in same if self._order(one) > self._order(slot)]
        after += self._by_time(meant[times > moment], newer)
        near = [*before[max(0, len(before) - older) :], slot, *after[:newer]]
        return [self._ordinals[one] for one in near]

    def next_to_leave(self, stays: Callable[[int], bool] = lambda ordinal: False) -> Order | None:
        """The place in the order of the event with the lowest ordinal, but for those that stay."""
        # Ordinals enter ascending, also those of what is copied forward.
        leaving = (slot for ordinal, slot in self._by_ordinal.items() if not stays(ordinal))
        return next(map(self._public, leaving), None)

    def own_after(self, sequence: int, limit: int) -> list[int]:
        """Ordinals of at most `limit` events of this device above a sequence, ascending."""
        first = bisect_right(self._own, (sequence, _LAST), key=self._own_order)
        return [self._ordinals[slot] for slot in self._own[first : first + limit]]

    def at(self, device: str, sequence: int, clock: int | None = None) -> list[int]:
        """Ordinals of the events of a device at a sequence, and at a clock if one is given."""
        number = int(device, 16)
        if clock is not None:
            first = bisect_left(self._ordered, (clock, number, sequence, ""), key=self._order)
            last = bisect_right(self._ordered, (clock, number, sequence, _LAST), key=self._order)
            return [self._ordinals[slot] for slot in self._ordered[first:last]]
        same = np.frombuffer(self._devices, np.uint64) == np.uint64(number)
        same &= np.frombuffer(self._sequences, np.uint64) == np.uint64(sequence)
        found = (self._ordinals[slot] for slot in np.flatnonzero(same).tolist())
        return [ordinal for ordinal in found if ordinal != _FREE]

    def own_count(self) -> int:
        """Events of this device."""
        return len(self._own)

    def mask(self, selection: Selection) -> npt.NDArray[np.bool_] | None:
        """For every slot whether its event is meant; None if every event is."""
        if selection == EVERYTHING:
            return None
        chosen = self._about.mask(selection, len(self._ordinals))
        if selection.device is not None:
            devices = np.frombuffer(self._devices, np.uint64)
            chosen &= devices == np.uint64(int(selection.device, 16))
        if selection.ids:
            slots = [slot for one in selection.ids if (slot := self._by_id.get(one)) is not None]
            named = np.zeros(len(chosen), np.bool_)
            named[slots] = True
            chosen &= named
        return chosen

    def rows(self) -> Rows:
        """Every live event as a row, by slot."""
        ordinals = np.array(self._ordinals, np.int64)
        slots = np.flatnonzero(ordinals != _FREE).astype(np.int64)
        return Rows(
            slots,
            ordinals[slots],
            np.array(self._clocks, np.uint64)[slots],
            np.array(self._devices, np.uint64)[slots],
            np.array(self._sequences, np.uint64)[slots],
            self._about.columns(slots),
        )

    def _by_time(self, slots: npt.NDArray[np.int64], count: int) -> list[int]:
        """Slots by time: at least the first `count` of them, or the last if it is negative."""
        times = self._about.timestamps(slots)
        if 0 <= count < len(slots):
            slots = slots[times <= np.partition(times, count)[count]]
        elif 0 < -count < len(slots):
            slots = slots[times >= np.partition(times, count)[count]]
        return sorted(
            slots.tolist(), key=lambda slot: (self._about.timestamp(slot), self._order(slot))
        )

    def _new_slot(self) -> int:
        slot = len(self._ordinals)
        self._ordinals.append(_FREE)
        for column in (self._clocks, self._devices, self._sequences):
            column.append(0)
        self._ids.append("")
        return slot

    def _public(self, slot: int) -> Order:
        """`Event.order`."""
        clock, device, sequence, event_id = self._order(slot)
        return clock, f"{device:016x}", sequence, event_id

    def _order(self, slot: int) -> _Key:
        """`Event.order`; device ids of one length sort as their numbers do."""
        return self._clocks[slot], self._devices[slot], self._sequences[slot], self._ids[slot]

    def _own_order(self, slot: int) -> tuple[int, str]:
        return self._sequences[slot], self._ids[slot]


def _repeats(*columns: npt.NDArray[np.uint64]) -> bool:
    """Whether two neighbouring rows are equal in all columns."""
    return bool(np.logical_and.reduce([column[1:] == column[:-1] for column in columns]).any())


def _insert(slots: list[int], slot: int, key: Callable[[int], Any]) -> None:
    if not slots or key(slots[-1]) <= key(slot):  # as a rule what is new is the newest
        slots.append(slot)
    else:
        insort(slots, slot, key=key)


def _discard(slots: list[int], slot: int, key: Callable[[int], Any]) -> None:
    position = bisect_left(slots, key(slot), key=key)
    if position < len(slots) and slots[position] == slot:
        del slots[position]
