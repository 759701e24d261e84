"""What people marked as private: `<private>` … `</private>`, in whatever case."""

from __future__ import annotations

import re
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
    for tag in _TAG.finditer(text):
        if depth == 0:
            # A closing tag without an opening one is text like any other.
            kept.append(text[at : tag.end() if tag[1] else tag.start()])
        depth = max(0, depth - 1) if tag[1] else depth + 1
        at = tag.end()
    if depth == 0:
        kept.append(text[at:])
    result = "".join(kept)
    return result if result.strip() else PLACEHOLDER
