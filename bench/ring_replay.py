"""A history played into a ring, under a policy that says who leaves when it is full.

`Log` is the ring of a node: events leave in the order they lie in, and a `Retention` may have them
copied to the front instead. The others may take an event from anywhere, which no log can.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from localmem_node.retention import Retention
from localmem_node.retrieval.index import SearchIndex
from localmem_protocol.events import Event

K: Final = 10
SEED: Final = 20_261_123


@dataclass(frozen=True, slots=True)
class Task:
    """Work that began when `at` events were recorded: what was asked, and per sort of truth the
    earlier events (positions) that it built on.
    """

    text: str
    vector: npt.NDArray[np.float32]
    at: int
    answers: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events of a repository, oldest first, with vectors and bytes in a ring; the tasks by time."""

    name: str
    events: Sequence[Event]
    vectors: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.int64]
    tasks: Sequence[Task]

    def capacity(self, ring: int) -> int:
        """Bytes of a ring that holds `ring` events of this repository, on average."""
        return int(self.sizes.mean() * ring)


class Policy(Protocol):
    """Who leaves. Slots are small integers, used again; positions are places in the timeline."""

    def added(self, slot: int, position: int) -> None:
        """An event is in the ring."""
        ...

    def used(self, slots: Sequence[int]) -> None:
        """A question was answered with these, best first."""
        ...

    def leaving(self) -> int:
        """The slot of the event that leaves now."""
        ...


class Log:
    """A ring with a `Retention`."""

    def __init__(self, timeline: Timeline, retention: Retention) -> None:
        self._timeline, self._retention = timeline, retention
        self._slots: deque[tuple[int, int]] = deque()
        self.copied = self.copied_bytes = self.written_bytes = 0

    def added(self, slot: int, position: int) -> None:
        """See `Policy`."""
        size = int(self._timeline.sizes[position])
        self.written_bytes += size
        self._slots.append((slot, size))
        self._retention.added(slot, self._timeline.events[position], size)

    def used(self, slots: Sequence[int]) -> None:
        """See `Policy`."""
        self._retention.used(slots)

    def leaving(self) -> int:
        """See `Policy`."""
        while True:
            slot, size = self._slots.popleft()
            if not self._retention.earned(slot, size):
                self._retention.removed(slot)
                return slot
            self._slots.append((slot, size))
            self.copied += 1
            self.copied_bytes += size


class Random:
    """Anyone may leave."""

    def __init__(self) -> None:
        self._chance = np.random.default_rng(SEED)
        self._slots: list[int] = []

    def added(self, slot: int, position: int) -> None:
        """See `Policy`."""
        self._slots.append(slot)

    def used(self, slots: Sequence[int]) -> None:
        """Not looked at."""

    def leaving(self) -> int:
        """See `Policy`."""
        at = int(self._chance.integers(len(self._slots)))
        self._slots[at], self._slots[-1] = self._slots[-1], self._slots[at]
        return self._slots.pop()


class LeastRecentlyUsed:
    """The one that has been an answer, or was recorded, the longest ago."""

    def __init__(self) -> None:
        self._slots: dict[int, None] = {}

    def added(self, slot: int, position: int) -> None:
        """See `Policy`."""
        self._slots[slot] = None

    def used(self, slots: Sequence[int]) -> None:
        """See `Policy`."""
        for slot in reversed(slots):
            del self._slots[slot]
            self._slots[slot] = None

    def leaving(self) -> int:
        """See `Policy`."""
        slot = next(iter(self._slots))
        del self._slots[slot]
        return slot


class Clairvoyant:
    """The one that will be built on last, or never (Belady 1966), as one sort of truth has it."""

    def __init__(self, timeline: Timeline, truth: str) -> None:
        self._uses: defaultdict[int, list[int]] = defaultdict(list)
        for task in timeline.tasks:
            for position in task.answers[truth]:
                self._uses[position].append(task.at)
        self._never = len(timeline.events) + 1
        self._positions: dict[int, int] = {}
        self._newest = 0

    def added(self, slot: int, position: int) -> None:
        """See `Policy`."""
        self._positions[slot] = self._newest = position

    def used(self, slots: Sequence[int]) -> None:
        """Not looked at."""

    def leaving(self) -> int:
        """See `Policy`."""
        slot = max(self._positions, key=lambda slot: (self._next_use(slot), -self._positions[slot]))
        del self._positions[slot]
        return slot

    def _next_use(self, slot: int) -> int:
        uses = self._uses.get(self._positions[slot], [])
        following = bisect_right(uses, self._newest)
        return uses[following] if following < len(uses) else self._never


@dataclass(slots=True)
class Answered:
    """What a task got: the positions found, best first, and all that were in the ring."""

    task: Task
    found: list[int]
    held: frozenset[int]


@dataclass(slots=True)
class _Ring:
    """What is in the ring: an index by slots, as in the node."""

    timeline: Timeline
    index: SearchIndex
    positions: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    bytes: int = 0

    def add(self, position: int) -> int:
        slot = self.free.pop() if self.free else len(self.positions)
        self.positions[slot] = position
        self.index.add(slot, self.timeline.events[position])
        self.index.put_vector(slot, self.timeline.vectors[position])
        self.bytes += int(self.timeline.sizes[position])
        return slot

    def remove(self, slot: int) -> None:
        self.index.remove(slot)
        self.bytes -= int(self.timeline.sizes[self.positions.pop(slot)])
        self.free.append(slot)


def replay(timeline: Timeline, policy: Policy, capacity: int | None) -> list[Answered]:
    """Ask at the beginning of every task, and record what it did. None: nothing ever leaves."""
    ring = _Ring(timeline, SearchIndex(timeline.vectors.shape[1]))
    answered: list[Answered] = []
    tasks = iter(timeline.tasks)
    task = next(tasks, None)
    for position in range(len(timeline.events)):
        if task is not None and task.at == position:
            hits = ring.index.search(task.text, task.vector, K)
            slots = [hit.slot for hit in hits]
            policy.used(slots)
            found = [ring.positions[slot] for slot in slots]
            answered.append(Answered(task, found, frozenset(ring.positions.values())))
            task = next(tasks, None)
        policy.added(ring.add(position), position)
        while capacity is not None and ring.bytes > capacity:
            ring.remove(policy.leaving())
    return answered
