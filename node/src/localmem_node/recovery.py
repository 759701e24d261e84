"""From an open store to a catalogue and an index.

A checkpoint saves the reading and indexing of what it knows (0.06 ms an event instead of 0.3); what
came after it is read and indexed now, what has left since is taken out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np

from localmem_node.catalogue import Catalogue
from localmem_node.checkpoint import read_checkpoint
from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.index import SearchIndex
from localmem_node.seams import Encoder
from localmem_node.store.event_store import EventStore
from localmem_node.store.records import encoder_id
from localmem_node.writer import Writer

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What a store gave: `without_vector` are ordinals, oldest first; `indexed` counts the events
    that no checkpoint knew; `retention` is what a checkpoint kept for the policy.
    """

    catalogue: Catalogue
    index: SearchIndex
    retention: bytes = b""
    without_vector: list[int] = field(default_factory=list)
    indexed: int = 0


def recover(store: EventStore, encoder: Encoder, writer: Writer) -> Recovered:
    """Rebuild what is kept in memory, and let `writer` go on from where the events are."""
    recovered = _from_checkpoint(store, encoder.dimensions, writer)
    catalogue, index = recovered.catalogue, recovered.index
    for ordinal in store.ordinals():
        if catalogue.slot(ordinal) is not None:
            continue
        event = store.get(ordinal)
        if event is not None and event.id not in catalogue:
            writer.see(event)
            index.add(catalogue.add(ordinal, event), event)
            recovered.indexed += 1
    encoded: set[int] = set()
    made_by = encoder_id(encoder.fingerprint)
    for found, ordinals, units in store.vector_records():
        if found == made_by and units.shape[1] == encoder.dimensions:
            slots = [catalogue.slot(ordinal) for ordinal in ordinals]
            rows = [row for row, slot in enumerate(slots) if slot is not None]
            index.put_vectors(np.array([slots[row] for row in rows], np.int64), units[rows])
            encoded.update(ordinals)
    recovered.without_vector = [
        ordinal for ordinal in catalogue.ordinals() if ordinal not in encoded
    ]
    return recovered


def _from_checkpoint(store: EventStore, dimensions: int, writer: Writer) -> Recovered:
    saved = store.read_checkpoint()
    if saved is not None:
        try:
            checkpoint = read_checkpoint(saved[1])
            rows = checkpoint.rows()
            index = SearchIndex.load(checkpoint.index, rows.newness(), dimensions)
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
            return Recovered(catalogue, index, checkpoint.retention)
    return Recovered(Catalogue(store.device), SearchIndex(dimensions))
