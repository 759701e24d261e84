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

An answer of the hub is bounded. While there is more it comes as Update, and SYNCING asks again for
what follows; the last one is Step2. Until then the hub broadcasts nothing to this connection.

A hub may welcome a device as a reader. It then receives everything and sends nothing; its own
events stay in its event log, and its document, until it is welcomed as a writer.

What must be on disk before what is decided here and nowhere else: events of others go to the event
log before the update that brought them is journalled; an own batch is journalled before it is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import FrameError, MergeError, RefusedError, UpdateError
from localmem_protocol.events import Event
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Hello,
    Refusal,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.limits import BATCH_EVENTS_MAX
from localmem_protocol.replica import Integrated, Problem, Replica
from localmem_protocol.updates import NOTHING, decode_state_vector

BATCH_SNIPPET_BYTES_MAX: Final = 256 * 1024
"""Text in one batch; more is split, so that no frame keeps a slow line busy for long."""

UNACKNOWLEDGED_MAX: Final = 16
"""Batches under way before the session waits for the hub's disk."""

JOURNAL_UPDATES_MAX: Final = 256
"""Updates that a journal gathers before they are compacted into one."""

ARRAY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Sealed bytes that a device keeps in its own array; older segments are evicted."""


PROBLEMS_MAX: Final = 64
"""Batches that did not open, kept for a look; all are counted."""


class EventLog(Protocol):
    """Where events are kept for good (the node's ring)."""

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        ...

    @property
    def position(self) -> int:
        """How many events were ever kept here; never less, unless an older copy was restored."""
        ...

    def insert(self, events: Sequence[Event]) -> object:
        """Keep events from elsewhere, durably; those that are there already are left out."""
        ...

    def own_events(self, after: int, limit: int) -> list[Event]:
        """This device's events with a sequence above `after`, ascending, at most `limit`."""
        ...


@dataclass(frozen=True)
class Saved:
    """What a journal holds of an earlier run.

    `watermark` is the highest own sequence that is in the document; `position` that of the event
    log when this was saved; `acknowledged` the clock that the hub confirmed last, with the hash of
    the batch before it.
    """

    client: int = 0
    watermark: int = 0
    position: int = 0
    acknowledged: tuple[int, bytes] = (0, b"")
    updates: Sequence[bytes] = ()


class Journal(Protocol):
    """Where a session keeps its state. Every call is durable, and atomic, when it returns."""

    def load(self) -> Saved:
        """What was saved last."""
        ...

    def reset(self, client: int) -> None:
        """A new incarnation: forget everything but this client id."""
        ...

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        """Append an update of the document (if any), and keep both marks."""
        ...

    def compact(self, document: bytes) -> None:
        """Put this one update in the place of all that were saved."""
        ...

    def acknowledge(self, clock: int, head: bytes) -> None:
        """The hub has everything before `clock`; `head` is the hash of the batch before it."""
        ...


class State(Enum):
    """Where a connection stands."""

    OFFLINE = "offline"
    GREETING = "greeting"
    SYNCING = "syncing"
    READY = "ready"


class Session:
    """One device's synchronisation of one pool.

    `problems` are the latest batches that did not open, `unreadable` is how many there were;
    `writer` is whether the hub takes updates, as it said last.
    """

    def __init__(
        self, pool: PoolKey, log: EventLog, journal: Journal, array_bytes_max: int = ARRAY_BYTES_MAX
    ) -> None:
        self.pool = pool
        self.state = State.OFFLINE
        self.problems: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self.unreadable = 0
        self.writer = True
        self._log = log
        self._journal = journal
        self._array_bytes_max = array_bytes_max
        saved = journal.load()
        replica = self._load(saved)
        if replica is None:
            journal.reset(0)
            saved, replica = Saved(), Replica(pool, log.device)
        self._watermark = saved.watermark
        self._acknowledged = saved.acknowledged
        self._present: set[str] = set()  # own events above the watermark that the document has
        self.replica = replica
        self._journalled = len(saved.updates)
        self._keep(self.replica.loaded)

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
        return not self.writer or (not self.unacknowledged and not self.unsent())

    def hello(self) -> list[bytes]:
        """Begin a connection: the frames to send first."""
        self.state = State.GREETING
        return [self._hello()]

    def disconnect(self) -> None:
        """The connection is gone."""
        self.state = State.OFFLINE

    def receive(self, data: bytes) -> list[bytes]:
        """Take one frame from the hub; the frames to answer.

        Raises FrameError and UpdateError for what no honest hub sends, GapError when a new
        connection will help, RefusedError when the hub said no. Close the connection on any.
        """
        frame = decode_frame(data)
        match frame, self.state:
            case Refusal(code, permanent, reason), _:
                raise RefusedError(code, permanent, reason)
            case Welcome(), State.GREETING:
                return self._welcomed(frame)
            case Step1(vector), State.SYNCING | State.READY:
                return self._answer(vector)
            case Step2(update), State.SYNCING | State.READY:
                self._integrate(update)
                self.state = State.READY
                return []
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
        if self.unacknowledged >= UNACKNOWLEDGED_MAX:
            return []
        events = _batch(self._log.own_events(self._watermark, BATCH_EVENTS_MAX))
        if not events:
            return []
        self._watermark = events[-1].sequence
        fresh = [event for event in events if event.id not in self._present]
        self._present.difference_update(event.id for event in events)
        if not fresh:
            self._journal.save(None, self._watermark, self._log.position)
            return self.upload()
        updates = [self.replica.append(fresh)]
        self._save(updates[0])
        evicted = self.replica.evict(self._array_bytes_max)
        if evicted is not None:
            self._save(evicted)
            updates.append(evicted)
        return [encode_frame(Update(update)) for update in updates]

    def _load(self, saved: Saved) -> Replica | None:
        """The replica of what was saved; None if a new incarnation must take its place.

        So it is when the event log is older than the journal and lacks what that took for kept, and
        when the journal holds what is no document.
        """
        if saved.position > self._log.position:
            return None
        try:
            return Replica(self.pool, self._log.device, saved.client, saved.updates)
        except (UpdateError, MergeError):
            return None

    def _hello(self) -> bytes:
        return encode_frame(Hello(PROTOCOL, CAPABILITIES, self.replica.device, self.replica.client))

    def _welcomed(self, welcome: Welcome) -> list[bytes]:
        self.writer = welcome.writer
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
        known = self.replica.head_before(welcome.clock)
        if known is None and self._acknowledged[0] == welcome.clock:
            known = self._acknowledged[1]
        return known == welcome.head

    def _reincarnate(self, client: int) -> None:
        self._journal.reset(client)
        self._watermark, self._acknowledged = 0, (0, b"")
        self._present.clear()
        self._journalled = 0
        self.replica = Replica(self.pool, self._log.device, client)

    def _answer(self, vector: bytes) -> list[bytes]:
        hub = decode_state_vector(vector)
        clock = min(hub.get(self.replica.client, 0), self.replica.clock)
        self._confirmed(self.replica.client, clock)
        lacking = self.replica.own_part(vector) if self.writer else []
        *parts, last = lacking or [NOTHING]
        frames = [encode_frame(Update(part)) for part in parts]
        frames += [encode_frame(Step2(last))] if last != NOTHING else []
        if self.state is State.SYNCING:
            frames.append(encode_frame(Step1(self.replica.state_vector())))
        return frames

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
        if result.events:
            self._log.insert(result.events)
        if update != NOTHING:
            self._save(update)
        self._keep(result)

    def _save(self, update: bytes) -> None:
        self._journal.save(update, self._watermark, self._log.position)
        self._journalled += 1
        if self._journalled >= JOURNAL_UPDATES_MAX:
            self._journal.compact(self.replica.export())
            self._journalled = 1

    def _keep(self, result: Integrated) -> None:
        self.problems += result.problems
        self.unreadable += len(result.problems)
        self._present.update(
            event.id
            for event in result.events
            if event.device == self._log.device and event.sequence > self._watermark
        )

    def _confirmed(self, client: int, clock: int) -> None:
        if client != self.replica.client or clock > self.replica.clock:
            raise FrameError("an acknowledgement of what was never sent")
        if clock > self._acknowledged[0]:
            self._acknowledged = (clock, self.replica.head_before(clock) or b"")
            self._journal.acknowledge(*self._acknowledged)


def _batch(events: Iterable[Event]) -> list[Event]:
    """The leading events that fit in one batch; at least one, if there is any."""
    chosen: list[Event] = []
    size = 0
    for event in events:
        size += len(event.snippet.encode())
        if chosen and size > BATCH_SNIPPET_BYTES_MAX:
            break
        chosen.append(event)
    return chosen
