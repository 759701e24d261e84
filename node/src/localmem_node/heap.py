"""How the process's heap behaves under glibc; elsewhere nothing happens.

A daemon lives for weeks, and what one thread allocates another frees. Measured by
`python -m bench memory` and `python -m bench footprint`.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""glibc's malloc.h."""

LARGE_BYTES: Final = 1024 * 1024
"""A block of this size is mapped by itself, and unmapped when it is freed."""


def settle_heap() -> None:
    """Keep what is freed from staying with the process; to be called before there are threads.

    One heap for all threads: with a heap each, a daemon whose ring had long been full grew by some
    100 bytes for every event, and began 15 MiB higher. And no guessing at which blocks are large:
    glibc raises that bound to the largest block ever freed, up to 32 MiB, and a matrix of vectors
    that has grown then leaves a hole of its size in the heap.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)


def trim_heap() -> None:
    """Give the pages of the heap that nothing uses back to the system, after something large."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
