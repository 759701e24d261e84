"""Who is looked at, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

CANDIDATES_MIN: Final = 200
"""Candidates taken from each side, however few are asked for."""

CANDIDATES_PER_HIT: Final = 4
"""Candidates taken from each side per hit asked for."""

Scores = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int64]


def candidates_for(k: int) -> int:
    """How many candidates each side gives when k hits are asked for."""
    return max(CANDIDATES_MIN, CANDIDATES_PER_HIT * k)


def best_slots(scores: Scores, count: int) -> Slots:
    """The slots with the `count` highest positive scores, and any that equal the last of them."""
    slots = np.flatnonzero(scores > 0).astype(np.int64)
    if len(slots) > count:
        found = scores[slots]
        slots = slots[found >= np.partition(found, len(found) - count)[len(found) - count]]
    return slots


def order(scores: Scores, newness: npt.NDArray[np.uint64], slots: Slots) -> npt.NDArray[np.intp]:
    """Positions best first; among equals the newer. `newness`: (keys, slots in use), first decides."""
    ranked = np.argsort(-scores, kind="stable")
    ordered = scores[ranked]
    if (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((*newness[::-1].take(slots, axis=1), scores))[::-1]
    return ranked


def spread_out(
    ranked: npt.NDArray[np.intp],
    scores: Scores,
    bursts: npt.NDArray[np.int64],
    penalty: npt.NDArray[np.float32],
) -> list[tuple[int, float]]:
    """`ranked` anew, best first, with scores: each costs its `penalty` for every one of its burst
    before it. No penalty is negative.

    Carbonell, Goldstein, "The Use of MMR" (1998), with being of one burst as likeness. All arrays
    but `ranked` run over the candidates.
    """
    # Of one burst and penalty the order stays: whoever is first in its queue is the best of it.
    # From here on a candidate is its place in `ranked`, which decides between equals.
    names, worth = ranked.tolist(), scores[ranked].tolist()
    queues: dict[tuple[int, float], list[int]] = {}
    keys = zip(bursts[ranked].tolist(), penalty[ranked].tolist(), strict=True)
    for place, key in enumerate(keys):
        queues.setdefault(key, []).append(place)
    heads = [(-worth[queue[0]], queue[0], key) for key, queue in queues.items()]
    heapify(heads)
    following = dict.fromkeys(queues, 1)
    taken = dict.fromkeys((burst for burst, _ in queues), 0)
    found: list[tuple[int, float]] = []
    while heads:
        cost, place, key = heads[0]
        burst, price = key
        paid = price * taken[burst] - worth[place]
        if paid > cost:  # another of its burst was taken since it was put there
            heapreplace(heads, (paid, place, key))
            continue
        found.append((names[place], -cost))
        taken[burst] += 1
        if following[key] < len(queues[key]):
            place = queues[key][following[key]]
            following[key] += 1
            heapreplace(heads, (price * taken[burst] - worth[place], place, key))
        else:
            heappop(heads)
    return found


def prices(
    bursts: npt.NDArray[np.int64], said: npt.NDArray[np.bool_], penalty: float
) -> npt.NDArray[np.float32]:
    """What each costs after another of its burst: `penalty` if anything was done in that burst.

    Turns of a talk are free: each says something else. A prompt and its answer say what the edits
    between them show. `bursts` are numbers from -1.
    """
    at_work = np.zeros(int(bursts.max(initial=-1)) + 2, np.bool_)
    at_work[bursts[~said]] = True
    return at_work[bursts] * np.float32(penalty)


COPY_BITS: Final = 3
"""Sketches that differ in no more bits are of texts that hardly differ."""


COPY_MS: Final = 3_600_000
"""Copies in a file are no further apart. What is written again later is other work."""


class Group(NamedTuple):
    """A hit: the `newest` of some near copies, at the place of the `best`. Positions."""

    newest: int
    best: int
    copies: int


def collapsed(
    ranked: Sequence[int],
    rows: npt.NDArray[np.void],
    newness: npt.NDArray[np.uint64],
    k: int,
) -> list[Group]:
    """The first k of `ranked`, near copies together.

    A copy is of the same kind, in the same file, of nearly the same text, and from another moment: what
    is recorded at once is at different places. In a file it is from within COPY_MS: what is written
    again later is another piece of work. `rows` are the traits
    of the candidates, `newness` as for `order`.
    """
    groups: list[Group] = []
    shapes: dict[tuple[int, int], list[int]] = {}
    files, kinds, sketches, times = (
        rows[name].tolist() for name in ("file", "kind", "sketch", "timestamp")
    )
    for at in ranked:
        file, sketch, time = files[at], sketches[at], times[at]
        alike = shapes.setdefault((file, kinds[at]), [])
        for place in alike:
            newest, best, copies = groups[place]
            apart = abs(time - times[best])
            if (
                (sketch ^ sketches[best]).bit_count() <= COPY_BITS
                and apart
                and (not file or apart <= COPY_MS)
            ):
                if tuple(newness[:, at]) > tuple(newness[:, newest]):
                    newest = at
                groups[place] = Group(newest, best, copies + 1)
                break
        else:
            if len(groups) < k:
                alike.append(len(groups))
                groups.append(Group(at, at, 0))
    return groups
