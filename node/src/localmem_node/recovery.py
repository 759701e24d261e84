"""From an open store to a catalogue and an index.

A checkpoint saves the reading and indexing of what it knows; what came after it is read and indexed
now, what has left since is taken out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.catalogue import Catalogue
from localmem_node.checkpoint import read_checkpoint
from localmem_node.errors import DamagedIndex
from localmem_node.retention import Retention
from localmem_node.retrieval.index import SearchIndex
from localmem_node.retrieval.model import for_encoder
from localmem_node.seams import Encoder
from localmem_node.store.event_store import EventStore
from localmem_node.store.records import encoder_id, vectors_size
from localmem_node.writer import Writer

logger = logging.getLogger(__name__)

VECTORS_AT_ONCE: Final = 512
"""Vectors entered together: 0.8 MB, which stays in the processor's cache."""


@dataclass(slots=True)
class Recovered:
    """What a store gave: `without_vector` are ordinals, oldest first; `indexed` counts the events
    that no checkpoint knew; `retention` is what a checkpoint kept for the policy, `encoders` the
    fingerprints that it named. `stale_bytes` is what vectors of any but this encoder take, `replaced`
    are ids of those whose vectors are all that some events have.
    """

    catalogue: Catalogue
    index: SearchIndex
    retention: bytes = b""
    without_vector: list[int] = field(default_factory=list)
    indexed: int = 0
    encoders: list[str] = field(default_factory=list)
    stale_bytes: int = 0
    replaced: list[bytes] = field(default_factory=list)


def recover(store: EventStore, encoder: Encoder, writer: Writer, retention: Retention) -> Recovered:
    """Rebuild what is kept in memory, and let `writer` and `retention` go on from there."""
    recovered = _from_checkpoint(store, encoder, writer)
    catalogue, index = recovered.catalogue, recovered.index
    try:
        retention.load(recovered.retention, catalogue.rows().slots.tolist())
    except DamagedIndex as error:
        logger.warning("%s", error)
    known = catalogue.rows().ordinals
    for ordinal in np.setdiff1d(np.array(store.ordinals(), np.int64), known).tolist():
        event = store.get(ordinal)
        if event is not None and event.id not in catalogue:
            writer.see(event)
            slot = catalogue.add(ordinal, event)
            index.add(slot, event)
            retention.added(slot, event, 0)
            recovered.indexed += 1
    others = _load_vectors(store, encoder, recovered)
    recovered.replaced = [
        made_by
        for made_by, ordinals in others.items()
        if not all(index.has_vector(catalogue.slot(ordinal)) for ordinal in ordinals)
    ]
    recovered.without_vector = [
        ordinal for ordinal in catalogue.ordinals() if not index.has_vector(catalogue.slot(ordinal))
    ]
    return recovered


def _load_vectors(
    store: EventStore, encoder: Encoder, recovered: Recovered
) -> dict[bytes, list[int]]:
    """This encoder's into the index; the ordinals of events that have one of another, by its id."""
    catalogue, index = recovered.catalogue, recovered.index
    others: dict[bytes, list[int]] = {}
    made_by = encoder_id(encoder.fingerprint)
    slots: list[int] = []
    vectors: list[npt.NDArray[np.float32]] = []
    for found, ordinals, units in store.vectors.records():
        if found != made_by or units.shape[1] != encoder.dimensions:
            others.setdefault(found, []).extend(ordinals)
            recovered.stale_bytes += vectors_size(len(units), units.shape[1])
            continue
        places = [catalogue.slot(ordinal) for ordinal in ordinals]
        rows = [row for row, slot in enumerate(places) if slot is not None]
        slots += [slot for slot in places if slot is not None]
        vectors.append(units if len(rows) == len(units) else units[rows])
        if len(slots) >= VECTORS_AT_ONCE:
            index.put_vectors(np.array(slots, np.int64), np.concatenate(vectors))
            slots, vectors = [], []
    if slots:
        index.put_vectors(np.array(slots, np.int64), np.concatenate(vectors))
    return others


def _from_checkpoint(store: EventStore, encoder: Encoder, writer: Writer) -> Recovered:
    dimensions, model = encoder.dimensions, for_encoder(encoder.fingerprint)
    saved = store.read_checkpoint()
    if saved is not None:
        try:
            checkpoint = read_checkpoint(saved[1])
            rows = checkpoint.rows()
            index = SearchIndex.load(checkpoint.index, rows.newness(), dimensions, model=model)
            if index.slots() != sorted(rows.slots.tolist()):
                raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        except DamagedIndex as error:
            logger.warning("%s", error)
        else:
            live = np.isin(rows.ordinals, np.array(store.ordinals(), np.int64))
            for slot in rows.slots[~live].tolist():
                index.remove(slot)
            rows = rows.chosen(live)
            writer.resume(rows)
            ids = store.ids(rows.ordinals.tolist())
            catalogue = Catalogue.restore(store.device, rows, ids)
            return Recovered(catalogue, index, checkpoint.retention, encoders=checkpoint.encoders)
    return Recovered(Catalogue(store.device), SearchIndex(dimensions, model=model))
