"""Words that mean nearly the same: other terms that an event may have used for a question's word.

A table of numbers, shipped with the package: for the whole words of MiniLM's vocabulary the nearest
others by the model's own vectors of single words. `python -m bench train` makes it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import zstandard

PATH: Final = Path(__file__).parent / "data" / "related.zst"

FORMAT: Final = 1


class Related(NamedTuple):
    """Another term, and how much finding it is worth beside the word itself, below 1."""

    term: str
    share: float


class Table(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Per term, at most 255 others: `counts` uint8, `others` uint16 into `terms`, `shares` uint8 of 255."""

    format: int
    terms: list[str]
    counts: bytes
    others: bytes
    shares: bytes


class RelatedTerms:
    """The table, by term."""

    def __init__(self, table: Table) -> None:
        self._terms = table.terms
        self._places = {term: place for place, term in enumerate(table.terms)}
        self._ends = np.cumsum(np.frombuffer(table.counts, np.uint8), dtype=np.int64)
        self._others = np.frombuffer(table.others, "<u2")
        self._shares = np.frombuffer(table.shares, np.uint8)

    def of(self, term: str) -> list[Related]:
        """The terms related to one, nearest first; none for a term that is not in the table."""
        place = self._places.get(term)
        if place is None:
            return []
        first, end = int(self._ends[place - 1]) if place else 0, int(self._ends[place])
        return [
            Related(self._terms[other], share / 255)
            for other, share in zip(
                self._others[first:end].tolist(), self._shares[first:end].tolist(), strict=True
            )
        ]


def encoded(related: dict[str, list[Related]]) -> bytes:
    """The table as bytes; the terms named as others must be among the keys."""
    terms = sorted(related)
    places = {term: place for place, term in enumerate(terms)}
    lists = [related[term] for term in terms]
    table = Table(
        format=FORMAT,
        terms=terms,
        counts=bytes(len(each) for each in lists),
        others=np.array([places[one.term] for each in lists for one in each], "<u2").tobytes(),
        shares=bytes(round(255 * one.share) for each in lists for one in each),
    )
    return zstandard.compress(msgspec.msgpack.encode(table), 19)


def decoded(data: bytes) -> RelatedTerms:
    """The inverse of `encoded`."""
    return RelatedTerms(msgspec.msgpack.decode(zstandard.decompress(data), type=Table))


@lru_cache(maxsize=1)
def shipped() -> RelatedTerms:
    """The table of the package."""
    return decoded(PATH.read_bytes())
