"""What people marked as private: `<private>` … `</private>`, in whatever case."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PLACEHOLDER: Final = "[redacted:private]"
"""What is left of a text that was private as a whole."""

_OPENING: Final = re.compile(r"<private>", re.IGNORECASE)
_TAG: Final = re.compile(r"<(/?)private>", re.IGNORECASE)


def without_private(text: str) -> str:
    """`text` without its private spans. They may nest; one that is never closed goes on to the end."""
    if not _OPENING.search(text):
        return text
    kept: list[str] = []
    depth = at = 0
    for tag, depth_after in _tags(text):
        if depth == 0:
            # A closing tag without an opening one is text like any other.
            kept.append(text[at : tag.end() if tag[1] else tag.start()])
        depth, at = depth_after, tag.end()
    if depth == 0:
        kept.append(text[at:])
    result = "".join(kept)
    return result if result.strip() else PLACEHOLDER


def is_left_open(text: str) -> bool:
    """Whether a span that begins in `text` goes on behind it."""
    return next((depth for _, depth in reversed([*_tags(text)])), 0) > 0


def _tags(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each tag, and how many spans are open behind it."""
    depth = 0
    for tag in _TAG.finditer(text):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        yield tag, depth
