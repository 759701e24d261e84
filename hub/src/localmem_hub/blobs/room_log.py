"""The log of one room, as this process has read it: reading on, and appending.

What is in memory is what was read, and never behind by more than what others append; `refresh` asks the
storage for the rest, with one request that brings nothing if there is nothing. An append needs no such
request before it: its answer says whether something came in between, and only then that is read. All
methods are called with `lock` held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from secrets import token_bytes
from typing import Final

from localmem_hub.blobs import frames, manifest, names
from localmem_hub.blobs.container import BlocksError, Container, GoneError
from localmem_hub.blobs.cursors import Cursor
from localmem_hub.blobs.frames import Base, Entry, Place, Touch
from localmem_hub.blobs.judging import Segment, TaggedRow, touched
from localmem_hub.blobs.switching import Switch, point
from localmem_hub.errors import CommitError, DamageError, StoreError
from localmem_protocol.room import Row

log: Final = logging.getLogger(__name__)

HOPS_MAX: Final = 32
"""Segments that are followed in one reading; each is the end of a compaction that came in between."""

BLOCKS_MAX: Final = 45_000
"""Blocks of a segment after which the log goes on in another one; Azure takes 50,000."""

ID_BYTES: Final = 12


class RoomLog:
    """One room's log. `blocks_max` is for tests."""

    def __init__(self, container: Container, room: str, blocks_max: int = BLOCKS_MAX) -> None:
        self.room = room
        self.lock = threading.RLock()
        self.segment: Segment | None = None
        self._container = container
        self._blocks_max = blocks_max
        self._counted: dict[bytes, tuple[int, int]] = {}  # of segments that were left just now

    @property
    def size(self) -> int:
        """Bytes of the rows that are in memory."""
        segment = self.segment
        return 0 if segment is None else segment.size

    def refresh(self) -> Segment | None:
        """Read what is new; None if there is no such room. Raises DamageError, StoreError."""
        missing: set[Place] = set()
        for _ in range(HOPS_MAX):
            if self.segment is None and self._open(whole=False) is None:
                return None
            segment = self.segment
            assert segment is not None
            if not segment.fresh:
                data = self._container.tail(segment.place.segment, segment.length)
                if data is None:  # compacted, dropped or removed
                    self.segment = None
                    continue
                segment.take(data)
            segment.fresh = False
            if segment.closed is None:
                return segment
            self._go_on(segment, segment.closed, missing)
        raise self._restless()

    def is_end(self, cursor: Cursor) -> bool:
        """Whether a segment of this room ends here, and so the log does: a closed one goes on."""
        return self._container.tail(cursor.segment(self.room), cursor.offset) == b""

    def load(self) -> tuple[Segment, bytes | None] | None:
        """Everything: what is in the segment, and its snapshot. Raises DamageError, StoreError."""
        missing: set[Place] = set()
        for _ in range(HOPS_MAX):
            if self.segment is None:
                head = self._open(whole=True)
                if head is None:
                    return None
                segment: Segment | None = self.segment
                assert segment is not None
                segment.fresh = False
                if segment.closed is None:
                    return segment, _snapshot(segment.place, head)
                self._go_on(segment, segment.closed, missing)
                continue
            segment = self.refresh()
            if segment is None:
                return None
            place = segment.place
            read = self._container.part(place.segment, place.base_at) if place.base_at else b""
            if read is not None:
                return segment, _snapshot(place, read)
            self.segment = None
        raise self._restless()

    def append(
        self, rows: list[Row], clients: dict[int, str], *, alone: bool
    ) -> list[tuple[int, int]] | None:
        """Append to the segment that is in memory: the numbers of the rows before and after each entry.

        None if that is void since somebody touched the same, or with `alone` anything at all; or if
        nobody can tell: read it all again, and look what is there. Raises StoreError when nothing of it
        can be acknowledged.
        """
        numbers: list[tuple[int, int]] = []
        for some in frames.portions(rows):
            assert self.segment is not None
            entry = Entry(
                token_bytes(ID_BYTES),
                self.segment.end,
                None if alone else touched(some, clients),
                [(row.device, row.update) for row in some],
                {} if numbers else clients,
            )
            found = self._append(self.segment, entry)
            if found is None:
                return None
            numbers.append(found)
        return numbers

    def _append(self, segment: Segment, entry: Entry) -> tuple[int, int] | None:
        """The numbers of the rows before and after it; None if it is void, or nobody can tell."""
        data = frames.encode(entry, segment.place.salt)
        self._counted.clear()
        try:
            appended = self._container.append(segment.place.segment, data)
        except BlocksError:
            found = self._look_for(entry)
            self._roll_if_possible()
            self.segment = None
            return found
        except GoneError:
            # An attempt before this one may have been there, and is now in the next segment.
            self.segment = None
            return None
        except StoreError as error:
            # It may be there all the same, now or later. Later it is void if this is said again.
            try:
                found = self._look_for(entry)
            except StoreError:
                raise error from None
            if found is None:
                raise
            return found
        if appended.offset == segment.length and segment.closed is None:
            segment.take(data)
        else:
            self.refresh()
        found = self._number_of(entry)
        if appended.blocks >= self._blocks_max and self.segment is segment:
            self._roll_if_possible()
        return found

    def _look_for(self, entry: Entry) -> tuple[int, int] | None:
        self.refresh()
        return self._number_of(entry)

    def _number_of(self, entry: Entry) -> tuple[int, int] | None:
        segment = self.segment
        found = None if segment is None else segment.counted.get(entry.id)
        return found or self._counted.get(entry.id)

    def _open(self, *, whole: bool) -> bytes | None:
        """Read what the manifest leads to; with `whole` what is before the segment's base, too. None if
        there is no such room."""
        known = None
        for _ in range(HOPS_MAX):
            before, known = known, manifest.read(self._container, self.room)
            if known is None:
                return None
            place = known.manifest.place
            data = self._container.tail(place.segment, 0 if whole else place.base_at)
            if data is not None:
                at = place.base_at if whole else 0
                self.segment = Segment.read(place, data[at:])
                self.segment.fresh = True
                if self.segment.closed is not None:
                    self._mend(self.segment.closed)
                return data[:at]
            if before is not None and before.etag == known.etag:
                raise self._damage()
        raise self._restless()

    def _go_on(self, left: Segment, place: Place, missing: set[Place]) -> None:
        """Read the next segment from its base on."""
        self._counted |= left.counted
        data = self._container.tail(place.segment, place.base_at)
        if data is None:
            if place in missing:
                raise self._damage()
            missing.add(place)
            self.segment = None
        else:
            self.segment = Segment.read(place, data)
            self.segment.fresh = True

    def _mend(self, place: Place) -> None:
        """Whoever closed a segment did not come to say so in the manifest."""
        try:
            point(self._container, self.room, place)
        except StoreError as error:
            log.warning("room %s keeps an old segment: %s", self.room, error)

    def compact(self, head: int, snapshot: bytes) -> bool:
        """Go on after a snapshot that stands for all rows up to `head`; False if a later one is there."""
        segment = self.refresh()
        if segment is None or head <= segment.first or head > segment.number:
            return False
        base = Base(head, segment.tag_of(head) or "", segment.clients)
        return self._switch(base, snapshot, segment.after(head))

    def roll(self) -> bool:
        """Go on in another segment with all that is in this one, in as few blocks as it takes."""
        loaded = self.load()
        if loaded is None:
            return False
        segment, snapshot = loaded
        base = Base(segment.first, segment.tag_of(segment.first) or "", segment.clients)
        return self._switch(base, snapshot, segment.rows)

    def empty(self, now_ms: int) -> bool:
        """Go on with nothing; False if that was done before, or there is no such room."""
        known = manifest.read(self._container, self.room)
        if known is None or known.manifest.dropped_ms is not None or self.refresh() is None:
            return False
        return self._switch(Base(0, "", {}), None, [], dropped_ms=now_ms)

    def sweep(self) -> bool:
        """Remove segments that nobody needs; False if somebody is making one: try again.

        Before that the log is made longer: who has written one of them, and was held up for however long,
        cannot close the log any more without making that one longer, too; and then it stays.
        """
        known, segment = manifest.read(self._container, self.room), self.refresh()
        if known is None or segment is None:
            return True
        needed = {known.manifest.place.segment, segment.place.segment}
        listed = self._container.names(names.segments(self.room))
        left_over = [one for one in listed if one.name not in needed]
        if not left_over:
            return True
        self._container.append(segment.place.segment, frames.encode(Touch(), segment.place.salt))
        if self.refresh() is not segment:
            return False
        gone = [self._container.delete(one.name, one.etag) for one in left_over]
        return all(gone)

    def _switch(
        self,
        base: Base,
        snapshot: bytes | None,
        rows: Sequence[TaggedRow],
        dropped_ms: int | None = None,
    ) -> bool:
        switch = Switch(self._container, self.room, self.segment, self.refresh)
        done = switch.go(base, snapshot, rows, dropped_ms)
        if done:
            self.segment = None
        return done

    def _roll_if_possible(self) -> None:
        try:
            self.roll()
        except StoreError as error:  # some blocks are left, or others do it
            log.warning("room %s stays in its segment: %s", self.room, error)

    def _damage(self) -> DamageError:
        return DamageError(
            f"the log of room {self.room} is gone from the hub's storage; see "
            "docs/azure-storage.md for what can be done"
        )

    def _restless(self) -> CommitError:
        return CommitError(f"room {self.room} is compacted over and over; try again")


def _snapshot(place: Place, data: bytes) -> bytes | None:
    return frames.decode_snapshot(data, place.salt) if data else None
