"""Which problems were reported: each once, whatever comes again on the next connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from localmem_protocol.signatures import Problem

REPORTED_MAX: Final = 4096
"""Problems that are known to have been reported; beyond that one may be reported again."""


class Reported:
    """What one session has reported."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, int, int]] = set()
        self._standing: set[tuple[str, str, int, int]] = set()

    def is_news(self, problem: Problem) -> bool:
        """Whether this was not reported yet; it counts as reported from now on.

        But a batch that did not open: those are counted again when another document is read.
        """
        once = _once(problem)
        if once in self._known:
            return False
        if problem.kind != "unopened":
            if len(self._known) >= REPORTED_MAX:
                self._known.clear()
            self._known.add(once)
        return True

    def stand(self, problems: Iterable[Problem]) -> None:
        """These are there now. What was there the last time, and is over, is news when it comes again."""
        standing = {_once(problem) for problem in problems}
        self._known -= self._standing - standing
        self._standing = standing


def _once(problem: Problem) -> tuple[str, str, int, int]:
    """What is reported once. The batches of one who may not write are all one problem, and so is a chain
    that is shorter than it was: how much shorter changes while it is mended."""
    clock = -1 if problem.kind in ("refused", "replay") else problem.clock
    return (problem.kind, problem.device, problem.client, clock)
