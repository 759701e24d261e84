"""How a room's log goes on in another segment: after a snapshot, in fewer blocks, or with nothing.

The next segment is written while nobody knows of it, until it holds all that is in the one before. Then
that is closed by one more block, which is appended only if the segment is as long as it was read: so
nothing can come in between. Of several processes that try, one closes; what others append after that is
void, and they find out by reading. The manifest follows, and the old segment goes. Whoever dies on the
way leaves a segment that nobody needs: before the block one that nobody knows of (`sweep`), after it one
whose readers are led on, and who see to the manifest.

No lease is needed for that to be right. One (`SnapshotStore.hold`) keeps two processes from doing the
same work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_bytes
from typing import Final

from localmem_hub.blobs import frames, manifest, names
from localmem_hub.blobs.container import BlocksError, Container, GoneError
from localmem_hub.blobs.frames import Base, Close, Entry, Place, Record, Touch
from localmem_hub.blobs.judging import Segment, TaggedRow
from localmem_hub.blobs.manifest import Manifest
from localmem_hub.errors import CommitError
from localmem_protocol.room import Row

CLOSE_TRIES: Final = 16
"""How often a segment is tried to be closed while others go on appending to it."""

POINT_TRIES: Final = 8
SALT_BYTES: Final = 16
ID_BYTES: Final = 12


class Switch:
    """One attempt to go on from a segment that was read to its end. `refresh` reads on."""

    def __init__(
        self,
        container: Container,
        room: str,
        left: Segment | None,
        refresh: Callable[[], Segment | None],
    ) -> None:
        assert left is not None
        self._container = container
        self._room = room
        self._left = left
        self._refresh = refresh

    def go(
        self,
        base: Base,
        snapshot: bytes | None,
        rows: Sequence[TaggedRow],
        dropped_ms: int | None = None,
    ) -> bool:
        """Have the log go on with this; `rows` come after the base. False if somebody else was faster.

        With `dropped_ms` nothing of it is kept, and the manifest says since when.
        """
        draft = _Draft(self._container, self._room, self._left.place)
        closed = False
        try:
            draft.write(base, snapshot, rows)
            closed = self._close(draft, base.number + len(rows), keep=dropped_ms is None)
        except GoneError:
            closed = self._is_current(draft)
        if not closed:
            self._container.delete(draft.place.segment)
            return False
        pointed = point(self._container, self._room, draft.place, dropped_ms)
        self._container.delete(self._left.place.segment)
        return pointed or dropped_ms is None

    def _close(self, draft: _Draft, carried: int, *, keep: bool) -> bool:
        """Close the segment, whose rows up to `carried` are in the draft; whether the log goes on there.

        Each try after the first makes the draft longer: whoever takes it for a leftover, and removes it
        by its version, cannot remove one that is still being tried.
        """
        left = self._left
        closing = frames.encode(Close(draft.place), left.place.salt)
        for _ in range(CLOSE_TRIES):
            try:
                if self._container.append_at(left.place.segment, closing, left.length) is not None:
                    return True
            except BlocksError:  # nobody can append to it any more: the manifest decides
                return point(self._container, self._room, draft.place)
            segment = self._refresh()
            if left.closed is not None:  # by whom ever, or by this very call, whose answer was lost
                return left.closed == draft.place
            if segment is not left:
                return self._is_current(draft)
            rows = left.after(carried) if keep else []
            draft.extend(rows, left.clients if keep else {})
            carried = left.number
        self._container.delete(draft.place.segment)
        raise CommitError(f"room {self._room} is written to too fast to be compacted; try again")

    def _is_current(self, draft: _Draft) -> bool:
        """Whether the log went on in the draft. If it has even left that again, nobody needs it."""
        known = manifest.read(self._container, self._room)
        return known is not None and known.manifest.place == draft.place


class _Draft:
    """A segment that nobody knows of yet."""

    def __init__(self, container: Container, room: str, before: Place) -> None:
        self._container = container
        self.place = new_place(room, number_of(before) + 1)
        self._length = 0
        self._clients: dict[int, str] = {}

    def write(self, base: Base, snapshot: bytes | None, rows: Sequence[TaggedRow]) -> None:
        """What it begins with. Raises GoneError if anybody else had a hand in it."""
        if not self._container.create_log(self.place.segment):
            raise GoneError(f"{self.place.segment} is there already")
        for part in frames.encode_snapshot(snapshot or b"", self.place.salt):
            self._append(part)
        self.place = Place(self.place.segment, self.place.salt, self._length)
        self._clients = dict(base.clients)
        self._put([base, *self._entries(rows, {})])

    def extend(self, rows: Sequence[TaggedRow], clients: dict[int, str]) -> None:
        """What came after that; it is longer in any case."""
        new = {c: device for c, device in clients.items() if c not in self._clients}
        self._clients |= new
        self._put(self._entries(rows, new) or [Touch()])

    def _entries(self, rows: Sequence[TaggedRow], clients: dict[int, str]) -> list[Record]:
        """All of them count, as they did where they were judged."""
        if not rows and not clients:
            return []
        portions = frames.portions([Row(row.device, row.update) for row in rows])
        return [
            Entry(
                token_bytes(ID_BYTES),
                self.place.base_at,
                [],
                [(row.device, row.update) for row in some],
                {} if number else clients,
            )
            for number, some in enumerate(portions)
        ]

    def _put(self, records: Sequence[Record]) -> None:
        for block in frames.blocks([frames.encode(one, self.place.salt) for one in records]):
            self._append(block)

    def _append(self, block: bytes) -> None:
        if self._container.append_at(self.place.segment, block, self._length) is None:
            raise GoneError(f"{self.place.segment} has another end")
        self._length += len(block)


def new_place(room: str, number: int) -> Place:
    """A segment that nobody has: numbers count the segments of a room, and chance makes them unique."""
    name = f"{names.segments(room)}{number:08d}-{token_bytes(6).hex()}"
    return Place(name, token_bytes(SALT_BYTES), 0)


def number_of(place: Place) -> int:
    """Which of its room's segments it is."""
    return int(place.segment.rpartition("/log-")[2].partition("-")[0])


def point(container: Container, room: str, place: Place, dropped_ms: int | None = None) -> bool:
    """Have the manifest lead to a segment, or leave it if it leads to a later one; whether this did it.

    With `dropped_ms` it is also to say that. The segment that it led to goes.
    """
    for _ in range(POINT_TRIES):
        known = manifest.read(container, room)
        if known is None:
            return False
        now = known.manifest
        behind = number_of(now.place) < number_of(place)
        if not behind and (dropped_ms is None or now.dropped_ms is not None):
            return False
        next_place = place if behind else now.place
        gone_ms = now.dropped_ms if now.dropped_ms is not None else dropped_ms
        if manifest.replace(container, room, known, now.at(next_place, gone_ms)):
            if behind:
                container.delete(now.place.segment)
            return True
    raise CommitError(f"room {room} is compacted over and over; try again")


def create_room(container: Container, room: str, kept: Manifest) -> bool:
    """A new room with an empty log; False if there is one of this name. The place in `kept` is none."""
    place = new_place(room, 1)
    container.create_log(place.segment)
    container.append_at(place.segment, frames.encode(Base(0, "", {}), place.salt), 0)
    if manifest.create(container, room, kept.at(place, kept.dropped_ms)):
        return True
    known = manifest.read(container, room)
    if known is not None and known.manifest.place == place:
        return True  # by this very call, whose answer was lost
    container.delete(place.segment)
    return False
