"""The way to a pool with a roster: which epoch comes next, its key, and what lets this device in.

Before each connection the roster is asked for. The document of the newest epoch is lived in; those
of epochs before are read to their end, once, oldest first: others may have written there what is in no
newer one. Nobody writes there any more, since the hub knows of the newer epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from localmem_node.config import HubSettings
from localmem_node.errors import HubRefused, NodeError, RemovedError, SyncError
from localmem_node.sync.pool_client import PoolClient
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.standing import Standing
from localmem_node.sync.transport import Transport
from localmem_node.sync.way import Journal, Place, Target
from localmem_protocol.access import room_name
from localmem_protocol.entries import Role
from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError, RefusedError
from localmem_protocol.frames import Close
from localmem_protocol.session import Saved

logger = logging.getLogger(__name__)

_UNKNOWN: Final = frozenset({"removed", "proof", "token"})
"""Codes with which a hub says that it does not know this device in the pool."""

OpenTransport = Callable[[HubSettings], Transport]
OpenJournal = Callable[[PoolKey], Journal]

_ANEW: Final = frozenset({Close.BAD_TOKEN, Close.READ_ONLY, Close.ROSTER_CHANGED})
"""Refusals that another token, or another epoch, may end."""


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

    def save(self, update: bytes | None, watermark: int, position: int) -> None:
        """As `Journal` says."""

    def compact(self, document: bytes) -> None:
        """As `Journal` says."""

    def acknowledge(self, clock: int, head: bytes) -> None:
        """As `Journal` says."""

    def close(self) -> None:
        """As `Journal` says."""


class RosterAuthorship:
    """Implements `localmem_protocol.signatures.Authorship`, with a roster that may be behind.

    A device that writes and may not, as far as is known here, may have been let in just now: the hub is
    asked once for each.
    """

    def __init__(self, standing: Standing, refresh: Callable[[], object]) -> None:
        self.sign, self.keys_of = standing.sign, standing.keys_of
        self._standing = standing
        self._refresh = refresh
        self._asked: set[str] = set()

    def role_at(self, device: str, epoch: int) -> Role | None:
        """What a device was in an epoch."""
        role = self._standing.role_at(device, epoch)
        if role in ("owner", "member") or device in self._asked:
            return role
        self._asked.add(device)
        try:
            self._refresh()
        except (NodeError, ProtocolError) as error:
            logger.info("the roster cannot be looked at again: %s", error)
        return self._standing.role_at(device, epoch)


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
    ) -> None:
        self.url, self.name = record.hub, record.name
        self._files = files
        self._record = record
        self.standing = standing
        self._client = client
        self._open_transport = open_transport
        self._open_journal = open_journal
        self._told = 0  # entries of the roster that the hub told of
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
        told, self._told = self._told, 0
        if told > standing.length:
            raise SyncError("the hub tells of a longer roster than it shows")
        if standing.place == "removed":
            raise RemovedError(self.name)
        epochs, current = standing.epochs(), standing.roster.epoch
        if current not in epochs:
            raise SyncError(
                f"the key of epoch {current} does not open on this device; "
                "an owner should begin another: localmem pool rotate"
            )
        read = self._files.epochs_read(self._record.pool)
        for epoch, key in epochs.items():
            if epoch < current and epoch not in read:
                return self._target(key, past=True)
        return self._target(epochs[current], past=False)

    def here(self) -> Place:
        """As `Way` says: the newest epoch whose key opens here, also for whoever was removed."""
        epochs = self.standing.epochs()
        if not epochs:
            raise SyncError(f"no key of the pool {self.name} opens on this device")
        return self._place(epochs[max(epochs)])

    def finished(self, target: Target) -> None:
        """As `Way` says."""
        self._files.note_read(self._record.pool, target.place.key.epoch)

    def moved(self, roster_length: int) -> bool:
        """As `Way` says."""
        self._told = roster_length
        return roster_length > self.standing.length

    def refused(self, error: Exception) -> bool:
        """As `Way` says."""
        if not isinstance(error, RefusedError) or error.close_code not in _ANEW:
            return False
        self._client.forget_token()
        return True

    def remedy(self, error: Exception) -> str:
        """As `Way` says."""
        if isinstance(error, RemovedError):
            return "what was received stays; an owner can invite this device again"
        if isinstance(error, RefusedError | HubRefused):
            return "it is tried again by itself; the hub's log may have more"
        return "it is tried again by itself"

    def _target(self, key: PoolKey, *, past: bool) -> Target:
        room = room_name(key.pool, key.epoch)
        settings = HubSettings(self.url, self._client.token(), room, key.key)
        place = Place(key, PastJournal, self._authorship) if past else self._place(key)
        return Target(place, self._open_transport(settings), past)

    def _place(self, key: PoolKey) -> Place:
        return Place(key, lambda: self._open_journal(key), self._authorship)
