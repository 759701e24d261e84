"""The records of vectors in a ring: several vectors each, by the ordinals of their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.errors import StoreError
from localmem_node.store.directory import EVENT, VECTORS
from localmem_node.store.layout import VECTOR_DIMENSIONS
from localmem_node.store.records import (
    check_vectors,
    decode_vectors,
    encode_vectors,
    encoder_id,
    vectors_size,
)
from localmem_node.store.reports import Appended, Change, together
from localmem_node.store.ring import Ring

VECTORS_PER_RECORD: Final = 10
"""As many as fill about one block: a damaged block costs no more vectors than it held."""

Vector = npt.NDArray[np.float32]


class VectorRecords:
    """The unit vectors of the events in a ring. One writer, any number of readers."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def append(self, vectors: Sequence[tuple[int, Vector]], *, encoder: str = "") -> Appended:
        """Add the unit vectors of events, by ordinal; no ordinals are returned.

        `encoder` is the fingerprint of what made them. Vectors of events that are not live, and all
        in a file without room for vectors, are left out; so are those of pinned events while they
        are longer than pins are counted with, and there is no room for that. Raises StoreError for a
        vector that is not of unit length or not like the others; StoreFailed.
        """
        return self.append_encoded(vectors, encoder_id(encoder))

    def append_encoded(self, vectors: Sequence[tuple[int, Vector]], made_by: bytes) -> Appended:
        """Like `append`, for the encoder that `encoder_id` stands for."""
        ring = self._ring
        if not ring.geometry.keeps_vectors:
            return together(())
        if vectors and self._pins_crowd(len(vectors[0][1])):
            vectors = [one for one in vectors if not ring.directory.pinned(one[0])]
        check_vectors(vectors)  # before anything makes room
        changes: list[Change] = []
        with ring.writing:
            for start in range(0, len(vectors), VECTORS_PER_RECORD):
                some = vectors[start : start + VECTORS_PER_RECORD]
                # Room first: copying forward takes ordinals, and may move these very events.
                changes.append(ring.reserve(vectors_size(len(some), len(some[0][1]))))
                live = ring.live((ordinal for ordinal, _ in some), EVENT)
                kept = [(ordinal, vector) for ordinal, vector in some if ordinal in live]
                if kept:
                    ring.append(VECTORS, encode_vectors(ring.next_ordinal, made_by, kept))
        return together(changes)

    def by_event(self, *, encoder: str | None = None) -> Iterator[tuple[int, Vector]]:
        """The vectors of live events, by event ordinal; a later one of an event counts.

        With `encoder`, only those that it made.
        """
        made_by = None if encoder is None else encoder_id(encoder)
        for found, ordinals, units in self.records():
            if made_by in (None, found):
                yield from zip(ordinals, units, strict=True)

    def records(self) -> Iterator[tuple[bytes, list[int], Vector]]:
        """`at` for each record, oldest first, as of the call."""
        for ordinal in self.ordinals():
            found = self.at(ordinal)
            if found is not None:
                yield found

    def ordinals(self, after: int = 0) -> list[int]:
        """The live records with ordinals above `after`, oldest first."""
        return self._ring.ordinals(VECTORS, after + 1)

    def at(self, ordinal: int) -> tuple[bytes, list[int], Vector] | None:
        """A record's encoder, the ordinals of its live events, and their unit vectors by row."""
        ring = self._ring
        record = ring.read(ordinal, VECTORS)
        if record is None:
            return None
        try:
            found, events, units = decode_vectors(ordinal, record)
        except StoreError:
            ring.lose(ordinal)
            return None
        numbered: list[int] = events.tolist()
        live = ring.live(numbered, EVENT)
        if len(live) < len(numbered):
            rows = [row for row, event in enumerate(numbered) if event in live]
            numbered, units = [numbered[row] for row in rows], units[rows]
        return (found, numbered, units) if numbered else None

    def _pins_crowd(self, dimensions: int) -> bool:
        """Whether pinned events, with vectors of so many components, are more than may be pinned.

        They would be copied forward without end.
        """
        longer = dimensions - VECTOR_DIMENSIONS
        if longer <= 0:
            return False
        ring = self._ring
        return ring.kept_bytes + len(ring.pinned()) * longer > ring.geometry.record_space
