"""The records of vectors in a ring: several vectors each, by the ordinals of their events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.errors import StoreError
from localmem_node.store.directory import EVENT, VECTORS
from localmem_node.store.records import check_vectors, decode_vectors, encode_vectors, vectors_size
from localmem_node.store.ring import Change, Ring

VECTORS_PER_RECORD: Final = 10
"""As many as fill about one block: a damaged block costs no more vectors than it held."""

Vector = npt.NDArray[np.float32]


def append_vectors(
    ring: Ring, vectors: Sequence[tuple[int, Vector]], made_by: bytes
) -> list[Change]:
    """Add unit vectors by the ordinals of their events; what making room did.

    Those of events that are not live are left out. Raises StoreError, StoreFailed.
    """
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
    return changes


def read_vectors(ring: Ring, ordinal: int) -> tuple[bytes, list[int], Vector] | None:
    """A record's encoder, the ordinals of its live events, and their unit vectors by row."""
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
