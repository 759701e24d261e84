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

from localmem_protocol.frames import Close
from localmem_protocol.room import Commit, Drop, Effect, Peer
from localmem_protocol.simulation.clock import MINUTE, MS, SECOND, Timeline
from localmem_protocol.simulation.disk import Crash, HubDisk
from localmem_protocol.simulation.network import Link
from localmem_protocol.simulation.participants import HubSide, Implementation
from localmem_protocol.simulation.streams import Distribution, SeededRandom

FLUSH: Final = Distribution(1 * MS, 2 * MS, 3 * MS, 6 * MS, 40 * MS)
"""How long a transaction takes until it is on disk."""

DOWN: Final = Distribution(2 * SECOND, 8 * SECOND, 40 * SECOND, 5 * MINUTE)
"""How long a hub is away after a crash."""


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

    def struck(self, fault: str) -> None:
        """A fault struck."""
        ...

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        ...


@dataclass
class _Live:
    """A document in use."""

    epoch: int
    side: HubSide
    links: dict[int, Link] = field(default_factory=dict)
    committing: bool = False


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
        self.disk, self.epoch = disk, 1
        self.revoked: set[str] = set()
        self.running = True
        self.refuse_commits = 0
        self._timeline, self._stream = timeline, stream
        self._implementation, self._watcher = implementation, watcher
        self._step_bytes, self._compact_rows = step_bytes, compact_rows
        self._live: dict[int, _Live] = {}
        self._connections = 0
        self._life = 0  # what was planned in an earlier life does not happen

    def opened(self, link: Link) -> None:
        """As `HubEnd` says: whose token is good comes into the room of the epoch it asks for."""
        if not self.running:
            link.reset()
            return
        self._connections += 1
        link.connection = self._connections
        device = link.name
        if device in self.revoked or link.epoch > self.epoch:
            link.close(Close.BAD_TOKEN)
            return
        with self._guard():
            live = self._room(link.epoch)
            live.links[link.connection] = link
            live.side.join(Peer(link.connection, device, link.epoch == self.epoch))

    def received(self, link: Link, data: bytes) -> None:
        """As `HubEnd` says."""
        live = self._live.get(link.epoch)
        if live is not None and link.connection in live.links:
            with self._guard():
                self._carry_out(live, live.side.receive(link.connection, data))
                self._plan_commit(live)

    def closed(self, link: Link) -> None:
        """As `HubEnd` says."""
        live = self._live.get(link.epoch)
        if live is not None and live.links.pop(link.connection, None) is not None:
            live.side.leave(link.connection)

    def crash(self) -> None:
        """The process dies; what was committed is still there when it starts again."""
        if not self.running:
            return
        self._watcher.struck("crash")
        self._watcher.note("hub", "crash")
        self.running = False
        self._end_life()
        self._timeline.after(DOWN.draw(self._stream), self.start)

    def start(self) -> None:
        """The process starts."""
        if not self.running:
            self.running = True
            self._watcher.note("hub", "start")

    def revoke(self, device: str) -> None:
        """Cut a device off for good."""
        self.revoked.add(device)
        for live in self._live.values():
            for connection, link in sorted(live.links.items()):
                if link.name == device:
                    self._drop(live, connection, Close.BAD_TOKEN)

    def rotate(self) -> None:
        """The next epoch: the room of this one takes no updates any more."""
        self.epoch += 1
        for live in self._live.values():
            for connection in sorted(live.links):
                self._drop(live, connection, Close.GOING_AWAY)

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
                tuple(stored.rows), dict(stored.clients), self._step_bytes
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
        self._compact_if_due(live.epoch)
        self._mend_if_due(live)
        self._plan_commit(live)

    def _compact_if_due(self, epoch: int) -> None:
        rows = self.disk.room(epoch).rows
        if len(rows) < self._compact_rows:
            return
        clients = dict(self.disk.clients(epoch))
        side = self._implementation.open_hub(tuple(rows), clients, self._step_bytes)
        try:
            self.disk.compact(epoch, side.snapshot(), len(rows))
        except Crash:
            self.crash()

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
