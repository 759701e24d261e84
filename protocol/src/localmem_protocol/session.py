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

The hub may have been restored as well (`restored`). READY begins with a comparison of all that both
have. What the hub lost of ours it gets again. If it lost, or has otherwise, what another device wrote,
that is put into our array first, and then our document is begun anew from the hub's.

An answer of the hub is bounded. While there is more it comes as Update, and SYNCING asks again for
what follows; the last one is Step2. Until then the hub broadcasts nothing to this connection.

Nothing is sent before READY, since what the hub has may change what is to be said: a segment of ours
that was deleted meanwhile is not to be continued. From then on new events go when `batching` says so,
by who would see them (`pending`); whatever else there is to say goes at once.

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
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from localmem_protocol.batching import EAGER, Batching
from localmem_protocol.durable import EventLog as EventLog
from localmem_protocol.durable import Journal as Journal
from localmem_protocol.durable import Saved as Saved
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import (
    FrameError,
    GapError,
    HistoryError,
    MergeError,
    RefusedError,
    RestoredError,
    UpdateError,
)
from localmem_protocol.events import Event
from localmem_protocol.fetching import Fetcher
from localmem_protocol.frames import (
    CAPABILITIES,
    NOTICES,
    PROTOCOL,
    ROSTER_NOTICE,
    Ack,
    Close,
    Held,
    Hello,
    Notice,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    check_capabilities,
    decode_frame,
    encode_frame,
)
from localmem_protocol.hub_view import NO_CLOCKS, HubView
from localmem_protocol.limits import BATCH_TOMBSTONES_MAX
from localmem_protocol.outbox import Outbox
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Parcel
from localmem_protocol.pending import Pending
from localmem_protocol.presence import WAITING, WAITING_S
from localmem_protocol.references import Texts
from localmem_protocol.replica import Content, Integrated, Replica
from localmem_protocol.reported import Reported
from localmem_protocol.restored import Difference, compare, lacking, rescued, sendable
from localmem_protocol.signatures import QUIET_S, Authorship, Problem, Signatures, rest_s
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
        batching: Batching = EAGER,
        padding: Padding = Padding.NONE,
        texts: Texts | None = None,
    ) -> None:
        """With `reader` nothing is ever sent, whatever the hub says: others may have the key by now.

        Without `texts` no references are sent, and the texts of others' are asked for.
        """
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
        self._padding = padding
        self._asking = False  # the others are to be asked for what is new
        self._hub_asks = False  # the hub can do that
        self._fetcher = Fetcher(log, journal, texts)
        self._news: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self._reported = Reported()
        saved = journal.load()
        replica = self._load(saved)
        if replica is None:
            journal.reset(0)
            signatures = self._signatures(saved)
            saved = Saved(outbox=saved.outbox, marks=saved.marks)
            replica = self._replica(signatures, marks=saved.marks)
        self._pending = Pending(log, batching, saved.watermark, replica.tombstone_key)
        self._acknowledged = saved.acknowledged
        self._outbox = Outbox(journal, saved.outbox)
        self._stale: set[Id] = set()  # segments that hold what was forgotten
        self._urgent = False  # …and nobody else may know of
        self._stranded: dict[Id, Parcel] = {}  # what nobody new could open, with what it holds
        self._doubtful: list[Problem] = []  # of batches that may turn out to be stranded by us
        self._hub = HubView()
        self._made: list[bytes] = []  # updates that were made here, to be sent
        self._leaving = False  # begin anew as soon as the hub has what is ours
        self._carried: list[Parcel] = []  # of a document that a restored hub cannot go on with
        self._greeting_again = False  # one Step1 is still to come for the greeting before
        self._refilled = 0  # what it had confirmed before it was restored
        self.replica = replica
        self._journalled = len(saved.updates)
        self._due = replica.loaded.forgotten  # the journal may hold what is forgotten
        log.honour(replica.tombstone_key)
        self._fetcher.begin(replica)
        self._find(replica.loaded.events)  # while the log has what may be forgotten in a moment
        # A crash may have come between the outbox and the log; and an older log been put back.
        self._forget([*saved.outbox, *replica.loaded.tombstones])
        self._keep_heads()
        self._take_in(replica.loaded)
        if saved.outbox:
            self._tidy(everywhere=True)
        self._due = self._due and self._journalled > 1
        self._compact_if_due()

    @property
    def unacknowledged(self) -> int:
        """Own batches that the hub has not confirmed."""
        return max(0, self.replica.clock - self._acknowledged[0])

    @property
    def under_way(self) -> int:
        """The same without those that a hub had confirmed before it was restored from a backup."""
        return max(0, self.replica.clock - max(self._acknowledged[0], self._refilled))

    def unsent(self) -> bool:
        """Whether the event log has own events that are in no batch yet."""
        return bool(self._pending)

    @property
    def due_s(self) -> float | None:
        """When to call `upload` again though nothing happens; None if there is no need to."""
        ready = self.state is State.READY and self.writer
        return self._pending.due_s if ready and self.unacknowledged < UNACKNOWLEDGED_MAX else None

    @property
    def gathered(self) -> int:
        """Own events that wait for more to go with, as many as were there when it was looked last."""
        return 0 if self.due_s is None else self._pending.gathered

    @property
    def settled(self) -> bool:
        """Connected, everything received, everything of ours confirmed that the hub would take."""
        if self.state is not State.READY or self._leaving:
            return False
        if not self.writer:
            return True
        if self._fetcher.due(self.replica):
            return False
        return not (self.unacknowledged or self._made or self._outbox or self.unsent())

    @property
    def texts_waiting(self) -> int:
        """References whose text is not here, and is in no checkout that was looked into."""
        return len(self.replica.referenced.waiting)

    @property
    def provisional(self) -> dict[str, int]:
        """How many batches of each device are not yet covered by a signature; only those with any."""
        return self.replica.signatures.provisional

    def rest(self, quiet_s: float) -> float | None:
        """Nothing has come or gone for `quiet_s` seconds, QUIET_S or more: look what is missing, and sign.

        What that makes is sent by `upload`. Returns how long it has to be quiet for the next call; None
        if there is nothing to do before something happens.
        """
        if self.state is not State.READY or self._leaving:
            return None
        for problem in self.replica.missing():
            self._report(problem)
        self._find()
        again_s = self._fetcher.rest(self.replica, quiet_s)
        unsigned = self.replica.signatures.unsigned(self.replica.client)
        if not unsigned or not self.writer:
            return again_s
        due_s = rest_s(unsigned)
        if quiet_s < due_s:
            return min(due_s, again_s or due_s)
        if not self.settled:
            return quiet_s + QUIET_S
        self._keep(self.replica.append_head())
        return again_s

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
        self._find(elsewhere=False)
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
        self._leaving = self._greeting_again = False
        self.roster_length = 0
        self._pending.connected()
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
        connection will help, RefusedError when the hub said no, CapabilityError for a hub that
        cannot do what is needed. Close the connection on any.
        """
        frame = decode_frame(data)
        match frame, self.state:
            case Refusal(code, permanent, reason), _:
                raise RefusedError(code, permanent, reason)
            case Notice(kind, value), State.GREETING | State.SYNCING | State.READY:
                if kind == ROSTER_NOTICE:
                    self.roster_length = value
                self._pending.heard(frame)
                return []
            case Welcome(), State.GREETING:
                return self._welcomed(frame)
            case Step1(), State.GREETING if self._greeting_again:
                self._greeting_again = False  # it came with the first Welcome
                return []
            case Step1(vector), State.SYNCING | State.READY:
                return self._answer(vector)
            case Held(accounts), State.SYNCING | State.READY:
                self._hub.held = {client: (clock, digest) for client, clock, digest in accounts}
                return []
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

    def hurry(self, *, ask: bool = False) -> None:
        """Let nothing wait for a while; with `ask` somebody here waits for what others have, too."""
        self._pending.hurry(WAITING_S)
        self._asking = self._asking or ask

    def upload(self, now_s: float = 0.0) -> list[bytes]:
        """Seal what is new in the event log, if it may and should be sent now: frames to send.

        `now_s` is of a clock that never goes back. Call it again after each acknowledgement, each frame
        and each new event, until it returns nothing, and then at `due_s`.
        """
        if self.state is not State.READY:
            return []
        asks, self._asking = self._asking and self._hub_asks and not self._pending.alone, False
        said = [encode_frame(Notice(WAITING, WAITING_S))] if asks else []
        if (
            self.writer
            and not (self._made or self._leaving)
            and self.unacknowledged < UNACKNOWLEDGED_MAX
        ):
            while self._seal(now_s):
                pass
            if not self._made and (parcel := self._fetcher.next(self.replica)) is not None:
                self._append(parcel, {})
        made, self._made = self._made, []
        return [*said, *(encode_frame(Update(update)) for update in made)]

    def _seal(self, now_s: float) -> bool:
        """A batch of what is in no batch yet, if it is time for one; whether to look further."""
        tombstones = self._outbox.unsealed(self.replica)[:BATCH_TOMBSTONES_MAX]
        events, fresh = self._pending.take(now_s, at_once=bool(tombstones))
        if fresh or tombstones:
            self._append(*self._fetcher.parcel(self.replica, fresh, tombstones))
        elif events:
            self._journal.save(None, self._pending.watermark, self._log.position)
            return True
        return False

    def _append(self, parcel: Parcel, marks: Mapping[bytes, bytes]) -> None:
        self._keep(self.replica.append_parcel(parcel, marks))
        evicted = self.replica.evict(self._array_bytes_max)
        if evicted is not None:
            self._keep(evicted)
        self._compact_if_due()

    def _load(self, saved: Saved) -> Replica | None:
        """The replica of what was saved; None if a new incarnation must take its place.

        So it is when the event log is older than the journal and lacks what that took for kept, and
        when the journal holds what is no document.
        """
        if saved.position > self._log.position:
            return None
        try:
            signatures = self._signatures(saved)
            return self._replica(signatures, saved.client, saved.updates, saved.marks)
        except (UpdateError, MergeError):
            return None

    def _signatures(self, saved: Saved) -> Signatures:
        kept = saved.heads.values()
        return Signatures(self.pool, self._log.device, self._authorship, kept)

    def _replica(
        self,
        signatures: Signatures,
        client: int = 0,
        updates: Sequence[bytes] = (),
        marks: Mapping[bytes, bytes] | None = None,
    ) -> Replica:
        device, padding = self._log.device, self._padding
        return Replica(self.pool, device, client, updates, signatures, padding, marks)

    def _hello(self) -> bytes:
        return encode_frame(Hello(PROTOCOL, CAPABILITIES, self.replica.device, self.replica.client))

    def _welcomed(self, welcome: Welcome) -> list[bytes]:
        check_capabilities("this hub", welcome.capabilities)
        self.writer = welcome.writer and not self._reader
        self._hub_asks = NOTICES in welcome.capabilities
        if welcome.client != self.replica.client:
            if welcome.client == 0 or welcome.clock != 0:
                raise FrameError("a new client id that is in use")
            if self._acknowledged[0]:
                self._carry()
            self._reincarnate(welcome.client)
        if not self._continues(welcome):
            if welcome.clock < self._acknowledged[0]:
                self._carry()
            self._reincarnate(0)
            self._greeting_again = True
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

    def _carry(self) -> None:
        """The hub lost some of what it had, and cannot go on with what is here: keep that till `_ready`."""
        if self.writer:
            self._carried = self.replica.parcels_beyond(dict.fromkeys(self.replica.ledger, 0))

    def _put_back(self) -> None:
        """Append what was carried over and is not there."""
        carried, self._carried = self._carried, []
        parcels = lacking(self.replica, carried, {})
        if parcels and self.writer:
            self._keep(self.replica.move({}, parcels, self._wanted))
            self._pending.note(event for one in parcels for event in one.events)

    def _reincarnate(self, client: int) -> None:
        # The hub may have lost those that it had: what the new document holds is not told again.
        if self.writer and (tombstones := self.replica.segments.all_tombstones):
            self._outbox.put(tombstones)
        self._leaving, self._refilled = False, 0
        self._journal.reset(client)
        self._acknowledged = (0, b"")
        self._pending.begin()
        self._stale.clear()
        self._stranded.clear()
        self._doubtful.clear()
        self._journalled = 0
        before = self.replica
        self.replica = self._replica(self.replica.signatures.anew(), client)
        self._fetcher.begin_anew(self.replica, before)

    def _answer(self, vector: bytes) -> list[bytes]:
        """The hub says what it has. While SYNCING, ask first for what it has beyond us."""
        hub = decode_state_vector(vector)
        clock = min(hub.get(self.replica.client, 0), self.replica.clock)
        if self.state is State.SYNCING:
            if clock < self._acknowledged[0]:  # it had more, and was restored from a backup
                self._refilled = max(self._refilled, self._acknowledged[0])
                self._acknowledge(clock)
            mine = self.replica.state_vector()
            self._hub = HubView(vector, hub, fresh=mine == NO_CLOCKS)
            self._confirmed(self.replica.client, clock)
            return [encode_frame(Step1(mine))]
        self._confirmed(self.replica.client, clock)
        return self._lacking(vector)

    def _lacking(self, vector: bytes, deletes: Ranges | None = None) -> list[bytes]:
        """What a hub with this state vector lacks of what was made here."""
        parts = self.replica.own_part(vector, deletes or {}) if self.writer else []
        return [encode_frame(Update(part)) for part in parts]

    def _ready(self) -> list[bytes]:
        """All that the hub has is here: mend what does not go with it, and send what it lacks."""
        self.state = State.READY
        self._look_back()
        difference = compare(self.replica, self._hub)
        if difference and not self._hub.fresh:  # a hub that contradicts itself would go on for ever
            return self._save(difference)
        self._pending.hurry()
        self._put_back()
        doubtful, self._doubtful = self._doubtful, []
        if not self.writer:
            return []
        self._fetcher.connected(self.replica)
        self._tidy(everywhere=True)
        self._compact_if_due()
        self._made = []  # it is in what follows
        deletes = self._hub.untold_deletes(self.replica)
        if any(client in deletes for client, _ in self.replica.segments.stranded):
            # We deleted a part of a segment that went on, and cannot open the rest: begin again.
            self._reincarnate(0)
            raise GapError("a segment that was deleted here has gone on")
        for problem in doubtful:
            if self.replica.segments.get(problem.client, problem.clock):
                self._report(problem)
        return self._lacking(self._hub.vector, deletes)

    def _look_back(self) -> None:
        """Hold what the hub shows against what it had. What is said stays said until it is mended."""
        confirmed = max(self._acknowledged[0], self._refilled)
        problems = self.replica.behind(self._hub.clocks, confirmed)
        self._reported.stand(problems)
        for problem in problems:
            self._report(problem)

    def _save(self, difference: Difference) -> list[bytes]:
        """Put what the hub lost of others into the own array, and begin anew once it has that."""
        if not self.writer or self.replica.client in difference.other:
            self._carry()
            self._begin_anew()
        if parcels := rescued(self.replica, difference):
            self._keep(self.replica.move({}, parcels, self._wanted))
        self._made = []  # it is in what follows
        self._leaving = True
        clients = sendable(self.replica, difference)
        parts = self.replica.own_part(self._hub.vector, {}, clients)
        if not parts:
            self._begin_anew()
        return [encode_frame(Update(part)) for part in parts]

    def _begin_anew(self) -> None:
        """Raises RestoredError."""
        self._reincarnate(0)
        raise RestoredError("the hub was restored from a backup; greet it anew")

    def _more(self, update: bytes) -> list[bytes]:
        """A part of what the hub has: ask for what follows it."""
        before = self.replica.state_vector()
        self._integrate(update)
        vector = self.replica.state_vector()
        if vector == before:
            raise FrameError("a part of what we lack that brings nothing")
        return [encode_frame(Step1(vector))]

    def _integrate(self, update: bytes) -> None:
        try:
            result = self.replica.integrate(update)
        except HistoryError:
            for problem in self.replica.changed(decode_update(update)):
                self._report(problem)
            if not self._hub.fresh:
                self._carry()
                self._begin_anew()
            raise
        if self.state is State.SYNCING:
            self._hub.note(decode_update(update))
        # Before what is forgotten leaves the log: a reference may stand for it.
        found = self._fetcher.find(self.replica, result.references, result.events)
        self._forget(result.tombstones)
        if result.events or found.fresh:
            self._log.insert([*result.events, *found.fresh])
        self._fetcher.keep(found)
        self._fetcher.hear(result.wants)
        if update != NOTHING:
            self._journal.save(update, self._pending.watermark, self._log.position)
            self._journalled += 1
        self._keep_heads()
        self._take_in(result, found.events)
        if self.state is State.READY:
            self._tidy(everywhere=self._urgent)
        self._compact_if_due(now=result.forgotten)

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
            self._fetcher.bury(self.replica, tombstones, gone)
            self._stale |= self.replica.segments.holding(set(tombstones))
            self._due = True  # also what is deleted may still be in the journal

    def _tidy(self, *, everywhere: bool) -> None:
        """Take out of the document what was forgotten, and mend what nobody new could open.

        Unless it is to be done `everywhere`, in the own array alone: its owner is the first to.
        """
        replica = self.replica
        if not self.writer or not replica.client or self._leaving:
            return
        found = [replica.segments.segment_of(*place) for place in self._stale]
        self._due |= None in found  # its owner took it out, and the journal may hold it
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
        self._urgent = self._urgent and not everywhere

    def _wanted(self, held: Content) -> bool:
        return self._fetcher.keeps(self.replica, held)

    def _find(self, answers: Sequence[Event] = (), *, elsewhere: bool = True) -> None:
        """Look again for the texts of references that wait for them."""
        waiting = [*self.replica.referenced.waiting.values()]
        found = self._fetcher.find(self.replica, waiting, answers, elsewhere=elsewhere)
        if found.fresh:
            self._log.insert(found.fresh)
        self._fetcher.keep(found)
        if found.events:
            self._take_in(Integrated(), found.events)

    def _keep(self, update: bytes) -> None:
        """Journal an update that was made here; it is sent by `upload`."""
        self._journal.save(update, self._pending.watermark, self._log.position)
        self._journalled += 1
        if self.state is State.READY:  # else it goes with what the hub lacks
            self._made.append(update)

    def _compact_if_due(self, *, now: bool = False) -> None:
        self._due |= now
        if self._stranded and self.writer:
            return  # it can be read after a crash only if what it builds on is kept
        signatures = self.replica.signatures
        if self.writer and signatures.signs and signatures.forgot(self.replica.client):
            if self.state is not State.READY:
                return  # what was signed is known after a crash only if that head is kept…
            self._keep(self.replica.append_head())  # …or another one
        if self._due or self._journalled >= JOURNAL_UPDATES_MAX:
            self._compact()

    def _compact(self) -> None:
        self._journal.compact(self.replica.export())
        self._fetcher.compacted(self.replica)
        self._journalled, self._due = 1, False

    def _take_in(self, result: Integrated, found: Sequence[Event] = ()) -> None:
        """Follow what came: problems, what is known of own events, and what is not to be there.

        `found` are the events of references whose text was found now.
        """
        segments = self.replica.segments
        for problem in result.problems:
            if (problem.client, problem.clock) in segments.stranded:
                self._doubtful.append(problem)  # `_ready` knows
            elif segments.get(problem.client, problem.clock):  # else it is deleted again
                self._report(problem)
        self._pending.note([*result.events, *found])
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
        self._outbox.settle(self.replica, self._acknowledged[0])

    def _take_in_references(self, result: Integrated) -> set[bytes]:
        """The same for references that came; the marks of those that are not to be there."""
        forgotten: set[bytes] = set()
        for reference in result.references:
            mark = self.replica.referenced.mark(self.replica.referenced.name(reference))
            if mark is None:
                continue
            self._pending.refer(reference, mark)
            if self._log.forgets_mark(mark, self.replica.tombstone_key):
                forgotten.add(mark)
        return forgotten

    def _report(self, problem: Problem) -> None:
        if not self._reported.is_news(problem):
            return
        self.problems.append(problem)
        self._news.append(problem)
        self.troubles += 1
        self.unreadable += problem.kind == "unopened"

    def _confirmed(self, client: int, clock: int) -> None:
        if client != self.replica.client or clock > self.replica.clock:
            raise FrameError("an acknowledgement of what was never sent")
        if clock > self._acknowledged[0]:
            self._acknowledge(clock)
            self._outbox.settle(self.replica, self._acknowledged[0])
        if self._leaving and not self.unacknowledged:
            self._begin_anew()

    def _acknowledge(self, clock: int) -> None:
        self._acknowledged = (clock, self.replica.head_before(clock) or b"")
        if clock >= self._refilled:  # a crash changes nothing in what is to be refilled
            self._journal.acknowledge(*self._acknowledged)
