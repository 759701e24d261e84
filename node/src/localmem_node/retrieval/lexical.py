"""BM25F over the fields of events, with terms added and removed one event at a time.

Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section 3.6:
per field the term frequency is divided by a length norm, the weighted sum over the fields is
saturated once. Document frequencies and average lengths are those of the live events at all times,
so that any sequence of adds and removes scores like an index built from what is left.

A posting is one 64-bit integer in a run per term: slot << 32 | path << 24 | header << 16 |
snippet, the last three being term frequencies. Every slot keeps its own postings under the term's
number; from these `load` rebuilds the rest. Removal takes postings out at once: rings evict the
oldest, whose postings come first.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.fields import Fields
from localmem_node.retrieval.runs import Runs
from localmem_node.retrieval.slots import SLOTS_MAX, grown
from localmem_node.retrieval.tokens import VERSION as TERMS_VERSION
from localmem_node.retrieval.tokens import terms

FORMAT: Final = 1
_FREQUENCY_MAX: Final = (0xFF, 0xFF, 0xFFFF)
_SHIFTS: Final = (24, 16, 0)


_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weights:
    """Per field (path, header, snippet): its weight and how far its length counts (b); and k1."""

    field: tuple[float, float, float] = (2.0, 1.0, 1.0)
    length: tuple[float, float, float] = (0.5, 0.5, 0.75)
    saturation: float = 1.2

    def __post_init__(self) -> None:
        if not all(0 <= b < 1 for b in self.length) or min(*self.field, self.saturation) < 0:
            raise ValueError("weights and saturation are not negative, b is from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Matches:
    """Every posting of some terms. Arrays run over the postings, `rarity` over the terms.

    `frequencies` are weighted by field and length, and not yet saturated.
    """

    slots: npt.NDArray[np.intp]
    terms: npt.NDArray[np.intp]
    frequencies: npt.NDArray[np.float32]
    in_path: npt.NDArray[np.bool_]
    in_header: npt.NDArray[np.bool_]
    rarity: npt.NDArray[np.float32]

    def scores(self, width: int, saturation: float, shares: npt.ArrayLike = 1) -> _Floats:
        """The BM25F score of each slot below `width`; `shares` say how much each term counts."""
        rarity = (self.rarity * np.asarray(shares, np.float32))[self.terms]
        gains = rarity * saturated(self.frequencies, saturation)
        return np.bincount(self.slots, gains, minlength=width).astype(np.float32)


def saturated(frequencies: npt.NDArray[Any], saturation: float) -> _Floats:
    """What frequencies gain: more of the same counts less and less (k1 of BM25)."""
    gains: npt.NDArray[Any] = frequencies * (saturation + 1) / (frequencies + saturation)
    return gains


class Dump(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is kept of an index: terms by number, then per slot its postings and field lengths."""

    format: int
    terms_version: int
    terms: list[str]
    slots: bytes  # uint32 per event
    lengths: bytes  # 3 uint32 per event
    counts: bytes  # uint32 per event: its postings
    postings: bytes  # uint64 per posting: term number << 32 | frequencies


