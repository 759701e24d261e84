"""Where a row is, in the tag of a device's position: its segment and the offset that comes after it.

    TAG-NUMBER-CHANCE-OFFSET        the tag is that of `exchange.follow`, the numbers in hex

It is no more than a hint, which spares a process that does not know the room to read it: if the segment
ends at this offset, nothing is new. Whoever makes one up learns nothing by it, and misses what is new.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from localmem_hub.blobs import names

_CURSOR: Final = re.compile(
    r"([0-9A-Za-z_-]{6})?-([0-9a-f]{1,5})-([0-9a-f]{12})-([0-9a-f]{1,8})", re.ASCII
)
_SEGMENT: Final = re.compile(r".*/log-([0-9]{8})-([0-9a-f]{12})", re.ASCII)


@dataclass(frozen=True)
class Cursor:
    """A segment of a room, and an offset in it."""

    number: int
    chance: str
    offset: int

    def segment(self, room: str) -> str:
        """The name of the segment."""
        return f"{names.segments(room)}{self.number:08d}-{self.chance}"


def with_place(tag: str, segment: str, offset: int) -> str:
    """The tag of the newest row, with where it is; alone if that is too long to be said."""
    found = _SEGMENT.fullmatch(segment)
    if found is None:
        return tag
    text = f"{tag}-{int(found[1]):x}-{found[2]}-{offset:x}"
    return text if _CURSOR.fullmatch(text) else tag


def tag_in(text: str) -> str:
    """The tag alone."""
    found = _CURSOR.fullmatch(text)
    return text if found is None else found[1] or ""


def cursor_in(text: str) -> Cursor | None:
    """Where it is, if that is said."""
    found = _CURSOR.fullmatch(text)
    return None if found is None else Cursor(int(found[2], 16), found[3], int(found[4], 16))
