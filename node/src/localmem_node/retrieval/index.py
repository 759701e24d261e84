"""The search index of a store: words (BM25F), meanings (vectors) and surroundings of its live events.

A search has two halves. `prepare` does everything that needs no vector, and can run while the
query is being encoded; `finish` adds the vector's candidates and evidence, and ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval import model as ranking_model
from localmem_node.retrieval import related
from localmem_node.retrieval.adaptive import AdaptiveIndex
from localmem_node.retrieval.evidence import (
    BESIDE,
    MEANING,
    Surroundings,
    burst_numbers,
    dense_features,
    lexical_features,
    other_features,
)
from localmem_node.retrieval.fields import fields, text_for_encoding
from localmem_node.retrieval.lexical import LexicalIndex, Matches
from localmem_node.retrieval.model import FEATURES, Model
from localmem_node.retrieval.question import Question, parse_question
from localmem_node.retrieval.ranking import (
    best_slots,
    candidates_for,
    collapsed,
    order,
    prices,
    spread_out,
)
from localmem_node.retrieval.related import RelatedTerms
from localmem_node.retrieval.sessions import AFTER, BEFORE, Sessions
from localmem_node.retrieval.slots import Numbering, grown
from localmem_node.retrieval.traits import Traits, TraitTable, are_sound, kind_code, term_hash
from localmem_node.seams import VectorIndex
from localmem_protocol.events import Event

__all__ = ["Hit", "SearchIndex", "text_for_encoding"]

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Dump(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is kept of an index besides its vectors. `slots` ascending; the others a row per slot."""

    version: int
    words: bytes
    slots: bytes  # uint32
    traits: bytes  # Traits
    sessions: list[str]
    session_of: bytes  # int32, a place in `sessions` or -1


VERSION: Final = 2