class LexicalIndex:
    """The inverted index. Not thread-safe; slots are small integers that the engine hands out."""

    def __init__(self, weights: Weights = Weights()) -> None:
        self.weights = weights
        self._numbers: dict[str, int] = {}
        self._terms: list[str] = []
        self._free: list[int] = []
        self._postings = Runs()  # by term number
        self._own = Runs()  # by slot
        self._held = np.zeros(0, dtype=np.bool_)
        self._count = 0
        self._lengths = np.zeros((3, 0), dtype=np.int64)
        self._totals = np.zeros(3, dtype=np.int64)
        self._norms: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return self._count

    def __contains__(self, slot: int) -> bool:
        return 0 <= slot < len(self._held) and bool(self._held[slot])

    def slots(self) -> list[int]:
        """The slots that hold an event, ascending."""
        held: list[int] = np.flatnonzero(self._held).tolist()
        return held

    @property
    def vocabulary(self) -> int:
        """Different terms in live events."""
        return len(self._numbers)

    def add(self, slot: int, fields: Fields) -> list[str]:
        """Index an event; its terms. Raises ValueError for a slot that is taken or out of bounds."""
        if not 0 <= slot < SLOTS_MAX or slot in self:
            raise ValueError(f"slot {slot} is taken, or not from 0 to {SLOTS_MAX - 1}")
        lengths, frequencies = _counted(fields)
        own = array("Q")
        place = slot << 32
        for term, packed in frequencies.items():
            number = self._number(term)
            self._postings.change(number).append(place | packed)
            own.append(number << 32 | packed)
        self._own.put(slot, own)
        self._held = grown(self._held, slot + 1)
        self._held[slot] = True
        self._count += 1
        self._lengths = grown(self._lengths, slot + 1)
        self._lengths[:, slot] = lengths
        self._totals += self._lengths[:, slot]
        self._norms = None
        return list(frequencies)

    def remove(self, slot: int) -> None:
        """Forget a slot; unknown slots are ignored."""
        if slot not in self:
            return
        place = slot << 32
        for posting in self._own.joined([slot]).tolist():
            number = posting >> 32
            postings = self._postings.change(number)
            del postings[_position(postings, place | posting & 0xFFFFFFFF)]
            if not postings:
                self._postings.clear(number)
                del self._numbers[self._terms[number]]
                self._terms[number] = ""
                self._free.append(number)
        self._own.clear(slot)
        self._held[slot] = False
        self._count -= 1
        self._totals -= self._lengths[:, slot]
        self._lengths[:, slot] = 0
        self._norms = None

    def scores(self, query: Iterable[str]) -> npt.NDArray[np.float32]:
        """The BM25F score of every slot for these terms, 0 for no match; longer than slots in use."""
        return self.matches(list(query)).scores(self.width, self.weights.saturation)

    @property
    def width(self) -> int:
        """Slots below this one may be in use."""
        return self._lengths.shape[1]

    def lengths(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many terms the events in some slots have."""
        total: npt.NDArray[np.int64] = self._lengths[:, slots].sum(axis=0)
        return total

    def holders(self, term: str) -> int:
        """How many events have a term."""
        number = self._numbers.get(term)
        return 0 if number is None else self._postings.count(number)

    def matches(self, query: Sequence[str]) -> Matches:
        """Where the terms of a query are."""
        numbers = [self._numbers.get(term) for term in query]
        counts = [0 if number is None else self._postings.count(number) for number in numbers]
        known = [number for number in numbers if number is not None]
        postings = self._postings.joined(known)  # one pass over all terms
        slots = (postings >> 32).astype(np.intp)
        fields = [
            (postings >> shift & most).astype(np.float32)
            for shift, most in zip(_SHIFTS, _FREQUENCY_MAX, strict=True)
        ]
        weighted = np.zeros(len(slots), dtype=np.float32)
        for norm, frequencies in zip(self._length_norms(), fields, strict=True):
            weighted += frequencies * norm[slots]
        return Matches(
            slots=slots,
            terms=np.repeat(np.arange(len(numbers)), counts),
            frequencies=weighted,
            in_path=fields[0] > 0,
            in_header=fields[1] > 0,
            rarity=np.array([self._rarity(count) for count in counts], np.float32),
        )

    def dump(self) -> bytes:
        """The index as bytes for `load`."""
        ordered = self.slots()
        known = sorted(self._numbers.values())
        renumbered = np.zeros(len(self._terms), dtype=np.uint64)
        renumbered[known] = np.arange(len(known), dtype=np.uint64)
        own = self._own.joined(ordered)
        postings = renumbered[(own >> 32).astype(np.intp)] << 32 | own & 0xFFFFFFFF
        return msgspec.msgpack.encode(
            Dump(
                format=FORMAT,
                terms_version=TERMS_VERSION,
                terms=[self._terms[number] for number in known],
                slots=np.array(ordered, dtype="<u4").tobytes(),
                lengths=self._lengths[:, ordered].T.astype("<u4").tobytes(),
                counts=np.array([self._own.count(slot) for slot in ordered], dtype="<u4").tobytes(),
                postings=postings.astype("<u8").tobytes(),
            )
        )

    @classmethod
    def load(cls, data: bytes, weights: Weights = Weights()) -> LexicalIndex:
        """The index that was dumped. Raises DamagedIndex for anything else, other versions too."""
        dump = _checked(data)
        index = cls(weights)
        slots = np.frombuffer(dump.slots, dtype="<u4").astype(np.intp)
        counts = np.frombuffer(dump.counts, dtype="<u4").astype(np.int64)
        postings = np.frombuffer(dump.postings, dtype="<u8").astype(np.uint64)
        index._own = Runs(postings, slots, counts)
        index._held = grown(index._held, int(slots.max(initial=-1)) + 1)
        index._held[slots] = True
        index._count = len(slots)
        index._lengths = grown(index._lengths, int(slots.max(initial=-1)) + 1)
        index._lengths[:, slots] = np.frombuffer(dump.lengths, dtype="<u4").reshape(-1, 3).T
        index._totals = index._lengths.sum(axis=1)
        index._terms = dump.terms
        index._numbers = {term: number for number, term in enumerate(dump.terms)}
        index._postings = _inverted(np.repeat(slots, counts), postings, len(dump.terms))
        return index

    def _number(self, term: str) -> int:
        number = self._numbers.get(term)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._terms[number] = term
            else:
                number = len(self._terms)
                self._terms.append(term)
            self._numbers[term] = number
        return number

    def _rarity(self, holders: int) -> float:
        return math.log1p((self._count - holders + 0.5) / (holders + 0.5))

    def _length_norms(self) -> npt.NDArray[np.float32]:
        """Per field and slot, what a term frequency is multiplied by."""
        if self._norms is None:
            average = np.maximum(self._totals, 1) / max(self._count, 1)
            b = np.array(self.weights.length)[:, None]
            weight = np.array(self.weights.field)[:, None]
            relative = self._lengths / average[:, None]
            self._norms = (weight / (1 - b + b * relative)).astype(np.float32)
        return self._norms


def _counted(fields: Fields) -> tuple[list[int], dict[str, int]]:
    """Field lengths in terms, and per term its frequencies packed into 32 bits."""
    lengths: list[int] = []
    packed: dict[str, int] = {}
    for text, shift, most in zip(fields, _SHIFTS, _FREQUENCY_MAX, strict=True):
        found = terms(text)
        lengths.append(len(found))
        for term, count in Counter(found).items():
            packed[term] = packed.get(term, 0) | min(count, most) << shift
    return lengths, packed


def _position(postings: array[int], posting: int) -> int:
    """Where a posting is; at the front, if events leave in the order they came."""
    if postings[0] == posting:
        return 0
    return int(np.argmax(np.frombuffer(postings, dtype=np.uint64) == np.uint64(posting)))


def _inverted(
    slots: npt.NDArray[np.intp], postings: npt.NDArray[np.uint64], terms_count: int
) -> Runs:
    """By term number the postings by slot, in the order given."""
    numbers = (postings >> 32).astype(np.intp)
    # Sorting keys that carry their place is four times as fast as sorting places by key.
    keys = np.sort(
        numbers.astype(np.uint64) << np.uint64(32) | np.arange(len(numbers), dtype=np.uint64)
    )
    by_term = (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)
    values = (slots.astype(np.uint64) << np.uint64(32) | postings & np.uint64(0xFFFFFFFF))[by_term]
    return Runs(values, np.arange(terms_count), np.bincount(numbers, minlength=terms_count))


def _checked(data: bytes) -> Dump:
    try:
        dump = msgspec.msgpack.decode(data, type=Dump)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedIndex(f"the saved index does not parse ({error}); it is rebuilt") from None
    if (dump.format, dump.terms_version) != (FORMAT, TERMS_VERSION):
        raise DamagedIndex("the saved index is of another version; it is rebuilt")
    events = len(dump.slots) // 4
    slots = np.frombuffer(dump.slots[: events * 4], dtype="<u4")
    counts = np.frombuffer(dump.counts[: len(dump.counts) // 4 * 4], dtype="<u4")
    numbers = np.frombuffer(dump.postings[: len(dump.postings) // 8 * 8], dtype="<u8") >> 32
    sound = (
        len(dump.slots) == len(dump.counts) == events * 4
        and len(dump.lengths) == events * 12
        and len(dump.postings) == int(counts.sum(dtype=np.uint64)) * 8
        and int(slots.max(initial=0)) < SLOTS_MAX
        and _all_differ(slots)
        and len(set(dump.terms)) == len(dump.terms)
        and (not len(numbers) or int(numbers.max()) < len(dump.terms))
        and bool(np.bincount(numbers.astype(np.int64), minlength=len(dump.terms)).all())
        and _all_differ(np.repeat(np.arange(events, dtype=np.uint64), counts) << 32 | numbers)
    )
    if not sound:
        raise DamagedIndex("the saved index contradicts itself; it is rebuilt")
    return dump


def _all_differ(values: npt.NDArray[Any]) -> bool:
    ordered = np.sort(values)
    return not np.any(ordered[1:] == ordered[:-1])
