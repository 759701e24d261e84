"""Which epoch that is over a device reads next, and when: pure, with the time handed in.

Each is read to its end once, oldest first, before the newest one is lived in. But a hub that cannot
show one must keep nobody from what goes on now: after a failure the newest comes first, and what is
left is tried again later, ever more rarely. What failed least often is tried first, so that one that
never answers is in no other's way.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

PAST_FIRST_S: Final = 60.0
"""After the first failure with an epoch that is over, nothing of the kind is tried for so long."""

PAST_MAX_S: Final = 3600.0
"""The longest that it is put off."""


class PastEpochs:
    """What failed so far, of one pool. Forgets it with the process: then all is tried once more."""

    def __init__(self) -> None:
        self.problems: dict[int, str] = {}  # by epoch, the last
        self._failures: dict[int, int] = {}
        self._again_s: float | None = None

    def due(self, unread: Collection[int], now_s: float) -> int | None:
        """The epoch to read now; None if there is none, or the newest comes first."""
        if self.wait_s(unread, now_s) != 0:
            return None
        return min(unread, key=lambda epoch: (self._failures.get(epoch, 0), epoch))

    def wait_s(self, unread: Collection[int], now_s: float) -> float | None:
        """Seconds until one is due; None if all are read."""
        if not unread:
            return None
        return 0.0 if self._again_s is None else max(0.0, self._again_s - now_s)

    def failed(self, epoch: int, problem: str, now_s: float) -> None:
        """An epoch could not be read to its end."""
        failures = self._failures[epoch] = self._failures.get(epoch, 0) + 1
        self.problems[epoch] = problem
        self._again_s = now_s + min(PAST_FIRST_S * 2.0 ** min(failures - 1, 10), PAST_MAX_S)

    def finished(self, epoch: int) -> None:
        """An epoch was read to its end."""
        self.problems.pop(epoch, None)
        self._failures.pop(epoch, None)
