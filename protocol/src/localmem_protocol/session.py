"""A device's side of synchronisation, without any I/O of its own.

One `Session` lives as long as the process; each connection begins with `hello()`. It is a state
machine of four states:

    OFFLINE ──hello()──▶ GREETING ──Welcome──▶ SYNCING ──Step2──▶ READY
       ▲                    │ ▲                                     │
       └─────disconnect()───┘ └── Hello(client 0): a new incarnation │
       └──────────────────────────disconnect()───────────────────────┘

GREETING ends in a comparison. The hub says how far it knows our client id and the hash of the
newest batch there. If it knows more than we do, or another batch at that place, then this device
was restored from a backup or cloned: its document cannot be continued. It asks for a new client id,
starts with an empty document, and whatever its event log has that the hub lacks is sealed again.
So it does when another connection takes over its client id: that is a copy of it, at an equal clock.

An answer of the hub is bounded. While there is more it comes as Update, and SYNCING asks again for
what follows; the last one is Step2. Until then the hub broadcasts nothing to this connection.

Nothing is sent before READY, since what the hub has may change what is to be said: a segment of ours
that was deleted meanwhile is not to be continued.

A hub may welcome a device as a reader. It then receives everything and sends nothing; its own
events stay in its event log, and its document, until it is welcomed as a writer.

What was forgotten, here (`forget`) or elsewhere (a tombstone), is kept out of the event log by the
log itself. Here the document is kept free of it: by who forgets, by the owner of an array, and by
whoever connects.

What must be on disk before what is decided here and nowhere else: events of others go to the event
log before the update that brought them is journalled; an own batch is journalled before it is sent;
a tombstone is in the journal's outbox before the event log forgets, and until the hub has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final

from localmem_protocol.durable import EventLog as EventLog
from localmem_protocol.durable import Journal as Journal
from localmem_protocol.durable import Saved as Saved
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import (
    FrameError,
    GapError,
    MergeError,
    RefusedError,
    UpdateError,
)
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    ROSTER_NOTICE,
    Ack,
    Close,
    Hello,
    Notice,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.hub_view import HubView
from localmem_protocol.limits import BATCH_EVENTS_MAX, BATCH_TOMBSTONES_MAX
from localmem_protocol.outbox import Outbox
from localmem_protocol.parcels import Parcel
from localmem_protocol.replica import Integrated, Replica
from localmem_protocol.signatures import QUIET_S, Authorship, Problem, Signatures, rest_s
from localmem_protocol.trimming import whole_sequences
from localmem_protocol.updates import (
    NOTHING,
    Id,
    Ranges,
    decode_state_vector,
    decode_update,
)

UNACKNOWLEDGED_MAX: Final = 16
"""Batches under way before the session waits for the hub's disk."""

JOURNAL_UPDATES_MAX: Final = 256
"""Updates that a journal gathers before they are compacted into one."""

