"""What is live in a document: every batch that is not deleted, and what is in it.

It tells which segments hold an event, by the event's tombstone, and which batches no joiner could
open because what they build on is deleted ("stranded"). A tombstone per event is 16 bytes; texts are
not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from localmem_protocol.parcels import TOMBSTONE_BYTES
from localmem_protocol.updates import Id, Ranges, covers, normal
from localmem_protocol.wants import Want

SCANNED_MAX: Final = 16
"""Marks up to which it is faster to look for each in a batch than for a batch's in all of them."""


@dataclass(slots=True)
class Batch:
    """A live batch: whether it is the first of its segment, its sealed bytes, and its content.

    `marks` are the tombstones that would stand for its events, one behind the other, and `referred`
    those for its references whose text was found; `opened` is whether it could be opened. `names` are
    those of all its references (`Referenced`).
    """

    first: bool
    size: int
    marks: bytes = b""
    tombstones: tuple[bytes, ...] = ()
    opened: bool = True
    referred: bytes = b""
    names: tuple[bytes, ...] = ()
    wants: tuple[Want, ...] = ()

    def holds(self, mark: bytes) -> bool:
        """Whether the event that a tombstone stands for is in it, or a reference to it."""
        return _among(mark, self.marks) or _among(mark, self.referred)

    @property
    def is_unclear(self) -> bool:
        """Whether it has references that nobody here knows the events of."""
        return len(self.referred) < len(self.names) * TOMBSTONE_BYTES

    def whole(self) -> Iterator[bytes]:
        """The marks of the events themselves."""
        marks = self.marks
        return (marks[at : at + TOMBSTONE_BYTES] for at in range(0, len(marks), TOMBSTONE_BYTES))

    def each(self) -> Iterator[bytes]:
        """The marks one by one."""
        marks = self.marks + self.referred
        return (marks[at : at + TOMBSTONE_BYTES] for at in range(0, len(marks), TOMBSTONE_BYTES))


