"""Virtual disks: what is durable, and writes that a crash can come before or after.

Every write here is a transaction, as it is in production (SQLite, and the ring with its group
commit): it is there as a whole or not at all. How a ring behaves on a disk that tears and reorders
is a matter of the node's own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from localmem_protocol.events import Draft, Event
from localmem_protocol.room import Commit
from localmem_protocol.seams import Clock
from localmem_protocol.session import Saved
from localmem_protocol.simulation.memory import MemoryJournal, MemoryLog


class Crash(BaseException):
    """The process dies here. No error of the protocol, so that nothing may catch it on the way."""


class Writes:
    """The writes of one disk, in order; at one of them the process can be made to die."""

    def __init__(self) -> None:
        self.count = 0
        self._left: int | None = None
        self._kept = False

    @property
    def armed(self) -> bool:
        """Whether a crash is to come."""
        return self._left is not None

    def crash_at(self, number: int, *, kept: bool) -> None:
        """Die at the write of that number from now on (1 is the next), after it if it is `kept`."""
        self._left, self._kept = number, kept

    def disarm(self) -> None:
        """No crash is to come."""
        self._left = None

    def write(self, change: Callable[[], None]) -> None:
        """Make a change durable. Raises Crash before or after it, when its time has come."""
        self.count += 1
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._left = None
                if self._kept:
                    change()
                raise Crash
        change()


class DiskLog(MemoryLog):
    """An event log on a virtual disk."""

    def __init__(self, device: str, writes: Writes, clock: Clock) -> None:
        super().__init__(device)
        self.writes, self.clock = writes, clock

    def keep(self, draft: Draft) -> Event:
        """As MemoryLog says; durable when it returns."""
        kept: list[Event] = []
        self.writes.write(lambda: kept.append(super(DiskLog, self).keep(draft)))
        return kept[0]

    def insert(self, events: Sequence[Event]) -> None:
        """As `EventLog` says, all of them or none."""
        self.writes.write(lambda: self._insert(events))

    def _insert(self, events: Sequence[Event]) -> None:
        now_ms = self.clock.now_ms()
        for event in events:
            self._keep(event)
            self._clock.witness(event.clock, now_ms)

    def copy(self, writes: Writes, clock: Clock) -> DiskLog:
        """What is kept now, for another disk."""
        twin = DiskLog(self.device, writes, clock)
        twin.position, twin._sequence = self.position, self._sequence
        twin.events, twin._own = dict(self.events), list(self._own)
        twin._clock.last = self._clock.last
        return twin


class DiskJournal(MemoryJournal):
    """A journal on a virtual disk. `look` sees everything that is written."""

    def __init__(self, writes: Writes, look: Callable[[bytes], None]) -> None:
        super().__init__()
        self.writes, self.look = writes, look

    def reset(self, client: int) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).reset(client))

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        """As `Journal` says."""
        self.look(update or b"")
        self.writes.write(lambda: super(DiskJournal, self).save(update, watermark, position))

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""
        self.look(document)
        self.writes.write(lambda: super(DiskJournal, self).compact(document))

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).acknowledge(clock, head))


@dataclass(frozen=True)
class Image:
    """A backup of a device's disk."""

    epoch: int
    log: DiskLog
    saved: Saved


class DeviceDisk:
    """What a device keeps: its event log, its journal of the epoch in which it is."""

    def __init__(self, device: str, clock: Clock, look: Callable[[bytes], None]) -> None:
        self._clock, self._look = clock, look
        self.writes = Writes()
        self.epoch = 1
        self.log = DiskLog(device, self.writes, clock)
        self.journal = DiskJournal(self.writes, look)

    def image(self) -> Image:
        """A backup of all of it."""
        return Image(self.epoch, self.log.copy(self.writes, self._clock), self.journal.saved)

    def restore(self, image: Image, *, log_only: bool = False) -> set[str]:
        """Put a backup in the place of what is here; the ids of the events that are gone now."""
        gone = self.log.events.keys() - image.log.events.keys()
        self.log = image.log.copy(self.writes, self._clock)
        if not log_only:
            self.epoch = image.epoch
            self.journal = DiskJournal(self.writes, self._look)
            self.journal.saved = image.saved
        return set(gone)

    def enter(self, epoch: int) -> None:
        """Begin with the document of another epoch, in one transaction."""

        def change() -> None:
            self.epoch = epoch
            self.journal = DiskJournal(self.writes, self._look)

        self.writes.write(change)


@dataclass
class StoredRoom:
    """What a hub has of one epoch's document."""

    rows: list[bytes] = field(default_factory=list)
    clients: dict[int, str] = field(default_factory=dict)
    quarantined: int = 0


class HubDisk:
    """A hub's store. `look` sees everything that is written."""

    def __init__(self, look: Callable[[bytes], None]) -> None:
        self._look = look
        self.writes = Writes()
        self.rooms: dict[int, StoredRoom] = {}

    def room(self, epoch: int) -> StoredRoom:
        """The store of one epoch."""
        return self.rooms.setdefault(epoch, StoredRoom())

    def commit(self, epoch: int, commit: Commit) -> None:
        """One transaction with all that a room gave to be stored."""
        room = self.room(epoch)
        for row in commit.rows:
            self._look(row.update)

        def change() -> None:
            room.rows += [row.update for row in commit.rows]
            room.clients |= commit.clients
            room.quarantined += len(commit.quarantined)

        self.writes.write(change)

    def compact(self, epoch: int, snapshot: bytes, of_rows: int) -> None:
        """One snapshot in the place of the first `of_rows` rows."""
        room = self.room(epoch)
        self._look(snapshot)

        def change() -> None:
            room.rows[:of_rows] = [snapshot]

        self.writes.write(change)

    def clients(self, epoch: int) -> Mapping[int, str]:
        """The client ids that were handed out."""
        return self.room(epoch).clients