NEIGHBOURS_OF: Final = 80
"""Of so many of the best by words the neighbours are candidates too."""

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A search before the query's vector is known; worthless once the index has changed."""

    change: int
    question: Question
    matches: Matches
    lexical: Floats
    slots: Slots
    near: Surroundings
    words: Floats
    allowed: Mask | None


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
        self._lexical = LexicalIndex()
        self._vectors: VectorIndex = AdaptiveIndex(dimensions) if vectors is None else vectors
        self._model = model or ranking_model.shipped()
        self._related = terms or related.shipped()
        self._sessions = Sessions()
        self._traits = TraitTable()
        self._numbering = Numbering()
        self._live = np.zeros(0, dtype=np.bool_)
        self._encoded = np.zeros(0, dtype=np.bool_)
        self._newness = np.zeros((3, 0), dtype=np.uint64)  # clock, device, sequence: Event.order
        self._oldest, self._newest = 0, 0
        self._change = 0

    def __len__(self) -> int:
        return len(self._lexical)

    def __contains__(self, slot: int) -> bool:
        return slot in self._lexical

    def slots(self) -> list[int]:
        """The slots that hold an event, ascending."""
        return self._lexical.slots()

    @property
    def encoded(self) -> int:
        """Events that have their vector."""
        return len(self._vectors)

    def add(self, slot: int, event: Event) -> None:
        """Index the words of an event. Raises ValueError for a slot that is taken."""
        found = self._lexical.add(slot, fields(event))
        self._change += 1
        self._live = grown(self._live, slot + 1)
        self._encoded = grown(self._encoded, slot + 1)
        self._newness = grown(self._newness, slot + 1)
        self._live[slot] = True
        self._newness[:, slot] = (event.clock, int(event.device, 16), event.sequence)
        self._sessions.add(slot, event.session, self._newness, is_prompt=event.kind == "prompt")
        self._traits.put(slot, event, [term_hash(term) for term in found])
        self._oldest = min(self._oldest or event.timestamp, event.timestamp)
        self._newest = max(self._newest, event.timestamp)

    def put_vector(self, slot: int, vector: Floats) -> None:
        """Add the vector of an event that is in the index. Raises ValueError if it is not."""
        if slot not in self._lexical:
            raise ValueError(f"slot {slot} has no event")
        self._vectors.put(slot, vector)
        self._encoded[slot] = True

    def put_vectors(self, slots: Slots, vectors: Floats) -> None:
        """Add the vectors of events that are in the index, a row each."""
        self._vectors.put_many(slots, vectors)
        self._encoded[slots] = True

    def vector(self, slot: int) -> Floats | None:
        """The vector of an event, if it has one."""
        return self._vectors.vector(slot)

    def has_vector(self, slot: int | None) -> bool:
        """Whether an event has its vector."""
        return slot is not None and slot < len(self._encoded) and bool(self._encoded[slot])

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot not in self._lexical:
            return
        self._change += 1
        self._lexical.remove(slot)
        self._vectors.remove(slot)
        self._sessions.remove(slot)
        self._live[slot] = self._encoded[slot] = False

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
        question = parse_question(
            query,
            related=self._related.of,
            known=lambda term: self._lexical.holders(term) > 0,
            now=now,
            oldest=self._oldest,
            newest=self._newest,
        )
        width = self._lexical.width
        matches = self._lexical.matches(question.columns)
        # A word and all that are related to it would outvote one that is rare and exact.
        lexical = matches.scores(width, self._lexical.weights.saturation, question.shares**2)
        allowed = self._allowed(among, width)
        if allowed is not None:
            lexical = np.where(allowed, lexical, np.float32(0))
        slots = self._with_neighbours(best_slots(lexical, candidates_for(k)), lexical, allowed)
        near = Surroundings.of(slots, self._sessions)
        words = lexical_features(question, matches, near, width, self._numbering)
        return Prepared(self._change, question, matches, lexical, slots, near, words, allowed)

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
        slots, sessions, features = self._candidates(prepared, vector, k)
        if not len(slots):
            return []
        rows, newness = self._traits.rows.take(slots), self._newness.take(slots, axis=1)
        said = rows["said"]
        scores, relevance = self._model.judged(features, said)
        ranked = order(scores, newness)[: DEPTH + DEPTH_PER_HIT * k]
        short = prepared.question.characters <= FLOOR_CHARACTERS_MAX
        if floor and short and vector is not None and relevance.max() < FLOOR:
            # Words decide about what has no vector yet.
            fresh = ~self._encoded[slots] & (prepared.lexical[slots] > 0)
            ranked = ranked[fresh[ranked]]
            if not len(ranked):
                return []
        bursts = _bursts(rows["timestamp"], sessions, ranked)
        chosen = spread_out(ranked, scores, bursts, prices(bursts, said, self._model.burst_penalty))
        for at, score in chosen:
            scores[at] = score
        groups = collapsed([at for at, _ in chosen], rows, newness, k)
        kept = [group.newest for group in groups]
        cosines = features[:, _COSINE]
        parts = self._model.parts(features[kept], said[kept]) if explain else None
        # The odds beside the best, which is as sure as its relevance.
        shown = relevance.max() * np.exp(scores - scores[ranked].max())
        return [
            Hit(
                slot=int(slots[at]),
                score=float(shown[group.best]),
                lexical=float(prepared.lexical[slots[at]]),
                dense=float(cosines[at]),
                evidence=() if parts is None else _evidence(parts[row]),
                duplicates=group.copies,
            )
            for row, (at, group) in enumerate(zip(kept, groups, strict=True))
        ]

    def features(self, prepared: Prepared, vector: Floats | None, k: int) -> tuple[Slots, Floats]:
        """The candidates, and what speaks for and against each: (candidates, len(FEATURES))."""
        slots, _, features = self._candidates(prepared, vector, k)
        return slots, features

    def traits(self, slots: Slots) -> npt.NDArray[np.void]:
        """The `Traits` of some slots."""
        return self._traits.rows.take(slots)

    def sessions_of(self, slots: Slots) -> Slots:
        """The numbers of their sessions, -1 for none."""
        return Surroundings.of(slots, self._sessions).sessions

    def _candidates(
        self, prepared: Prepared, vector: Floats | None, k: int
    ) -> tuple[Slots, Slots, Floats]:
        """Slots, numbers of their sessions, and features."""
        slots, near, words = prepared.slots, prepared.near, prepared.words
        learned = None if vector is None else self._model.learned(vector)
        if learned is not None:
            between = learned.sum(axis=0)
            between /= max(float(np.linalg.norm(between)), 1e-9)
            nearest = self._vectors.search(between, candidates_for(k), prepared.allowed)[0]
            known = np.zeros(max(self._lexical.width, len(self._encoded)), np.bool_)
            known[slots] = True
            more = nearest[~known[nearest]]
            if len(more):
                added = Surroundings.of(more, self._sessions)
                lexical = lexical_features(
                    prepared.question,
                    prepared.matches,
                    added,
                    self._lexical.width,
                    self._numbering,
                )
                slots = np.concatenate((slots, more))
                words = np.concatenate((words, lexical))
                near = near.and_these(added)
        words = words.copy()
        for column in words[:, :4].T:
            column /= max(column.max(initial=0), np.float32(1e-9))
        rows = self._traits.rows.take(slots)
        meaning = self._meaning(vector, learned, near, rows["said"], words[:, 1])
        asked_before = (near.before >= 0) & self._traits.rows["asks"][np.maximum(near.before, 0)]
        first: npt.NDArray[Any] = words[:, :2] @ _FIRST_WORDS + _FIRST_MEANING * meaning[:, 2]
        others = other_features(
            prepared.question,
            rows,
            first=first,
            best_first=order(first, self._newness.take(slots, axis=1)),
            words=words,
            meaning=meaning,
            lengths=self._lexical.lengths(slots),
            sessions=near.sessions,
            asked_before=asked_before,
        )
        bias = np.ones((len(slots), 1), np.float32)
        return slots, near.sessions, np.concatenate((words, meaning, others, bias), axis=1)

    def _meaning(
        self,
        vector: Floats | None,
        learned: Floats | None,
        near: Surroundings,
        said: Mask,
        by_words: Floats,
    ) -> Floats:
        slots = near.slots
        if vector is None or learned is None:
            return np.zeros((len(slots), len(MEANING)), np.float32)
        queries = np.concatenate((vector[None], learned))
        encoded = self._encoded[slots]
        beside = near.links[BESIDE]
        there = (beside >= 0) & said  # of code, what is beside it says nothing
        if near.alone or not there.any():
            products = self._vectors.scores_of(queries, slots)
            neighbours = np.zeros(beside.shape, np.float32)
        else:
            beside = np.where(there, beside, slots)
            there &= self._encoded[beside]
            mentioned = np.concatenate((slots, beside.ravel()))
            distinct, numbers, _ = self._numbering.number(mentioned, len(self._encoded))
            self._numbering.done(distinct)
            found = self._vectors.scores_of(queries, distinct)
            places = numbers - 1
            products = found[:, places[: len(slots)]]
            neighbours = found[0, places[len(slots) :]].reshape(beside.shape)
        cosines, done, by_said = products
        by_map = np.where(said, by_said, done)
        return dense_features(cosines, by_map, neighbours, there, encoded, by_words)

    def _with_neighbours(self, slots: Slots, lexical: Floats, allowed: Mask | None) -> Slots:
        """These slots and the neighbours of the best: an answer may lack the words of its question."""
        if not len(slots):
            return slots
        best = slots[np.argsort(-lexical[slots], kind="stable")[:NEIGHBOURS_OF]]
        beside = np.concatenate(
            [self._sessions.neighbours(best, which=which) for which in (BEFORE, AFTER)]
        )
        beside = beside[beside >= 0]
        if allowed is not None:
            beside = beside[allowed[beside]]
        return np.unique(np.concatenate((slots, beside)))

    def catch_up(self, count: int) -> bool:
        """Do what the vector index put off, for at most `count` vectors; whether more waits."""
        return self._vectors.catch_up(count)

    @property
    def newness(self) -> npt.NDArray[np.uint64]:
        """Clock, device and sequence of each slot's event, (3, slots)."""
        return self._newness

    def dump(self) -> bytes:
        """All but the vectors as bytes for `load`; those are kept by the store."""
        slots = np.array(self.slots(), np.int64)
        labels, places = self._sessions.labels(slots)
        return msgspec.msgpack.encode(
            Dump(
                version=VERSION,
                words=self._lexical.dump(),
                slots=slots.astype("<u4").tobytes(),
                traits=self._traits.rows[slots].tobytes(),
                sessions=labels,
                session_of=places.astype("<i4").tobytes(),
            )
        )

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
        dump = _checked(data)
        index = cls(dimensions, vectors=vectors, model=model)
        index._lexical = LexicalIndex.load(dump.words)
        slots = np.frombuffer(dump.slots, "<u4").astype(np.int64)
        width = int(slots.max(initial=-1)) + 1
        if index._lexical.slots() != slots.tolist() or newness.shape[1] < width:
            raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
        index._vectors.reserve(width)
        index._live = grown(index._live, width)
        index._encoded = grown(index._encoded, width)
        index._newness = grown(index._newness, width)
        index._live[slots] = True
        index._newness[:, slots] = newness[:, slots]
        rows = np.frombuffer(dump.traits, Traits)
        index._traits = TraitTable(grown(np.zeros(0, Traits), width))
        index._traits.rows[slots] = rows
        places = np.frombuffer(dump.session_of, "<i4").astype(np.int64)
        index._sessions = Sessions.load(
            slots, dump.sessions, places, rows["kind"] == kind_code("prompt"), index._newness
        )
        if len(rows):
            index._oldest, index._newest = (
                int(rows["timestamp"].min()),
                int(rows["timestamp"].max()),
            )
        return index

    def _allowed(self, among: Mask | None, width: int) -> Mask | None:
        if among is None:
            return None
        allowed = np.zeros(width, dtype=np.bool_)
        shared = min(width, len(among))
        allowed[:shared] = among[:shared] & self._live[:shared]
        return allowed


