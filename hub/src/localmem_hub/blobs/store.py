"""A hub's store in one container of Azure Blob Storage, for any number of processes at once.

The log of a room is what its segment holds (`judging.py`); everything else is a small blob for itself,
with conditions where something may happen once only. A store of several pools is stored pool by pool,
at the same time: what fails for one is told of all, and whoever says it again finds what is there.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from localmem_hub.blobs import names
from localmem_hub.blobs.access import BlobAccess
from localmem_hub.blobs.cursors import cursor_in, tag_in, with_place
from localmem_hub.blobs.epochs import BlobEpochs
from localmem_hub.blobs.holds import BlobHold
from localmem_hub.blobs.mailboxes import BlobMailboxes
from localmem_hub.blobs.manifest import Manifest, RoomListed, listed
from localmem_hub.blobs.opening import is_current
from localmem_hub.blobs.pools import BlobPools
from localmem_hub.blobs.quarantine import BlobQuarantine
from localmem_hub.blobs.room_log import BLOCKS_MAX, RoomLog
from localmem_hub.blobs.rosters import BlobRosters
from localmem_hub.blobs.snapshots import forget_history, keep
from localmem_hub.blobs.switching import create_room
from localmem_hub.blobs.tokens import BlobTokens
from localmem_hub.errors import CommitError, StaleError, StoreError
from localmem_hub.limits import COMPACT_ROWS, PROBE_BYTES
from localmem_hub.seams import Batch, CatchUp, Hold, Missed, Stored
from localmem_protocol.access import parse_room
from localmem_protocol.exchange import News
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Row

if TYPE_CHECKING:
    from localmem_hub.blobs.container import Container
    from localmem_hub.blobs.judging import Segment, TaggedRow

log: Final = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Pools of one commit that are stored at the same time."""

ROW_BYTES_MIN: Final = 16
"""Of a row in a segment, at least."""

