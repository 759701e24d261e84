"""What must hold in a simulated world, at any time and after healing.

Two things are promised to somebody: an event that was recorded is in the device's event log, and a
batch that the hub committed is not lost whatever happens to devices. The oracle keeps both promises
in its own books, looks at everything that goes over the network or to a disk, and in the end at
what everybody has. It never raises: what is wrong is written down, and stops the world there, so that
the last steps of the trace are those that led to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from localmem_protocol.chain import Roster
from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.limits import FRAME_BYTES_MAX, OUTGOING_BYTES_MAX
from localmem_protocol.room import Commit
from localmem_protocol.session import ARRAY_BYTES_MAX
from localmem_protocol.signatures import Problem
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.naming import Naming, may_ask
from localmem_protocol.simulation.participants import DeviceSide, Implementation, Witness
from localmem_protocol.simulation.people import People
from localmem_protocol.simulation.secrecy import Forgotten, Removed
from localmem_protocol.tombstones import TombstoneKey

CANARY: Final = "canary-Jq7vXw"
"""In every snippet; nobody but devices may ever see it."""

VIOLATIONS_MAX: Final = 20
"""Violations that are written down; a step can bring more than one."""

FORGOTTEN_BYTES: Final = 8_000
"""What forgetting one event may cost on the way up: what else was in its segment is sealed anew."""

EVENT_OVERHEAD_BYTES: Final = 150
"""What one event may cost on the way up beside its snippet, even alone in its batch and not compressed
at all, where nothing has to be sent twice."""


class Oracle:
    """The books of one world. `lost`, `evicted_undelivered`, `lost_with_hub` and `texts_missing` are
    counted by `finish`. `referred` are the events that were ever at the hub as references.
    """

    def __init__(
        self,
        implementation: Implementation,
        array_bytes_max: int,
        stop: Callable[[], object] = lambda: None,
        *,
        references: bool = False,
    ) -> None:
        self._stop = stop
        self.naming = Naming(implementation, references=references)
        self.referred: set[str] = set()
        self.violations: list[str] = []
        self.recorded: dict[str, Event] = {}
        self.committed: set[str] = set()
        self.may_be_lost: set[str] = set()
        self.rogues: set[str] = set()
        self.damaged: set[str] = set()
        self.split: set[str] = set()  # devices of which there are, or were, two
        self.lost = 0
        self.evicted_undelivered = 0
        self.lost_with_hub = 0
        self.texts_missing = 0
        self.document = b""
        self.restored = False
        self._epochs: dict[str, int] = {}  # in which epoch the hub stored an event last
        self._voided: dict[str, int] = {}  # the same of those that a restored hub has no more
        self._keys: dict[int, PoolKey] = {}
        self._unsaid: dict[
            bytes, int
        ] = {}  # tombstones that it has no more, and in which epoch they were
        self._implementation = implementation
        self._array_bytes_max = array_bytes_max
        self._evicting = array_bytes_max < ARRAY_BYTES_MAX
        self._witnesses: dict[int, Witness] = {}
        self._canary = CANARY.encode()
        self._forgotten = Forgotten()
        self._removed = Removed(implementation)

    def violation(self, what: str) -> None:
        """Write down what must not be."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(what)
        self._stop()

    def begin_epoch(self, key: PoolKey) -> None:
        """Watch the hub's document of an epoch."""
        self._keys[key.epoch] = key
        self.naming.begin_epoch(key)
        if self._implementation.witness is not None:
            self._witnesses[key.epoch] = self._implementation.witness(key)

    def books(self) -> object:
        """What the hub has stored by now, for `note_restored`."""
        return frozenset(self.committed)

    def note_restored(
        self, books: object, rows: Mapping[int, Sequence[bytes]], newest: int
    ) -> None:
        """The hub is as it was when `books` said so, with these rows, and `newest` is its epoch again:
        what it stored since is void.
        """
        assert isinstance(books, frozenset)
        self.restored = True
        self._voided |= {name: self._epochs.get(name, 0) for name in self.committed - books}
        for epoch, before in self._witnesses.items():
            self._unsaid |= dict.fromkeys(before.tombstones(), epoch)
        self.committed = set(books)
        self._keys = {epoch: key for epoch, key in self._keys.items() if epoch <= newest}
        self._witnesses.clear()
        for key in self._keys.values():
            self.begin_epoch(key)
            for row in rows.get(key.epoch, ()):
                if seen := self._witnesses.get(key.epoch):
                    seen.committed(row)

    def note_recorded(self, event: Event) -> None:
        """A device said that an event is kept."""
        self.recorded[event.id] = event
        self.naming.recorded(event)

    def note_settled(self, device: SimulatedDevice) -> None:
        """A device heard that the hub has everything of it."""
        if self._implementation.witness is None:
            log = device.disk.log
            self.committed.update(
                name for name, event in log.events.items() if event.device == log.device
            )

    def note_gone(self, ids: Iterable[str]) -> None:
        """A rollback took these from a device, and its user knows it."""
        self.may_be_lost.update(ids)

    @property
    def forgotten(self) -> set[str]:
        """What somebody forgot, and nobody is to have."""
        return self._forgotten.promised

    def note_forgetting(self, ids: Iterable[str]) -> None:
        """Somebody begins to forget these."""
        self._forgotten.begun.update(ids)

    def note_forgotten(self, device: SimulatedDevice, ids: Iterable[str]) -> None:
        """A device said that it forgot these."""
        self._forgotten.forgotten(device, ids)

    def note_untold(self, device: SimulatedDevice, tombstones: set[bytes]) -> None:
        """A rollback took these from what a device has to tell the others."""
        self._forgotten.untold(device, tombstones, TombstoneKey(self._keys[1]).of)

    def note_unknown(self, devices: Sequence[SimulatedDevice]) -> None:
        """The hub is an older one, or a device is: what was forgotten and nobody knows of any more is
        known again.

        A hub that was not restored knows of all that it was ever told.
        """
        if self.restored:
            mark, told = TombstoneKey(self._keys[1]).of, self._told()
            self._forgotten.unknown(
                lambda name: (
                    mark(name) in told or any(device.disk.log.forgets(name) for device in devices)
                )
            )

    def note_committed(self, epoch: int, commit: Commit) -> None:
        """The hub's store has this."""
        self._removed.committed(epoch, commit)
        for quarantined in commit.quarantined:
            if quarantined.device not in self.rogues | self.damaged:
                self.violation(f"an honest update was refused: {quarantined.reason}")
        witness = self._witnesses.get(epoch)
        if witness is None:
            return
        for row in commit.rows:
            try:
                found = witness.committed(row.update)
                names = self.naming.ids(found)
                self.referred |= self.naming.referred(found)
                self.committed.update(names)
                self._epochs |= dict.fromkeys(names, epoch)
            except ValueError as error:
                self.violation(str(error))

    def note_said(self, epoch: int, frame: bytes) -> None:
        """The hub says this to somebody."""
        witness = self._witnesses.get(epoch)
        broken = witness.promises(frame) if witness is not None else None
        if broken is not None:
            self.violation(f"the hub acknowledges what it has not stored: {broken}")

    def look(self, where: str, data: bytes) -> None:
        """Bytes on a wire or on a disk."""
        if self._canary in data:
            self.violation(f"plaintext {where}")
        if where.startswith("on the wire") and len(data) > FRAME_BYTES_MAX:
            self.violation(f"a frame of {len(data)} bytes")

    def note_sent(self, device: SimulatedDevice, frame: bytes) -> None:
        """A device sends this."""
        if self._implementation.unsaved is not None:
            unsaved = self._implementation.unsaved(frame, device.journal)
            if unsaved is not None:
                self.violation(f"{device.name}: {unsaved}")
        wrong = self._removed.sent(device, frame)
        if wrong is not None:
            self.violation(f"{device.name} {wrong}")

    def check(self, device: SimulatedDevice) -> None:
        """A device after something happened on it."""
        if device.side is None:
            return
        if device.link is not None and device.link.waiting_bytes() > OUTGOING_BYTES_MAX:
            self.violation(f"{device.link.waiting_bytes()} bytes wait for {device.name}")
        if self._implementation.limits is not None:
            exceeded = self._implementation.limits(
                device.side, device.journal, self._array_bytes_max
            )
            if exceeded is not None:
                self.violation(f"{device.name}: {exceeded}")
        for problem in getattr(device.side, "problems", ()):
            if problem.device not in self.rogues and not self._is_known(problem, device.side):
                self.violation(f"{device.name} reports a problem among the honest: {problem}")
                break

    def _is_known(self, problem: Problem, side: DeviceSide) -> bool:
        """What a rogue writer deleted is missed for good reasons. And a hub that was restored shows less
        than it had, which nobody can tell from one that withholds it.

        Where arrays are small, events are missed that a copy of a device evicted, or, by who never had
        them there, what another had taken over in forgetting something beside: until their author signs.
        """
        if problem.kind in ("replay", "withheld"):
            return self.restored
        moved = problem.device in self.split or (
            bool(self._forgotten.begun) and self._implementation.blind(side, problem)
        )
        return problem.kind == "gap" and (bool(self.rogues) or (self._evicting and moved))

    @property
    def snippet_bytes(self) -> int:
        """The text of everything that was recorded."""
        return sum(len(event.snippet.encode()) for event in self.recorded.values())

    def check_payload(self, bytes_up: int) -> None:
        """What went up in a world without faults."""
        most = self.snippet_bytes + EVENT_OVERHEAD_BYTES * (len(self.recorded) + 10)
        most += FORGOTTEN_BYTES * len(self._forgotten.begun)
        if bytes_up > most:
            self.violation(f"{bytes_up} bytes went up; {most} would do")

    def finish(
        self, devices: Sequence[SimulatedDevice], everybody: Sequence[SimulatedDevice]
    ) -> None:
        """After healing: `devices` must agree; `everybody` may hold what is left of an event."""
        mark = TombstoneKey(self._keys[1]).of
        self._forgotten.settle(devices, self._told(), mark)
        self._forgotten.unknown(lambda name: not self._is_unsaid(mark(name)))
        unsettled = [device.name for device in devices if not device.settled]
        if unsettled:
            self.violation(f"not in sync after healing: {', '.join(unsettled)}")
        documents = {}
        for device in devices:
            if device.side is not None:
                documents[device.name] = self._implementation.document(device.side)
        if len(set(documents.values())) > 1:
            self.violation("devices hold different documents: " + _groups(documents))
        self.document = next(iter(documents.values()), b"")
        self._agree_on_order(devices)
        held: set[str] = set()
        for device in devices:
            if device.side is not None and not held:
                held = self._implementation.holds(device.side)
        retained = self.naming.ids(held)
        for device in devices:
            self._uploaded(device, retained)
        self._count_undelivered(devices, held)
        self.count_lost(everybody, retained)

    def _uploaded(self, device: SimulatedDevice, retained: set[str]) -> None:
        """Whoever has settled has nothing of its own that is not in the document."""
        log = device.disk.log
        own = {event.id for event in log.events.values() if event.device == log.device}
        own -= self._forgotten.begun
        # What a backup did not have and an epoch that is over gave back is not said again: all read it there.
        own -= self.may_be_lost & self._readable()
        if self.rogues:
            own -= self.committed  # a writer may delete in another's array
        if own - retained and device.settled and not self._evicting:
            self.violation(f"{device.name} never sent {len(own - retained)} events of its own")

    def _agree_on_order(self, devices: Sequence[SimulatedDevice]) -> None:
        if not devices:
            return
        shared = set.intersection(*(set(device.disk.log.events) for device in devices))
        orders = {
            device.name: hashlib.blake2b(
                "".join(e.id for e in device.disk.log.ordered() if e.id in shared).encode()
            ).digest()
            for device in devices
        }
        if len(set(orders.values())) > 1:
            self.violation("devices order the events that they share differently")

    def count_lost(self, everybody: Sequence[SimulatedDevice], retained: set[str]) -> None:
        """What was promised to somebody, and nobody has any more; can be said at any time.

        A reference counts, of whatever epoch: whose text everybody lost is in `texts_missing`.
        """
        held = retained.union(*(device.disk.log.events for device in everybody))
        held |= self.naming.referred(self._opened())
        opened = self._readable()
        evicted = self.committed - opened if self._witnesses else set()
        self.lost = len(self._promised() - held - evicted)
        if self.lost:
            self.violation(f"{self.lost} acknowledged events are lost")

    def _promised(self) -> set[str]:
        promised = (self.recorded.keys() - self.may_be_lost) | self.committed
        return (promised & self.recorded.keys()) - self._forgotten.begun

    def _readable(self) -> set[str]:
        """What somebody who comes now could open, of all epochs."""
        return self.naming.ids(self._opened())

    def _opened(self) -> set[str]:
        """The same as it is there: some by reference."""
        return set[str]().union(*(witness.holds() for witness in self._witnesses.values()))

    def _told(self) -> set[bytes]:
        """The tombstones that were ever at the hub."""
        return {mark for one in self._witnesses.values() for mark in one.tombstones()}

    def _is_unsaid(self, tombstone: bytes) -> bool:
        """Whether a restored hub lost it, and whoever heard it can say it again nowhere: its epoch is over."""
        epoch = self._unsaid.get(tombstone)
        return epoch is not None and epoch < max(self._keys) and tombstone not in self._told()

    def check_forgotten(self, rows: Sequence[bytes], members: Sequence[SimulatedDevice]) -> None:
        """What was forgotten is nowhere: in no log, no document, no row, no journal.

        Documents of epochs that are over keep it, sealed under a key that the newest is not.
        """
        gone, newest = self._forgotten.promised, max(self._keys)
        remembers = self._implementation.remembers
        for device in members:
            if left := gone & device.disk.log.events.keys():
                self.violation(f"{device.name} still has {len(left)} events that were forgotten")
            if device.side is not None:
                held = self._implementation.holds(device.side)
                self._demand_gone(f"the document of {device.name}", gone, held)
            journal = device.disk.journals.get(newest)
            if remembers is not None and journal is not None:
                held = remembers(self._keys[newest], journal.saved.updates)
                self._demand_gone(f"the journal of {device.name}", gone, held)
        if remembers is not None:
            held = remembers(self._keys[newest], rows)
            self._demand_gone("the hub's store", gone, held)

    def _demand_gone(self, where: str, gone: set[str], held: set[str]) -> None:
        if gone & held:
            self.violation(f"{where} has what was forgotten")
        if gone & self.naming.referred(held):
            self.violation(f"{where} has references to what was forgotten")

    def check_removed(self, people: People, roster: Roster) -> None:
        """No removed device reads what was sealed when its writer knew of the removal."""
        wrong = self._removed.check(people, roster)
        if wrong is not None:
            self.violation(wrong)

    def _count_undelivered(self, devices: Sequence[SimulatedDevice], newest: set[str]) -> None:
        """`newest` is what the newest document holds, by id or by reference."""
        undelivered = texts = 0
        held = set[str]().union(*(device.disk.log.events for device in devices))
        self.lost_with_hub = len(self._voided.keys() - self._promised() - held)
        opened = self._opened() | newest
        referred = self.naming.referred(opened)
        asked = self.naming.referred(newest)
        readable = self.naming.ids(opened) - self._forgotten.begun
        voided = (self._voided.keys() & held & self.recorded.keys()) - self._forgotten.begun
        for name in self._promised() | voided | (readable & self.recorded.keys()):
            lacking = [device for device in devices if name not in device.disk.log.events]
            missing = len(lacking)
            if not missing:
                continue
            seen = name in self.committed and bool(self._witnesses)
            if name in referred:
                due = sum(self._has_text(name, one, held) for one in lacking if name in asked)
                texts += due
                self.texts_missing += missing - due
            elif name in readable or (not seen and self._owed(name, devices)):
                undelivered += 1
            elif name in self.committed or self._evicting:
                self.evicted_undelivered += missing
            elif name in self._voided:
                if name in held and self._voided[name] == max(self._keys):
                    undelivered += 1
                else:  # who still has it, if anybody, may not write in that epoch any more
                    self.lost_with_hub += missing
        if undelivered:
            self.violation(f"{undelivered} events did not reach everybody")
        if texts:
            self.violation(f"{texts} texts of references were not found where they could be")

    def _has_text(self, name: str, device: SimulatedDevice, held: set[str]) -> bool:
        """Whether a device that lacks the text of a reference has it in its clone, or can ask for it.

        Only in the newest document: nobody may ask in those before, whose names are other ones; and a reader
        asks nobody.
        """
        return (name in held and may_ask(device)) or self.naming.was_offered(name, device)

    def _owed(self, name: str, devices: Sequence[SimulatedDevice]) -> bool:
        """Whether the device that recorded it takes part, and ought to have sent it.

        Where arrays are small, it may have left its array before it ever reached the hub.
        """
        owner = self.recorded[name].device
        takes_part = any(d.disk.log.device == owner and name in d.disk.log.events for d in devices)
        return takes_part and not self._evicting


def _groups(documents: dict[str, bytes]) -> str:
    digests = {
        name: hashlib.blake2b(data, digest_size=3).hexdigest() for name, data in documents.items()
    }
    return ", ".join(f"{name} {digest}" for name, digest in digests.items())
