"""The way to a pool with a roster: before each connection the roster is asked for.

Which epoch comes next is decided by `localmem_protocol.roster_view`. One that is over and that the hub
does not show is put off, so that it is in nobody's way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from localmem_node.config import HubSettings
from localmem_node.errors import HubRefused, NodeError, RemovedError, SyncError
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles, PoolRecord, Read
from localmem_node.sync.standing import Standing
from localmem_node.sync.transport import Transport
from localmem_node.sync.way import Journal, Place, Target
from localmem_protocol import roster_view
from localmem_protocol.access import room_name
from localmem_protocol.durable import EventLog
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError, RefusedError
from localmem_protocol.lineage import Reach
from localmem_protocol.roster_view import ANEW, Route, Stop, Stuck
from localmem_protocol.seams import Clock
from localmem_protocol.session import Saved

logger = logging.getLogger(__name__)

_UNKNOWN: Final = frozenset({"removed", "proof", "token"})
"""Codes with which a hub says that it does not know this device in the pool."""

OpenTransport = Callable[[HubSettings], Transport]
OpenJournal = Callable[[PoolKey], Journal]


class PastJournal:
    """For an epoch that is over: what is received is in the event log, and nothing is ever sent."""

    def load(self) -> Saved:
        """Nothing: it is read from its beginning."""
        return Saved()

    def reset(self, client: int) -> None:
        """As `Journal` says."""

    def queue(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""

    def delivered(self, tombstones: Sequence[bytes]) -> None:
        """As `Journal` says."""

    def save(self, update: bytes | None, watermark: int, reach: Reach) -> None:
        """As `Journal` says."""

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""

    def remember(self, marks: Mapping[bytes, bytes], *, instead: bool = False) -> None:
        """As `Journal` says."""

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""

    def keep_heads(self, heads: Mapping[int, tuple[str, bytes]]) -> None:
        """As `Journal` says."""

    def close(self) -> None:
        """As `Journal` says."""


class RosterAuthorship(roster_view.RosterAuthorship):
    """The same, where the hub may be out of reach."""

    def __init__(self, standing: Standing, refresh: Callable[[], object]) -> None:
        def quietly() -> None:
            try:
                refresh()
            except (NodeError, ProtocolError) as error:
                logger.info("the roster cannot be looked at again: %s", error)

        super().__init__(standing, quietly)


class RosterWay:
    """Implements `way.Way`."""

    def __init__(
        self,
        record: PoolRecord,
        files: PoolFiles,
        standing: Standing,
        client: PoolClient,
        open_transport: OpenTransport,
        open_journal: OpenJournal,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self.url, self.name = record.hub, record.name
        self._files = files
        self._record = record
        self.standing = standing
        self._client = client
        self._open_transport = open_transport
        self._open_journal = open_journal
        self._clock = clock
        self._route = Route(standing)
        self._log = log
        self._read: frozenset[int] | None = None  # once it is known that the event log goes with it
        self._authorship = RosterAuthorship(standing, lambda: client.refresh(standing))

    def next(self) -> Target:
        """As `Way` says; RemovedError for a pool that this device is in no more."""
        standing = self.standing
        try:
            self._client.refresh(standing)
        except HubRefused as refused:
            if refused.code in _UNKNOWN:
                raise RemovedError(self.name) from None
            raise
        read = self._epochs_read()
        match self._route.next(read, self._clock.monotonic_s()):
            case Stuck.REMOVED:
                raise RemovedError(self.name)
            case Stuck.WITHHELD as stuck:
                raise SyncError(stuck.value)
            case Stuck.NO_KEY:
                raise SyncError(
                    f"the key of epoch {standing.roster.epoch} does not open on this device; "
                    "an owner should begin another: localmem pool rotate"
                )
            case Stop(key, past):
                self._tell(read - self._files.epochs_told(self._record.pool))
                return self._target(key, past=past)

    def here(self) -> Place:
        """As `Way` says: the newest epoch whose key opens here, also for whoever was removed."""
        key = self._route.here()
        if key is None:
            raise SyncError(f"no key of the pool {self.name} opens on this device")
        return self._place(key)

    def finished(self, target: Target) -> None:
        """As `Way` says."""
        epoch = target.place.key.epoch
        self._keep_read(self._epochs_read() | {epoch})
        self._route.finished(epoch)

    def put_off(self, target: Target, problem: str) -> None:
        """As `Way` says."""
        self._route.put_off(target.place.key.epoch, problem, self._clock.monotonic_s())

    def past_due_s(self) -> float | None:
        """As `Way` says."""
        return self._route.past_due_s(self._clock.monotonic_s())

    def unread(self) -> dict[int, str | None]:
        """As `Way` says."""
        return self._route.unread()

    def moved(self, roster_length: int) -> bool:
        """As `Way` says."""
        return self._route.moved(roster_length)

    def refused(self, error: Exception) -> bool:
        """As `Way` says."""
        if not isinstance(error, RefusedError) or error.close_code not in ANEW:
            return False
        self._client.forget_token()
        return True

    def restored(self) -> None:
        """As `Way` says. What it was told of epochs that were read is gone, too."""
        self._keep_read(frozenset())
        self._files.forget_told(self._record.pool)

    def remedy(self, error: Exception) -> str:
        """As `Way` says."""
        if isinstance(error, RemovedError):
            stays = "what was received stays; an owner can invite this device again"
            if self.standing.length == 0 or self.standing.place == "removed":
                return stays
            return f"{stays}; if the hub was put back to an older state, another device mends that"
        if isinstance(error, RefusedError | HubRefused):
            return "it is tried again by itself; the hub's log may have more"
        return "it is tried again by itself"

    def _tell(self, epochs: Set[int]) -> None:
        """Tell the hub which epochs were read to their end. The next time will do as well."""
        for epoch in sorted(epochs):
            try:
                self._client.finished(epoch)
            except (SyncError, HubRefused) as error:
                logger.info("the hub does not hear that epoch %d was read: %s", epoch, error)
                return
            self._files.note_told(self._record.pool, epoch)

    def _epochs_read(self) -> frozenset[int]:
        """Epochs read to their end. An event log that was put back lacks what was read, and does not know
        what was forgotten there: they are read again.
        """
        if self._read is None:
            saved = self._files.read(self._record.pool)
            known = self._log.has_reached(saved.reach)
            self._keep_read(frozenset(saved.epochs) if known else frozenset())
        return self._read or frozenset()

    def _keep_read(self, epochs: frozenset[int]) -> None:
        self._files.save_read(self._record.pool, Read(tuple(sorted(epochs)), self._log.reach))
        self._read = epochs

    def _target(self, key: PoolKey, *, past: bool) -> Target:
        room = room_name(key.pool, key.epoch)
        settings = HubSettings(self.url, self._client.token(), room, key.key)
        place = Place(key, PastJournal, self._authorship) if past else self._place(key)
        return Target(place, self._open_transport(settings), past)

    def _place(self, key: PoolKey) -> Place:
        padding = self._record.sending.padding
        return Place(key, lambda: self._open_journal(key), self._authorship, padding)
