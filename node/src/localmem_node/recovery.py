"""From an open store to a catalogue and an index: one pass over the events, one over the vectors.

A checkpoint saves the indexing of what it knows (0.26 ms an event); what came after it is indexed
now, what has left since is taken out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from localmem_node.catalogue import Catalogue
from localmem_node.checkpoint import read_checkpoint
from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.index import SearchIndex
from localmem_node.seams import Encoder
from localmem_node.store.event_store import EventStore
from localmem_node.writer import Writer

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What a store gave: `without_vector` are ordinals, oldest first; `indexed` counts the events
    that no checkpoint knew.
    """

    catalogue: Catalogue
    index: SearchIndex
    without_vector: list[int] = field(default_factory=list)
    indexed: int = 0


def recover(store: EventStore, encoder: Encoder, writer: Writer) -> Recovered:
    """Rebuild what is kept in memory, and show every event to `writer`."""
    places, index = _saved_index(store, encoder.dimensions)
    width = max(places.values(), default=-1) + 1
    recovered = Recovered(Catalogue(store.device, set(places.values()), width), index)
    _replay(store, writer, recovered, places)
    encoded: set[int] = set()
    for ordinal, vector in store.vectors(encoder=encoder.fingerprint):
        slot = recovered.catalogue.slot(ordinal)
        if slot is not None:
            index.put_vector(slot, vector)
            encoded.add(ordinal)
    recovered.without_vector = [
        ordinal for ordinal in recovered.catalogue.ordinals() if ordinal not in encoded
    ]
    return recovered


def _replay(
    store: EventStore, writer: Writer, recovered: Recovered, places: dict[int, int]
) -> None:
    catalogue = recovered.catalogue
    unused = dict(places)
    for ordinal, event in store.scan():
        writer.see(event)
        if event.id in catalogue:
            continue
        slot = unused.pop(ordinal, None)
        if slot is None:
            recovered.index.add(catalogue.add(ordinal, event), event)
            recovered.indexed += 1
        else:
            catalogue.add(ordinal, event, slot)
    for slot in unused.values():
        recovered.index.remove(slot)
        catalogue.release(slot)


def _saved_index(store: EventStore, dimensions: int) -> tuple[dict[int, int], SearchIndex]:
    saved = store.read_checkpoint()
    if saved is not None:
        try:
            checkpoint = read_checkpoint(saved[1])
            places = checkpoint.places()
            index = SearchIndex.load(checkpoint.index, dimensions)
            if len(index) != len(places) or not all(slot in index for slot in places.values()):
                raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
            return places, index
        except DamagedIndex as error:
            logger.warning("%s", error)
    return {}, SearchIndex(dimensions)
