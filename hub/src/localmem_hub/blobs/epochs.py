"""Epochs that are over, on blobs: who has read them to their end, and how long ago they ended."""

from __future__ import annotations

from collections.abc import Callable

from localmem_hub.blobs import manifest, names
from localmem_hub.blobs.container import Container
from localmem_hub.blobs.room_log import RoomLog
from localmem_hub.blobs.snapshots import forget_history
from localmem_hub.records import past_epochs
from localmem_hub.seams import PastEpoch
from localmem_protocol.access import parse_room, room_name


class BlobEpochs:
    """An `EpochStore` on blobs."""

    def __init__(self, container: Container, log: Callable[[str], RoomLog]) -> None:
        self._container = container
        self._log = log

    def note_read(self, pool: str, epoch: int, device: str) -> bool:
        """As `EpochStore` says."""
        known = manifest.read(self._container, room_name(pool, epoch))
        if known is None or known.manifest.dropped_ms is not None:
            return False
        return self._container.create(names.read_by(pool, epoch) + device, b"")

    def past(self, pool: str | None = None) -> list[PastEpoch]:
        """As `EpochStore` says."""
        prefix = names.ROSTERS + (pool or "")
        listed = {one.name.removeprefix(names.ROSTERS) for one in self._container.names(prefix)}
        began: dict[tuple[str, int], tuple[int, int | None]] = {}
        for room in manifest.rooms(self._container, "" if pool is None else f"{pool}."):
            place = parse_room(room.room)
            if place is not None and place[0] in listed:
                began[place] = (room.created_ms, room.dropped_ms)
        readers: dict[tuple[str, int], set[str]] = {}
        for one in self._container.names("read/" if pool is None else names.read_by(pool)):
            _, name, epoch, device = one.name.split("/")
            readers.setdefault((name, int(epoch)), set()).add(device)
        return past_epochs(began, readers)

    def drop(self, pool: str, epoch: int, now_ms: int) -> bool:
        """As `EpochStore` says."""
        if manifest.read(self._container, room_name(pool, epoch + 1)) is None:
            return False  # it is not over
        room = room_name(pool, epoch)
        log = self._log(room)
        with log.lock:
            if not log.empty(now_ms):
                return False
            log.sweep()
        forget_history(self._container, room, None)
        for prefix in (names.quarantine(room), names.read_by(pool, epoch)):
            for one in list(self._container.names(prefix)):
                self._container.delete(one.name)
        return True
