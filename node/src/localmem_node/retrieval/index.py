"""The search index of a store: words (BM25F), meanings (vectors) and surroundings of its live events.

A search has two halves. `prepare` does everything that needs no vector, and can run while the
query is being encoded; `finish` adds the vector's candidates and evidence, and ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.heap import trim_heap
from localmem_node.retrieval import model as ranking_model
from localmem_node.retrieval import related
from localmem_node.retrieval.adaptive import AdaptiveIndex
from localmem_node.retrieval.candidates import Candidates, Prepared, gathered, prepared
from localmem_node.retrieval.contents import Contents, Floats, Mask, Slots
from localmem_node.retrieval.evidence import burst_numbers
from localmem_node.retrieval.fields import fields, text_for_encoding
from localmem_node.retrieval.model import FEATURES, Model
from localmem_node.retrieval.ranking import Group, collapsed, order, prices, spread_out
from localmem_node.retrieval.related import RelatedTerms
from localmem_node.retrieval.saved import dumped, loaded
from localmem_node.retrieval.slots import Numbering
from localmem_node.retrieval.traits import term_hash
from localmem_node.retrieval.words import Surroundings
from localmem_node.seams import VectorIndex
from localmem_protocol.events import Event

__all__ = ["Hit", "Prepared", "SearchIndex", "text_for_encoding"]

DEPTH: Final = 30
DEPTH_PER_HIT: Final = 4
"""Of so many of the best, and so many more per hit, bursts and copies are told apart."""

FLOOR_CHARACTERS_MAX: Final = 400
"""Of a longer query some part may well be about what is here, and most of it not."""

FLOOR: Final = 0.5
"""The least relevance of a best hit, below which a query is about nothing that is here."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A slot that answers a query; `score` is from 0 to 1, `lexical` a BM25 score, `dense` a cosine.

    `evidence` are the features that spoke for it and against it, strongest first, if asked for;
    `duplicates` counts near copies that it stands for.
    """

    slot: int
    score: float
    lexical: float
    dense: float
    evidence: tuple[tuple[str, float], ...] = ()
    duplicates: int = 0


class SearchIndex:
    """Events by slot, found by words and by meaning. Not thread-safe: the engine holds a lock."""

    def __init__(
        self,
        dimensions: int,
        *,
        vectors: VectorIndex | None = None,
        model: Model | None = None,
        terms: RelatedTerms | None = None,
    ) -> None:
        self._contents = Contents(AdaptiveIndex(dimensions) if vectors is None else vectors)
        self._model = model or ranking_model.shipped()
        self._related = terms or related.shipped()
        self._numbering = Numbering()
        self._change = 0

    def __len__(self) -> int:
        return len(self._contents.lexical)

    def __contains__(self, slot: int) -> bool:
        return slot in self._contents.lexical

    def slots(self) -> list[int]:
        """The slots that hold an event, ascending."""
        return self._contents.lexical.slots()

    @property
    def encoded(self) -> int:
        """Events that have their vector."""
        return len(self._contents.vectors)

    def add(self, slot: int, event: Event) -> None:
        """Index the words of an event. Raises ValueError for a slot that is taken."""
        held = self._contents
        found = held.lexical.add(slot, fields(event))
        self._change += 1
        held.reserve(slot + 1)
        held.live[slot] = True
        held.newness[:, slot] = (event.clock, int(event.device, 16), event.sequence)
        held.sessions.add(slot, event.session, held.newness, is_prompt=event.kind == "prompt")
        held.traits.put(slot, event, [term_hash(term) for term in found])
        held.oldest = min(held.oldest or event.timestamp, event.timestamp)
        held.newest = max(held.newest, event.timestamp)

    def put_vector(self, slot: int, vector: Floats) -> None:
        """Add the vector of an event that is in the index. Raises ValueError if it is not."""
        if slot not in self:
            raise ValueError(f"slot {slot} has no event")
        self._contents.vectors.put(slot, vector)
        self._contents.encoded[slot] = True

    def put_vectors(self, slots: Slots, vectors: Floats) -> None:
        """Add the vectors of events that are in the index, a row each."""
        self._contents.vectors.put_many(slots, vectors)
        self._contents.encoded[slots] = True

    def vector(self, slot: int) -> Floats | None:
        """The vector of an event, if it has one."""
        return self._contents.vectors.vector(slot)

    def has_vector(self, slot: int | None) -> bool:
        """Whether an event has its vector."""
        encoded = self._contents.encoded
        return slot is not None and slot < len(encoded) and bool(encoded[slot])

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot not in self:
            return
        self._change += 1
        self._contents.lexical.remove(slot)
        self._contents.vectors.remove(slot)
        self._contents.sessions.remove(slot)
        self._contents.live[slot] = self._contents.encoded[slot] = False

    def search(
        self,
        query: str,
        vector: Floats | None,
        k: int,
        *,
        among: Mask | None = None,
        now: datetime | None = None,
        explain: bool = False,
        floor: bool = False,
    ) -> list[Hit]:
        """The k best events, best first, the newer first among equals.

        Without a vector only events that share a term with the query, or stand beside one. `among`
        names the slots that may be found (those beyond its end may not); `now` tells what
        "yesterday" is; `floor` leaves out what has nothing to do with the query. Raises ValueError
        for k < 1.
        """
        prepared = self.prepare(query, k, among=among, now=now)
        return self.finish(prepared, vector, k, explain=explain, floor=floor)

    def prepare(
        self, query: str, k: int, *, among: Mask | None = None, now: datetime | None = None
    ) -> Prepared:
        """The half of a search that needs no vector. Raises ValueError for k < 1."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        return prepared(
            self._contents,
            self._related,
            self._numbering,
            query,
            k,
            change=self._change,
            among=among,
            now=now,
        )

    def is_current(self, prepared: Prepared) -> bool:
        """Whether the index is still the one that a search was prepared for."""
        return prepared.change == self._change

    def finish(
        self,
        prepared: Prepared,
        vector: Floats | None,
        k: int,
        *,
        explain: bool = False,
        floor: bool = False,
    ) -> list[Hit]:
        """The other half. Raises ValueError if the index has changed in between."""
        if not self.is_current(prepared):
            raise ValueError("the index has changed since the search was prepared")
        found = self._gathered(prepared, vector, k)
        if not len(found.slots):
            return []
        newness, said = self._contents.newness, found.rows["said"]
        scores, relevance = self._model.judged(found.features, said)
        ranked = order(scores, newness, found.slots)[: DEPTH + DEPTH_PER_HIT * k]
        short = prepared.question.characters <= FLOOR_CHARACTERS_MAX
        if floor and short and vector is not None and relevance.max() < FLOOR:
            # Words decide about what has no vector yet.
            unknown = ~self._contents.encoded[found.slots] & (prepared.lexical[found.slots] > 0)
            ranked = ranked[unknown[ranked]]
            if not len(ranked):
                return []
        rows = found.rows[ranked]
        bursts = burst_numbers(rows["timestamp"], found.sessions[ranked])
        chosen = spread_out(
            np.arange(len(ranked)),
            scores[ranked],
            bursts,
            prices(bursts, rows["said"], self._model.burst_penalty),
        )
        newness = newness.take(found.slots[ranked], axis=1)
        groups = collapsed([at for at, _ in chosen], rows, newness, k)
        # The odds beside the best, which is as sure as its relevance.
        odds, best = dict(chosen), chosen[0][1]
        sure = float(relevance.max())
        shown = [sure * math.exp(odds[group.best] - best) for group in groups]
        return self._hits(prepared, found, ranked, groups, shown, explain)

    def features(self, prepared: Prepared, vector: Floats | None, k: int) -> tuple[Slots, Floats]:
        """The candidates, and what speaks for and against each: (candidates, len(FEATURES))."""
        found = self._gathered(prepared, vector, k)
        return found.slots, found.features.T

    def traits(self, slots: Slots) -> npt.NDArray[np.void]:
        """The `Traits` of some slots."""
        return self._contents.traits.rows.take(slots)

    def sessions_of(self, slots: Slots) -> Slots:
        """The numbers of their sessions, -1 for none."""
        return Surroundings.of(slots, self._contents.sessions).sessions

    def _gathered(self, prepared: Prepared, vector: Floats | None, k: int) -> Candidates:
        return gathered(self._contents, self._model, self._numbering, prepared, vector, k)

    def _hits(
        self,
        prepared: Prepared,
        found: Candidates,
        ranked: npt.NDArray[np.intp],
        groups: Sequence[Group],
        shown: Sequence[float],
        explain: bool,
    ) -> list[Hit]:
        """`groups` are of places in `ranked`, `shown` the scores that are shown of them."""
        at = ranked[[group.newest for group in groups]]
        slots = found.slots[at]
        evidence: Sequence[tuple[tuple[str, float], ...]] = [()] * len(at)
        if explain:
            parts = self._model.parts(found.features[:, at], found.rows["said"][at])
            evidence = [_evidence(each) for each in parts.T]
        return list(
            map(
                Hit,
                slots.tolist(),
                shown,
                prepared.lexical[slots].tolist(),
                found.features[_COSINE, at].tolist(),
                evidence,
                [group.copies for group in groups],
            )
        )

    def catch_up(self, count: int) -> bool:
        """Do what the vector index put off, for at most `count` vectors; whether more waits."""
        return self._contents.vectors.catch_up(count)

    @property
    def newness(self) -> npt.NDArray[np.uint64]:
        """Clock, device and sequence of each slot's event, (3, slots)."""
        return self._contents.newness

    def dump(self) -> bytes:
        """All but the vectors as bytes for `load`; those are kept by the store."""
        data = dumped(self._contents)
        trim_heap()  # it comes after many events, which leave the heap full of holes
        return data

    @classmethod
    def load(
        cls,
        data: bytes,
        newness: npt.NDArray[np.uint64],
        dimensions: int,
        *,
        vectors: VectorIndex | None = None,
        model: Model | None = None,
    ) -> SearchIndex:
        """The index that was dumped, without vectors.

        `newness` has clock, device and sequence of each slot's event, (3, slots). Raises
        DamagedIndex.
        """
        index = cls(dimensions, vectors=vectors, model=model)
        index._contents = loaded(data, newness, index._contents.vectors)
        return index


_COSINE: Final = FEATURES.index("cosine")


def _evidence(parts: Floats) -> tuple[tuple[str, float], ...]:
    named = [
        (name, float(part))
        for name, part in zip(FEATURES, parts, strict=True)
        if part and name != "bias"  # it only tells said from done
    ]
    return tuple(sorted(named, key=lambda one: -abs(one[1])))