ROOMS_KEPT: Final = 256
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Logs in memory, and the bytes of their rows; those used longest ago are read again when needed."""


class BlobStore:
    """A `Store` on a container that `opening.prepare` has seen to."""

    shared = True
    url: None = None
    """Nothing that replicas could tell each other by: each looks for itself when it is asked."""

    def __init__(self, container: Container, *, blocks_max: int = BLOCKS_MAX) -> None:
        self.container = container
        self._blocks_max = blocks_max
        self._logs: OrderedDict[str, RoomLog] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, "hub-blobs")
        self.rosters = BlobRosters(container)
        self.tokens = BlobTokens(container)
        self.access = BlobAccess(container)
        self.epochs = BlobEpochs(container, self.log)
        self.mailboxes = BlobMailboxes(container)
        self.pools = BlobPools(container, self.log, self.rosters, self.tokens)
        self.quarantine = BlobQuarantine(container)

    def log(self, room: str) -> RoomLog:
        """The log of a room, as this process knows it."""
        with self._lock:
            found = self._logs.get(room)
            if found is None:
                found = self._logs[room] = RoomLog(self.container, room, self._blocks_max)
            self._logs.move_to_end(room)
            size = sum(one.size for one in self._logs.values())
            while len(self._logs) > ROOMS_KEPT or (size > KEPT_BYTES and len(self._logs) > 1):
                size -= self._logs.popitem(last=False)[1].size
        return found

    def commit(
        self, batches: Sequence[Batch], now_ms: int, catch_up: CatchUp | None = None
    ) -> set[str]:
        """As `UpdateLog` says; each pool for itself. After an error some may be stored."""
        if len(batches) == 1:
            stored = [self._commit(batches[0], now_ms, catch_up)]
        else:
            asked = [self._threads.submit(self._commit, one, now_ms, catch_up) for one in batches]
            errors = [error for one in asked if (error := one.exception()) is not None]
            if errors:
                raise errors[0]
            stored = [one.result() for one in asked]
        return {batch.pool for batch, done in zip(batches, stored, strict=True) if not done}

    def missed(self, pool: str, head: int, clients: int) -> Missed | None:
        """As `UpdateLog` says."""
        known = self.log(pool)
        with known.lock:
            segment = known.refresh()
            if segment is None or (segment.number == head and len(segment.clients) <= clients):
                return None
            return _missed(pool, segment, head)

    def heads(self, names: Sequence[str]) -> dict[str, int]:
        """As `UpdateLog` says."""
        found: dict[str, int] = {}
        for name in names:
            known = self.log(name)
            with known.lock:
                segment = known.refresh()
                if segment is not None:
                    found[name] = segment.number
        return found

    def load(self, pool: str) -> Stored:
        """As `UpdateLog` says."""
        known = self.log(pool)
        with known.lock:
            loaded = known.load()
            if loaded is None:
                return Stored()
            segment, snapshot = loaded
            rows = [row.update for row in segment.rows]
            return Stored(segment.number, snapshot, rows, dict(segment.clients))

    def head(self, pool: str) -> int:
        """As `UpdateLog` says."""
        return self.place(pool)[0]

    def place(self, pool: str, known: tuple[int, str] | None = None) -> tuple[int, str]:
        """As `UpdateLog` says: one request, which brings nothing when nothing is new.

        A process that does not know the room learns that as well from a place that says where it is.
        """
        cursor = None if known is None else cursor_in(known[1])
        log = self.log(pool)
        with log.lock:
            if known and cursor and log.segment is None and log.is_end(cursor):
                return known
            segment = log.refresh()
            if segment is None:
                return 0, ""
            if known and known[0] == segment.number and tag_in(known[1]) == segment.tag:
                return known
            return segment.number, _newest(segment)

    def tag(self, pool: str, number: int) -> str | None:
        """As `UpdateLog` says; without a request for what was read before."""
        if number == 0:
            return ""
        known = self.log(pool)
        with known.lock:
            segment = known.segment
            if segment is None or number > segment.number:
                segment = known.refresh()
            if segment is None:
                return None
            newest = number == segment.number
            return _newest(segment) if newest else segment.tag_of(number)

    def sizes(self, room: str, pool: str) -> tuple[int, int]:
        """As `UpdateLog` says, with what stands around the rows of others than this room."""
        known = self.log(room)
        with known.lock:
            segment = known.refresh()
            mine = 0 if segment is None else segment.size + segment.place.base_at
        if room == pool:
            return mine, mine
        others = f"{names.ROOMS}{pool}."
        own = names.segments(room)
        whole = sum(
            one.size
            for one in self.container.names(others)
            if "/log-" in one.name and not one.name.startswith(own)
        )
        return mine, mine + whole

    def rows_after(
        self, pool: str, number: int, last: int | None = None, *, tag: str | None = None
    ) -> News | None:
        """As `UpdateLog` says; without a request when `last` was read before."""
        known = self.log(pool)
        with known.lock:
            segment = known.segment
            if segment is None or last is None or last > segment.number:
                segment = known.refresh()
            if segment is None:
                there = number == 0 and not tag_in(tag or "")
                return News() if there or (number == last and tag is None) else None
            if tag is not None and number and segment.tag_of(number) != tag_in(tag):
                return None
            if number < segment.first or number > segment.number:
                return News() if number == last and tag is None else None
            return _portion(segment.after(number, last))

    def hold(self, pool: str) -> Hold | None:
        """As `SnapshotStore` says."""
        return BlobHold.take(self.container, names.lease(pool))

    def overgrown(self, rows: int) -> list[str]:
        """As `SnapshotStore` says: a list of all rooms, and a request for each that is large enough."""
        sizes: dict[str, int] = {}
        rooms: list[RoomListed] = []
        for blob in self.container.names(names.ROOMS, metadata=True):
            sizes[blob.name] = blob.size
            room = listed(blob)
            rooms += [room] if room is not None and room.kind == "sealed" else []
        found = []
        for one in rooms:
            if sizes.get(one.segment, 0) - one.base_at >= rows * ROW_BYTES_MIN:
                known = self.log(one.room)
                with known.lock:
                    segment = known.refresh()
                    if segment is not None and segment.number - segment.first >= rows:
                        found.append(one.room)
        return sorted(found)

    def compact(self, pool: str, head: int, snapshot: bytes) -> bool:
        """As `SnapshotStore` says; the snapshot is kept beside the log as well."""
        known = self.log(pool)
        with known.lock:
            segment = known.refresh()
            tag = None if segment is None else segment.tag_of(head)
            if not known.compact(head, snapshot):
                return False
            self._sweep(known)
        keep(self.container, pool, head, tag or "", snapshot)
        return True

    def erase(self, pool: str | None) -> bool:
        """As `SnapshotStore` says: earlier snapshots and forgotten segments go.

        What Azure keeps of deleted blobs is decided by the account's settings (docs/azure-storage.md).
        """
        if pool is None:
            return True
        self.quarantine.drop_all(pool)
        known = self.log(pool)
        with known.lock:
            return known.sweep() and forget_history(self.container, pool, known.segment)

    def renew(self) -> None:
        """As `Store` says: there are no connections to begin with."""

    def weaknesses(self) -> list[str]:
        """Settings by which what was committed may be lost: none, whatever the account's redundancy."""
        return []

    def ping(self) -> None:
        """As `Store` says."""
        self.container.read(names.HUB)

    def current(self) -> bool:
        """As `Store` says."""
        return is_current(self.container)

    def free_bytes(self) -> int | None:
        """As `Store` says: nobody can tell."""
        return None

    def try_room(self) -> None:
        """As `Store` says."""
        name = f"{names.PROBE}/{threading.get_native_id()}"
        self.container.delete(name)
        self.container.create(name, hashlib.shake_256().digest(PROBE_BYTES))
        self.container.delete(name)

    def close(self) -> None:
        """As `Store` says."""
        self._threads.shutdown(wait=True)
        self.container.close()

    def _sweep(self, known: RoomLog) -> None:
        """Remove what compactors left that died; the next one tries again."""
        try:
            known.sweep()
        except StoreError as error:
            log.warning("not swept pool=%s: %s", known.room, error)

    def _commit(self, batch: Batch, now_ms: int, catch_up: CatchUp | None) -> bool:
        """Store one batch; False if its pool has to be loaded and looked at again."""
        known = self.log(batch.pool)
        with known.lock:
            segment = known.segment
            if segment is None or batch.head > segment.number:
                segment = known.refresh()
            if segment is None and self._make_room(batch.pool, now_ms):
                segment = known.refresh()
            if segment is None:
                raise CommitError(f"there is no pool {batch.pool}")
            self.quarantine.add(batch.pool, batch.quarantined, now_ms)
            if not batch.rows and not batch.clients:
                return True
            if catch_up is None:
                return self._commit_alone(known, segment, batch)
            return self._commit_shared(known, segment, batch, catch_up)

    def _commit_alone(self, known: RoomLog, segment: Segment, batch: Batch) -> bool:
        """Nobody else may have written, or registered the same."""
        stale = StaleError(f"another process wrote to pool {batch.pool}")
        if batch.head != segment.number:
            raise stale
        if batch.clients.keys() & segment.clients.keys():
            raise CommitError(f"a client id of pool {batch.pool} is registered already")
        if known.append(list(batch.rows), dict(batch.clients), alone=True) is None:
            raise stale
        return True

    def _commit_shared(
        self, known: RoomLog, segment: Segment, batch: Batch, catch_up: CatchUp
    ) -> bool:
        pool, here = batch.pool, segment.clients
        behind = batch.head != segment.number or (batch.clients and here)
        if behind and pool not in catch_up([_missed(pool, segment, batch.head)]):
            return False
        if any(here.get(c, device) != device for c, device in batch.clients.items()):
            return False
        new = {c: device for c, device in batch.clients.items() if c not in here}
        if not batch.rows and not new:
            return True
        before = segment.number
        numbers = known.append(list(batch.rows), new, alone=False)
        if numbers is None:
            return False
        if numbers[-1][1] - before == len(batch.rows):
            return True  # and nobody's came in between
        now = known.segment
        if now is None or now.first > before:
            return False  # a snapshot has taken the place of what came in between
        others = [
            Row(row.device, row.update)
            for row in now.after(before, numbers[-1][1])
            if not any(first < row.number <= last for first, last in numbers)
        ]
        missed = Missed(pool, before, before + len(others), others, dict(now.clients))
        return pool in catch_up([missed])

    def _make_room(self, room: str, now_ms: int) -> bool:
        """The room of an epoch whose entry is in the roster, if whoever appended that did not come to it."""
        place = parse_room(room)
        if place is None or self.rosters.mark(place[0]) is None:
            return False
        create_room(self.container, room, Manifest.new(place[1], now_ms))
        return True


def _newest(segment: Segment) -> str:
    """The tag of the newest row, and where it is."""
    return with_place(segment.tag, segment.place.segment, segment.length)


def _missed(pool: str, segment: Segment, head: int) -> Missed:
    count = segment.number - head
    rows = None
    if 0 <= count <= COMPACT_ROWS and head >= segment.first:
        rows = [Row(row.device, row.update) for row in segment.after(head)]
    return Missed(pool, head, segment.number, rows, dict(segment.clients))


def _portion(rows: Sequence[TaggedRow]) -> News:
    """As many rows as one answer has room for, at least one if there is any."""
    some: list[TaggedRow] = []
    size = 0
    for row in rows[:COMPACT_ROWS]:
        size += len(row.update)
        if some and size > STEP_BYTES:
            break
        some.append(row)
    return News(some, more=len(some) < len(rows))
