"""The ring: sealed records appended at the head, dropped at the tail, durable at each commit.

A commit writes the blocks that were finished, syncs, then writes the header and the open block to
the older of two slots and syncs. So nothing that was acknowledged is ever overwritten by a commit
that may fail: finished blocks are written once, into space that no durable header counts on, and of
the open block the last acknowledged copy stays in the other slot. No space is lost to padding.

When the ring is full, the tail moves on block by block. A record there that `keep` speaks for is
copied to the head before (the second chance of log-structured cleaning: Rosenblum, Ousterhout, "The
Design and Implementation of a Log-Structured File System", 1992). The header that no longer counts
on the original is written with the copy or after it, and before anything takes the original's place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from localmem_node.errors import PinsFull, StoreError, StoreFailed
from localmem_node.seams import Disk
from localmem_node.store.blocks import (
    BODY_BYTES_MAX,
    BODY_BYTES_MIN,
    NONCE_BYTES,
    OPEN_ID_BYTES,
    RECORD_HEADER_BYTES,
    associated,
)
from localmem_node.store.bodies import Bodies, Reader
from localmem_node.store.ciphers import Ciphers
from localmem_node.store.directory import EVENT, FORGOTTEN, NO_ID, PINNED
from localmem_node.store.layout import BLOCK_HEADER_BYTES, Geometry, State
from localmem_node.store.records import id_texts
from localmem_node.store.recovery import Recovered, Saved
from localmem_node.store.reports import Change
from localmem_node.store.slots import Slots
from localmem_node.store.vault import Vault
from localmem_protocol.lineage import RUN_BYTES, Lineage, Reach
from localmem_protocol.seams import Random

PENDING_BLOCKS_MAX: Final = 1024
"""Finished blocks kept in memory before `append` commits on its own account."""

_log = logging.getLogger(__name__)

RECORD_OVERHEAD: Final = RECORD_HEADER_BYTES + BODY_BYTES_MIN
"""Ring bytes of a record beside what is in it."""

Keep = Callable[[int, int], bool]
"""Whether the event with this ordinal, a record of so many bytes, earns another round."""


class Ring:
    """An open ring. One writer at a time (others wait), any number of readers.

    `keep` is asked about events at the tail, in the writer's thread, while no lock is held that a
    reader waits for.
    """

    def __init__(
        self, disk: Disk, read: Reader, vault: Vault, random: Random, found: Recovered, name: str
    ) -> None:
        """`read(offset, size)` serves what was read from the disk before; `name` is for messages."""
        self.geometry: Geometry = found.identity.geometry
        self.directory = found.directory
        self.tail = found.tail
        self.sequence = found.state.sequence
        self.clock = found.state.clock
        self.lineage = found.state.lineage
        self._disk, self._vault, self._random = disk, vault, random
        self.record_bytes_max = (
            min(self.geometry.record_space - RECORD_HEADER_BYTES, BODY_BYTES_MAX) - BODY_BYTES_MIN
        )
        self.keep: Keep = lambda ordinal, size: False
        self.copied_bytes = 0
        self._name = name
        self._open = found.opened
        longest = self.record_bytes_max + BODY_BYTES_MIN
        self._bodies = Bodies(self.geometry, disk, read, found.opened, longest)
        self._pending = self._bodies.pending
        if found.verified:
            self._bodies.trust_map()
        self._ciphers = Ciphers(vault, found.openings)
        packed = self._open.packed()
        self._slots = Slots(
            disk,
            found.identity,
            vault,
            newest=found.slot,
            generation=found.generation,
            durable=self._state(packed),
            durable_open=packed,
        )
        self._own: AESGCM | None = None
        self._dirty = False
        self._failed: str | None = None
        self._closed = False
        self.writing = threading.RLock()
        self._lock = threading.Lock()
        self.kept_bytes = sum(map(self._kept_bytes_of, self.directory.kept_ordinals()))

    @property
    def next_ordinal(self) -> int:
        """What the next record gets."""
        return self._open.next_ordinal

    @property
    def reach(self) -> Reach:
        """How far it has got: the ordinal of the newest record on the medium, in its run."""
        return self.lineage.reach(self._slots.durable.next_ordinal - 1)

    @property
    def used_bytes(self) -> int:
        """Bytes of live blocks."""
        return (self._open.number - self.tail) * self.geometry.block_size + len(self._open.payload)

    def settle(self) -> None:
        """Make durable what recovery found beyond the slots. Raises StoreFailed."""
        with self.writing:
            try:
                self._slots.repeat()
            except OSError as error:
                self.fail(error)

    def skip_to(self, ordinal: int) -> None:
        """Never give out an ordinal below this one, durably. Raises StoreFailed."""
        with self.writing:
            with self._lock:
                self._open.skip_to(ordinal)
                self._collect()
                self.directory.lose_until(self._open.next_ordinal)
                self._dirty = True
            self.commit()

    def append(self, kind: int, plain: bytes, event_id: bytes = NO_ID) -> tuple[int, Change]:
        """Add a record; durable after `commit`. Returns its ordinal and what made room for it.

        Raises StoreError for one that is too long, StoreFailed after a failure.
        """
        with self.writing:
            self.check()
            if len(plain) > self.record_bytes_max:
                raise StoreError(
                    f"a record of {len(plain)} bytes does not fit into {self._name}, which takes "
                    f"{self.record_bytes_max}; make the store larger"
                )
            if kind == EVENT | PINNED:
                self._check_pin(RECORD_OVERHEAD + len(plain))
            change = self.reserve(len(plain))
            ordinal = self._place(kind, plain, event_id)
            if len(self._pending) >= PENDING_BLOCKS_MAX:
                self.commit()
            return ordinal, change

    def reserve(self, length: int) -> Change:
        """Make room for a record of `length` plain bytes; what that did.

        An append of so many bytes or fewer then gets `next_ordinal`: no copy comes before it. Raises
        StoreFailed.
        """
        with self.writing:
            self.check()
            space = self.geometry.live_blocks - 3  # what is begun at either end is lost to all
            if RECORD_OVERHEAD + length + self.kept_bytes > space * self._open.capacity:
                raise StoreError(
                    f"a record of {length} bytes does not fit into {self._name} beside what is "
                    "pinned there; unpin some, or make the store larger: localmem resize"
                )
            if self._own is None:
                self._begin()
            return self._make_room(length)

    def _kept_bytes_of(self, ordinal: int) -> int:
        """What a record counts for among those that are kept for good."""
        for kind in (EVENT, FORGOTTEN):
            size = self.size_of(ordinal, kind)
            if size:
                pinned = PINNED if self.directory.pinned(ordinal) else 0
                return self.geometry.kept_cost(kind | pinned, size)
        return 0

    def supersede(self, ordinal: int) -> None:
        """A record that a newer one stands for, or that nobody is to see again."""
        kept = self._kept_bytes_of(ordinal)
        with self._lock:
            self.directory.supersede(ordinal)
            self.kept_bytes -= kept

    def size_of(self, ordinal: int, kind: int) -> int:
        """Bytes that a live record takes in the ring; 0 for one that is gone."""
        with self._lock:
            position = self.directory.position(ordinal, kind)
            header = None if position is None else self._bodies.header_at(position)
        return 0 if header is None else RECORD_HEADER_BYTES + header[1]

    def commit(self) -> None:
        """Return once everything appended is durable. Raises StoreFailed, then for good."""
        with self.writing:
            self.check()
            if not self._dirty:
                return
            packed = self._open.packed()
            try:
                self._write_pending()
                self._slots.write(self._state(packed), packed)
            except OSError as error:
                self.fail(error)
            with self._lock:
                self._pending.clear()
            self._dirty = False

    def close(self, *, commit: bool = True) -> None:
        """Commit, leave both slots alike if anything was written, and give the disk back.

        Raises StoreFailed when something appended could not be committed; after an earlier
        failure it only gives the disk back. Closing twice is harmless.
        """
        with self.writing:
            if self._closed:
                return
            try:
                if commit and self._failed is None:
                    self.commit()
                    self._mirror()
            finally:
                with self._lock:
                    self._closed = True
                    self._disk.close()

    def read(self, ordinal: int, kind: int) -> bytes | None:
        """The plain bytes of a live record; None for one that is gone or damaged."""
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._name} is closed; open it again")
            position = self.directory.position(ordinal, kind)
            if position is None:
                return None
            found = kind | PINNED if self.directory.pinned(ordinal) else kind
            body = self._bodies.at(position, found)
            cipher = self._ciphers.of(position // self.geometry.block_size)
        try:
            if body is not None:
                bound = associated(found, ordinal, position)
                return cipher.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
        except InvalidTag:
            pass
        self.lose(ordinal)
        return None

    def note(self, sequence: int, clock: int) -> None:
        """Raise the marks that the header keeps; durable with the next commit that has a record."""
        self.sequence = max(self.sequence, sequence)
        self.clock = max(self.clock, clock)

    def inherit(self, lineage: Lineage) -> None:
        """Go on in the run of the file whose place this one takes; durable as what is noted."""
        self.lineage = lineage

    def lose(self, ordinal: int) -> None:
        """Count a record as damaged, unless it was evicted meanwhile."""
        with self._lock:
            self.directory.lose(ordinal)
        _log.warning("%s: record %d is damaged", self._name, ordinal)

    def ordinals(self, kind: int, start: int = 0) -> list[int]:
        """The live records of a kind with ordinals from `start`, oldest first."""
        with self._lock:
            return self.directory.ordinals(kind, start)

    def named(self, kind: int, start: int = 0) -> tuple[list[int], list[str]]:
        """The live records of a kind with ordinals from `start`, and their ids, of one moment."""
        with self._lock:
            ordinals = self.directory.ordinals(kind, start)
            names = self.directory.event_ids(ordinals)
        return ordinals, id_texts(names)

    def ids(self, ordinals: Sequence[int]) -> list[str]:
        """The ids of live events."""
        with self._lock:
            names = self.directory.event_ids(ordinals)
        return id_texts(names)

    def pinned(self) -> list[int]:
        """The live pinned events, oldest first."""
        with self._lock:
            return [o for o in self.directory.kept_ordinals() if self.directory.pinned(o)]

    def lost_ranges(self) -> list[tuple[int, int]]:
        """Runs of lost ordinals, as (first, one past the last)."""
        with self._lock:
            return self.directory.lost_ranges()

    def live(self, ordinals: Iterable[int], kind: int) -> set[int]:
        """Which of these records are there."""
        with self._lock:
            position = self.directory.position
            return {ordinal for ordinal in ordinals if position(ordinal, kind) is not None}

    def saved(self) -> Saved:
        """What opening again starts from. Precondition: everything is committed."""
        with self._lock:
            return Saved(
                head=self._open.number,
                openings=self._ciphers.openings(),
                columns=self.directory.save(),
            )

    @property
    def durable_head(self) -> int:
        """Blocks with lower numbers are finished, and on the medium."""
        return self._slots.durable.head

    def read_medium(self, offset: int, size: int) -> bytes:
        """Bytes of the file, not by way of the map; none where the medium cannot be read."""
        try:
            return self._disk.pread(offset, size)
        except OSError:
            return b""

    def trust_map(self) -> None:
        """All of the ring has been read from the medium."""
        self._bodies.trust_map()

    def touching(self, number: int) -> list[tuple[int, int | None]] | None:
        """(ordinal, kind) of the live records in a block, one that may run on into it with None for
        its kind; None for a block that counts no longer.
        """
        size = self.geometry.block_size
        with self._lock:
            if number < self.tail:
                return None
            found: list[tuple[int, int | None]] = []
            found += self.directory.between(number * size, (number + 1) * size)
            before = self.directory.before(number * size)
            return found if before is None else [*found, (before, None)]

    def check(self) -> None:
        """Raises StoreFailed after a failure, StoreError when closed."""
        if self._closed:
            raise StoreError(f"{self._name} is closed; open it again")
        if self._failed is not None:
            raise StoreFailed(self._failed)

    def fail(self, error: OSError) -> NoReturn:
        """From now on nothing is acknowledged. Raises StoreFailed."""
        raise StoreFailed(self.give_up(error)) from error

    def give_up(self, error: OSError) -> str:
        """From now on nothing is acknowledged; the reason."""
        self._failed = (
            f"{self._name}: a write failed ({error.strerror or error}); nothing more is recorded "
            "until it is opened again: check the disk, then restart"
        )
        _log.error("%s", self._failed)
        return self._failed

    def _mirror(self) -> None:
        """Both slots the same, so that either suffices while the store is closed."""
        if self._own is None:
            return
        try:
            self._slots.repeat()
        except OSError as error:
            _log.warning("%s: the second header was not written: %s", self._name, error)

    def _begin(self) -> None:
        """Start writing under an open id of our own; what is in the open block is sealed anew.

        The acknowledged copy in the slot stays as it is until the next commit is whole.
        """
        open_id = self._random.token_bytes(OPEN_ID_BYTES)
        self.lineage = self.lineage.begun(
            self.next_ordinal - 1, self._random.token_bytes(RUN_BYTES)
        )
        with self._lock:
            block = self._open.block()
            before = self._ciphers.of(block.number) if self._ciphers.openings() else None
            self._own = cipher = self._ciphers.begin(block.number, open_id)
            base = block.number * self.geometry.block_size + BLOCK_HEADER_BYTES
            starts = list(block.starts(self._open.capacity))
            for ordinal, (offset, kind, length) in enumerate(starts, block.ordinal):
                start = offset + RECORD_HEADER_BYTES
                bound = associated(kind, ordinal, base + offset)
                body = block.payload[start : start + length]
                assert before is not None
                try:
                    plain = before.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
                except InvalidTag:
                    continue
                nonce = self._random.token_bytes(NONCE_BYTES)
                self._open.payload[start : start + length] = nonce + cipher.encrypt(
                    nonce, plain, bound
                )
            self._open.open_id = open_id

    def _make_room(self, length: int) -> Change:
        """Move the tail on until a record of `length` plain bytes can be placed."""
        change = Change([], [])
        blocks, live_blocks = self.geometry.blocks, self.geometry.live_blocks
        while True:
            number = self._open.number_after(length + BODY_BYTES_MIN)
            if number - live_blocks > self.tail:
                self._advance(change)
            elif number - blocks > self._slots.durable.tail:
                self.commit()  # what would be overwritten still counts for the durable header
            else:
                return change

    def _advance(self, change: Change) -> None:
        """Give up the oldest block, after copying forward what is to be kept."""
        size = self.geometry.block_size
        with self._lock:
            here = self.directory.between(self.tail * size, (self.tail + 1) * size)
        for ordinal, kind in here:
            if kind in (FORGOTTEN, EVENT | PINNED) or (
                kind == EVENT and self.keep(ordinal, self.size_of(ordinal, kind))
            ):
                copy = self._copy_forward(ordinal, kind)
                if copy is not None and kind != FORGOTTEN:
                    change.moved.append((ordinal, copy))
        with self._lock:
            self._pending.pop(self.tail, None)
            self.tail += 1
            self._dirty = True
            change.evicted.extend(self.directory.evict_before(self.tail * size))

    def _copy_forward(self, ordinal: int, kind: int) -> int | None:
        """The ordinal of the copy; None for a record that is damaged, or finds no free space."""
        plain = self.read(ordinal, kind & ~PINNED)
        if plain is None:
            return None
        number = self._open.number_after(len(plain) + BODY_BYTES_MIN)
        if number - self.geometry.blocks > self.tail:
            if kind != EVENT:  # what must stay was refused when it was too long for that
                _log.error("%s: no free space to keep record %d in", self._name, ordinal)
            return None
        if number - self.geometry.blocks > self._slots.durable.tail:
            self.commit()
        copy = self._place(kind, plain, self.directory.event_id(ordinal))
        self.supersede(ordinal)
        self.copied_bytes += RECORD_OVERHEAD + len(plain)
        return copy

    def _place(self, kind: int, plain: bytes, event_id: bytes) -> int:
        assert self._own is not None
        with self._lock:
            ordinal, position = self._open.next_ordinal, self._open.position()
            nonce = self._random.token_bytes(NONCE_BYTES)
            sealed = self._own.encrypt(nonce, plain, associated(kind, ordinal, position))
            self._open.place(kind, nonce + sealed)
            self.directory.put(ordinal, position, kind, event_id)
            self.kept_bytes += self.geometry.kept_cost(kind, RECORD_OVERHEAD + len(plain))
            self._dirty = True
            self._collect()
        return ordinal

    def _check_pin(self, size: int) -> None:
        most, longest = self.geometry.record_space, self.geometry.copied_space
        if size > longest:
            raise PinsFull(
                f"an event of {size} bytes cannot be pinned in a store of {self.geometry.size} "
                f"bytes, only one of up to {longest}; make the store larger: localmem resize"
            )
        if self.kept_bytes + self.geometry.kept_cost(EVENT | PINNED, size) > most:
            raise PinsFull(
                f"pinned events take {self.kept_bytes} of {most} bytes that may be pinned in "
                "this store; unpin some, or make the store larger: localmem resize"
            )

    def _collect(self) -> None:
        self._pending.update(self._open.finished)
        self._open.finished.clear()

    def _write_pending(self) -> None:
        if not self._pending:
            return
        numbers = sorted(self._pending)
        assert numbers[-1] - self.geometry.blocks < self._slots.durable.tail
        start = 0
        for index in range(1, len(numbers) + 1):
            if index == len(numbers) or numbers[index] % self.geometry.blocks == 0:
                run = numbers[start:index]
                data = b"".join(self._pending[number] for number in run)
                self._disk.pwrite(self.geometry.offset(run[0]), data)
                start = index
        self._disk.sync()

    def _state(self, packed: bytes) -> State:
        return State(
            generation=0,  # given when it is written
            head=self._open.number,
            tail=self.tail,
            first_ordinal=self.directory.first,
            next_ordinal=self._open.next_ordinal,
            sequence=self.sequence,
            clock=self.clock,
            lineage=self.lineage,
            used=len(self._open.payload),
            open_checksum=int.from_bytes(packed[:4], "little"),
        )
