"""What a hub counts of its work: plain numbers, which cost next to nothing to keep.

What passes through connections is counted by each of them anyway; a `Tally` only knows which there are,
and adds them up when somebody asks. Nothing here names a pool or a device: their number has no bound,
and who has them is nobody's business. How the numbers are shown is `exposition.py`'s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from localmem_hub.seams import Batch
from localmem_protocol.frames import Close

COMMIT_SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper ends of the buckets that commits are counted in: from a fast SSD to BUSY_MS."""

_NAMES: Final = {code: name.lower() for name, code in vars(Close).items() if isinstance(code, int)}
"""Close code -> its name."""


class Histogram:
    """How many values were at most each of these bounds, or over all of them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Carrier(Protocol):
    """What came in on a connection, and what went out."""

    frames: int
    bytes: int
    frames_sent: int
    bytes_sent: int


@dataclass(eq=False)
class Passed:
    """A `Carrier` of its own."""

    frames: int = 0
    bytes: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True)
class Traffic:
    """Connections there are now, and what all that ever were brought and took."""

    connections: int
    frames_in: int
    bytes_in: int
    frames_out: int
    bytes_out: int


class Tally:
    """The WebSocket connections of one kind."""

    def __init__(self) -> None:
        self.opened = 0
        self._live: set[Carrier] = set()
        self._past = [0, 0, 0, 0]

    def begin(self, connection: Carrier) -> None:
        """A connection is there."""
        self.opened += 1
        self._live.add(connection)

    def end(self, connection: Carrier) -> None:
        """It is not any more."""
        self._live.remove(connection)
        self._past = _plus(self._past, connection)

    def traffic(self) -> Traffic:
        """Up to this moment."""
        sums = self._past
        for connection in self._live:
            sums = _plus(sums, connection)
        return Traffic(len(self._live), *sums)


def _plus(sums: Sequence[int], one: Carrier) -> list[int]:
    return [
        sums[0] + one.frames,
        sums[1] + one.bytes,
        sums[2] + one.frames_sent,
        sums[3] + one.bytes_sent,
    ]


@dataclass
class Counts:
    """All that one hub counts, from its start. `refused` is by the name of the close code, the other
    Counters by the code of the error; `exchanged` is what single requests carried."""

    sealed: Tally = field(default_factory=Tally)
    plain: Tally = field(default_factory=Tally)
    exchanges: int = 0
    exchanged: Passed = field(default_factory=Passed)
    updates_stored: int = 0
    bytes_stored: int = 0
    quarantined: int = 0
    rooms_discarded: int = 0
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_SECONDS))
    commits_failed: Counter[str] = field(default_factory=Counter)
    compactions: int = 0
    compactions_failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    request_errors: Counter[str] = field(default_factory=Counter)

    def refuse(self, code: int) -> None:
        """Somebody was sent away with a code of `frames.Close`."""
        self.refused[_NAMES.get(code, "other")] += 1

    def exchange(self, frames_in: int, bytes_in: int, frames_out: int, bytes_out: int) -> None:
        """A single request was answered."""
        self.exchanges += 1
        one = self.exchanged
        one.frames += frames_in
        one.bytes += bytes_in
        one.frames_sent += frames_out
        one.bytes_sent += bytes_out

    def committed(self, batches: Sequence[Batch], seconds: float) -> None:
        """A transaction was carried out, in this time."""
        self.commit_seconds.observe(seconds)
        for batch in batches:
            self.updates_stored += len(batch.rows)
            self.bytes_stored += sum(len(row.update) for row in batch.rows)
            self.quarantined += len(batch.quarantined)
