"""A store in a new file: of another size, under new keys, without what was forgotten.

The new file is made beside the old one, filled while the old one goes on being read and written,
and takes its name in one step; a crash leaves either the old store or the new one, whole. The new
file has a new data key, so that what remains of the old one on the medium stays sealed even to
somebody who learns the new key; the old file is overwritten as well.

Ordinals in the new file begin above those of the old one, so that none means two events.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from localmem_node.errors import PinsFull, StoreError
from localmem_node.seams import KeyStore
from localmem_node.store.creation import Origin
from localmem_node.store.disk import reason, sync_directory, wipe_file
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import SLACK_SHARE, Geometry
from localmem_node.store.open_file import create_at, open_path
from localmem_node.store.reports import Appended
from localmem_node.store.vector_records import Vector
from localmem_protocol.seams import Random

ORDINALS_APART: Final = 1_000_000
"""More events than are recorded while a file is being rewritten."""

CHUNK_EVENTS: Final = 256
"""Events copied at a time: some 10 ms in which nothing else of this thread happens."""

_log = logging.getLogger(__name__)


class Placed(NamedTuple):
    """The vectors that go along, each beside its event, and none of another encoder.

    `of` gives those of some events, by ordinal.
    """

    encoder: bytes
    of: Callable[[Sequence[int]], Sequence[tuple[int, Vector]]]


class Rewrite:
    """A new file in the making. Call `copy` until it returns False, then `finish`, or `abandon`.

    `copy` may run beside the store's readers and writer; `finish` only in the writer's place. What is
    forgotten in between is hidden in the new file, which then has to be rewritten as well. `copied`
    counts events. Once `durable`, nobody needs the old file any more, nor its key.
    """

    def __init__(
        self,
        store: EventStore,
        keystore: KeyStore,
        random: Random,
        *,
        size: int | None = None,
        recovery_key: bytes | None = None,
        placed: Placed | None = None,
    ) -> None:
        """Make the empty file, of `size` bytes or as large as the old one.

        `recovery_key` is a public key that takes the place of the one in use. Without `placed` all
        vectors go along, in the order of their records.

        Raises ConfigError for a size that cannot work, KeyUnavailable, and StoreError: no room on
        the disk for both files, for one.
        """
        self._store = store
        self._path = rewrite_path(store.path)
        self._first = store.file.ring.next_ordinal + ORDINALS_APART
        geometry = Geometry.of(store.geometry.size if size is None else size)
        self._keystore = keystore
        self._replaced: int | None = None
        discard(store.path)
        with ExitStack() as undo:
            undo.callback(discard, store.path)
            create_at(self._path, geometry, keystore, random, self._origin(recovery_key))
            self._target = EventStore(self._path, open_path(self._path, keystore, random), None)
            undo.callback(self._abandon_target)
            self._marks = store.forgotten.marks()
            self._target.forgotten.add(self._marks)
            undo.pop_all()
        self._events: deque[int] = deque()
        self._vectors: deque[int] = deque()
        self._placed = placed
        self._with_vector: set[int] = set()
        self._events_until = 0
        # With `placed` only those that are made from now on are copied by their records.
        self._vectors_until = store.file.ring.next_ordinal - 1 if placed else 0
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self.copied = 0
        self.durable = False

    def copy(self) -> bool:
        """Copy some events, and the vectors that go with them; whether there may be more."""
        if not self._events:
            self._events.extend(self._store.ordinals(self._events_until))
        chunk = [self._events.popleft() for _ in range(min(CHUNK_EVENTS, len(self._events)))]
        for ordinal in chunk:
            self._events_until = ordinal
            self._copy_event(ordinal)
        if self._placed:
            self._append_vectors(self._placed.of(chunk), self._placed.encoder)
        # Not those behind it: they may be of events that are not copied yet.
        self._copy_vectors(self._events_until)
        return bool(self._events)

    def finish(self, *, keep_as: Path | None = None) -> dict[int, int]:
        """Copy what is left, let the new file take the old one's place, and hand it to the store.

        Returns the new ordinal of every event that is in the new file, by its old one. The old file
        stays under the name `keep_as`, if that is given; else `wipe` overwrites it. Raises
        StoreError, and then the store goes on in the old file.
        """
        try:
            self._store.file.ring.check()
            for _ in range(2):  # what was not there when the last look was taken
                while self.copy():
                    pass
            for _ in range(2):
                self._copy_vectors(self._store.file.ring.next_ordinal)
            if self._store.file.ring.next_ordinal > self._first:
                raise StoreError("more was recorded than a rewriting foresees; try again")
            live = set(self._store.ordinals())
            for old in self._new.keys() - live:
                self._target.file.ring.supersede(self._new.pop(old))
            known = set(self._marks)
            fresh = [mark for mark in self._store.forgotten.marks() if mark not in known]
            self._target.forgotten.add(
                fresh, erased=False
            )  # the events may be in the new file already
            self._target.file.ring.note(*self._store.marks)
            self._target.file.ring.inherit(self._store.file.ring.lineage)
            self._target.commit()
            self._take_name(keep_as)
        except BaseException:
            self.abandon()
            raise
        # From here on the new file is the store, whatever else fails.
        self._store.adopt(self._target)
        try:
            sync_directory(self._store.path.parent)
        except OSError as error:  # after a power cut the old file may be back, and has to open
            self._store.file.ring.give_up(error)
            self._let_go()
        else:
            self.durable = True
        return self._new

    def wipe(self) -> None:
        """Overwrite the file that was replaced. May take a while, and hinders nobody."""
        replaced, self._replaced = self._replaced, None
        if replaced is None:
            return
        try:
            wipe_file(replaced)
        except OSError as error:
            _log.warning("the file that was replaced is not overwritten: %s", reason(error))
        finally:
            os.close(replaced)

    def abandon(self) -> None:
        """Give up; the store goes on in the old file."""
        self._abandon_target()
        self._let_go()
        discard(self._store.path)

    def _let_go(self) -> None:
        """Leave the file that was to be replaced as it is."""
        replaced, self._replaced = self._replaced, None
        if replaced is not None:
            os.close(replaced)

    def _abandon_target(self) -> None:
        salt = self._target.file.identity.salt
        with contextlib.suppress(StoreError):
            self._target.close()
        self._keystore.discard(salt)

    def _origin(self, recovery_key: bytes | None) -> Origin:
        sequence, clock = self._store.marks
        identity, keys = self._store.file.identity, self._store.file.vault.keys
        return Origin(
            device=identity.device,
            keys=keys if identity.version > 1 else None,
            recovery_key=recovery_key or identity.recovery_key,
            first_ordinal=self._first,
            sequence=sequence,
            clock=clock,
        )

    def _copy_event(self, ordinal: int) -> None:
        event = self._store.get(ordinal)
        if event is None:
            return
        earlier = self._new.get(self._by_id.get(event.id, 0))
        if earlier is not None:  # moved, or changed, since it was copied
            self._drop(earlier)
            self._target.file.ring.supersede(earlier)
        try:
            try:
                appended = self._target.append([event])
            except PinsFull:
                _log.warning("event %s is pinned no longer: there is no room for it", event.id)
                appended = self._target.append([msgspec.structs.replace(event, pinned=False)])
        except StoreError as error:
            self._target.file.ring.check()
            _log.warning("an event does not fit into the new file: %s", error)
            return
        self._follow(appended)
        new = appended.ordinals[0]
        self._new[ordinal], self._old[new], self._by_id[event.id] = new, ordinal, ordinal
        self.copied += 1

    def _copy_vectors(self, until: int) -> None:
        """Those up to an ordinal, so that vectors stay near their events and leave with them."""
        if not self._vectors:
            self._vectors.extend(self._store.vectors.ordinals(self._vectors_until))
        while self._vectors and self._vectors[0] <= until:
            self._vectors_until = self._vectors.popleft()
            found = self._store.vectors.at(self._vectors_until)
            if found is not None:
                made_by, ordinals, units = found
                if self._placed is None or made_by == self._placed.encoder:
                    self._append_vectors(list(zip(ordinals, units, strict=True)), made_by)

    def _append_vectors(self, vectors: Sequence[tuple[int, Vector]], made_by: bytes) -> None:
        """By the old ordinals of their events; with `placed`, one for each event."""
        pairs = [(self._new[old], unit) for old, unit in vectors if old in self._new]
        if self._placed:
            pairs = [pair for pair in pairs if pair[0] not in self._with_vector]
            self._with_vector.update(new for new, _ in pairs)
        self._follow(self._target.vectors.append_encoded(pairs, made_by))

    def _follow(self, appended: Appended) -> None:
        """What making room did in the new file."""
        for before, after in appended.moved:
            old = self._old.pop(before, None)
            if old is not None:
                self._new[old], self._old[after] = after, old
        for new in appended.evicted:
            self._drop(new)

    def _drop(self, new: int) -> None:
        old = self._old.pop(new, None)
        if old is not None:
            self._new.pop(old, None)

    def _take_name(self, keep_as: Path | None) -> None:
        path = self._store.path
        try:
            if keep_as is None:
                self._replaced = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            else:
                os.link(path, keep_as)
            os.rename(self._path, path)
        except OSError as error:
            raise StoreError(f"cannot replace {path}: {reason(error)}") from None


def migrate(store: EventStore, keystore: KeyStore, random: Random) -> None:
    """Put the store in a file of this release's format; the older file stays beside it as a copy."""
    copy = _free_name(store.path, store.file.identity.version)
    Rewrite(store, keystore, random, size=_size_for(store.geometry)).finish(keep_as=copy)
    _log.warning(
        "%s was rewritten in the format of this release; the file as it was is kept as %s",
        store.path,
        copy.name,
    )


def _size_for(old: Geometry) -> int:
    """A size whose ring holds what one of version 1 did, which kept less free and no large index."""
    needed = old.blocks - max(1, old.blocks // SLACK_SHARE)
    size = old.size
    while (missing := needed - Geometry.of(size).live_blocks) > 0:
        size += missing * old.block_size
    return size


def rewrite_path(path: Path) -> Path:
    """Where the new file of a store is made."""
    return path.with_name(f".{path.name}.rewrite")


def discard(path: Path) -> None:
    """Remove what a rewriting left that a crash cut off. The caller owns the store at `path`."""
    rewrite_path(path).unlink(missing_ok=True)


def copies(path: Path) -> Sequence[Path]:
    """Copies of a store in older formats that migrations have left beside it."""
    return sorted(path.parent.glob(f"{path.name}.v[0-9]*"))


def _free_name(path: Path, version: int) -> Path:
    number = 1
    name = path.with_name(f"{path.name}.v{version}")
    while name.exists():
        if name.samefile(path):  # of a migration that a crash cut off
            name.unlink()
            break
        number += 1
        name = path.with_name(f"{path.name}.v{version}.{number}")
    return name
