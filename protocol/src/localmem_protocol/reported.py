"""What was wrong with what came: each problem is reported once, whatever comes again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from localmem_protocol.signatures import Problem

PROBLEMS_MAX: Final = 64
"""Problems kept for a look; all are counted."""

REPORTED_MAX: Final = 4096
"""Problems that are known to have been reported; beyond that one may be reported again."""


class Reported:
    """What one session has reported.

    `problems` are the latest, `troubles` is how many there were, and `unreadable` how many of them were
    batches that did not open.
    """

    def __init__(self) -> None:
        self.problems: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self.troubles = self.unreadable = 0
        self._news: deque[Problem] = deque(maxlen=PROBLEMS_MAX)
        self._known: set[tuple[str, str, int, int]] = set()
        self._standing: set[tuple[str, str, int, int]] = set()

    def report(self, problem: Problem) -> None:
        """Count it, unless it was reported before.

        But a batch that did not open: those are counted again when another document is read.
        """
        once = _once(problem)
        if once in self._known:
            return
        if problem.kind != "unopened":
            if len(self._known) >= REPORTED_MAX:
                self._known.clear()
            self._known.add(once)
        self.problems.append(problem)
        self._news.append(problem)
        self.troubles += 1
        self.unreadable += problem.kind == "unopened"

    def take_news(self) -> list[Problem]:
        """Those since the last call, for a log; the newest of them if there are very many."""
        news = list(self._news)
        self._news.clear()
        return news

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
