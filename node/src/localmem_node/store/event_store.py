"""The store of a device: events and their vectors in an encrypted ring file.

The facade over `ring` (sealed records), `checkpoint` (the index section), `records` (what is in a
record), `keys` and `lock`. Thread-safe for one writer and any number of readers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from localmem_node.errors import StoreError
from localmem_node.seams import Disk, KeyStore
from localmem_node.store.checkpoint import IndexSection
from localmem_node.store.creation import new_slots
from localmem_node.store.directory import EVENT, VECTORS
from localmem_node.store.disk import FileDisk, create_file, make_directory, reason, write_all
from localmem_node.store.layout import DEFAULT_BYTES, Geometry, Identity
from localmem_node.store.lock import OwnerLock
from localmem_node.store.records import (
    decode_event,
    decode_vectors,
    encode_event,
    encode_vectors,
    encoder_id,
)
from localmem_node.store.recovery import read_slots, recover, unlock
from localmem_node.store.ring import Ring
from localmem_node.store.vault import Vault
from localmem_protocol.events import Event
from localmem_protocol.seams import Random

VECTORS_PER_RECORD: Final = 10
"""As many as fill about one block: a damaged block costs no more vectors than it held."""


class Appended(NamedTuple):
    """The ordinals of what was appended, and of the events that left to make room."""

    ordinals: list[int]
    evicted: list[int]


class Marks(NamedTuple):
    """The highest sequence and clock of the own device's events; 0 before the first.

    They survive the eviction of the events they come from.
    """

    sequence: int
    clock: int


@dataclass(frozen=True)
class StoreStats:
    """What can be said about a store. Ordinals are None while it is empty."""

    path: str
    size_bytes: int
    used_bytes: int
    events: int
    oldest_ordinal: int | None
    newest_ordinal: int | None
    damaged: int
    key_location: str


class EventStore:
    """An open ring file. Make one with `open`; use it as a context manager, or `close` it."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        ring: Ring,
        index: IndexSection,
        vault: Vault,
        key_location: str,
        lock: OwnerLock | None,
    ) -> None:
        self.path = path
        self.device = identity.device.hex()
        self._geometry = identity.geometry
        self._ring, self._index, self._vault = ring, index, vault
        self._key_location = key_location
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        keystore: KeyStore,
        random: Random,
        *,
        size: int = DEFAULT_BYTES,
        create: bool = True,
        disk: Disk | None = None,
    ) -> EventStore:
        """Open the store at `path`, or make one of `size` bytes there.

        An existing store keeps its size. With `disk`, that is the file: it is not locked, and made
        where it stands if it is empty. Raises StoreBusy, ForeignFile, WrongVersion, WrongKey,
        DamagedStore, KeyUnavailable, StoreError, and ConfigError for a size that cannot work; the
        file is then as it was. Raises StoreFailed when the disk fails.
        """
        path = Path(os.path.realpath(path))
        with ExitStack() as undo:
            lock: OwnerLock | None = None
            if disk is None:
                if create:
                    make_directory(path.parent)
                lock = OwnerLock(path)
                undo.callback(lock.release)
                if not _is_there(path):
                    _create(path, size, keystore, random, create=create)
                disk = FileDisk(path)
                undo.callback(disk.close)
            elif disk.size() == 0:
                _create_on(disk, size, keystore, random, create=create)
            store = cls._from_disk(path, disk, keystore, random, lock)
            undo.pop_all()
        return store

    @classmethod
    def _from_disk(
        cls, path: Path, disk: Disk, keystore: KeyStore, random: Random, lock: OwnerLock | None
    ) -> EventStore:
        name = str(path)
        try:
            # What the last owner wrote and did not live to sync must be on the medium before it is
            # relied on.
            disk.sync()
        except OSError as error:
            raise StoreError(f"cannot sync {name}: {reason(error)}; check the disk") from None
        slots, vault = unlock(read_slots(disk, name), keystore, name)
        geometry = slots[0].identity.geometry
        found = recover(disk, slots, vault)
        read = disk.mapped if isinstance(disk, FileDisk) else disk.pread
        ring = Ring(disk, read, vault, random, found, name)
        if found.taken_up:
            ring.settle()
        index = IndexSection(disk, geometry, vault, random)
        # A checkpoint that knows more than the ring outlived damage to it: those ordinals are used.
        if index.claimed_ordinal() >= ring.next_ordinal:
            checkpoint = index.read()
            if checkpoint is not None:
                ring.skip_to(checkpoint.ordinal + 1)
        return cls(path, found.identity, ring, index, vault, keystore.location, lock)

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
    def keeps_vectors(self) -> bool:
        """Whether there is room for vectors; a small file leaves them out."""
        return self._geometry.index_bytes > 0

    @property
    def full(self) -> bool:
        """Whether the oldest block has to go before the next one can be filled."""
        return self._ring.used_bytes >= self._geometry.live_blocks * self._geometry.block_size

    @property
    def marks(self) -> Marks:
        """Where sequence and clock go on from."""
        return Marks(self._ring.sequence, self._ring.clock)

    def append(self, events: Sequence[Event]) -> Appended:
        """Add events, readable at once and durable after `commit`.

        Raises StoreError, before anything is added, when one of them cannot be kept; StoreFailed.
        """
        records = [encode_event(event, self.device) for event in events]
        longest = self._ring.record_bytes_max
        for event, record in zip(events, records, strict=True):
            if len(record) > longest:
                raise StoreError(
                    f"event {event.id}: {len(record)} bytes, and a store of "
                    f"{self._geometry.size} bytes takes {longest}; make the store larger"
                )
        ordinals: list[int] = []
        evicted: list[int] = []
        with self._ring.writing:
            for event, record in zip(events, records, strict=True):
                if event.device == self.device:
                    self._ring.note(event.sequence, event.clock)
                ordinal, left = self._ring.append(EVENT, record)
                ordinals.append(ordinal)
                evicted.extend(left)
        return Appended(ordinals, evicted)

    def append_vectors(
        self, vectors: Sequence[tuple[int, npt.NDArray[np.float32]]], *, encoder: str = ""
    ) -> list[int]:
        """Add the unit vectors of events, by ordinal; returns the events evicted.

        `encoder` is the fingerprint of what made them. Vectors of events that are not live, and all
        where `keeps_vectors` is false, are left out. Raises StoreError for a vector that is not of
        unit length or not like the others; StoreFailed.
        """
        if not self.keeps_vectors:
            return []
        evicted: list[int] = []
        made_by = encoder_id(encoder)
        with self._ring.writing:
            for start in range(0, len(vectors), VECTORS_PER_RECORD):
                some = vectors[start : start + VECTORS_PER_RECORD]
                live = self._ring.live((ordinal for ordinal, _ in some), EVENT)
                kept = [(ordinal, vector) for ordinal, vector in some if ordinal in live]
                if kept:
                    record = encode_vectors(self._ring.next_ordinal, made_by, kept)
                    evicted.extend(self._ring.append(VECTORS, record)[1])
        return evicted

    def commit(self) -> None:
        """Return once everything appended is durable.

        Raises StoreFailed, and from then on at every append and commit.
        """
        self._ring.commit()

    def get(self, ordinal: int) -> Event | None:
        """The event; None once it was evicted, repeated by a newer record, or damaged."""
        record = self._ring.read(ordinal, EVENT)
        if record is None:
            return None
        try:
            return decode_event(record, self.device)
        except StoreError:
            self._ring.lose(ordinal)
            return None

    def scan(self) -> Iterator[tuple[int, Event]]:
        """The live events with their ordinals, oldest first, as of the call."""
        for ordinal in self._ring.ordinals(EVENT):
            event = self.get(ordinal)
            if event is not None:
                yield ordinal, event

    def vectors(
        self, *, encoder: str | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """The unit vectors of live events, by event ordinal; a later one of an event counts.

        With `encoder`, only those that it made.
        """
        made_by = None if encoder is None else encoder_id(encoder)
        for ordinal in self._ring.ordinals(VECTORS):
            record = self._ring.read(ordinal, VECTORS)
            if record is None:
                continue
            try:
                found, events, units = decode_vectors(ordinal, record)
            except StoreError:
                self._ring.lose(ordinal)
                continue
            if made_by in (None, found):
                numbered = events.tolist()
                live = self._ring.live(numbered, EVENT)
                for event, unit in zip(numbered, units, strict=True):
                    if event in live:
                        yield event, unit

    def write_checkpoint(self, payload: bytes) -> bool:
        """Commit, then keep `payload` in the index section; False if it does not fit.

        Raises StoreFailed.
        """
        with self._ring.writing:
            if len(payload) > self._index.capacity:
                return False
            self._ring.commit()
            try:
                return self._index.write(self._ring.next_ordinal - 1, payload)
            except OSError as error:
                self._ring.fail(error)

    def read_checkpoint(self) -> tuple[int, bytes] | None:
        """(ordinal up to which it knows the store, payload) of the newest whole checkpoint."""
        with self._ring.writing:
            checkpoint = self._index.read()
        return None if checkpoint is None else (checkpoint.ordinal, checkpoint.payload)

    def stats(self) -> StoreStats:
        """The state of the store."""
        ordinals = self._ring.ordinals(EVENT)
        return StoreStats(
            path=str(self.path),
            size_bytes=self._geometry.size,
            used_bytes=self._ring.used_bytes,
            events=len(ordinals),
            oldest_ordinal=ordinals[0] if ordinals else None,
            newest_ordinal=ordinals[-1] if ordinals else None,
            damaged=self._ring.directory.lost,
            key_location=self._key_location,
        )

    def derive_key(self, purpose: str) -> bytes:
        """32 bytes that follow from the store's own key, the same for the same purpose."""
        return self._vault.derive_key(purpose)

    def close(self) -> None:
        """Commit and give the file back; harmless when repeated.

        Raises StoreFailed when something appended could not be made durable.
        """
        try:
            self._ring.close()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot open {path}: {reason(error)}") from None
    return True


def _create(path: Path, size: int, keystore: KeyStore, random: Random, *, create: bool) -> None:
    geometry = _geometry(str(path), size, create=create)
    slots = new_slots(geometry, keystore, random)
    create_file(path, size, lambda fd: write_all(fd, 0, slots), random)


def _create_on(disk: Disk, size: int, keystore: KeyStore, random: Random, *, create: bool) -> None:
    geometry = _geometry("the disk", size, create=create)
    slots = new_slots(geometry, keystore, random)
    try:
        disk.pwrite(geometry.size - 1, b"\0")
        disk.pwrite(0, slots)
        disk.sync()
    except OSError as error:
        raise StoreError(f"cannot create a store of {size} bytes: {reason(error)}") from None


def _geometry(name: str, size: int, *, create: bool) -> Geometry:
    if not create:
        raise StoreError(f"no store at {name}; record something to make one")
    return Geometry.of(size)