ARRAY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Sealed bytes that a device keeps in its own array; older segments are evicted."""


PROBLEMS_MAX: Final = 64
"""Problems kept for a look; all are counted."""


class State(Enum):
    """Where a connection stands."""

    OFFLINE = "offline"
    GREETING = "greeting"
    SYNCING = "syncing"
    READY = "ready"


class Session:
    """One device's synchronisation of one pool.

    `problems` are the latest of what was wrong with what came, `troubles` is how many there were, and
    `unreadable` how many of them were batches that did not open; `writer` is whether the hub takes
    updates, as it said last, and `roster_length` how long the pool's roster is, as it told on this
    connection (0: it did not).
    """

    def __init__(
        self,
        pool: PoolKey,
        log: EventLog,
        journal: Journal,
        array_bytes_max: int = ARRAY_BYTES_MAX,
        *,
        reader: bool = False,
        authorship: Authorship | None = None,
    ) -> None:
        """With `reader` nothing is ever sent, whatever the hub says: others may have the key by now."""
        self.pool = pool
        self.state = State.OFFLINE
        self.problems: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self.troubles = self.unreadable = 0
        self.writer = not reader
        self.roster_length = 0
        self._reader = reader
        self._log = log
        self._journal = journal
        self._array_bytes_max = array_bytes_max
        self._authorship = authorship
        self._news: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self._reported: set[tuple[str, str, int, int]] = set()
        saved = journal.load()
        replica = self._load(saved)
        if replica is None:
            journal.reset(0)
            signatures = Signatures(pool, log.device, authorship)
            saved = Saved(outbox=saved.outbox)
            replica = Replica(pool, log.device, signatures=signatures)
        self._watermark = saved.watermark
        self._acknowledged = saved.acknowledged
        self._present: set[str] = set()  # own events above the watermark that the document has
        self._outbox = Outbox(journal, saved.outbox)
        self._stale: set[Id] = set()  # segments that hold what was forgotten
        self._stranded: dict[Id, Parcel] = {}  # what nobody new could open, with what it holds
        self._doubtful: list[Problem] = []  # of batches that may turn out to be stranded by us
        self._hub = HubView()
        self._made: list[bytes] = []  # updates that were made here, to be sent
        self.replica = replica
        self._journalled = len(saved.updates)
        self._due = replica.loaded.forgotten  # the journal may hold what is forgotten
        log.honour(replica.tombstone_key)
        # A crash may have come between the outbox and the log; and an older log been put back.
        self._forget([*saved.outbox, *replica.loaded.tombstones])
        self._take_in(replica.loaded)
        if saved.outbox:
            self._tidy(everywhere=True)
        self._due = self._due and self._journalled > 1
        self._compact_if_due()

    @property
    def unacknowledged(self) -> int:
        """Own batches that the hub has not confirmed."""
        return max(0, self.replica.clock - self._acknowledged[0])

    def unsent(self) -> bool:
        """Whether the event log has own events that are in no batch yet."""
        return bool(self._log.own_events(self._watermark, 1))

    @property
    def settled(self) -> bool:
        """Connected, everything received, everything of ours confirmed that the hub would take."""
        if self.state is not State.READY:
            return False
        if not self.writer:
            return True
        return not (self.unacknowledged or self._made or self._outbox or self.unsent())

    @property
    def provisional(self) -> dict[str, int]:
        """How many batches of each device are not yet covered by a signature; only those with any."""
        return self.replica.signatures.provisional

    def rest(self, quiet_s: float) -> float | None:
        """Nothing has come or gone for `quiet_s` seconds, QUIET_S or more: look what is missing, and sign.

        What that makes is sent by `upload`. Returns how long it has to be quiet for the next call; None
        if there is nothing to do before something happens.
        """
        if self.state is not State.READY:
            return None
        for problem in self.replica.missing():
            self._report(problem)
        unsigned = self.replica.signatures.unsigned(self.replica.client)
        if not unsigned or not self.writer:
            return None
        due_s = rest_s(unsigned)
        if quiet_s < due_s:
            return due_s
        if not self.settled:
            return quiet_s + QUIET_S
        self._keep(self.replica.append_head())
        return None

    def take_problems(self) -> list[Problem]:
        """Those since the last call, for a log; the newest of them if there are very many."""
        news = list(self._news)
        self._news.clear()
        return news

    @property
    def untold(self) -> int:
        """Tombstones that wait for the hub."""
        return len(self._outbox)

    def forget(self, ids: Sequence[str]) -> None:
        """Forget events here, in the document, and everywhere.

        The event log and the journal do not hold them any more on return (a reader's journal does;
        and the event log as its `forget` says). The rest follows with `upload`, on this connection
        or the next.
        """
        tombstones = [self.replica.tombstone_key.of(one) for one in dict.fromkeys(ids)]
        self._outbox.put(tombstones)
        self._forget(tombstones)
        self._tidy(everywhere=True)
        self._compact_if_due()
        self._outbox.settle(self.replica, self._acknowledged[0])

    def hello(self) -> list[bytes]:
        """Begin a connection: the frames to send first."""
        self.state = State.GREETING
        self._hub, self._made = HubView(), []
        self.roster_length = 0
        return [self._hello()]

    def disconnect(self, code: int | None = None) -> None:
        """The connection is gone; `code` is what the hub closed it with, if it did.

        Told that another connection took over, this device takes a new client id: somebody else
        holds ours. Two copies of one machine would else replace each other for ever, as long as
        neither has anything to say: their clocks and heads are equal, so no comparison tells.
        """
        self.state = State.OFFLINE
        if code == Close.REPLACED:
            self._reincarnate(0)

    def receive(self, data: bytes) -> list[bytes]:
        """Take one frame from the hub; the frames to answer.

        Raises FrameError and UpdateError for what no honest hub sends, GapError when a new
        connection will help, RefusedError when the hub said no. Close the connection on any.
        """
        frame = decode_frame(data)
        match frame, self.state:
            case Refusal(code, permanent, reason), _:
                raise RefusedError(code, permanent, reason)
            case Notice(kind, value), State.GREETING | State.SYNCING | State.READY:
                if kind == ROSTER_NOTICE:
                    self.roster_length = value
                return []
            case Welcome(), State.GREETING:
                return self._welcomed(frame)
            case Step1(vector), State.SYNCING | State.READY:
                return self._answer(vector)
            case Step2(update), State.SYNCING | State.READY:
                self._integrate(update)
                return self._ready() if self.state is State.SYNCING else []
            case Update(update), State.SYNCING:
                return self._more(update)
            case Update(update), State.READY:
                self._integrate(update)
                return []
            case Ack(client, clock), State.SYNCING | State.READY:
                self._confirmed(client, clock)
                return []
            case _:
                raise FrameError(f"a {type(frame).__name__} while {self.state.value}")

    def upload(self) -> list[bytes]:
        """Seal what is new in the event log, if it may be sent now: frames to send.

        Call it again after each acknowledgement and each new event, until it returns nothing.
        """
        if self.state is not State.READY or not self.writer:
            return []
        if not self._made and self.unacknowledged < UNACKNOWLEDGED_MAX:
            while self._seal():
                pass
        made, self._made = self._made, []
        return [encode_frame(Update(update)) for update in made]

    def _seal(self) -> bool:
        """A batch of what is in no batch yet, if there is anything; whether to look further."""
        events = whole_sequences(self._log.own_events(self._watermark, BATCH_EVENTS_MAX + 1))
        tombstones = self._outbox.unsealed(self.replica)[:BATCH_TOMBSTONES_MAX]
        if events:
            self._watermark = events[-1].sequence
        fresh = [event for event in events if event.id not in self._present]
        self._present.difference_update(event.id for event in events)
        if fresh or tombstones:
            self._keep(self.replica.append(fresh, tombstones))
            evicted = self.replica.evict(self._array_bytes_max)
            if evicted is not None:
                self._keep(evicted)
            self._compact_if_due()
        elif events:
            self._journal.save(None, self._watermark, self._log.position)
            return True
        return False

    def _load(self, saved: Saved) -> Replica | None:
        """The replica of what was saved; None if a new incarnation must take its place.

        So it is when the event log is older than the journal and lacks what that took for kept, and
        when the journal holds what is no document.
        """
        if saved.position > self._log.position:
            return None
        try:
            signatures = Signatures(self.pool, self._log.device, self._authorship)
            return Replica(self.pool, self._log.device, saved.client, saved.updates, signatures)
        except (UpdateError, MergeError):
            return None

    def _hello(self) -> bytes:
        return encode_frame(Hello(PROTOCOL, CAPABILITIES, self.replica.device, self.replica.client))

    def _welcomed(self, welcome: Welcome) -> list[bytes]:
        self.writer = welcome.writer and not self._reader
        if welcome.client != self.replica.client:
            if welcome.client == 0 or welcome.clock != 0:
                raise FrameError("a new client id that is in use")
            self._reincarnate(welcome.client)
        if not self._continues(welcome):
            self._reincarnate(0)
            return [self._hello()]
        self.state = State.SYNCING
        return []

    def _continues(self, welcome: Welcome) -> bool:
        """Whether the hub's newest batch of our client id is one that we wrote."""
        if welcome.clock > self.replica.clock:
            return False
        if not welcome.head:  # others deleted it: only its place can be compared
            return self._acknowledged[0] == welcome.clock
        known = self.replica.head_before(welcome.clock)
        if known is None and self._acknowledged[0] == welcome.clock:
            known = self._acknowledged[1]
        return known == welcome.head

    def _reincarnate(self, client: int) -> None:
        self._journal.reset(client)
        self._watermark, self._acknowledged = 0, (0, b"")
        self._present.clear()
        self._stale.clear()
        self._stranded.clear()
        self._doubtful.clear()
        self._journalled = 0
        signatures = self.replica.signatures.anew()
        self.replica = Replica(self.pool, self._log.device, client, (), signatures)

    def _answer(self, vector: bytes) -> list[bytes]:
        """The hub says what it has. While SYNCING, ask first for what it has beyond us."""
        hub = decode_state_vector(vector)
        clock = min(hub.get(self.replica.client, 0), self.replica.clock)
        self._confirmed(self.replica.client, clock)
        if self.state is State.SYNCING:
            self._hub = HubView(vector, hub)
            return [encode_frame(Step1(self.replica.state_vector()))]
        return self._lacking(vector)

    def _lacking(self, vector: bytes, deletes: Ranges | None = None) -> list[bytes]:
        """What a hub with this state vector lacks of what was made here."""
        parts = self.replica.own_part(vector, deletes or {}) if self.writer else []
        return [encode_frame(Update(part)) for part in parts]

    def _ready(self) -> list[bytes]:
        """All that the hub has is here: mend what does not go with it, and send what it lacks."""
        self.state = State.READY
        if not self.writer:
            return []
        self._tidy(everywhere=True)
        self._compact_if_due()
        self._made = []  # it is in what follows
        deletes = self._hub.untold_deletes(self.replica)
        if any(client in deletes for client, _ in self.replica.segments.stranded):
            # We deleted a part of a segment that went on, and cannot open the rest: begin again.
            self._reincarnate(0)
            raise GapError("a segment that was deleted here has gone on")
        doubtful, self._doubtful = self._doubtful, []
        for problem in doubtful:
            if self.replica.segments.get(problem.client, problem.clock):
                self._report(problem)
        return self._lacking(self._hub.vector, deletes)

    def _more(self, update: bytes) -> list[bytes]:
        """A part of what the hub has: ask for what follows it."""
        before = self.replica.state_vector()
        self._integrate(update)
        vector = self.replica.state_vector()
        if vector == before:
            raise FrameError("a part of what we lack that brings nothing")
        return [encode_frame(Step1(vector))]

    def _integrate(self, update: bytes) -> None:
        result = self.replica.integrate(update)
        if self.state is State.SYNCING:
            self._hub.note(decode_update(update))
        self._forget(result.tombstones)
        if result.events:
            self._log.insert(result.events)
        if update != NOTHING:
            self._journal.save(update, self._watermark, self._log.position)
            self._journalled += 1
        self._take_in(result)
        if self.state is State.READY:
            self._tidy(everywhere=False)
        self._compact_if_due(now=result.forgotten)

    def _forget(self, tombstones: Sequence[bytes]) -> None:
        """Let the event log forget what these stand for, and find it in the document."""
        if tombstones:
            self._log.forget(tombstones, self.replica.tombstone_key)
            self._stale |= self.replica.segments.holding(set(tombstones))
            self._due = True  # also what is deleted may still be in the journal

    def _tidy(self, *, everywhere: bool) -> None:
        """Take out of the document what was forgotten, and mend what nobody new could open.

        Unless it is to be done `everywhere`, in the own array alone: its owner is the first to.
        """
        replica = self.replica
        if not self.writer or not replica.client:
            return
        found = [replica.segments.segment_of(*place) for place in self._stale]
        self._stale = {segment.id for segment in found if segment is not None}
        mine = replica.ledger.clients_of(replica.device)
        # What cannot be opened here is left to its owner: more than what is forgotten may be in it.
        due = [one for one in found if one and one.opened and (everywhere or one.client in mine)]
        stranded = {
            place: self._stranded[place]
            for place in replica.segments.stranded & self._stranded.keys()
        }
        self._stranded.clear()
        if stranded:
            gone = {client: [(clock, 1)] for client, clock in stranded}
            for client, clock in stranded:
                gone[client].append((clock, 1))
            self._keep(replica.move(gone, stranded.values(), self._wanted))
        if due:
            for update in replica.trim(due, self._wanted, self._outbox.unsealed(replica)):
                self._keep(update)
            self._stale -= {one.id for one in due}
            self._due = True

    def _wanted(self, event: Event) -> bool:
        return not self._log.forgets(event.id)

    def _keep(self, update: bytes) -> None:
        """Journal an update that was made here; it is sent by `upload`."""
        self._journal.save(update, self._watermark, self._log.position)
        self._journalled += 1
        if self.state is State.READY:  # else it goes with what the hub lacks
            self._made.append(update)

    def _compact_if_due(self, *, now: bool = False) -> None:
        self._due |= now
        if self._stranded and self.writer:
            return  # it can be read after a crash only if what it builds on is kept
        if self.replica.signatures.forgot(self.replica.client) and self.writer:
            if self.state is not State.READY:
                return  # what was signed is known after a crash only if that head is kept…
            self._keep(self.replica.append_head())  # …or another one
        if self._due or self._journalled >= JOURNAL_UPDATES_MAX:
            self._compact()

    def _compact(self) -> None:
        self._journal.compact(self.replica.export())
        self._journalled, self._due = 1, False

    def _take_in(self, result: Integrated) -> None:
        """Follow what came: problems, what is known of own events, and what is not to be there."""
        segments = self.replica.segments
        for problem in result.problems:
            if (problem.client, problem.clock) in segments.stranded:
                self._doubtful.append(problem)  # `_ready` knows
            elif segments.get(problem.client, problem.clock):  # else it is deleted again
                self._report(problem)
        self._present.update(
            event.id
            for event in result.events
            if event.device == self._log.device and event.sequence > self._watermark
        )
        self._stranded |= result.stranded
        forgotten = {
            self.replica.tombstone_key.of(event.id)
            for event in result.events
            if self._log.forgets(event.id)
        }
        if forgotten:
            self._stale |= self.replica.segments.holding(forgotten)
        self._outbox.settle(self.replica, self._acknowledged[0])

    def _report(self, problem: Problem) -> None:
        clock = (
            -1 if problem.kind == "refused" else problem.clock
        )  # its batches are all one problem
        once = (problem.kind, problem.device, problem.client, clock)
        if once in self._reported:
            return
        if problem.kind != "unopened":  # those are counted again when another document is read
            self._reported.add(once)
        self.problems.append(problem)
        self._news.append(problem)
        self.troubles += 1
        self.unreadable += problem.kind == "unopened"

    def _confirmed(self, client: int, clock: int) -> None:
        if client != self.replica.client or clock > self.replica.clock:
            raise FrameError("an acknowledgement of what was never sent")
        if clock > self._acknowledged[0]:
            self._acknowledged = (clock, self.replica.head_before(clock) or b"")
            self._journal.acknowledge(*self._acknowledged)
            self._outbox.settle(self.replica, self._acknowledged[0])
