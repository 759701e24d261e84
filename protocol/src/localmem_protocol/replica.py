"""A device's copy of a pool's document: what is sealed into it and opened out of it.

The document holds one array of sealed batches per device. Only the owner appends to an array, under
one persistent client id, and evicts from it, whole segments from the front: so the document stays as
large as what is in it. Whoever forgets an event deletes the segment that holds it, in any array, and
appends what else was in it to the own array. Updates from the hub are checked strictly before they
reach the CRDT library, and every batch is opened in the order of its chain.

A replica does no I/O. Its owner keeps every update that it returns or takes, or `export()`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from localmem_protocol.access import room_name
from localmem_protocol.document import Document, Runs, contents
from localmem_protocol.envelope import (
    NO_HASH,
    Opener,
    PoolKey,
    batch_hash,
    opens_segment,
)
from localmem_protocol.errors import BatchError, HistoryError, SealError
from localmem_protocol.events import Event
from localmem_protocol.ledger import Ledger, mark_of
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.own_array import OwnArray
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import TOMBSTONE_BYTES, Parcel
from localmem_protocol.referenced import Referenced
from localmem_protocol.references import Reference
from localmem_protocol.segments import Batch, Segment, Segments
from localmem_protocol.signatures import Problem, Signatures, with_head
from localmem_protocol.tombstones import TombstoneKey
from localmem_protocol.trimming import parcels
from localmem_protocol.updates import (
    Id,
    Item,
    Ranges,
    Update,
    covers,
    decode_update,
    encode_update,
    normal,
    split,
    without,
)
from localmem_protocol.wants import Want

Content = Event | Reference | Want
"""What of a parcel is kept or left out where it is moved."""

MOVED_BYTES: Final = STEP_BYTES // 2
"""Sealed bytes whose content one update puts elsewhere; it has to fit into a frame, packed anew."""

TOMBSTONES_SHARE: Final = 8
"""Tombstones of evicted segments are kept on while they take at most this part of the array."""


@dataclass
class Integrated:
    """What an update brought.

    `events` are for the event log, `tombstones` stand for what is forgotten, `problems` is what did
    not open, was not taken in, or is not what was signed. `references` are to events whose text is
    to be found, `wants` are those whose text somebody asks for.
    `stranded` are the contents of batches that no joiner could open, because the segment that they
    continue is deleted: they have to be put elsewhere (`Replica.move`). `forgotten` is whether it
    deleted something that a tombstone stands for, `unclear` whether it deleted references to nobody here
    knows what: a document of another epoch may say that it is forgotten.
    """

    events: list[Event] = field(default_factory=list)
    tombstones: list[bytes] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    stranded: dict[Id, Parcel] = field(default_factory=dict)
    forgotten: bool = False
    unclear: bool = False
    references: list[Reference] = field(default_factory=list)
    wants: list[Want] = field(default_factory=list)


class Replica:
    """One device's replica of one pool's document. `client` is 0 until the hub has given one.

    `updates` are those that an earlier replica returned or took; `loaded` says what they brought.
    `segments` are what is live, `signatures` who wrote that, `padding` what its own batches get;
    `referenced` what is known of references, of which `marks` were known before. Raises UpdateError and
    MergeError for updates that no replica kept.
    """

    def __init__(
        self,
        pool: PoolKey,
        device: str,
        client: int = 0,
        updates: Iterable[bytes] = (),
        signatures: Signatures | None = None,
        padding: Padding = Padding.NONE,
        marks: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.pool = pool
        self.device = device
        self.client = client
        self.tombstone_key = TombstoneKey(pool)
        self.segments = Segments()
        self.referenced = Referenced(pool.reference_key(), dict(marks or {}))
        self.signatures = signatures or Signatures(pool, device)
        self._document = Document(client or 1)
        self._own = OwnArray(self._document, pool, device, client, padding)
        self._openers: dict[int, Opener] = {}
        self.loaded = Integrated()
        for data in updates:
            update = decode_update(data, stored=True)
            self._set_aside(update.deletes, self.loaded)
            self._follow(self._document.load(data, update), update.deletes, self.loaded)
        self._document.verify()
        self._own.start_segment()

    @property
    def ledger(self) -> Ledger:
        """What is known of every client id."""
        return self._document.ledger

    @property
    def clock(self) -> int:
        """The clock that the next own batch gets."""
        return self.ledger.clock(self.client)

    def head_before(self, clock: int) -> bytes | None:
        """The hash of the own batch just before `clock`; None if it is not here any more."""
        if clock == 0:
            return NO_HASH
        if clock == self.clock:
            account = self.ledger.account(self.client)
            return account.head or None if account else None
        for item in self._document.run(self.client, clock - 1):
            if item.contents is not None and item.clock < clock <= item.end:
                return batch_hash(item.contents[clock - 1 - item.clock])
        return None

    @property
    def state_code(self) -> str:
        """What people compare on two screens: equal where two devices hold the same document.

        64 bits as four groups of four hex digits, of every chain's clock and newest batch.
        """
        accounts = sorted((c, one) for c in self.ledger if (one := self.ledger.account(c)))
        covered = b"localmem state 1\x00" + room_name(self.pool.pool, self.pool.epoch).encode()
        for client, one in accounts:
            head = NO_HASH if one.ended else one.head
            covered += client.to_bytes(4, "little") + one.clock.to_bytes(4, "little") + head
        digest = hashlib.sha256(covered).hexdigest()
        return " ".join(digest[at : at + 4] for at in range(0, 16, 4))

    def state_vector(self) -> bytes:
        """The document's state vector."""
        return self._document.state_vector()

    def export(self) -> bytes:
        """The whole document as one update."""
        return self._document.export()

    def own_part(
        self, state_vector: bytes, deletes: Ranges, clients: Iterable[int] | None = None
    ) -> list[bytes]:
        """What a hub with this state vector lacks of the own array, under every own client id, or these.

        In pieces to be sent in this order; none if it lacks nothing. What else is deleted goes with
        the last, so that whoever has that has what was moved.
        """
        update = decode_update(self._document.since(state_vector), stored=True)
        mine = self.ledger.clients_of(self.device) if clients is None else clients
        part = Update(update.only(mine).items)
        *pieces, last = split(part, STEP_BYTES)
        pieces.append(Update(last.items, deletes))
        return [encode_update(piece) for piece in pieces if piece.items or piece.deletes]

    def deletes_beyond(self, deletes: Ranges) -> Ranges:
        """What is deleted here, in any array, and not among these."""
        return without(self._document.deletes(), deletes)

    def parcels_beyond(self, clocks: Mapping[int, int]) -> list[Parcel]:
        """What live batches of these clients hold, from a clock of each on, as far as it opened."""
        found: list[Parcel] = []
        for client, clock in clocks.items():
            for segment in self.segments.of(client):
                if segment.end > clock and segment.opened:
                    held = self._read([segment])[segment.id]
                    found += (parcel for at, parcel in held.items() if at >= clock)
        return found

    def append(self, events: Sequence[Event], tombstones: Sequence[bytes] = ()) -> bytes:
        """Seal a batch and append it to the own array; the update to keep and then to send."""
        return self.append_parcel(Parcel(tuple(events), tuple(tombstones)))

    def append_parcel(self, parcel: Parcel, marks: Mapping[bytes, bytes] | None = None) -> bytes:
        """As `append`, for a batch that holds something else, or more; `marks` of its references."""
        self.referenced.known |= marks or {}
        update = self._append([parcel])
        self.referenced.known.clear()
        return update

    def append_head(self) -> bytes:
        """Sign what was appended so far, in a batch of its own; for who has an `Authorship`.

        In it stands besides what is here of others (`views.py`).
        """
        return self._append([Parcel()], signed=True, views=True)

    def is_moved(self, event: Event) -> bool:
        """Whether a reference to an event is in another array than that of the device that wrote it."""
        places = self.referenced.places(self.referenced.name_of(event))
        return any(self.ledger.owner(client) != event.device for client, _ in places)

    def found(self, name: bytes, mark: bytes) -> None:
        """A tombstone would stand for the event of a waiting reference: its text was found."""
        for place in self.referenced.found(name, mark):
            batch = self.segments.get(*place)
            if batch is not None:
                batch.referred += mark

    def missing(self) -> list[Problem]:
        """As `Signatures.missing` and `compare` say."""
        reached = self._reached()
        problems = self.signatures.missing(reached, self.segments.tombstones)
        return problems + self.signatures.compare(reached, self.client)

    def behind(self, shown: Mapping[int, int], acknowledged: int) -> list[Problem]:
        """As `Signatures.behind` says; the hub confirmed own batches before clock `acknowledged`."""
        return self.signatures.behind(shown, self._reached() | {self.client: acknowledged})

    def evict(self, bytes_max: int) -> bytes | None:
        """Drop whole segments from the front of the own array until it fits; None if it does.

        As `OwnArray.evict` says. The tombstones in them stay, the newest ones, which are appended again.
        Returns the update to keep and to send.
        """
        data, deletes = self._own.evict(bytes_max)
        if not deletes:
            return None
        tombstones = self.segments.tombstones_in(deletes)
        self._drop(deletes)
        most = bytes_max // TOMBSTONES_SHARE // TOMBSTONE_BYTES
        lost = [one for one in tombstones if self.segments.tombstone_at(one) is None][-most:]
        sealing = list(parcels((), lost if most else ()))
        return self._together(sealing, deletes, data)

    def trim(
        self,
        segments: Sequence[Segment],
        keep: Callable[[Content], bool],
        tombstones: Sequence[bytes] = (),
    ) -> list[bytes]:
        """Delete segments, in any array, and append what is to be kept, and tombstones.

        The updates to keep, and to send in this order.
        """
        updates = []
        for listed in _groups(segments):
            # Looked up again: what was moved before may have gone into one of them.
            found = [self.segments.segment_of(*one.id) for one in listed]
            group = [one for one in found if one is not None]
            moved = sum(one.size for one in group)
            self._own.make_room(moved, self.segments, self.clock)
            held = [parcel for one in self._read(group).values() for parcel in one.values()]
            updates.append(self.move(_ranges(group), held, keep, tombstones))
            tombstones = ()
        if tombstones:
            updates.append(self.move({}, (), keep, tombstones))
        return updates

    def move(
        self,
        ranges: Ranges,
        held: Iterable[Parcel],
        keep: Callable[[Content], bool],
        tombstones: Iterable[bytes] = (),
    ) -> bytes:
        """Delete batches, and append what is to be kept of what they held. One update.

        Copies of one event become one, and its text takes the place of references. A copy elsewhere is no reason to leave an event out: who holds that might do the
        same at the same time.
        """
        held = list(held)
        marks = dict.fromkeys(tombstones)
        marks |= dict.fromkeys(mark for parcel in held for mark in parcel.tombstones)
        events = {event.id: event for parcel in held for event in parcel.events if keep(event)}
        whole: set[bytes | None] = set()
        if any(parcel.references for parcel in held):
            whole = {self.referenced.name_of(event) for event in events.values()}
        named = {self.referenced.name(one): one for parcel in held for one in parcel.references}
        references = {name: one for name, one in named.items() if name not in whole and keep(one)}
        wants = {want for parcel in held for want in parcel.wants if keep(want)}
        self.referenced.known |= self.referenced.marks(references)
        if ranges:
            deletes = Update({}, ranges)
            self._document.merge(encode_update(deletes), deletes, {})
            self._drop(ranges)
        sealing = list(parcels(events.values(), marks, references.values(), wants))
        update = self._together(sealing, ranges)
        self.referenced.known.clear()
        return update

    def integrate(self, data: bytes) -> Integrated:
        """Check an update from the hub, merge it and open what is new.

        Raises UpdateError for one that no honest hub sends, HistoryError for one of another history
        than what is here, and GapError (transient) for one that came before what it builds on; nothing
        has changed then. Raises MergeError for one that is
        not in the document after it was merged: make another replica from what was kept.
        """
        update = decode_update(data)
        self._compare(update)
        owners = self.ledger.check(update)
        for item in update.items.get(self.client, ()):
            if item.end > self.clock:
                raise HistoryError("the hub has batches under our client id that we did not write")
        result = Integrated()
        self._set_aside(update.deletes, result)
        fresh = self._document.merge(data, update, owners)
        self._follow(fresh, update.deletes, result)
        return result

    def _reached(self) -> dict[int, int]:
        """How far every client id goes here."""
        return {client: self.ledger.clock(client) for client in self.ledger}

    def changed(self, update: Update) -> list[Problem]:
        """Batches that are here, and that an update has with other content: it stays as it was."""
        found = [
            self.signatures.again(client, clock, batch_hash(sealed))
            for client, run in update.items.items()
            for item in run
            if item.clock < self.ledger.clock(client)
            for clock, sealed in enumerate(item.contents or (), start=item.clock)
        ]
        return [problem for problem in found if problem is not None]

    def _compare(self, update: Update) -> None:
        """Raises HistoryError for other bytes at a known clock, and for a client id in another array."""
        for client, run in update.items.items():
            account = self.ledger.account(client)
            if account is None:
                continue
            if any(item.root not in (None, account.device) for item in run):
                raise HistoryError(f"client {client} belongs to another device here")
            for item in run:
                if item.clock >= account.clock:
                    break
                for clock, sealed in enumerate(item.contents or (), start=item.clock):
                    mark = account.marks.get(clock)
                    if mark is not None and mark != mark_of(clock, sealed):
                        raise HistoryError(f"other bytes at clock {clock} of client {client}")

    def _append(
        self, sealing: Sequence[Parcel], *, signed: bool = False, views: bool = False
    ) -> bytes:
        """Append batches; the first with a signed head if it starts a segment, or if `signed`.

        With `views` it says with the head what is here of others.
        """
        if not self.client:
            raise ValueError("no client id yet: the hub gives one")
        first = self.clock
        if signed or self._own.starts:
            before_it = self._own.head
            seen = self.signatures.views(before_it) if views else ()
            head = self.signatures.head(self.client, first, before_it, seen)
            sealing = [with_head(sealing[0], head, seen), *sealing[1:]]
        data, appended = self._own.append(sealing, first)
        for clock, (parcel, one) in enumerate(zip(sealing, appended, strict=True), start=first):
            self._note(self.client, clock, one.sealed, parcel)
            link = (batch_hash(one.sealed), one.previous)
            problems = self.signatures.note(self.device, self.client, clock, link, parcel)
            self.signatures.mute |= any(problem.kind == "signature" for problem in problems)
        return data

    def _together(self, sealing: Sequence[Parcel], deletes: Ranges, alone: bytes = b"") -> bytes:
        """Append what goes with deletes that were made; one update with both.

        What is taken out of the own array goes with a head that says so: else it would be missed.
        `alone` is the update that deletes, if it is known.
        """
        mine = any(self.ledger.owner(client) == self.device for client in deletes)
        signed = mine and self.signatures.signs and self.clock > 0
        if not sealing and not signed:
            return alone or encode_update(Update({}, deletes))
        appended = decode_update(self._append(sealing or [Parcel()], signed=signed), stored=True)
        return encode_update(Update(appended.items, deletes))

    def _set_aside(self, deletes: Ranges, result: Integrated) -> None:
        """Read what the deletes of an update would strand, before they are carried out."""
        for client, listed in deletes.items():
            gone = normal(listed)
            for end in map(sum, gone):
                batch = self.segments.get(client, end)
                segment = None
                if batch is not None and not batch.first:
                    segment = self.segments.segment_of(client, end)
                if segment is None or not segment.opened:
                    continue
                for clock, parcel in self._read([segment])[segment.id].items():
                    if clock >= end and not covers(gone, clock, 1):
                        result.stranded[client, clock] = parcel

    def _read(self, segments: Sequence[Segment]) -> dict[Id, dict[int, Parcel]]:
        """What live segments hold, by their ids and clocks. Raises SealError, BatchError."""
        found: dict[Id, dict[int, Parcel]] = {}
        for client in {segment.client for segment in segments}:
            mine = [segment for segment in segments if segment.client == client]
            sealed = contents(self._document.run(client, min(one.clock for one in mine)))
            opener = Opener(self.pool, self.ledger.owner(client) or "", client)
            for one in mine:
                found[one.id] = {
                    clock: opener.open(sealed[clock], clock) for clock in range(one.clock, one.end)
                }
        return found

    def _follow(self, fresh: Runs, deletes: Ranges, result: Integrated) -> None:
        """Open what an update brought, and follow what it deleted."""
        opened: dict[Id, Parcel] = {}
        for client, run in fresh.items():
            for item in run:
                self._open_item(client, item, opened, result.problems)
        for parcel in opened.values():
            result.events += parcel.events
            result.tombstones += parcel.tombstones
            result.references += parcel.references
            result.wants += parcel.wants
        if deletes:
            result.forgotten |= self.segments.any_forgotten(deletes)
            result.unclear |= self.segments.any_unclear(deletes)
            self._drop(deletes)
        held = result.stranded | opened
        stranded = self.segments.stranded
        result.stranded = {place: held[place] for place in held.keys() & stranded}

    def _open_item(
        self, client: int, item: Item, opened: dict[Id, Parcel], problems: list[Problem]
    ) -> None:
        device = self.ledger.owner(client) or ""
        if item.contents is None:
            self.signatures.unseen(device, client, item.end)
        if item.contents and not self.signatures.may_write(device):
            reason = f"not taken in: {device} may not write in epoch {self.pool.epoch}"
            problems.append(Problem(device, client, item.clock, reason, "refused"))
            self.signatures.unseen(device, client, item.end)
            for clock, sealed in enumerate(item.contents, start=item.clock):
                self._note(client, clock, sealed, None)
            return
        if client not in self._openers:
            self._openers[client] = Opener(self.pool, device, client)
        opener = self._openers[client]
        for clock, sealed in enumerate(item.contents or (), start=item.clock):
            try:
                parcel = opener.open(sealed, clock)
            except (SealError, BatchError) as error:
                problems.append(Problem(device, client, clock, str(error)))
                self.signatures.unseen(device, client, clock + 1)
                self._note(client, clock, sealed, None)
            else:
                self._note(client, clock, sealed, parcel)
                link = (batch_hash(sealed), opener.previous)
                problems += self.signatures.note(device, client, clock, link, parcel)
                opened[client, clock] = parcel

    def _note(self, client: int, clock: int, sealed: bytes, parcel: Parcel | None) -> None:
        """A live batch; None if it did not open."""
        batch = Batch(opens_segment(sealed), len(sealed), opened=parcel is not None)
        if parcel is not None:
            batch.marks = b"".join(self.tombstone_key.of(event.id) for event in parcel.events)
            batch.tombstones, batch.wants = parcel.tombstones, parcel.wants
            if parcel.references:
                batch.names = self.referenced.add((client, clock), parcel.references)
                batch.referred = b"".join(self.referenced.marks(batch.names).values())
        self.segments.add(client, clock, batch)
        if self.ledger.owner(client) == self.device:
            self._own.size += len(sealed)

    def _drop(self, deletes: Ranges) -> None:
        """Follow what was deleted, by whomever."""
        self.signatures.drop(deletes)
        for place, names in [*self.segments.referring(deletes)]:
            self.referenced.drop(place, names)
        for client, listed in deletes.items():
            size = self.segments.delete({client: listed})
            if self.ledger.owner(client) == self.device:
                self._own.size -= size
        running = self.segments.segment_of(self.client, self.clock - 1)
        if self.client in deletes and running is None:
            self._own.start_segment()


def _ranges(segments: Iterable[Segment]) -> Ranges:
    ranges: Ranges = {}
    for one in segments:
        ranges.setdefault(one.client, []).append((one.clock, one.end - one.clock))
    return {client: normal(listed) for client, listed in ranges.items()}


def _groups(segments: Sequence[Segment]) -> Iterable[list[Segment]]:
    """Segments by and by, some MOVED_BYTES of them at a time."""
    group: list[Segment] = []
    size = 0
    for one in sorted(segments, key=lambda segment: segment.id):
        if group and size + one.size > MOVED_BYTES:
            yield group
            group, size = [], 0
        group.append(one)
        size += one.size
    if group:
        yield group