_FIRST_WORDS: Final[Floats] = np.array([0.3, 0.25], np.float32)
_FIRST_MEANING: Final = 0.45
"""A first score, by which sessions, bursts and files are judged: words, related words, meaning."""

_COSINE: Final = FEATURES.index("cosine")


def _bursts(
    timestamps: npt.NDArray[np.int64], sessions: Slots, ranked: npt.NDArray[np.intp]
) -> npt.NDArray[np.int64]:
    """For those of the candidates that are `ranked` a number per burst."""
    bursts = np.full(len(sessions), -1, np.int64)
    bursts[ranked] = burst_numbers(timestamps[ranked], sessions[ranked])
    return bursts


def _evidence(parts: Floats) -> tuple[tuple[str, float], ...]:
    named = [
        (name, float(part))
        for name, part in zip(FEATURES, parts, strict=True)
        if part and name != "bias"  # it only tells said from done
    ]
    return tuple(sorted(named, key=lambda one: -abs(one[1])))


def _checked(data: bytes) -> Dump:
    try:
        dump = msgspec.msgpack.decode(data, type=Dump)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedIndex(f"the saved index does not parse ({error}); it is rebuilt") from None
    if dump.version != VERSION:
        raise DamagedIndex("the saved index is of another version; it is rebuilt")
    count = len(dump.slots) // 4
    sound = len(dump.slots) == len(dump.session_of) == 4 * count
    sound = sound and len(dump.traits) == Traits.itemsize * count
    sound = sound and are_sound(np.frombuffer(dump.traits, Traits))
    if sound:
        places = np.frombuffer(dump.session_of, "<i4")
        sound = (
            int(places.min(initial=0)) >= -1
            and int(places.max(initial=-1)) < len(dump.sessions)
            and len(np.unique(places[places >= 0])) == len(set(dump.sessions)) == len(dump.sessions)
        )
    if not sound:
        raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
    return dump
