"""A pool's document as a device keeps it: the replica, its journal, and the event log that follows it.

What must be on disk before what is decided here and nowhere else: events of others go to the event
log before the update that brought them is journalled; an own batch is journalled before it is sent;
a tombstone is in the journal's outbox before the event log forgets, and until the hub has it.

What was forgotten, here or elsewhere (a tombstone), is kept out of the event log by the log itself.
Here the document is kept free of it: by who forgets, by the owner of an array, and by whoever
connects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from localmem_protocol.batching import Batching
from localmem_protocol.durable import EventLog, Journal, Saved
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import MergeError, UpdateError
from localmem_protocol.events import Event
from localmem_protocol.fetching import Fetcher
from localmem_protocol.outbox import Outbox
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Parcel
from localmem_protocol.pending import Pending
from localmem_protocol.references import Texts
from localmem_protocol.replica import Content, Integrated, Replica
from localmem_protocol.reported import Reported
from localmem_protocol.signatures import Authorship, Problem, Signatures
from localmem_protocol.updates import NOTHING, Id

JOURNAL_UPDATES_MAX: Final = 256
"""Updates that a journal gathers before they are compacted into one."""


class KeptDocument:
    """One device's copy of one pool's document.

    `pending` are own events that are in no batch yet, `outbox` tombstones that the hub may not have,
    `acknowledged` the clock that the hub confirmed last, with the hash of the batch before it.

    Its session says whether it may be written to (`writer`), whether it is about to be given up for
    another (`leaving`), and whether what is made is to be gathered in `made` (`connected`). `refilled`
    is the clock that a hub had confirmed before it was restored from a backup, 0 if none was.
    """

    def __init__(
        self,
        pool: PoolKey,
        log: EventLog,
        journal: Journal,
        *,
        writer: bool,
        authorship: Authorship | None,
        batching: Batching,
        padding: Padding,
        texts: Texts | None,
    ) -> None:
        """What the journal holds, and what the event log does not have yet, or has no more."""
        self.writer = writer
        self.leaving = self.connected = False
        self.refilled = 0
        self.made: list[bytes] = []
        self.reported = Reported()
        self.fetcher = Fetcher(log, journal, texts)
        self._pool = pool
        self._log = log
        self._journal = journal
        self._authorship = authorship
        self._padding = padding
        saved = journal.load()
        replica = self._load(saved)
        if replica is None:
            journal.reset(0)
            signatures = self._signatures(saved)
            saved = Saved(outbox=saved.outbox, marks=saved.marks)
            replica = self._replica(signatures, marks=saved.marks)
        self.pending = Pending(log, batching, saved.watermark, replica.tombstone_key)
        self.outbox = Outbox(journal, saved.outbox)
        self.acknowledged = saved.acknowledged
        self.replica = replica
        self._stale: set[Id] = set()  # segments that hold what was forgotten
        self._urgent = False  # …and nobody else may know of
        self._stranded: dict[Id, Parcel] = {}  # what nobody new could open, with what it holds
        self._doubtful: list[Problem] = []  # of batches that may turn out to be stranded by us
        self._journalled = len(saved.updates)
        # What is deleted in it may have been forgotten since, in a document of another epoch.
        self._due = self._journalled > 1
        if saved.reach != log.reach:  # a log knows its newest runs alone
            journal.save(None, saved.watermark, log.reach)
        self._begin(replica, saved)

    @property
    def unacknowledged(self) -> int:
        """Own batches that the hub has not confirmed."""
        return max(0, self.replica.clock - self.acknowledged[0])

    def integrate(self, update: bytes) -> None:
        """Merge an update of the hub's; what it brings is in the event log on return.

        Raises what `Replica.integrate` raises, and then nothing has changed.
        """
        result = self.replica.integrate(update)
        # Before what is forgotten leaves the log: a reference may stand for it.
        found = self.fetcher.find(self.replica, result.references, result.events)
        self._forget(result.tombstones)
        if result.events or found.fresh:
            self._log.insert([*result.events, *found.fresh])
        self.fetcher.keep(found)
        self.fetcher.hear(result.wants)
        if update != NOTHING:
            self._save(update)
        self._keep_heads()
        self._take_in(result, found.events)
        if self.connected:
            self.tidy(everywhere=self._urgent)
        self.compact_if_due(now=result.forgotten or result.unclear)

    def append(self, parcel: Parcel, marks: Mapping[bytes, bytes], array_bytes_max: int) -> None:
        """One more own batch; the oldest segments leave an array that is longer than that."""
        self.keep(self.replica.append_parcel(parcel, marks))
        evicted = self.replica.evict(array_bytes_max)
        if evicted is not None:
            self.keep(evicted)
        self.compact_if_due()

    def move(self, parcels: Sequence[Parcel]) -> None:
        """Append what is to be moved here from elsewhere."""
        self.keep(self.replica.move({}, parcels, self._wanted))

    def keep(self, update: bytes) -> None:
        """Journal an update that was made here."""
        self._save(update)
        if self.connected:  # else it goes with what the hub lacks
            self.made.append(update)

    def pass_over(self) -> None:
        """Journal that own events up to the watermark need no batch."""
        self._journal.save(None, self.pending.watermark, self._log.reach)

    def forget(self, ids: Sequence[str]) -> None:
        """Forget events here, in the document, and in the outbox till the hub has heard of it."""
        self.find(elsewhere=False)
        tombstones = [self.replica.tombstone_key.of(one) for one in dict.fromkeys(ids)]
        self.outbox.put(tombstones)
        self._forget(tombstones)
        self.tidy(everywhere=True)
        self.compact_if_due()
        self.settle()

    def settle(self) -> None:
        """Drop from the outbox what the hub has."""
        self.outbox.settle(self.replica, self.acknowledged[0])

    def acknowledge(self, clock: int) -> None:
        """The hub has the own batches before this clock."""
        self.acknowledged = (clock, self.replica.head_before(clock) or b"")
        if clock >= self.refilled:  # a crash changes nothing in what is to be refilled
            self._journal.acknowledge(*self.acknowledged)

    def begin_anew(self, client: int) -> None:
        """Give this document up for an empty one under another client id, 0 for none yet."""
        # The hub may have lost those that it had: what the new document holds is not told again.
        if self.writer and (tombstones := self.replica.segments.all_tombstones):
            self.outbox.put(tombstones)
        self.leaving, self.refilled = False, 0
        self._journal.reset(client)
        self.acknowledged = (0, b"")
        self.pending.begin()
        self._stale.clear()
        self._stranded.clear()
        self._doubtful.clear()
        self._journalled = 0
        before = self.replica
        self.replica = self._replica(self.replica.signatures.anew(), client)
        self.fetcher.begin_anew(self.replica, before)

    def tidy(self, *, everywhere: bool) -> None:
        """Take out of the document what was forgotten, and mend what nobody new could open.

        Unless it is to be done `everywhere`, in the own array alone: its owner is the first to.
        """
        replica = self.replica
        if not self.writer or not replica.client or self.leaving:
            return
        found = [replica.segments.segment_of(*place) for place in self._stale]
        self._due |= None in found  # its owner took it out, and the journal may hold it
        self._stale = {segment.id for segment in found if segment is not None}
        mine = replica.ledger.clients_of(replica.device)
        # What cannot be opened here is left to its owner: more than what is forgotten may be in it.
        due = [one for one in found if one and one.opened and (everywhere or one.client in mine)]
        self._mend_stranded()
        if due:
            for update in replica.trim(due, self._wanted, self.outbox.unsealed(replica)):
                self.keep(update)
            self._stale -= {one.id for one in due}
            self._due = True
        self._urgent = self._urgent and not everywhere

    def find(self, answers: Sequence[Event] = (), *, elsewhere: bool = True) -> None:
        """Look again for the texts of references that wait for them."""
        waiting = [*self.replica.referenced.waiting.values()]
        found = self.fetcher.find(self.replica, waiting, answers, elsewhere=elsewhere)
        if found.fresh:
            self._log.insert(found.fresh)
        self.fetcher.keep(found)
        if found.events:
            self._take_in(Integrated(), found.events)

    def compact_if_due(self, *, now: bool = False) -> None:
        """Make one update of the journal's if they are many, or if what is forgotten may be in them."""
        self._due |= now
        if self._stranded and self.writer:
            return  # it can be read after a crash only if what it builds on is kept
        signatures = self.replica.signatures
        if self.writer and signatures.signs and signatures.forgot(self.replica.client):
            if not self.connected:
                return  # what was signed is known after a crash only if that head is kept…
            self.keep(self.replica.append_head())  # …or another one
        if self._due or self._journalled >= JOURNAL_UPDATES_MAX:
            self._journal.compact(self.replica.export())
            self.fetcher.compacted(self.replica)
            self._journalled, self._due = 1, False

    def take_doubtful(self) -> list[Problem]:
        """Problems of batches that were stranded when they came, since the last call."""
        doubtful, self._doubtful = self._doubtful, []
        return doubtful

    def _begin(self, replica: Replica, saved: Saved) -> None:
        """Bring the event log and what was loaded together."""
        self._log.honour(replica.tombstone_key)
        self.fetcher.begin(replica)
        self.find(replica.loaded.events)  # while the log has what may be forgotten in a moment
        # A crash may have come between the outbox and the log; and an older log been put back.
        self._forget([*saved.outbox, *replica.loaded.tombstones])
        self._keep_heads()
        self._take_in(replica.loaded)
        if saved.outbox:
            self.tidy(everywhere=True)
        self._due = self._due and self._journalled > 1
        self.compact_if_due()

    def _load(self, saved: Saved) -> Replica | None:
        """The replica of what was saved; None if a new incarnation must take its place.

        So it is when the event log is not the one that the journal went with, and lacks what that took
        for kept, and when the journal holds what is no document.
        """
        if not self._log.has_reached(saved.reach):
            return None
        try:
            signatures = self._signatures(saved)
            return self._replica(signatures, saved.client, saved.updates, saved.marks)
        except (UpdateError, MergeError):
            return None

    def _signatures(self, saved: Saved) -> Signatures:
        kept = saved.heads.values()
        return Signatures(self._pool, self._log.device, self._authorship, kept)

    def _replica(
        self,
        signatures: Signatures,
        client: int = 0,
        updates: Sequence[bytes] = (),
        marks: Mapping[bytes, bytes] | None = None,
    ) -> Replica:
        device, padding = self._log.device, self._padding
        return Replica(self._pool, device, client, updates, signatures, padding, marks)

    def _save(self, update: bytes) -> None:
        self._journal.save(update, self.pending.watermark, self._log.reach)
        self._journalled += 1

    def _keep_heads(self) -> None:
        """Journal what others signed, after the update in which it came, which may be compacted."""
        heads = self.replica.signatures.take_unkept()
        if heads:
            self._journal.keep_heads(heads)

    def _forget(self, tombstones: Sequence[bytes]) -> None:
        """Let the event log forget what these stand for, and find it in the document."""
        if tombstones:
            gone = self._log.forget(tombstones, self.replica.tombstone_key)
            # Where a reference was moved to, nobody may be able to tell that it is to this.
            self._urgent |= any(map(self.replica.is_moved, gone))
            self.fetcher.bury(self.replica, tombstones, gone)
            self._stale |= self.replica.segments.holding(set(tombstones))
            self._due = True  # also what is deleted may still be in the journal

    def _mend_stranded(self) -> None:
        """Put what nobody new could open where it can be."""
        replica = self.replica
        stranded = {
            place: self._stranded[place]
            for place in replica.segments.stranded & self._stranded.keys()
        }
        self._stranded.clear()
        if stranded:
            gone = {client: [(clock, 1)] for client, clock in stranded}
            for client, clock in stranded:
                gone[client].append((clock, 1))
            self.keep(replica.move(gone, stranded.values(), self._wanted))

    def _wanted(self, held: Content) -> bool:
        return self.fetcher.keeps(self.replica, held)

    def _take_in(self, result: Integrated, found: Sequence[Event] = ()) -> None:
        """Follow what came: problems, what is known of own events, and what is not to be there.

        `found` are the events of references whose text was found now.
        """
        segments = self.replica.segments
        for problem in result.problems:
            if (problem.client, problem.clock) in segments.stranded:
                self._doubtful.append(problem)  # the session knows once it has all
            elif segments.get(problem.client, problem.clock):  # else it is deleted again
                self.reported.report(problem)
        self.pending.note([*result.events, *found])
        self._stranded |= result.stranded
        forgotten = {
            self.replica.tombstone_key.of(event.id)
            for event in [*result.events, *found]
            if self._log.forgets(event.id)
        }
        odd = self._take_in_references(result)
        odd |= forgotten & {self.replica.tombstone_key.of(event.id) for event in found}
        if odd:
            # Who has them may not be able to tell what they stand for: they go at once.
            self._forget([*odd])
            self._urgent = True
        if forgotten:
            self._stale |= self.replica.segments.holding(forgotten)
        self.settle()

    def _take_in_references(self, result: Integrated) -> set[bytes]:
        """The same for references that came; the marks of those that are not to be there."""
        forgotten: set[bytes] = set()
        for reference in result.references:
            mark = self.replica.referenced.mark(self.replica.referenced.name(reference))
            if mark is None:
                continue
            self.pending.refer(reference, mark)
            if self._log.forgets_mark(mark, self.replica.tombstone_key):
                forgotten.add(mark)
        return forgotten
