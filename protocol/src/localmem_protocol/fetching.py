"""Where the texts of references come from: a session's part in finding, asking for, and giving them.

A text is looked for in the event log, in what just came, and in a checkout. What is nowhere here is
asked for once, by a want in a batch of one's own; it stands there until the batch is evicted. Whose
event it is answers at once, with the whole event; when it is quiet and nobody did, the others do, one
after the other. An event that is in the document with its text is answered no more, and nothing is
answered that no live reference stands for: what was never shared here stays where it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from localmem_protocol.durable import EventLog, Journal
from localmem_protocol.events import Event
from localmem_protocol.limits import BATCH_WANTS_MAX
from localmem_protocol.parcels import Parcel
from localmem_protocol.references import Reference, Texts, refer, refer_where, restore
from localmem_protocol.replica import Content, Replica
from localmem_protocol.signatures import QUIET_S, REST_S
from localmem_protocol.trimming import leading
from localmem_protocol.wants import Want

TURNS_MAX: Final = 8
"""Devices that wait for each other before they answer for one that does not; the others come at once."""

TWINS_MAX: Final = 4
"""Events that answer one want: those of copies of a machine that wrote the same at the same sequence."""


@dataclass
class Found:
    """Events whose text was found, those of them that the log lacks, and marks of their references."""

    events: list[Event] = field(default_factory=list)
    fresh: list[Event] = field(default_factory=list)
    marks: dict[bytes, bytes] = field(default_factory=dict)


class Fetcher:
    """For one session. `texts` is None where there is no checkout, and nothing is sent by reference."""

    def __init__(self, log: EventLog, journal: Journal, texts: Texts | None) -> None:
        self._log = log
        self._journal = journal
        self._texts = texts
        self._remembers = False  # the journal has marks
        self._asking = False  # there may be something to ask for
        self._answering: dict[Want, None] = {}  # what may have to be answered
        self._answered: set[Want] = set()  # what was, since it was asked for last

    def begin(self, replica: Replica) -> None:
        """What a journal knew of references that are not live: only what was forgotten matters."""
        referenced, key = replica.referenced, replica.tombstone_key
        known = {n: mark for n, mark in referenced.known.items() if n not in referenced}
        referenced.bury({n: one for n, one in known.items() if self._log.forgets_mark(one, key)})
        self._remembers = bool(known or referenced.marks())
        referenced.known.clear()
        self._remember(referenced.buried)  # the journal may have been emptied

    def begin_anew(self, replica: Replica, before: Replica) -> None:
        """The journal was emptied for another incarnation."""
        self._answered.clear()
        referenced, known = replica.referenced, before.referenced
        referenced.bury(known.buried)
        referenced.known |= known.known | known.marks()  # asked for once, and given
        self._remember(referenced.buried | referenced.known)

    def find(
        self,
        replica: Replica,
        references: Iterable[Reference],
        answers: Sequence[Event] = (),
        *,
        elsewhere: bool = True,
    ) -> Found:
        """Look for the texts of those that wait, and whether any that wait are answered; `elsewhere`
        is in a checkout as well, which may take a moment.

        The events that the log lacks have to be there before `keep` is called.
        """
        referenced = replica.referenced
        found = Found()
        if not referenced.waiting:
            return found
        for answer in answers:
            name_answered = referenced.name_of(answer)
            if name_answered is not None and name_answered in referenced.waiting:
                self._note(replica, found, name_answered, answer)
        # Those to one file together: a checkout reads it once.
        for reference in sorted(references, key=lambda one: (one.project or "", one.file_path)):
            name = referenced.name(reference)
            if name not in referenced.waiting:
                continue
            event = self._in_log(reference, referenced.key)
            if event is None and elsewhere:
                event = self._in_checkout(reference, referenced.key)
                found.fresh += [] if event is None else [event]
            if event is not None:
                self._note(replica, found, name, event)
        self._asking = True
        return found

    def keep(self, found: Found) -> None:
        """What was found stays so: a device is not asked again for what it gave."""
        self._remember(found.marks)

    def compacted(self, replica: Replica) -> None:
        """The journal was: keep what is known of references that are live, or stand for what is gone."""
        referenced = replica.referenced
        if self._remembers:
            self._journal.remember(referenced.buried | referenced.marks(), instead=True)

    def bury(self, replica: Replica, tombstones: Sequence[bytes], gone: Sequence[Event]) -> None:
        """These were forgotten; `gone` are those that were here."""
        referenced = replica.referenced
        names = referenced.named(set(tombstones))
        for event in gone:
            name = referenced.name_of(event)
            if name is not None:
                names[name] = replica.tombstone_key.of(event.id)
        referenced.bury(names)
        self._remember(names)

    def parcel(
        self, replica: Replica, events: Sequence[Event], tombstones: Sequence[bytes]
    ) -> tuple[Parcel, Mapping[bytes, bytes]]:
        """Own events to be sealed, some of them as references, whose marks are known."""
        shared = self._texts.shared(events) if self._texts is not None and events else ()
        whole, references = refer_where(
            events, replica.referenced.key, lambda event: event.id in shared
        )
        marks: dict[bytes, bytes] = {}
        for event in events:
            name = replica.referenced.name_of(event) if event.id in shared else None
            if name is not None:
                marks[name] = replica.tombstone_key.of(event.id)
        self._remember(marks)
        return Parcel(tuple(whole), tuple(tombstones), references=tuple(references)), marks

    def hear(self, wants: Iterable[Want]) -> None:
        """Somebody asks for these: those of this device are answered."""
        wants = list(wants)
        self._answered.difference_update(wants)
        self._answering |= dict.fromkeys(w for w in wants if w.device == self._log.device)

    def connected(self, replica: Replica) -> None:
        """All that others have is here."""
        self._asking = True
        self.hear(want for want in replica.segments.wants if want not in self._answered)

    def due(self, replica: Replica) -> bool:
        """Whether there is something to say."""
        return bool(self._answering or (self._asking and self._unasked(replica)))

    def next(self, replica: Replica) -> Parcel | None:
        """A parcel of answers and wants; None when nothing is to be said."""
        wants = sorted(self._unasked(replica))[:BATCH_WANTS_MAX] if self._asking else []
        self._asking = bool(wants)
        events: dict[str, Event] = {}
        for want in [*self._answering]:
            answers = {event.id: event for event in self._answers(replica, want)[:TWINS_MAX]}
            both = [*(events | answers).values()]
            if events and len(leading(both)) < len(both):
                break
            events |= answers
            if answers:
                self._answered.add(want)
            del self._answering[want]
        parcel = Parcel(tuple(events.values()), wants=tuple(wants))
        return parcel or None

    def rest(self, replica: Replica, quiet_s: float) -> float | None:
        """It is quiet: answer for others. How long it has to be quiet for the next look, if for any."""
        later: list[float] = []
        for want in replica.segments.wants:
            if want in self._answered:
                continue  # should that be evicted, whoever lacks it asks anew
            due_s = QUIET_S * self._turn(replica, want)
            if want.device == self._log.device or due_s <= quiet_s:
                self._answering[want] = None
            else:
                later.append(due_s)
        if replica.referenced.waiting and quiet_s < REST_S:
            later.append(2 * quiet_s)  # it may have been pulled meanwhile
        return min(later, default=None)

    def keeps(self, replica: Replica, held: Content) -> bool:
        """Whether a reference or a want goes along when the batch that it is in goes."""
        if isinstance(held, Event):
            return not self._log.forgets(held.id)
        if isinstance(held, Reference):
            name = replica.referenced.name(held)
            mark = replica.referenced.mark(name) or replica.referenced.buried.get(name)
            return mark is None or not self._log.forgets_mark(mark, replica.tombstone_key)
        return held in replica.referenced.wanted() or bool(self._answers(replica, held))

    def _remember(self, marks: Mapping[bytes, bytes]) -> None:
        if marks:
            self._remembers = True
            self._journal.remember(marks)

    def _unasked(self, replica: Replica) -> set[Want]:
        mine = replica.ledger.clients_of(replica.device)
        return replica.referenced.wanted() - replica.segments.asked(mine)

    def _answers(self, replica: Replica, want: Want) -> list[Event]:
        """What is here of a want, as long as a reference stands for it and its text is not there."""
        found: list[Event] = []
        own = want.device == self._log.device
        for event in self._log.at(want.device, want.sequence):
            reference = refer(event, replica.referenced.key)
            if reference is None or reference.text_hash != want.text_hash:
                continue
            if replica.referenced.name(reference) not in replica.referenced:
                continue
            if own and not self._log.shares(event):
                continue
            if not replica.segments.has(replica.tombstone_key.of(event.id)):
                found.append(event)
        return found

    def _turn(self, replica: Replica, want: Want) -> int:
        """When this device answers for another: so many come before it, the owner among them."""
        owners = {replica.ledger.owner(client) or "" for client in replica.ledger}
        devices = sorted(owners | {want.device, self._log.device})
        places = bisect_left(devices, self._log.device), bisect_left(devices, want.device)
        return min(TURNS_MAX, (places[0] - places[1]) % len(devices))

    def _note(self, replica: Replica, found: Found, name: bytes, event: Event) -> None:
        mark = replica.tombstone_key.of(event.id)
        replica.found(name, mark)
        found.events.append(event)
        found.marks[name] = mark

    def _in_log(self, reference: Reference, key: bytes) -> Event | None:
        here = self._log.at(reference.device, reference.sequence, reference.clock)
        events = (restore(reference, event.snippet, key) for event in here)
        known = {event.id for event in here}
        return next((event for event in events if event is not None and event.id in known), None)

    def _in_checkout(self, reference: Reference, key: bytes) -> Event | None:
        if self._texts is None:
            return None
        events = (restore(reference, text, key) for text in self._texts.texts(reference))
        return next((event for event in events if event is not None), None)
