"""A room in use: the protocol's state machine, and the connections in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from localmem_hub.compaction import holds_deletes
from localmem_hub.limits import GATHERED_BYTES_MAX
from localmem_hub.moment import Moment
from localmem_hub.seams import Batch, Missed, Stored
from localmem_protocol.coalescing import coalesced
from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import Close, Notice
from localmem_protocol.limits import QUEUED_UPDATES_MAX
from localmem_protocol.room import Effect, Room, Send
from localmem_protocol.shared_room import SharedRoom


class Sink(Protocol):
    """A connection, as a room sees it. Neither call waits."""

    def send(self, data: bytes) -> None:
        """Queue a frame."""
        ...

    def drop(self, code: int, reason: str) -> None:
        """Send what is queued, then close; the first call decides."""
        ...


class LiveRoom:
    """One room, its connections, and what each of them waits to have stored."""

    __slots__ = (
        "_gathered",
        "_settled",
        "_taken",
        "behind",
        "discarded",
        "following",
        "head",
        "lingers_until",
        "pool",
        "reloading",
        "room",
        "rows_uncompacted",
        "shifts",
        "sinks",
        "to_erase",
        "under_way",
    )

    def __init__(self, pool: str, room: Room, stored: Stored) -> None:
        self.pool = pool
        self.room = room
        self.head = stored.head
        self.rows_uncompacted = len(stored.rows)
        self.to_erase = holds_deletes(stored.rows)  # what is stored holds what was forgotten
        self.sinks: dict[int, Sink] = {}
        self.under_way: Batch | None = None
        self.discarded = False
        self.lingers_until = 0.0  # by the event loop's clock
        self.behind = 0  # the newest row that another replica is said to have stored
        self.following = False  # whether somebody sees to that
        self.reloading = False  # nothing is taken to be stored meanwhile
        self.shifts = 0  # how often rows of others came between ours
        self._gathered: dict[int, tuple[int, int]] = {}  # connection -> frames, bytes
        self._taken = Moment()
        self._settled = Moment()

    @property
    def shared(self) -> SharedRoom | None:
        """Its room, if other replicas write to its pool as well."""
        return self.room if isinstance(self.room, SharedRoom) else None

    @property
    def registered(self) -> int:
        """How many client ids it knows."""
        return self.shared.registered if self.shared is not None else 0

    def knows(self, clients: Mapping[int, str]) -> bool:
        """Whether it has all these client ids."""
        return self.shared is None or all(map(self.shared.knows, clients))

    @property
    def newest(self) -> int:
        """The number of its newest row, whether that is stored yet or not."""
        return self.head + self.room.pending_rows

    async def ready(self, connection: int) -> None:
        """Wait while the room is broken, or has as much of this connection as it may have."""
        while not self.hears(connection):
            await self._taken.wait()

    def hears(self, connection: int) -> bool:
        """Whether it is not so."""
        if self.discarded:
            return True
        frames, size = self._gathered.get(connection, (0, 0))
        full = frames >= QUEUED_UPDATES_MAX or size >= GATHERED_BYTES_MAX
        return not full and not self.room.broken

    def receive(self, connection: int, frames: Sequence[bytes]) -> None:
        """Take frames, and carry out what can be done about them now."""
        before, size = self._gathered.get(connection, (0, 0))
        self._gathered[connection] = (before + len(frames), size + sum(map(len, frames)))
        for frame in coalesced(frames):
            if self.room.broken:
                return  # what follows was sent before anybody was told; it comes again
            self._carry_out(self.room.receive(connection, frame))

    def refuse_writing(self, connection: int, frames: Sequence[bytes], reason: str) -> bool:
        """Send away, for now, who sends something to store; whether it was so."""
        if not any(self.room.would_store(connection, frame) for frame in frames):
            return False
        self._carry_out(self.room.refuse(connection, Close.STORE_FAILED, reason))
        return True

    def notify(self, notice: Notice) -> None:
        """Tell everybody here, and who comes later, what depends on nothing that is stored here."""
        self._carry_out(self.room.notify(notice))

    def tell(self, now_s: float) -> None:
        """Tell whom it concerns who is here."""
        self._carry_out(self.room.tell(now_s))

    def finish(self, connection: int) -> None:
        """A transient peer says no more; it is dropped when everything is answered."""
        self._carry_out(self.room.finish(connection))

    def take(self) -> Batch | None:
        """What to store now, if there is anything; those who wait may go on."""
        self._gathered.clear()
        self._taken.has_come()
        commit = None if self.discarded or self.reloading else self.room.take()
        if commit is None:
            return None
        self.under_way = Batch(
            self.pool, self.head, commit.rows, commit.clients, commit.quarantined
        )
        self.to_erase |= commit.erases
        return self.under_way

    def committed(self) -> None:
        """The store has what was taken: say so."""
        batch, self.under_way = self.under_way, None
        if batch is not None and not self.discarded:
            self.head += len(batch.rows)
            self.rows_uncompacted += len(batch.rows)
            self._carry_out(self.room.committed())
        self._settled.has_come()

    async def settled(self) -> None:
        """Wait until no commit is under way, and nothing is being loaded."""
        while (self.under_way is not None or self.reloading) and not self.discarded:
            await self._settled.wait()

    def absorb(self, missed: Missed) -> bool:
        """Take in what others stored; False if the pool has to be loaded and `rebase` called."""
        known = self.head - missed.after
        if self.shared is None or self.discarded or missed.rows is None or known < 0:
            return False
        rows = missed.rows[known:]
        try:
            effects, erases = self.shared.absorb(rows, missed.clients)
        except ProtocolError:
            return False
        self.head += len(rows)
        self.shifts += bool(rows)
        self.rows_uncompacted += len(rows)
        self.to_erase |= erases
        self._carry_out(effects)
        return True

    def rebase(self, room: Room, stored: Stored) -> None:
        """Go on with a room that was loaded anew, and hear once more what is not stored."""
        assert self.shared is not None
        self.under_way, self.reloading = None, False
        self.head, self.rows_uncompacted = stored.head, len(stored.rows)
        self.shifts += 1
        effects = self.shared.rebase(room)
        self._taken.has_come()
        self._settled.has_come()
        self._carry_out(effects)

    def taken_over(self, client: int) -> None:
        """Somebody connected under a client id at another replica."""
        if self.shared is not None:
            self._carry_out(self.shared.taken_over(client))

    def mend(self, room: Room, stored: Stored) -> None:
        """Go on with a room that was loaded anew; those who wait may go on."""
        self.room.mend(room)
        self.rows_uncompacted = len(stored.rows)
        self._taken.has_come()

    def fail(self, reason: str) -> None:
        """The store does not have it: everybody out, for good."""
        self._close()
        self._carry_out(self.room.failed(reason))

    def discard(self, code: int, reason: str) -> None:
        """Everybody out for another reason."""
        self._close()
        for sink in self.sinks.values():
            sink.drop(code, reason)

    def _close(self) -> None:
        self.discarded = True
        self._taken.has_come()
        self._settled.has_come()

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        sinks = self.sinks
        for effect in effects:
            sink = sinks.get(effect.connection)
            if sink is None:
                continue
            if isinstance(effect, Send):  # nearly always
                sink.send(effect.data)
            else:
                sink.drop(effect.code, effect.reason)
