"""A query, looked at once: its terms and what else they may be called, its phrases, dates and clues."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.dates import Span, spans_of
from localmem_node.retrieval.related import Related
from localmem_node.retrieval.tokens import query_terms
from localmem_protocol.events import Kind

TERMS_MAX: Final = 64
"""Terms of a query that count: the rest of a long one costs time and tells little."""

RELATED_MAX: Final = 8
"""Related terms taken per term; for a long query fewer, RELATED_TOTAL in all."""

RELATED_TOTAL: Final = 96

_QUOTED: Final = re.compile(r"[\"“`]([^\"”`\n]{2,200})[\"”`]")
_WHEN: Final = re.compile(
    r"^\W*(?:when|(?:in |on )?(?:what|which) (?:date|day|week|month|year|time))\b|\bhow long\b",
    re.IGNORECASE,
)
_HOW_MANY: Final = re.compile(r"\bhow (?:many|much|often|old)\b", re.IGNORECASE)
_KINDS: Final[dict[str, Kind]] = {
    "error": "error", "errors": "error", "exception": "error", "traceback": "error",
    "failed": "error", "failure": "error", "crash": "error", "crashed": "error",
    "command": "command", "commands": "command", "ran": "command",
    "asked": "prompt", "prompt": "prompt", "prompted": "prompt",
    "answered": "answer", "answer": "answer", "explained": "answer", "suggested": "answer",
    "edited": "edit", "changed": "edit", "wrote": "edit", "edit": "edit", "edits": "edit",
    "note": "note", "noted": "note",
}  # fmt: skip
"""Words that say which kind of event is meant."""

TOOLS: Final = {"claude": "claude-code", "cursor": "cursor", "codex": "codex"}
"""Words that say which tool is meant."""


@dataclass(frozen=True, slots=True)
class Question:
    """`columns` are all terms to look up, each term followed by those related to it.

    `characters` is how long the query is; `starts` says where each term's columns begin, `shares` what a match of each column is worth.
    """

    characters: int
    terms: list[str]
    columns: list[str]
    starts: npt.NDArray[np.intp]
    shares: npt.NDArray[np.float32]
    quoted: npt.NDArray[np.bool_]
    spans: list[Span]
    asks_when: bool
    asks_how_many: bool
    kinds: frozenset[Kind]
    tools: frozenset[str]


def parse_question(
    text: str,
    *,
    related: Callable[[str], Sequence[Related]],
    known: Callable[[str], bool],
    now: datetime | None = None,
    oldest: int = 0,
    newest: int = 0,
) -> Question:
    """Look at a query. `known` says whether any event has a term; times as in `spans_of`."""
    terms = query_terms(text)[:TERMS_MAX]
    most = min(RELATED_MAX, RELATED_TOTAL // max(len(terms), 1))
    own = set(terms)
    columns: list[str] = []
    shares: list[float] = []
    starts: list[int] = []
    for term in terms:
        starts.append(len(columns))
        columns.append(term)
        shares.append(1.0)
        others = [one for one in related(term) if one.term not in own and known(one.term)]
        columns += [one.term for one in others[:most]]
        shares += [one.share for one in others[:most]]
    phrases = {term for phrase in _QUOTED.findall(text) for term in query_terms(phrase)}
    words = {word.lower() for word in re.findall(r"\w+", text[:2000])}
    return Question(
        characters=len(text),
        terms=terms,
        columns=columns,
        starts=np.array(starts, np.intp),
        shares=np.array(shares, np.float32),
        quoted=np.array([term in phrases for term in terms], np.bool_),
        spans=spans_of(text[:2000], now, oldest, newest),
        asks_when=bool(_WHEN.search(text[:2000])),
        asks_how_many=bool(_HOW_MANY.search(text[:2000])),
        kinds=frozenset(_KINDS[word] for word in words & _KINDS.keys()),
        tools=frozenset(tool for word, tool in TOOLS.items() if word in words),
    )
