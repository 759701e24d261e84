"""A simulated hub: a process around the hub's side of each epoch's document, and its store.

What production's rooms do with asyncio and a writer thread happens here in virtual time: frames are
taken as they come, what is to be stored is committed in one transaction after another, and nothing
that waits for a commit is said before it. Rows are replaced by a snapshot now and then. A crash
keeps what was committed; a store that refuses a transaction sends everybody away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from localmem_protocol.chain import Roster
from localmem_protocol.errors import RosterError
from localmem_protocol.frames import ROSTER_NOTICE, Close, Notice
from localmem_protocol.room import Commit, Drop, Effect, Peer, Room
from localmem_protocol.roster_log import Right, role_in
from localmem_protocol.simulation.clock import MINUTE, MS, SECOND, Timeline
from localmem_protocol.simulation.disk import Crash, HubBackup, HubDisk
from localmem_protocol.simulation.inquiries import pack, unpack
from localmem_protocol.simulation.network import Link
from localmem_protocol.simulation.participants import HubSide, Implementation
from localmem_protocol.simulation.streams import Distribution, SeededRandom

FLUSH: Final = Distribution(1 * MS, 2 * MS, 3 * MS, 6 * MS, 40 * MS)
"""How long a transaction takes until it is on disk."""

DOWN: Final = Distribution(2 * SECOND, 8 * SECOND, 40 * SECOND, 5 * MINUTE)
"""How long a hub is away after a crash."""


ERASE_US: Final = 5 * SECOND
"""From a deletion that forgets something to the snapshot that takes its place."""


class Watcher(Protocol):
    """What a hub tells of itself."""

    def broke(self, who: str, error: BaseException) -> None:
        """A hub's side raised what it must not."""
        ...

    def committed(self, epoch: int, commit: Commit) -> None:
        """This is stored now."""
        ...

    def said(self, epoch: int, frame: bytes) -> None:
        """A frame goes out."""
        ...

    def roster_changed(self, before: int) -> None:
        """The roster has an entry more; `before` is the epoch that was the newest."""
        ...

    def struck(self, fault: str) -> None:
        """A fault struck."""
        ...

    def restored(self, image: object) -> None:
        """The hub has an older state again: what `backed_up` gave for it."""
        ...

    def backed_up(self) -> object:
        """A backup of the hub is made: what is to be remembered of this moment."""
        ...

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        ...


@dataclass(frozen=True)
class HubImage:
    """A backup of a hub's store, and what its watcher remembers of that moment."""

    stored: HubBackup
    remembered: object


@dataclass
class _Live:
    """A document in use."""

    epoch: int
    side: HubSide
    links: dict[int, Link] = field(default_factory=dict)
    rights: dict[int, Right] = field(default_factory=dict)
    committing: bool = False
    told_us: int | None = None  # when it is to be asked next whom to tell


