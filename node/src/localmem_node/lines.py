"""Lines of a stream, as they come, with a bound on each: a stream may never end, nor a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

LINE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of a line; the largest event needs less, even with every character escaped."""

CHUNK_BYTES: Final = 256 * 1024


def read_lines(
    read: Callable[[int], bytes], most: int = LINE_BYTES_MAX
) -> Iterator[list[tuple[int, bytes | None]]]:
    """Groups of (number from 1, line without its end), one group for each read that has any.

    None stands for a line above `most` bytes, whose text is dropped as it comes. Blank lines are
    counted and left out. `read` is like `os.read`: at most that many bytes, b"" at the end.
    """
    rest = b""
    dropping = False
    number = 0
    while chunk := read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        group: list[tuple[int, bytes | None]] = []
        for line in lines:
            number += 1
            if dropping or len(line) > most:
                group.append((number, None))
                dropping = False
            elif line.strip():
                group.append((number, line))
        if len(rest) > most or dropping:
            rest, dropping = b"", True
        if group:
            yield group
    if dropping:
        yield [(number + 1, None)]
    elif rest.strip():
        yield [(number + 1, rest)]
