"""What was forgotten, and is not to come back: marks in records of their own in the ring.

A mark is a keyed hash of an event's id, under a key that outlives every file of the store; sealed as
every record is, so it tells nobody which event it stands for. What other devices forgot is known by
its tombstone alone, until the event comes: then the mark is the hash of the tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from localmem_node.store.directory import EVENT, FORGOTTEN
from localmem_node.store.records import MARK_BYTES, decode_marks, encode_marks, mark_of
from localmem_node.store.reports import Appended, Change, together
from localmem_node.store.ring import RECORD_OVERHEAD, Ring
from localmem_node.store.vault import Vault
from localmem_protocol.tombstones import TombstoneKey

MARKS_PER_RECORD: Final = 128
MARKS_SHARE: Final = 4
"""Marks of what is erased take at most this part of what may be kept for good; then the oldest go."""


class Forgotten:
    """The marks in a ring. One writer, any number of readers.

    `erasing_due`: the ring may still hold the events themselves, which are not read any more. `keys`
    are those under which tombstones are honoured.
    """

    def __init__(self, ring: Ring, vault: Vault) -> None:
        """Reads the marks, and hides what a crash kept from being erased."""
        self._ring = ring
        self._key = vault.derive_key("forgotten")
        self._marks: dict[bytes, None] = {}
        self.keys: tuple[TombstoneKey, ...] = ()
        self.erasing_due = False
        for ordinal in ring.ordinals(FORGOTTEN):
            record = ring.read(ordinal, FORGOTTEN)
            if record is not None:
                erased, marks = decode_marks(record)
                self._marks.update(dict.fromkeys(marks))
                self.erasing_due = self.erasing_due or not erased
        if self.erasing_due:
            self._hide()

    def __len__(self) -> int:
        return len(self._marks)

    def __contains__(self, event_id: object) -> bool:
        if not self._marks or not isinstance(event_id, str):
            return False
        if mark_of(event_id, self._key) in self._marks:
            return True
        return any(self._mark(key.of(event_id)) in self._marks for key in self.keys)

    def honour(self, key: TombstoneKey) -> None:
        """From now on, events whose tombstones under this key are known count as forgotten."""
        if key not in self.keys:
            self.keys = (*self.keys, key)

    def bury(self, tombstones: Sequence[bytes]) -> Appended:
        """Remember tombstones; durable after a commit. Raises StoreFailed.

        Events that are here are not affected: `forget` them then.
        """
        return self.add(map(self._mark, tombstones))

    def buries(self, tombstone: bytes) -> bool:
        """Whether a tombstone is remembered."""
        return self._mark(tombstone) in self._marks

    def marks(self) -> list[bytes]:
        """For `add`, oldest first."""
        return list(self._marks)

    def forget(self, ids: Sequence[str]) -> Appended:
        """Mark events as forgotten, whether they are here or not; durable after a commit.

        They are not read any more and cannot come back. Their ciphertext is gone once the file has
        been rewritten (`rewrite.Rewrite`). Raises StoreFailed.
        """
        with self._ring.writing:
            try:
                return self.add([mark_of(one, self._key) for one in ids], erased=False)
            finally:  # also when the ring took only some of the marks
                self.erasing_due = True
                self._hide()

    def add(self, marks: Iterable[bytes], *, erased: bool = True) -> Appended:
        """Append marks of events that are forgotten; durable after a commit. Raises StoreFailed.

        `erased`: the ring does not hold the events themselves. Marks of what is still to be erased
        never go: without them an event would come back.
        """
        with self._ring.writing:
            return together(self._add(marks, erased=erased))

    def _mark(self, tombstone: bytes) -> bytes:
        return mark_of(f"tombstone {tombstone.hex()}", self._key)  # no id has a space

    def _add(self, marks: Iterable[bytes], *, erased: bool) -> list[Change]:
        added = [mark for mark in dict.fromkeys(marks) if mark not in self._marks]
        space = self._ring.geometry.copied_space - RECORD_OVERHEAD - 1
        count = max(1, min(MARKS_PER_RECORD, space // MARK_BYTES))
        if erased:
            most = max(1, self._ring.geometry.record_space // MARKS_SHARE // MARK_BYTES)
            added = added[-most:]
        changes: list[Change] = []
        for start in range(0, len(added), count):
            some = added[start : start + count]
            changes.append(self._ring.append(FORGOTTEN, encode_marks(some, erased=erased))[1])
            self._marks.update(dict.fromkeys(some))
        self.erasing_due = self.erasing_due or (bool(added) and not erased)
        return changes

    def _hide(self) -> None:
        ordinals, names = self._ring.named(EVENT)
        for ordinal, name in zip(ordinals, names, strict=True):
            if name in self:
                self._ring.supersede(ordinal)
