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

What is on disk, and in which order, is decided by the document that a session has (`kept_document`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    RefusedError,
    RestoredError,
)
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
from localmem_protocol.kept_document import KeptDocument
from localmem_protocol.limits import BATCH_TOMBSTONES_MAX
from localmem_protocol.padding import Padding
from localmem_protocol.parcels import Parcel
from localmem_protocol.presence import WAITING, WAITING_S
from localmem_protocol.references import Texts
from localmem_protocol.replica import Replica
from localmem_protocol.reported import Reported
from localmem_protocol.restored import Difference, compare, lacking, rescued, sendable
from localmem_protocol.signatures import QUIET_S, Authorship, rest_s
from localmem_protocol.updates import (
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

    `roster_length` is how long the pool's roster is, as the hub told on this connection (0: it did not).
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
        self.roster_length = 0
        self._reader = reader
        self._array_bytes_max = array_bytes_max
        self._asking = False  # the others are to be asked for what is new
        self._hub_asks = False  # the hub can do that
        self._hub = HubView()
        self._carried: list[Parcel] = []  # of a document that a restored hub cannot go on with
        self._greeting_again = False  # one Step1 is still to come for the greeting before
        self._document = KeptDocument(
            pool,
            log,
            journal,
            writer=not reader,
            authorship=authorship,
            batching=batching,
            padding=padding,
            texts=texts,
        )

    @property
    def replica(self) -> Replica:
        """The document."""
        return self._document.replica

    @property
    def reported(self) -> Reported:
        """What was wrong with what came."""
        return self._document.reported

    @property
    def writer(self) -> bool:
        """Whether the hub takes updates, as it said last."""
        return self._document.writer

    @property
    def unacknowledged(self) -> int:
        """Own batches that the hub has not confirmed."""
        return self._document.unacknowledged

    @property
    def under_way(self) -> int:
        """The same without those that a hub had confirmed before it was restored from a backup."""
        return max(
            0, self.replica.clock - max(self._document.acknowledged[0], self._document.refilled)
        )

    def unsent(self) -> bool:
        """Whether the event log has own events that are in no batch yet."""
        return bool(self._document.pending)

    @property
    def due_s(self) -> float | None:
        """When to call `upload` again though nothing happens; None if there is no need to."""
        ready = self.state is State.READY and self.writer
        return (
            self._document.pending.due_s
            if ready and self.unacknowledged < UNACKNOWLEDGED_MAX
            else None
        )

    @property
    def gathered(self) -> int:
        """Own events that wait for more to go with, as many as were there when it was looked last."""
        return 0 if self.due_s is None else self._document.pending.gathered

    @property
    def settled(self) -> bool:
        """Connected, everything received, everything of ours confirmed that the hub would take."""
        if self.state is not State.READY or self._document.leaving:
            return False
        if not self.writer:
            return True
        if self._document.fetcher.due(self.replica):
            return False
        return not (
            self.unacknowledged or self._document.made or self._document.outbox or self.unsent()
        )

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
        if self.state is not State.READY or self._document.leaving:
            return None
        for problem in self.replica.missing():
            self.reported.report(problem)
        self._document.find()
        again_s = self._document.fetcher.rest(self.replica, quiet_s)
        unsigned = self.replica.signatures.unsigned(self.replica.client)
        if not unsigned or not self.writer:
            return again_s
        due_s = rest_s(unsigned)
        if quiet_s < due_s:
            return min(due_s, again_s or due_s)
        if not self.settled:
            return quiet_s + QUIET_S
        self._document.keep(self.replica.append_head())
        return again_s

    @property
    def untold(self) -> int:
        """Tombstones that wait for the hub."""
        return len(self._document.outbox)

    def forget(self, ids: Sequence[str]) -> None:
        """Forget events here, in the document, and everywhere.

        The event log and the journal do not hold them any more on return (a reader's journal does;
        and the event log as its `forget` says). The rest follows with `upload`, on this connection
        or the next.
        """
        self._document.forget(ids)

    def hello(self) -> list[bytes]:
        """Begin a connection: the frames to send first."""
        self._enter(State.GREETING)
        self._hub, self._greeting_again = HubView(), False
        self._document.made, self._document.leaving = [], False
        self.roster_length = 0
        self._document.pending.connected()
        return [self._hello()]

    def disconnect(self, code: int | None = None) -> None:
        """The connection is gone; `code` is what the hub closed it with, if it did.

        Told that another connection took over, this device takes a new client id: somebody else
        holds ours. Two copies of one machine would else replace each other for ever, as long as
        neither has anything to say: their clocks and heads are equal, so no comparison tells.
        """
        self._enter(State.OFFLINE)
        if code == Close.REPLACED:
            self._document.begin_anew(0)

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
                self._document.pending.heard(frame)
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
        self._document.pending.hurry(WAITING_S)
        self._asking = self._asking or ask

    def upload(self, now_s: float = 0.0) -> list[bytes]:
        """Seal what is new in the event log, if it may and should be sent now: frames to send.

        `now_s` is of a clock that never goes back. Call it again after each acknowledgement, each frame
        and each new event, until it returns nothing, and then at `due_s`.
        """
        if self.state is not State.READY:
            return []
        asks, self._asking = (
            self._asking and self._hub_asks and not self._document.pending.alone,
            False,
        )
        said = [encode_frame(Notice(WAITING, WAITING_S))] if asks else []
        if (
            self.writer
            and not (self._document.made or self._document.leaving)
            and self.unacknowledged < UNACKNOWLEDGED_MAX
        ):
            while self._seal(now_s):
                pass
            if (
                not self._document.made
                and (parcel := self._document.fetcher.next(self.replica)) is not None
            ):
                self._document.append(parcel, {}, self._array_bytes_max)
        made, self._document.made = self._document.made, []
        return [*said, *(encode_frame(Update(update)) for update in made)]

    def _seal(self, now_s: float) -> bool:
        """A batch of what is in no batch yet, if it is time for one; whether to look further."""
        tombstones = self._document.outbox.unsealed(self.replica)[:BATCH_TOMBSTONES_MAX]
        events, fresh = self._document.pending.take(now_s, at_once=bool(tombstones))
        if fresh or tombstones:
            parcel, marks = self._document.fetcher.parcel(self.replica, fresh, tombstones)
            self._document.append(parcel, marks, self._array_bytes_max)
        elif events:
            self._document.pass_over()
            return True
        return False

    def _enter(self, state: State) -> None:
        self.state = state
        self._document.connected = state is State.READY

    def _hello(self) -> bytes:
        return encode_frame(Hello(PROTOCOL, CAPABILITIES, self.replica.device, self.replica.client))

    def _welcomed(self, welcome: Welcome) -> list[bytes]:
        check_capabilities("this hub", welcome.capabilities)
        self._document.writer = welcome.writer and not self._reader
        self._hub_asks = NOTICES in welcome.capabilities
        if welcome.client != self.replica.client:
            if welcome.client == 0 or welcome.clock != 0:
                raise FrameError("a new client id that is in use")
            if self._document.acknowledged[0]:
                self._carry()
            self._document.begin_anew(welcome.client)
        if not self._continues(welcome):
            if welcome.clock < self._document.acknowledged[0]:
                self._carry()
            self._document.begin_anew(0)
            self._greeting_again = True
            return [self._hello()]
        self._enter(State.SYNCING)
        return []

    def _continues(self, welcome: Welcome) -> bool:
        """Whether the hub's newest batch of our client id is one that we wrote."""
        if welcome.clock > self.replica.clock:
            return False
        if not welcome.head:  # others deleted it: only its place can be compared
            return self._document.acknowledged[0] == welcome.clock
        known = self.replica.head_before(welcome.clock)
        if known is None and self._document.acknowledged[0] == welcome.clock:
            known = self._document.acknowledged[1]
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
            self._document.move(parcels)
            self._document.pending.note(event for one in parcels for event in one.events)

    def _answer(self, vector: bytes) -> list[bytes]:
        """The hub says what it has. While SYNCING, ask first for what it has beyond us."""
        hub = decode_state_vector(vector)
        clock = min(hub.get(self.replica.client, 0), self.replica.clock)
        if self.state is State.SYNCING:
            if (
                clock < self._document.acknowledged[0]
            ):  # it had more, and was restored from a backup
                self._document.refilled = max(
                    self._document.refilled, self._document.acknowledged[0]
                )
                self._document.acknowledge(clock)
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
        self._enter(State.READY)
        self._look_back()
        difference = compare(self.replica, self._hub)
        if difference and not self._hub.fresh:  # a hub that contradicts itself would go on for ever
            return self._save(difference)
        self._document.pending.hurry()
        self._put_back()
        doubtful = self._document.take_doubtful()
        if not self.writer:
            return []
        self._document.fetcher.connected(self.replica)
        self._document.tidy(everywhere=True)
        self._document.compact_if_due()
        self._document.made = []  # it is in what follows
        deletes = self._hub.untold_deletes(self.replica)
        if any(client in deletes for client, _ in self.replica.segments.stranded):
            # We deleted a part of a segment that went on, and cannot open the rest: begin again.
            self._document.begin_anew(0)
            raise GapError("a segment that was deleted here has gone on")
        for problem in doubtful:
            if self.replica.segments.get(problem.client, problem.clock):
                self.reported.report(problem)
        return self._lacking(self._hub.vector, deletes)

    def _look_back(self) -> None:
        """Hold what the hub shows against what it had. What is said stays said until it is mended."""
        confirmed = max(self._document.acknowledged[0], self._document.refilled)
        problems = self.replica.behind(self._hub.clocks, confirmed)
        self.reported.stand(problems)
        for problem in problems:
            self.reported.report(problem)

    def _save(self, difference: Difference) -> list[bytes]:
        """Put what the hub lost of others into the own array, and begin anew once it has that."""
        if not self.writer or self.replica.client in difference.other:
            self._carry()
            self._begin_anew()
        if parcels := rescued(self.replica, difference):
            self._document.move(parcels)
        self._document.made = []  # it is in what follows
        self._document.leaving = True
        clients = sendable(self.replica, difference)
        parts = self.replica.own_part(self._hub.vector, {}, clients)
        if not parts:
            self._begin_anew()
        return [encode_frame(Update(part)) for part in parts]

    def _begin_anew(self) -> None:
        """Raises RestoredError."""
        self._document.begin_anew(0)
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
            self._document.integrate(update)
        except HistoryError:
            for problem in self.replica.changed(decode_update(update)):
                self.reported.report(problem)
            if not self._hub.fresh:
                self._carry()
                self._begin_anew()
            raise
        if self.state is State.SYNCING:
            self._hub.note(decode_update(update))

    def _confirmed(self, client: int, clock: int) -> None:
        if client != self.replica.client or clock > self.replica.clock:
            raise FrameError("an acknowledgement of what was never sent")
        if clock > self._document.acknowledged[0]:
            self._document.acknowledge(clock)
            self._document.settle()
        if self._document.leaving and not self.unacknowledged:
            self._begin_anew()
