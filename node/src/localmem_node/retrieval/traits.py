"""What an index knows of an event beside its words: kind, time, file, and what its text looks like."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.dates import EXPRESSION
from localmem_node.retrieval.question import TOOLS
from localmem_node.retrieval.slots import grown
from localmem_protocol.events import KINDS, Event
from localmem_protocol.limits import TIMESTAMP_MS_MAX

SAID: Final = frozenset({"prompt", "answer", "note"})
"""Kinds that are language; the others are code, commands and what they print."""

TEXT_CHARACTERS_MAX: Final = 4000
"""Characters of a text that are looked at."""

SKETCH_BITS: Final = 64

_KIND_CODES: Final[dict[str, int]] = {kind: code for code, kind in enumerate(KINDS, start=1)}
_TOOL_CODES: Final[dict[str, int]] = {
    tool: code for code, tool in enumerate(TOOLS.values(), start=1)
}
_NUMBER: Final = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|once|twice|dozen|hundred|thousand)\b",
    re.IGNORECASE,
)
_ASKS: Final = re.compile(r"\?[\s\"')\]]*(?:\[[^\]]*\]\s*)?$")

Traits = np.dtype(
    [
        ("timestamp", "<i8"),
        ("file", "<u8"),  # a hash of the path; 0 without one
        ("sketch", "<u8"),
        ("kind", "u1"),
        ("tool", "u1"),
        ("said", "?"),
        ("asks", "?"),
        ("tells_time", "?"),
        ("tells_number", "?"),
    ]
)

_TRUTHS: Final = ("said", "asks", "tells_time", "tells_number")


class TraitTable:
    """A row of `Traits` per slot."""

    def __init__(self, rows: npt.NDArray[np.void] | None = None) -> None:
        self.rows = np.zeros(0, Traits) if rows is None else rows

    def put(self, slot: int, event: Event, terms: npt.ArrayLike) -> None:
        """Describe an event; `terms` are the hashes of its terms (see `term_hash`)."""
        self.rows = grown(self.rows, slot + 1)
        text = event.snippet[-TEXT_CHARACTERS_MAX:]
        said = event.kind in SAID
        self.rows[slot] = (
            event.timestamp,
            path_hash(event.file_path),
            sketch(np.asarray(terms, np.uint64)),
            kind_code(event.kind),
            _TOOL_CODES.get(event.tool or "", 0),
            said,
            said and _ASKS.search(text) is not None,
            said and EXPRESSION.search(text) is not None,
            said and _NUMBER.search(text) is not None,
        )


def are_sound(rows: npt.NDArray[np.void]) -> bool:
    """Whether rows that were read may be those of events: times are in bounds, truths are 0 or 1."""
    times = rows["timestamp"]
    in_time = times.min(initial=0) >= 0 and times.max(initial=0) <= TIMESTAMP_MS_MAX
    return bool(in_time) and all(rows[name].view(np.uint8).max(initial=0) <= 1 for name in _TRUTHS)


def kind_code(kind: str) -> int:
    """The number that stands for a kind."""
    return _KIND_CODES[kind]


def tool_code(tool: str) -> int:
    """The number that stands for a tool; 0 for one that questions do not name."""
    return _TOOL_CODES.get(tool, 0)


@lru_cache(maxsize=1024)
def path_hash(path: str | None) -> int:
    """A number for a path, the same on every start."""
    if path is None:
        return 0
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little") or 1


@lru_cache(maxsize=8192)
def term_hash(term: str) -> int:
    """A number for a term, the same on every start."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")


def sketch(hashes: npt.NDArray[np.uint64]) -> int:
    """64 bits that differ in few places for texts that differ in few terms.

    Charikar, "Similarity Estimation Techniques from Rounding Algorithms" (2002).
    """
    if not len(hashes):
        return 0
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), 8), axis=1)
    majority = bits.sum(axis=0, dtype=np.int64) * 2 > len(hashes)
    return int.from_bytes(np.packbits(majority).tobytes(), "little")