class SimulatedHub:
    """One hub of one pool."""

    def __init__(
        self,
        timeline: Timeline,
        stream: SeededRandom,
        disk: HubDisk,
        implementation: Implementation,
        watcher: Watcher,
        *,
        step_bytes: int,
        compact_rows: int,
    ) -> None:
        self.disk, self.roster = disk, Roster.load(disk.roster)
        self.running = True
        self.refuse_commits = 0
        self._timeline, self._stream = timeline, stream
        self._implementation, self._watcher = implementation, watcher
        self._step_bytes, self._compact_rows = step_bytes, compact_rows
        self._live: dict[int, _Live] = {}
        self._connections = 0
        self._to_restore: HubImage | None = None
        self._life = 0  # what was planned in an earlier life does not happen
        self._erasing: set[int] = set()

    def opened(self, link: Link) -> None:
        """As `HubEnd` says: whose token is good comes into the room of the epoch it asks for."""
        if not self.running:
            link.reset()
            return
        self._connections += 1
        link.connection = self._connections
        device = link.name
        right = role_in(self.roster, device, link.epoch)
        if right is None:
            link.close(Close.BAD_TOKEN)
            return
        with self._guard():
            live = self._room(link.epoch)
            live.links[link.connection] = link
            live.rights[link.connection] = right
            live.side.join(Peer(link.connection, device, right == "writer"))
            if isinstance(live.side, Room):
                live.side.notice = Notice(ROSTER_NOTICE, self.roster.length)

    def received(self, link: Link, data: bytes) -> None:
        """As `HubEnd` says."""
        live = self._live.get(link.epoch)
        if live is not None and link.connection in live.links:
            with self._guard():
                self._carry_out(live, live.side.receive(link.connection, data))
                self._tell(live)
                self._plan_commit(live)

    def closed(self, link: Link) -> None:
        """As `HubEnd` says."""
        live = self._live.get(link.epoch)
        if live is not None and live.links.pop(link.connection, None) is not None:
            live.side.leave(link.connection)
            with self._guard():
                self._tell(live)

    def crash(self) -> None:
        """The process dies; what was committed is still there when it starts again."""
        if not self.running:
            return
        image, self._to_restore = self._to_restore, None
        self._watcher.struck("crash" if image is None else "restore")
        self._watcher.note("hub", "crash" if image is None else "restored from a backup")
        self.running = False
        self._end_life()
        if image is not None:
            self.disk.restore(image.stored)
            self.roster = Roster.load(self.disk.roster, verified=len(self.disk.roster))
            self._watcher.restored(image.remembered)
        self._timeline.after(DOWN.draw(self._stream), self.start)

    def back_up(self) -> HubImage:
        """A backup of its store, as it is now."""
        return HubImage(self.disk.image(), self._watcher.backed_up())

    def restore(self, image: HubImage, *, at_write: int = 0) -> None:
        """Put a backup in the place of its store: now, or after a coming write, before that is told."""
        self._to_restore = image
        if at_write and self.running:
            self.disk.writes.crash_at(at_write, kept=True)
        else:
            self.running = True  # a hub that is down is restored as well
            self.crash()

    def start(self) -> None:
        """The process starts."""
        if not self.running:
            self.running = True
            self._watcher.note("hub", "start")
            before = self.roster.epoch
            with self._guard():
                self.roster = Roster.load(self.disk.roster, verified=len(self.disk.roster))
                if self.roster.epoch > before:
                    self._watcher.roster_changed(before)
            self._erase_when_due(*self.disk.rooms)  # a crash may have come before that

    @property
    def life(self) -> int:
        """Another number after each end of the process, with which everything that was under way ends."""
        return self._life

    @property
    def epoch(self) -> int:
        """The newest epoch."""
        return self.roster.epoch

    @property
    def pool(self) -> str:
        """The pool's id."""
        return self.roster.pool_id

    def asked(self, device: str, data: bytes) -> bytes | None:
        """What is answered to a question about the roster (`inquiries`); None if nobody is there."""
        if not self.running:
            return None
        if device not in self.roster.members:
            return pack(("removed",))
        match unpack(data):
            case ["read", int(start)]:
                roster = self.roster
                return pack(("roster", start, self.disk.roster[start:], roster.length, roster.head))
            case ["append", int(expected), bytes(entry)]:
                return self._append(expected, entry)
            case _:
                return pack(("refused", "no such question"))

    def _append(self, expected: int, entry: bytes) -> bytes | None:
        before = self.roster.epoch
        try:
            new = self._implementation.addition(self.roster, expected, entry)
        except RosterError as error:
            return pack(("refused", str(error)))
        if new is not None:
            try:
                self.disk.append(new.entry)
            except Crash:
                self.crash()
                return None
            with self._guard():
                self.roster.apply(new.entry)
                self._watcher.roster_changed(before)
                self._notify()
        return pack(("appended", self.disk.roster[expected : expected + 1] == [entry]))

    def _notify(self) -> None:
        """Cut off whoever lost a right by a change of the roster, and tell everybody else."""
        for live in list(self._live.values()):
            for connection, link in sorted(live.links.items()):
                right = role_in(self.roster, link.name, live.epoch)
                if right is None:
                    self._drop(live, connection, Close.BAD_TOKEN)
                elif right != live.rights[connection]:
                    self._drop(live, connection, Close.ROSTER_CHANGED)
            if isinstance(live.side, Room):
                self._carry_out(live, live.side.notify(Notice(ROSTER_NOTICE, self.roster.length)))
            self._tell(live)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Whatever an implementation raises is told, and ends no simulation."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pyo3's PanicException is no Exception
            self._watcher.broke("hub", error)

    def _room(self, epoch: int) -> _Live:
        if epoch not in self._live:
            stored = self.disk.room(epoch)
            side = self._implementation.open_hub(
                tuple(stored.rows), dict(stored.clients), self._step_bytes, self._stream
            )
            self._live[epoch] = _Live(epoch, side)
        return self._live[epoch]

    def _drop(self, live: _Live, connection: int, code: int) -> None:
        live.side.leave(connection)
        live.links.pop(connection).close(code)

    def _carry_out(self, live: _Live, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Drop):
                if (link := live.links.pop(effect.connection, None)) is not None:
                    self._watcher.note("hub", f"drops {link.line.name}: {effect.code}")
                    link.close(effect.code)
            elif (link := live.links.get(effect.connection)) is not None:
                self._watcher.said(live.epoch, effect.data)
                link.send_down(effect.data)

    def _tell(self, live: _Live) -> None:
        """Let it tell whom it has to, now and when it says."""
        now_us = self._timeline.now_us
        effects, again_s = self._implementation.tell(live.side, now_us / SECOND)
        self._carry_out(live, effects)
        again_us = None if again_s is None else max(now_us, int(again_s * SECOND)) + MS
        if again_us is not None and again_us != live.told_us:
            self._timeline.after(again_us - now_us, lambda: self._tell_again(live, again_us))
        live.told_us = again_us

    def _tell_again(self, live: _Live, at_us: int) -> None:
        if live.told_us == at_us and self._live.get(live.epoch) is live:
            live.told_us = None
            with self._guard():
                self._tell(live)

    def _plan_commit(self, live: _Live) -> None:
        if live.committing or (commit := live.side.take()) is None:
            return
        live.committing = True
        life = self._life

        def commit_unless_crashed() -> None:
            if life == self._life:
                with self._guard():
                    self._commit(live, commit)

        self._timeline.after(FLUSH.draw(self._stream), commit_unless_crashed)

    def _commit(self, live: _Live, commit: Commit) -> None:
        if self.refuse_commits:
            self.refuse_commits -= 1
            self._watcher.struck("crash")
            self._watcher.note("hub", "the store refuses")
            for connection in sorted(live.links):
                self._drop(live, connection, Close.STORE_FAILED)
            del self._live[live.epoch]
            return
        rows = len(self.disk.room(live.epoch).rows)
        try:
            self.disk.commit(live.epoch, commit)
        except Crash:
            if len(self.disk.room(live.epoch).rows) > rows:
                self._watcher.committed(live.epoch, commit)
            self.crash()
            return
        self._watcher.committed(live.epoch, commit)
        live.committing = False
        self._carry_out(live, live.side.committed())
        if commit.erases:
            self._erase_when_due(live.epoch)
        self._compact_if_due(live.epoch)
        self._mend_if_due(live)
        self._plan_commit(live)

    def _compact_if_due(self, epoch: int, most: int | None = None) -> None:
        rows = self.disk.room(epoch).rows
        if len(rows) < (self._compact_rows if most is None else most):
            return
        clients = dict(self.disk.clients(epoch))
        side = self._implementation.open_hub(tuple(rows), clients, self._step_bytes, self._stream)
        try:
            self.disk.compact(epoch, side.snapshot(), len(rows))
        except Crash:
            self.crash()

    def _erase_when_due(self, *epochs: int) -> None:
        """Take what was forgotten out of the store, once for all that is forgotten meanwhile."""
        life = self._life
        for epoch in epochs:
            if epoch in self._erasing:
                continue
            self._erasing.add(epoch)

            def erase(epoch: int = epoch) -> None:
                if life == self._life:
                    self._erasing.discard(epoch)
                    with self._guard():
                        self._compact_if_due(epoch, 1)

            self._timeline.after(ERASE_US, erase)

    def _mend_if_due(self, live: _Live) -> None:
        """A room that cannot go on is loaded again; here everybody comes back for that."""
        if getattr(live.side, "broken", False) and self._live.get(live.epoch) is live:
            for connection in sorted(live.links):
                self._drop(live, connection, Close.STORE_FAILED)
            del self._live[live.epoch]

    def _end_life(self) -> None:
        self._life += 1
        for live in self._live.values():
            for link in live.links.values():
                link.reset()
        self._live.clear()
        self._erasing.clear()
