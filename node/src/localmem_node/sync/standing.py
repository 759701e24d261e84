"""Where a device stands in a pool: its roster, on disk and in memory, and the keys that gives it.

What is done with a roster is in `localmem_protocol.roster_view`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Final, Protocol

import msgspec

from localmem_node.errors import SyncError
from localmem_node.sync.pool_files import PoolFiles
from localmem_protocol.chain import Roster
from localmem_protocol.errors import RemoteError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster_view import RosterView, UnknownRosterError

_ENTRIES: Final = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True)
class Identity:
    """A device by its id and private keys."""

    device: str
    keys: DeviceKeys


class _Keyed(Protocol):
    @property
    def device(self) -> str: ...
    def derive_key(self, purpose: str) -> bytes: ...


def identity_of(engine: _Keyed) -> Identity:
    """This device's; its keys follow from its store's."""
    keys = DeviceKeys(engine.derive_key("sync signing"), engine.derive_key("sync sealing"))
    return Identity(engine.device, keys)


class Standing(RosterView):
    """One pool's roster, on disk and in memory. Whoever changes it holds `lock` (`PoolClient` does)."""

    def __init__(self, files: PoolFiles, pool: str, identity: Identity) -> None:
        """Read what was kept. Raises SyncError if that is damaged: it comes again from the hub."""
        self.identity = identity
        self.lock = RLock()
        self._files = files
        path = files.roster_path(pool)
        entries = _decoded(files.roster(pool), path)
        try:
            super().__init__(pool, identity.device, identity.keys, entries)
        except RemoteError as error:
            raise _damaged(path, error) from None

    @property
    def roster(self) -> Roster:
        """The roster. Raises SyncError while nothing of it is known."""
        try:
            return super().roster
        except UnknownRosterError as error:
            raise SyncError(str(error)) from None

    @property
    def name(self) -> str:
        """The pool's name, as its owners gave it; empty if it has none that opens here."""
        return self.label("")

    def keep(self, entries: Sequence[bytes]) -> None:
        """As `RosterView` says."""
        self._files.save_roster(self.pool, msgspec.msgpack.encode(list(entries)))


def check_roster(files: PoolFiles, pool: str) -> None:
    """Raise SyncError if what was kept of a roster is damaged."""
    path = files.roster_path(pool)
    entries = _decoded(files.roster(pool), path)
    try:
        if entries:
            Roster.load(entries, pool_id=pool, verified=len(entries))
    except RemoteError as error:
        raise _damaged(path, error) from None


def _decoded(data: bytes, path: Path) -> list[bytes]:
    if not data:
        return []
    try:
        return _ENTRIES.decode(data)
    except msgspec.DecodeError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> SyncError:
    return SyncError(
        f"{path}: the list of members is damaged ({error}); remove the file, and run: localmem down; "
        "it comes again from the hub"
    )
