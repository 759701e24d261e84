"""The store of a device: events and their vectors in an encrypted ring file.

The facade over `ring` (sealed records), `vector_records`, `forgotten`, `checkpoint` (the index section)
and `records` (what is in a record). Thread-safe for one writer and any number of readers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from localmem_node.errors import StoreError
from localmem_node.store.checkpoint import pack_payload, unpack_payload
from localmem_node.store.directory import EVENT, PINNED
from localmem_node.store.forgotten import Forgotten
from localmem_node.store.layout import Geometry
from localmem_node.store.lock import OwnerLock
from localmem_node.store.open_file import OpenFile
from localmem_node.store.records import decode_event, encode_event, event_id
from localmem_node.store.reports import Appended, Damage, Marks, StoreStats
from localmem_node.store.ring import Keep
from localmem_node.store.vector_records import VectorRecords
from localmem_node.store.verification import verify
from localmem_protocol.events import Event
from localmem_protocol.lineage import Reach


class EventStore:
    """An open ring file. `opening` makes one; use it as a context manager, or `close` it.

    `vectors` and `forgotten` are what it holds beside events; `file` is for who makes a new file of
    it. `adopt` replaces all three.
    """

    def __init__(self, path: Path, file: OpenFile, lock: OwnerLock | None) -> None:
        self.path = path
        self.file = file
        self.vectors = VectorRecords(file.ring)
        self.forgotten = Forgotten(file.ring, file.vault)
        self._lock = lock
        self._keep: Keep = file.ring.keep

    def __enter__(self) -> EventStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def device(self) -> str:
        """This device's id, 16 hex digits."""
        return self.file.identity.device.hex()

    @property
    def geometry(self) -> Geometry:
        """How the file is divided."""
        return self.file.identity.geometry

    @property
    def ring_bytes(self) -> int:
        """How much may be live at once."""
        return self.geometry.live_blocks * self.geometry.block_size

    @property
    def key_location(self) -> str:
        """For people: where the key is."""
        return self.file.key_location

    @property
    def full(self) -> bool:
        """Whether the oldest block has to go before the next one can be filled."""
        return self.file.ring.used_bytes >= self.ring_bytes

    @property
    def free_bytes(self) -> int:
        """How much can be appended before the oldest block has to go."""
        return max(0, self.ring_bytes - self.file.ring.used_bytes)

    @property
    def marks(self) -> Marks:
        """Where sequence and clock go on from."""
        return Marks(self.file.ring.sequence, self.file.ring.clock)

    @property
    def reach(self) -> Reach:
        """How far the store has got: the ordinal of the newest durable record, of whatever kind."""
        return self.file.ring.reach

    def has_reached(self, reach: Reach) -> bool:
        """Whether it has been there; not if an older copy was put in its place since."""
        ring = self.file.ring
        return ring.lineage.has_reached(reach, ring.reach.position)

    @property
    def kept_bytes(self) -> int:
        """What pinned events, their vectors, and marks count for, of `geometry.record_space`."""
        return self.file.ring.kept_bytes

    @property
    def longest_pinned(self) -> int:
        """Ring bytes of the longest pinned event."""
        return max(map(self.size_of, self.file.ring.pinned()), default=0)

    def is_pinned(self, ordinal: int) -> bool:
        """Whether there is a pinned event at an ordinal."""
        return self.file.ring.directory.pinned(ordinal)

    def set_keep(self, keep: Keep) -> None:
        """Who is asked whether an event at the tail, of so many ring bytes, earns another round.

        Called in the writer's thread; pinned events are not asked for, they stay.
        """
        self.file.ring.keep = self._keep = keep

    def append(self, events: Sequence[Event]) -> Appended:
        """Add events, readable at once and durable after `commit`.

        Raises StoreError, before anything is added, when one of them cannot be kept; PinsFull when
        one of them cannot be pinned (those before it are added); StoreFailed.
        """
        ring = self.file.ring
        records = [encode_event(event, self.device) for event in events]
        for event, record in zip(events, records, strict=True):
            if len(record) > ring.record_bytes_max:
                raise StoreError(
                    f"event {event.id}: {len(record)} bytes, and a store of "
                    f"{self.geometry.size} bytes takes {ring.record_bytes_max}; "
                    "make the store larger"
                )
        appended = Appended([], [], [])
        with ring.writing:
            for event, record in zip(events, records, strict=True):
                if event.device == self.device:
                    ring.note(event.sequence, event.clock)
                kind = EVENT | PINNED if event.pinned else EVENT
                ordinal, change = ring.append(kind, record, event_id(record))
                appended.ordinals.append(ordinal)
                appended.evicted.extend(change.evicted)
                appended.moved.extend(change.moved)
        return appended

    def replace(self, ordinal: int, event: Event) -> Appended:
        """Append another version of a live event (its id is the same); durable after `commit`.

        The event moves to where that is. Raises PinsFull, and what `append` raises.
        """
        ring = self.file.ring
        with ring.writing:
            appended = self.append([event])
            replaced = ordinal
            for old, new in appended.moved:
                replaced = new if old == replaced else replaced
            ring.supersede(replaced)
        evicted = [gone for gone in appended.evicted if gone != replaced]
        return Appended([], evicted, [*appended.moved, (replaced, appended.ordinals[0])])

    def commit(self) -> None:
        """Return once everything appended is durable.

        Raises StoreFailed, and from then on at every append and commit.
        """
        self.file.ring.commit()

    def get(self, ordinal: int) -> Event | None:
        """The event; None once it was evicted, moved, repeated by a newer record, or damaged."""
        ring = self.file.ring
        try:
            record = ring.read(ordinal, EVENT)
        except StoreError:
            if ring is self.file.ring:
                raise
            return None  # another file took the place of the one that was asked
        if record is None:
            return None
        try:
            return decode_event(record, self.device)
        except StoreError:
            ring.lose(ordinal)
            return None

    def ordinals(self, after: int = 0) -> list[int]:
        """The live events with ordinals above `after`, oldest first."""
        return self.file.ring.ordinals(EVENT, after + 1)

    def named(self) -> tuple[list[int], list[str]]:
        """The live events, oldest first, and their ids, of one moment."""
        return self.file.ring.named(EVENT)

    def ids(self, ordinals: Sequence[int]) -> list[str]:
        """The ids of events, without reading them."""
        return self.file.ring.ids(ordinals)

    def size_of(self, ordinal: int) -> int:
        """Ring bytes of a live event; 0 for one that is gone."""
        return self.file.ring.size_of(ordinal, EVENT)

    def scan(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """The live events above an ordinal with their ordinals, oldest first, as of the call."""
        for ordinal in self.ordinals(after):
            event = self.get(ordinal)
            if event is not None:
                yield ordinal, event

    def write_checkpoint(self, payload: bytes) -> bool:
        """Commit, then keep `payload` in the index section; False if it does not fit.

        Raises StoreFailed.
        """
        ring, index = self.file.ring, self.file.index
        with ring.writing:
            if len(payload) > index.capacity:
                return False
            ring.commit()
            try:
                return index.write(ring.next_ordinal - 1, pack_payload(ring.saved(), payload))
            except OSError as error:
                ring.fail(error)

    def read_checkpoint(self) -> tuple[int, bytes] | None:
        """(ordinal up to which it knows the store, payload) of the newest whole checkpoint."""
        with self.file.ring.writing:
            checkpoint = self.file.index.read()
        payload = None if checkpoint is None else unpack_payload(checkpoint.payload)
        return None if checkpoint is None or payload is None else (checkpoint.ordinal, payload[1])

    def verify(self) -> int:
        """Read all of the ring from the medium. Returns the damaged blocks; `damage` tells more."""
        while True:
            ring = self.file.ring
            try:
                return verify(ring)
            except StoreError:
                if ring is self.file.ring:
                    raise  # else another file took the place of the one that was being read

    def damage(self) -> list[Damage]:
        """What was lost, dated by the events on either side. Raises StoreError when closed."""
        found: list[Damage] = []
        ordinals = self.ordinals()
        for first, end in self.file.ring.lost_ranges():
            before = bisect_left(ordinals, first) - 1
            after = bisect_left(ordinals, end)
            found.append(
                Damage(
                    records=end - first,
                    after_ms=self._timestamp(ordinals[before]) if before >= 0 else None,
                    before_ms=self._timestamp(ordinals[after]) if after < len(ordinals) else None,
                )
            )
        return found

    def stats(self) -> StoreStats:
        """The state of the store."""
        ring = self.file.ring
        ordinals = self.ordinals()
        return StoreStats(
            path=str(self.path),
            size_bytes=self.geometry.size,
            used_bytes=ring.used_bytes,
            copied_bytes=ring.copied_bytes,
            events=len(ordinals),
            oldest_ordinal=ordinals[0] if ordinals else None,
            newest_ordinal=ordinals[-1] if ordinals else None,
            damaged=ring.directory.lost,
            key_location=self.key_location,
        )

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes that follow from the store's own key, the same for the same purpose."""
        return self.file.vault.derive_key(purpose)

    def adopt(self, other: EventStore) -> None:
        """Go on in the file of another store, which has this one's place on the disk already."""
        replaced, self.file = self.file, other.file
        other.forgotten.keys = self.forgotten.keys
        self.vectors, self.forgotten = other.vectors, other.forgotten
        self.file.ring.keep = self._keep
        replaced.ring.close(commit=False)
        replaced.vault.keys.wipe()

    def close(self) -> None:
        """Commit and give the file back; harmless when repeated.

        Raises StoreFailed when something appended could not be made durable.
        """
        try:
            self.file.ring.close()
        finally:
            self.file.vault.keys.wipe()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _timestamp(self, ordinal: int) -> int | None:
        event = self.get(ordinal)
        return None if event is None else event.timestamp