def _among(mark: bytes, marks: bytes) -> bool:
    at = marks.find(mark)
    while at % TOMBSTONE_BYTES and at >= 0:  # found across two
        at = marks.find(mark, at + 1)
    return at >= 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Live batches of one client from a first one on: their clocks are `clock` to `end` - 1."""

    client: int
    clock: int
    end: int
    size: int
    opened: bool

    @property
    def id(self) -> Id:
        """What it is known by."""
        return (self.client, self.clock)


class Segments:
    """The live batches of one document. `stranded` are those that no joiner could open."""

    def __init__(self) -> None:
        self._batches: dict[int, dict[int, Batch]] = {}
        self._tombstones: dict[bytes, Id] = {}
        self._wants: dict[Want, Id] = {}
        self._copies: Counter[bytes] = Counter()  # of events with their text, by mark
        self.stranded: set[Id] = set()

    def add(self, client: int, clock: int, batch: Batch) -> None:
        """A batch that came; those of one client come in the order of their clocks."""
        batches = self._batches.setdefault(client, {})
        batches[clock] = batch
        before = (client, clock - 1)
        if not batch.first and (clock - 1 not in batches or before in self.stranded):
            self.stranded.add((client, clock))
        self._tombstones |= dict.fromkeys(batch.tombstones, (client, clock))
        self._wants |= dict.fromkeys(batch.wants, (client, clock))
        self._copies.update(batch.whole())

    def delete(self, ranges: Ranges) -> int:
        """Batches that were deleted; how many sealed bytes they had. Unknown ones are ignored."""
        return sum(
            self._delete(client, first, length)
            for client, listed in ranges.items()
            for first, length in listed
        )

    def size(self, clients: Iterable[int]) -> int:
        """Sealed bytes that these clients wrote."""
        return sum(b.size for c in clients for b in self._batches.get(c, {}).values())

    def get(self, client: int, clock: int) -> Batch | None:
        """A live batch."""
        return self._batches.get(client, {}).get(clock)

    @property
    def tombstones(self) -> int:
        """How many different tombstones there are."""
        return len(self._tombstones)

    def tombstone_at(self, tombstone: bytes) -> Id | None:
        """Where the newest copy of a tombstone is."""
        return self._tombstones.get(tombstone)

    @property
    def wants(self) -> Collection[Want]:
        """What anybody asks for."""
        return self._wants.keys()

    def has(self, mark: bytes) -> bool:
        """Whether an event is there with its text."""
        return mark in self._copies

    def asked(self, clients: Iterable[int]) -> set[Want]:
        """What these clients ask for."""
        return {w for c in clients for b in self._batches.get(c, {}).values() for w in b.wants}

    def referring(self, ranges: Ranges) -> Iterator[tuple[Id, tuple[bytes, ...]]]:
        """Where in these ranges references are, and which."""
        for client, listed in ranges.items():
            gone = normal(listed)
            for clock, batch in self._batches.get(client, {}).items():
                if batch.names and covers(gone, clock, 1):
                    yield (client, clock), batch.names

    def tombstones_in(self, ranges: Ranges) -> list[bytes]:
        """The tombstones in these batches, oldest first."""
        return [one for batch in self._in(ranges) for one in batch.tombstones]

    def any_forgotten(self, ranges: Ranges) -> bool:
        """Whether these batches hold an event that a tombstone stands for, or may refer to one: what a
        reference is to is not known before its text was found.
        """
        known = self._tombstones
        return bool(known) and any(
            b.is_unclear or any(mark in known for mark in b.each()) for b in self._in(ranges)
        )

    def any_unclear(self, ranges: Ranges) -> bool:
        """Whether these batches have references that nobody here knows the events of."""
        return any(batch.is_unclear for batch in self._in(ranges))

    def segment_of(self, client: int, clock: int) -> Segment | None:
        """The segment that a live batch is in; None when its first batch is gone."""
        batches = self._batches.get(client, {})
        start = clock
        while (batch := batches.get(start)) is not None and not batch.first:
            start -= 1
        if batch is None:
            return None
        end, size, opened = start, 0, True
        while (batch := batches.get(end)) is not None and (end == start or not batch.first):
            end, size, opened = end + 1, size + batch.size, opened and batch.opened
        return Segment(client, start, end, size, opened)

    def of(self, client: int) -> list[Segment]:
        """The segments of a client id, in order."""
        batches = self._batches.get(client, {})
        found = [self.segment_of(client, clock) for clock, one in batches.items() if one.first]
        return [segment for segment in found if segment is not None]

    def content_before(self, ends: Mapping[int, int]) -> tuple[set[bytes], set[bytes]]:
        """The marks of events, and the tombstones, that are live; of the clients in `ends` those before
        a clock."""
        marks: set[bytes] = set()
        tombstones: set[bytes] = set()
        for client, batches in self._batches.items():
            end = ends.get(client)
            for clock, batch in batches.items():
                if end is None or clock < end:
                    marks.update(batch.each())
                    tombstones.update(batch.tombstones)
        return marks, tombstones

    @property
    def all_tombstones(self) -> list[bytes]:
        """Every tombstone, once."""
        return list(self._tombstones)

    def holding(self, marks: Collection[bytes]) -> set[Id]:
        """The segments (`Segment.id`) that hold any of these events."""
        few = len(marks) < SCANNED_MAX
        found: set[Id] = set()
        for client, batches in self._batches.items():
            first = 0
            for clock, batch in batches.items():
                first = clock if batch.first else first
                if (batch.marks or batch.referred) and any(
                    map(batch.holds, marks) if few else (mark in marks for mark in batch.each())
                ):
                    found.add((client, first))
        return found

    def _in(self, ranges: Ranges) -> Iterator[Batch]:
        """The live batches in these ranges."""
        for client, listed in ranges.items():
            batches = self._batches.get(client, {})
            gone = normal(listed)
            for clock, batch in batches.items():
                if covers(gone, clock, 1):
                    yield batch

    def _delete(self, client: int, first: int, length: int) -> int:
        batches = self._batches.get(client, {})
        if not batches:
            return 0
        size = 0
        # A range may be far longer than what is live, or the other way round.
        clocks = range(first, first + length)
        for clock in clocks if length < len(batches) else [c for c in batches if c in clocks]:
            batch = batches.pop(clock, None)
            self.stranded.discard((client, clock))
            if batch is None:
                continue
            size += batch.size
            for mark in batch.whole():
                self._copies[mark] -= 1
                if not self._copies[mark]:
                    del self._copies[mark]
            for tombstone in batch.tombstones:
                if self._tombstones.get(tombstone) == (client, clock):
                    del self._tombstones[tombstone]
            for want in batch.wants:
                if self._wants.get(want) == (client, clock):
                    del self._wants[want]
        clock = first + length
        while (batch := batches.get(clock)) is not None and not batch.first:
            self.stranded.add((client, clock))
            clock += 1
        return size
