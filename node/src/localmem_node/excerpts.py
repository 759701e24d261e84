"""The lines of a long text that answer a question, as many as fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from localmem_node.plain_text import Size, size_of
from localmem_node.retrieval.tokens import terms

LINE_CHARACTERS_MAX: Final = 400
"""Of a line in an excerpt; a minified file has one line, and a log long ones."""

NEAR: Final = 0.7
"""What of a line's worth each line further away has: what stands beside an answer explains it."""

CUT: Final = "…"
_BREAK: Final = size_of("\n")
_GAP: Final = size_of("[… 99999 lines]\n")
"""What a mark of left-out lines takes, at most: a snippet has no more lines."""


def excerpt(lines: Sequence[str], wanted: Collection[str], room: Size) -> list[str]:
    """Lines in their order, those left out counted in marks: what fits of the most telling first.

    `wanted` are terms of the question; without any in the lines, the first come first. Empty when
    no line fits.
    """
    if not _GAP.plus(_BREAK).fits(room):
        return []
    found = [set(terms(line)) & set(wanted) for line in lines]
    short = [
        _shortened(line, here) if len(line) > LINE_CHARACTERS_MAX else line
        for line, here in zip(lines, found, strict=True)
    ]
    worth = _worth(found)
    kept: set[int] = set()
    taken = _GAP  # everything is left out, in one gap
    for at in sorted(range(len(short)), key=lambda at: (-worth[at], at)):
        gaps = (at > 0 and at - 1 not in kept) + (at + 1 < len(short) and at + 1 not in kept) - 1
        more = taken.plus(size_of(short[at])).plus(_BREAK)
        more = more.plus(_GAP) if gaps > 0 else more.minus(_GAP) if gaps < 0 else more
        if more.fits(room):
            kept.add(at)
            taken = more
    return _joined(short, kept) if kept else []


def _worth(found: Sequence[Collection[str]]) -> list[float]:
    """How telling each line is: by the terms that few lines have, and what is near it."""
    lines_with = Counter(term for here in found for term in here)
    worth = [sum(1 / lines_with[term] for term in sorted(here)) for here in found]
    for places in (range(1, len(worth)), range(len(worth) - 2, -1, -1)):
        for at in places:
            worth[at] = max(worth[at], NEAR * worth[at - places.step])
    return worth


def _joined(lines: Sequence[str], kept: set[int]) -> list[str]:
    shown: list[str] = []
    left_out = 0
    for at, line in enumerate(lines):
        if at not in kept:
            left_out += 1
            continue
        if left_out:
            shown.append(_mark(left_out))
            left_out = 0
        shown.append(line)
    if left_out:
        shown.append(_mark(left_out))
    return shown


def _mark(lines: int) -> str:
    return f"[{CUT} {lines} line{'s' if lines > 1 else ''}]"


def _shortened(line: str, wanted: Collection[str]) -> str:
    """The part of a long line around the first word that is asked for, or its beginning."""
    half = LINE_CHARACTERS_MAX // 2
    start = 0
    if wanted:
        words = line.split(" ")
        place = 0
        for word in words:
            if set(terms(word)) & set(wanted):
                start = max(0, min(place, len(line) - half) - half)
                break
            place += len(word) + 1
    end = start + LINE_CHARACTERS_MAX - 2
    part = line[start:end]
    return f"{CUT if start else ''}{part}{CUT if end < len(line) else ''}"
