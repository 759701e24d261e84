"""Virtual disks: what is durable, and writes that a crash can come before or after.

Every write here is a transaction, as it is in production (SQLite, and the ring with its group
commit): it is there as a whole or not at all. How a ring behaves on a disk that tears and reorders
is a matter of the node's own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from localmem_protocol.events import Draft, Event
from localmem_protocol.lineage import NOWHERE, RUN_BYTES, Reach
from localmem_protocol.room import Commit
from localmem_protocol.seams import Clock, Random
from localmem_protocol.session import Saved
from localmem_protocol.simulation.memory import MemoryJournal, MemoryLog
from localmem_protocol.tombstones import TombstoneKey


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
            if not self.forgets(event.id):
                self._keep(event)
            self._clock.witness(event.clock, now_ms)

    def forget(self, tombstones: Sequence[bytes], key: TombstoneKey) -> list[Event]:
        """As `EventLog` says."""
        gone: list[Event] = []
        self.writes.write(lambda: gone.extend(super(DiskLog, self).forget(tombstones, key)))
        return gone

    def copy(self, writes: Writes, clock: Clock) -> DiskLog:
        """What is kept now, for another disk."""
        twin = DiskLog(self.device, writes, clock)
        twin.position, twin.lineage = self.position, self.lineage
        twin._sequence = self._sequence
        twin.events, twin._own = dict(self.events), list(self._own)
        twin._at = {place: list(names) for place, names in self._at.items()}
        twin._tombstones, twin._keys = set(self._tombstones), list(self._keys)
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

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        """As `Journal` says."""
        self.look(update or b"")
        self.writes.write(lambda: super(DiskJournal, self).save(update, watermark, reach))

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""
        self.look(document)
        self.writes.write(lambda: super(DiskJournal, self).compact(document))

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).remember(marks, instead=instead))

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).acknowledge(clock, head))

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).keep_heads(heads))

    def queue(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).queue(tombstones))

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""
        self.writes.write(lambda: super(DiskJournal, self).delivered(tombstones))


@dataclass(frozen=True)
class Read:
    """Epochs that are over and were read to their end, and how far the event log has got with that."""

    epochs: frozenset[int] = frozenset()
    reach: Reach = NOWHERE


@dataclass(frozen=True)
class Image:
    """A backup of a device's disk."""

    log: DiskLog
    roster: tuple[bytes, ...]
    read: Read
    journals: Mapping[int, Saved]


class DeviceDisk:
    """What a device keeps: its event log, the roster, which epochs it has read to their end, and the
    journal of the epoch in which it lives.
    """

    def __init__(
        self, device: str, clock: Clock, look: Callable[[bytes], None], random: Random
    ) -> None:
        self._clock, self._look, self._random = clock, look, random
        self.writes = Writes()
        self.log = DiskLog(device, self.writes, clock)
        self.roster: tuple[bytes, ...] = ()
        self.read = Read()
        self.journals: dict[int, DiskJournal] = {}

    def image(self) -> Image:
        """A backup of all of it."""
        journals = {epoch: journal.saved for epoch, journal in self.journals.items()}
        log = self.log.copy(self.writes, self._clock)
        return Image(log, self.roster, self.read, journals)

    def restore(self, image: Image, *, log_only: bool = False) -> set[str]:
        """Put a backup in the place of what is here; the ids of the events that are gone now."""
        gone = self.log.events.keys() - image.log.events.keys()
        self.log = image.log.copy(self.writes, self._clock)
        if not log_only:
            self.roster, self.read = image.roster, image.read
            self.journals = {epoch: self._journal(one) for epoch, one in image.journals.items()}
        return set(gone)

    def outbox(self) -> set[bytes]:
        """Tombstones that the hub may not have yet."""
        return {mark for journal in self.journals.values() for mark in journal.saved.outbox}

    def keep_roster(self, entries: Sequence[bytes]) -> None:
        """Keep a verified roster."""
        self.writes.write(lambda: setattr(self, "roster", tuple(entries)))

    def note_read(self, epoch: int) -> None:
        """An epoch that is over was read to its end."""
        read = Read(self.read.epochs | {epoch}, self.log.reach)
        self.writes.write(lambda: setattr(self, "read", read))

    def read_again(self) -> None:
        """The hub was restored: it may show more of epochs that are over than it did."""
        read = Read(reach=self.log.reach)
        self.writes.write(lambda: setattr(self, "read", read))

    def begin(self) -> None:
        """A process opens the event log, and looks whether that goes with what was read."""
        known = self.log.has_reached(self.read.reach)
        self.log.begin(self._random.token_bytes(RUN_BYTES))
        self.read = Read(self.read.epochs, self.log.reach) if known else Read()

    def open_journal(self, epoch: int) -> DiskJournal:
        """The journal of an epoch. What others are still to forget comes with from older ones."""
        older = [one for one in self.journals if one < epoch]
        if epoch not in self.journals or older:
            waiting = [mark for one in older for mark in self.journals[one].saved.outbox]
            journal = self.journals.get(epoch) or self._journal(Saved())

            def change() -> None:
                MemoryJournal.queue(journal, waiting)
                self.journals = {epoch: journal}

            self.writes.write(change)
        return self.journals[epoch]

    def _journal(self, saved: Saved) -> DiskJournal:
        journal = DiskJournal(self.writes, self._look)
        journal.saved = saved
        return journal


@dataclass
class StoredRoom:
    """What a hub has of one epoch's document."""

    rows: list[bytes] = field(default_factory=list)
    clients: dict[int, str] = field(default_factory=dict)
    quarantined: int = 0

    def copy(self) -> StoredRoom:
        """The same, for a backup."""
        return StoredRoom(list(self.rows), dict(self.clients), self.quarantined)


@dataclass(frozen=True)
class HubBackup:
    """A backup of a hub's store."""

    rooms: Mapping[int, StoredRoom]
    roster: tuple[bytes, ...]


class HubDisk:
    """A hub's store. `look` sees everything that is written."""

    def __init__(self, look: Callable[[bytes], None]) -> None:
        self._look = look
        self.writes = Writes()
        self.rooms: dict[int, StoredRoom] = {}
        self.roster: list[bytes] = []

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

    def append(self, entry: bytes) -> None:
        """One more entry of the roster, in one transaction."""
        self.writes.write(lambda: self.roster.append(entry))

    def compact(self, epoch: int, snapshot: bytes, of_rows: int) -> None:
        """One snapshot in the place of the first `of_rows` rows."""
        room = self.room(epoch)
        self._look(snapshot)

        def change() -> None:
            room.rows[:of_rows] = [snapshot]

        self.writes.write(change)

    def image(self) -> HubBackup:
        """A backup of all of it."""
        rooms = {epoch: room.copy() for epoch, room in self.rooms.items()}
        return HubBackup(rooms, tuple(self.roster))

    def restore(self, image: HubBackup) -> None:
        """Put a backup in the place of what is here; of epochs that began after it nothing is left."""
        self.rooms = {epoch: room.copy() for epoch, room in image.rooms.items()}
        self.roster = list(image.roster)

    def clients(self, epoch: int) -> Mapping[int, str]:
        """The client ids that were handed out."""
        return self.room(epoch).clients
