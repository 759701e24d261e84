"""What an operator does with pools that are stored on blobs."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence

from localmem_hub.blobs import manifest, names
from localmem_hub.blobs.container import Container
from localmem_hub.blobs.room_log import RoomLog
from localmem_hub.blobs.rosters import BlobRosters
from localmem_hub.blobs.tokens import BlobTokens
from localmem_hub.errors import ConfigError, DamageError
from localmem_hub.records import PoolRecord
from localmem_hub.seams import Kind
from localmem_protocol.access import is_pool_id, parse_room
from localmem_protocol.errors import ProtocolError
from localmem_protocol.roster import Roster


class BlobPools:
    """The operator's view of the pools in a container."""

    def __init__(
        self,
        container: Container,
        log: Callable[[str], RoomLog],
        rosters: BlobRosters,
        tokens: BlobTokens,
    ) -> None:
        self._container = container
        self._log = log
        self._rosters = rosters
        self._tokens = tokens

    def list(self) -> list[PoolRecord]:
        """Every pool, oldest first. `bytes` is with what stands around the rows."""
        found: dict[str, PoolRecord] = {}
        for one in self._container.names(names.ROSTERS):
            pool = one.name.removeprefix(names.ROSTERS)
            entries = self._rosters.read(pool, 0, one.size)
            if entries:
                created_ms = self._rosters.created_ms(pool)
                found[pool] = PoolRecord(pool, len(entries), 0, 0, created_ms)
        sizes: dict[str, int] = {}
        rooms: builtins.list[manifest.RoomListed] = []
        for blob in self._container.names(names.ROOMS, metadata=True):
            sizes[blob.name] = blob.size
            room = manifest.listed(blob)
            rooms += [] if room is None else [room]
        for room in rooms:
            place = parse_room(room.room)
            name = place[0] if place is not None and place[0] in found else room.room
            kept = found.get(name) or PoolRecord(name, 0, 0, 0, room.created_ms, room.kind)
            size = kept.bytes + sizes.get(room.segment, 0)
            epoch = max(kept.epoch, room.epoch)
            found[name] = PoolRecord(name, kept.entries, epoch, size, kept.created_ms, kept.kind)
        return sorted(found.values(), key=lambda kept: (kept.created_ms, kept.pool))

    def rooms(self, names: Sequence[str] | None = None) -> dict[str, Kind]:
        """The rooms of these names and of the pools of these ids, or all; and of which kind they are.

        Raises ConfigError for one that is not there.
        """
        found: dict[str, Kind] = {room.room: room.kind for room in manifest.rooms(self._container)}
        if names is None:
            return found
        chosen: dict[str, Kind] = {}
        for name in names:
            mine = [room for room in found if name in (room, _pool_of(room))]
            if not mine:
                raise ConfigError(f"room: there is no {name[:64]!r}; see `localmem-hub pool list`")
            chosen |= {room: found[room] for room in mine}
        return chosen

    def roster(self, pool: str) -> Roster | None:
        """A pool's roster, every signature checked; None if it has none. Raises DamageError."""
        entries: builtins.list[bytes] = []
        while more := self._rosters.read(pool, len(entries), 1 << 40):
            entries += more
        try:
            return Roster.load(entries, pool_id=pool) if entries else None
        except ProtocolError as error:
            raise DamageError(f"the roster of pool {pool} does not load ({error})") from None

    def remove(self, pool: str) -> bool:
        """Remove a pool, and everything that is stored of it; False if there is none."""
        rooms = [pool]
        if is_pool_id(pool):
            rooms += [one.room for one in manifest.rooms(self._container, f"{pool}.")]
        gone = self._rosters.remove(pool)
        for room in rooms:
            name = names.manifest(room)
            gone = self._container.look(name) is not None or gone
            self._container.delete(name)  # before the rest: nobody finds that any more
            log = self._log(room)
            with log.lock:
                log.segment = None
            part = names.part(room)
            for prefix in (f"{names.ROOMS}{part}/", names.snapshots(room), names.quarantine(room)):
                self._clear(prefix)
        self._tokens.remove_of(rooms)
        self._clear(names.read_by(pool))
        return gone

    def _clear(self, prefix: str) -> None:
        for one in list(self._container.names(prefix)):
            self._container.delete(one.name)


def _pool_of(room: str) -> str | None:
    place = parse_room(room)
    return None if place is None else place[0]
