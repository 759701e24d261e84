"""Whether an event log is the one that something was written about, or an older copy put in its place.

How many events a log has ever kept does not tell: a copy that was put back goes on counting, and
overtakes what was written. So each *run* of a log, from one opening to the next, has a random mark
of its own. The log keeps the newest of them, each with the position at which it began; who relies on
what the log had, keeps a `Reach`: a position with the mark of the run that it lies in. A log has
reached it if it knows that run, and the next one did not begin before that position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

RUN_BYTES: Final = 8

RUNS_MAX: Final = 6
"""Runs that a log knows: as many as a ring file's header has room for. Who relies on a log looks each
time that it opens."""


@dataclass(frozen=True)
class Reach:
    """How far an event log had got: how many events it had ever kept, and the run that kept the newest
    (no bytes: before there were marks)."""

    position: int = 0
    run: bytes = b""


NOWHERE: Final = Reach()
"""Of a log that has kept nothing; every log has reached that."""


class Run(NamedTuple):
    """It kept what came after `position`."""

    position: int
    mark: bytes


@dataclass(frozen=True)
class Lineage:
    """The runs of a log, oldest first; no two begin at one position."""

    runs: tuple[Run, ...] = ()

    def begun(self, position: int, mark: bytes) -> Lineage:
        """With a run that begins here. One that had kept nothing is not remembered."""
        before = [run for run in self.runs if run.position < position]
        return Lineage((*before, Run(position, mark))[-RUNS_MAX:])

    def reach(self, position: int) -> Reach:
        """Of a log that has kept so much."""
        marks = [run.mark for run in self.runs if run.position < position]
        return Reach(position, marks[-1] if marks else b"")

    def has_reached(self, reach: Reach, position: int) -> bool:
        """Whether a log that has kept so much has what was there then."""
        if reach.position == 0:
            return True
        full = len(self.runs) == RUNS_MAX
        runs = self.runs if full else (Run(0, b""), *self.runs)
        ends = [*(run.position for run in runs[1:]), position]
        return any(
            run.mark == reach.run and run.position < reach.position <= min(end, position)
            for run, end in zip(runs, ends, strict=True)
        )


NO_RUNS: Final = Lineage()
