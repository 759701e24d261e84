"""The numbers of mailboxes, which people say to each other."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from localmem_protocol.seams import Random

RANGES: Final = (99, 999, 9999)
"""Numbers are drawn from the first range that is less than half taken: short ones are easy to say."""


def free_number(taken: Set[int], random: Random) -> int:
    """A number that is not taken; which one, nobody can tell before."""
    for most in RANGES:
        free = [number for number in range(1, most + 1) if number not in taken]
        if 2 * len(free) > most:
            return free[int.from_bytes(random.token_bytes(4)) % len(free)]
    raise ValueError("no range of numbers is less than half taken")
