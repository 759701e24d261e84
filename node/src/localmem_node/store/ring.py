"""The ring: sealed records appended at the head, dropped at the tail, durable at each commit.

A commit writes the blocks that were finished, syncs, then writes the header and the open block to
the older of two slots and syncs. So nothing that was acknowledged is ever overwritten by a commit
that may fail: finished blocks are written once, into space that no durable header counts on, and of
the open block the last acknowledged copy stays in the other slot. No space is lost to padding.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from localmem_node.errors import StoreError, StoreFailed
from localmem_node.seams import Disk
from localmem_node.store.blocks import (
    BODY_BYTES_MAX,
    BODY_BYTES_MIN,
    NONCE_BYTES,
    OPEN_ID_BYTES,
    RECORD_HEADER_BYTES,
    associated,
    parse_block,
    read_record_header,
)
from localmem_node.store.layout import (
    BLOCK_HEADER_BYTES,
    Geometry,
    Identity,
    State,
    finish_header,
    pack_header,
)
from localmem_node.store.recovery import Recovered
from localmem_node.store.vault import Vault
from localmem_protocol.seams import Random

PENDING_BLOCKS_MAX: Final = 1024
"""Finished blocks kept in memory before `append` commits on its own account."""

_log = logging.getLogger(__name__)

Reader = Callable[[int, int], bytes]


class Ring:
    """An open ring. One writer at a time (others wait), any number of readers."""

    def __init__(
        self, disk: Disk, read: Reader, vault: Vault, random: Random, found: Recovered, name: str
    ) -> None:
        """`read(offset, size)` serves `read`; `name` is for messages."""
        self.geometry: Geometry = found.identity.geometry
        self.directory = found.directory
        self.tail = found.tail
        self.sequence = found.state.sequence
        self.clock = found.state.clock
        self._disk, self._pread, self._vault, self._random = disk, read, vault, random
        self._identity: Identity = found.identity
        capacity = self.geometry.live_blocks * found.opened.capacity - RECORD_HEADER_BYTES
        self.record_bytes_max = min(capacity, BODY_BYTES_MAX) - BODY_BYTES_MIN
        self._name = name
        self._open = found.opened
        self._pending: dict[int, bytes] = {}
        self._openings = [number for number, _ in found.openings]
        self._ciphers = [vault.records(open_id) for _, open_id in found.openings]
        self._slot = found.slot
        self._generation = found.generation
        self._durable_open = self._open.packed()
        self._durable = self._state(self._durable_open)
        self._own: AESGCM | None = None
        self._dirty = False
        self._failed: str | None = None
        self._closed = False
        self.writing = threading.RLock()
        self._lock = threading.Lock()

    @property
    def next_ordinal(self) -> int:
        """What the next record gets."""
        return self._open.next_ordinal

    @property
    def used_bytes(self) -> int:
        """Bytes of live blocks."""
        return (self._open.number - self.tail) * self.geometry.block_size + len(self._open.payload)

    def settle(self) -> None:
        """Make durable what recovery found beyond the slots. Raises StoreFailed."""
        with self.writing:
            try:
                self._write_slot(self._durable, self._durable_open)
            except OSError as error:
                self.fail(error)

    def skip_to(self, ordinal: int) -> None:
        """Never give out an ordinal below this one."""
        with self.writing, self._lock:
            self._open.skip_to(ordinal)
            self._collect()
            self.directory.lose_until(self._open.next_ordinal)

    def append(self, kind: int, plain: bytes) -> tuple[int, list[int]]:
        """Add a record; durable after `commit`. Returns its ordinal and the events evicted.

        Raises StoreError for one that is too long, StoreFailed after a failure.
        """
        with self.writing:
            self.check()
            if len(plain) > self.record_bytes_max:
                raise StoreError(
                    f"a record of {len(plain)} bytes does not fit into {self._name}, which takes "
                    f"{self.record_bytes_max}; make the store larger"
                )
            cipher = self._own or self._begin()
            with self._lock:
                ordinal, position = self._open.next_ordinal, self._open.position()
                nonce = self._random.token_bytes(NONCE_BYTES)
                sealed = cipher.encrypt(nonce, plain, associated(kind, ordinal, position))
                self._open.place(kind, nonce + sealed)
                self.directory.put(ordinal, position, kind)
                self._dirty = True
                self._collect()
                evicted = self._evict()
            if len(self._pending) >= PENDING_BLOCKS_MAX:
                self.commit()
            return ordinal, evicted

    def commit(self) -> None:
        """Return once everything appended is durable. Raises StoreFailed, then for good."""
        with self.writing:
            self.check()
            if not self._dirty:
                return
            packed = self._open.packed()
            try:
                self._write_pending()
                self._write_slot(self._state(packed), packed)
            except OSError as error:
                self.fail(error)
            with self._lock:
                self._pending.clear()
            self._dirty = False

    def close(self) -> None:
        """Commit, leave both slots alike if anything was written, and give the disk back.

        Raises StoreFailed when something appended could not be committed; after an earlier
        failure it only gives the disk back. Closing twice is harmless.
        """
        with self.writing:
            if self._closed:
                return
            try:
                if self._failed is None:
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
            body = self._gather(position, kind)
            cipher = self._ciphers[
                bisect_right(self._openings, position // self.geometry.block_size) - 1
            ]
        try:
            if body is not None:
                bound = associated(kind, ordinal, position)
                return cipher.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
        except InvalidTag:
            pass
        self.lose(ordinal)
        return None

    def note(self, sequence: int, clock: int) -> None:
        """Raise the marks that the header keeps; durable with the next commit that has a record."""
        self.sequence = max(self.sequence, sequence)
        self.clock = max(self.clock, clock)

    def lose(self, ordinal: int) -> None:
        """Count a record as damaged, unless it was evicted meanwhile."""
        with self._lock:
            self.directory.lose(ordinal)
        _log.warning("%s: record %d is damaged", self._name, ordinal)

    def ordinals(self, kind: int) -> list[int]:
        """The live records of a kind, oldest first."""
        with self._lock:
            return self.directory.ordinals(kind)

    def live(self, ordinals: Iterable[int], kind: int) -> set[int]:
        """Which of these records are there."""
        with self._lock:
            position = self.directory.position
            return {ordinal for ordinal in ordinals if position(ordinal, kind) is not None}

    def check(self) -> None:
        """Raises StoreFailed after a failure, StoreError when closed."""
        if self._closed:
            raise StoreError(f"{self._name} is closed; open it again")
        if self._failed is not None:
            raise StoreFailed(self._failed)

    def fail(self, error: OSError) -> NoReturn:
        """From now on nothing is acknowledged. Raises StoreFailed."""
        self._failed = (
            f"{self._name}: a write failed ({error.strerror or error}); nothing more is recorded "
            "until it is opened again: check the disk, then restart"
        )
        _log.error("%s", self._failed)
        raise StoreFailed(self._failed) from error

    def _mirror(self) -> None:
        """Both slots the same, so that either suffices while the store is closed."""
        if self._own is None:
            return
        try:
            self._write_slot(self._durable, self._durable_open)
        except OSError as error:
            _log.warning("%s: the second header was not written: %s", self._name, error)

    def _begin(self) -> AESGCM:
        """Start writing under an open id of our own; what is in the open block is sealed anew.

        The acknowledged copy in the slot stays as it is until the next commit is whole.
        """
        open_id = self._random.token_bytes(OPEN_ID_BYTES)
        cipher = self._vault.records(open_id)
        with self._lock:
            block = self._open.block()
            base = block.number * self.geometry.block_size + BLOCK_HEADER_BYTES
            starts = list(block.starts(self._open.capacity))
            for ordinal, (offset, kind, length) in enumerate(starts, block.ordinal):
                start = offset + RECORD_HEADER_BYTES
                bound = associated(kind, ordinal, base + offset)
                body = block.payload[start : start + length]
                try:
                    plain = self._ciphers[-1].decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
                except InvalidTag:
                    continue
                nonce = self._random.token_bytes(NONCE_BYTES)
                self._open.payload[start : start + length] = nonce + cipher.encrypt(
                    nonce, plain, bound
                )
            self._open.open_id = open_id
            if self._openings and self._openings[-1] == block.number:
                self._ciphers[-1] = cipher
            else:
                self._openings.append(block.number)
                self._ciphers.append(cipher)
        self._own = cipher
        return cipher

    def _collect(self) -> None:
        self._pending.update(self._open.finished)
        self._open.finished.clear()

    def _evict(self) -> list[int]:
        tail = self._open.number - self.geometry.live_blocks
        if tail <= self.tail:
            return []
        for number in range(self.tail, tail):
            self._pending.pop(number, None)
        self.tail = tail
        return self.directory.evict_before(tail * self.geometry.block_size)

    def _write_pending(self) -> None:
        if not self._pending:
            return
        # The blocks about to be overwritten may still count for the durable header; then a header
        # that no longer counts on them goes first.
        needed = min(self._open.number - self.geometry.blocks, self._durable.head)
        if self._durable.tail < needed:
            self._write_slot(self._retreated(), self._durable_open)
        numbers = sorted(self._pending)
        start = 0
        for index in range(1, len(numbers) + 1):
            if index == len(numbers) or numbers[index] % self.geometry.blocks == 0:
                run = numbers[start:index]
                data = b"".join(self._pending[number] for number in run)
                self._disk.pwrite(self.geometry.offset(run[0]), data)
                start = index
        self._disk.sync()

    def _retreated(self) -> State:
        """The durable state without the blocks that are no longer live."""
        durable = self._durable
        if self.tail <= durable.head:
            first = min(self.directory.first, durable.next_ordinal)
            return replace(durable, tail=self.tail, first_ordinal=first)
        block = parse_block(self._durable_open, self.geometry.block_size)
        assert block is not None
        return replace(durable, tail=durable.head, first_ordinal=block.ordinal)

    def _write_slot(self, state: State, packed: bytes) -> None:
        """Write to the older slot and sync; then it is the newer. Raises OSError."""
        state = replace(state, generation=self._generation + 1)
        target = 1 - self._slot
        self._disk.pwrite(
            target * self.geometry.slot_bytes,
            pack_slot(self._identity, state, packed, self._vault),
        )
        self._disk.sync()
        self._generation, self._slot = state.generation, target
        self._durable, self._durable_open = state, packed

    def _state(self, packed: bytes) -> State:
        return State(
            generation=self._generation,
            head=self._open.number,
            tail=self.tail,
            first_ordinal=self.directory.first,
            next_ordinal=self._open.next_ordinal,
            sequence=self.sequence,
            clock=self.clock,
            used=len(self._open.payload),
            open_checksum=int.from_bytes(packed[:4], "little"),
        )

    def _gather(self, position: int, kind: int) -> bytes | None:
        """The body of the record at a position, or None where none can be."""
        size = self.geometry.block_size
        number, offset = divmod(position, size)
        header = self._slice(number, offset, RECORD_HEADER_BYTES)
        if len(header) < RECORD_HEADER_BYTES:
            return None
        found, missing = read_record_header(header)
        if found != kind or not BODY_BYTES_MIN <= missing <= self.record_bytes_max + BODY_BYTES_MIN:
            return None
        offset += RECORD_HEADER_BYTES
        if missing <= size - offset:
            return self._slice(number, offset, missing)
        pieces: list[bytes] = []
        while missing and number <= self._open.number:
            pieces.append(self._slice(number, offset, min(missing, size - offset)))
            missing -= min(missing, size - offset)
            number, offset = number + 1, BLOCK_HEADER_BYTES
        return b"".join(pieces)

    def _slice(self, number: int, offset: int, size: int) -> bytes:
        if number == self._open.number:
            start = offset - BLOCK_HEADER_BYTES
            return bytes(self._open.payload[start : start + size])
        pending = self._pending.get(number)
        if pending is not None:
            return pending[offset : offset + size]
        return self._pread(self.geometry.offset(number) + offset, size)


def pack_slot(identity: Identity, state: State, packed: bytes, vault: Vault) -> bytes:
    """The bytes of a slot: the header, zeros to the end of its block, the open block."""
    tagged = pack_header(identity, state)
    header = finish_header(tagged, vault.tag(tagged))
    return header.ljust(identity.geometry.block_size, b"\0") + packed
