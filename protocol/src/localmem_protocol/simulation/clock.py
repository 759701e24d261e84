"""Virtual time: one true time for everybody, and wall clocks that are wrong about it.

Time moves only from one planned step to the next. Steps of one moment happen in the order in which
they were planned, so a history does not depend on anything but its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

START_MS: Final = 1_760_000_400_000
"""Where true time starts: a Thursday morning at nine, UTC."""

MS: Final = 1000
"""Microseconds of a millisecond, the unit of true time."""
SECOND: Final = 1000 * MS
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE


class Planned:
    """A step that will happen, unless it is called off."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def call_off(self) -> None:
        """It will not happen."""
        self.action = None


class Timeline:
    """True time in microseconds since the beginning, and what is planned."""

    def __init__(self) -> None:
        self.now_us = 0
        self.stopped = False
        self._plan: list[tuple[int, int, Planned]] = []
        self._count = 0

    def after(self, delay_us: int, action: Callable[[], object]) -> Planned:
        """Plan a step."""
        planned = Planned(action)
        self._count += 1
        heappush(self._plan, (self.now_us + max(0, delay_us), self._count, planned))
        return planned

    def stop(self) -> None:
        """Nothing happens any more."""
        self.stopped = True

    def run_until(self, end_us: int) -> None:
        """Let everything happen that is planned up to a moment, and what follows from it."""
        while not self.stopped and self._plan and self._plan[0][0] <= end_us:
            self._step()
        if not self.stopped:
            self.now_us = max(self.now_us, end_us)

    def _step(self) -> None:
        when, _, planned = heappop(self._plan)
        self.now_us = when
        if planned.action is not None:
            planned.action()


class WallClock:
    """A device's clock, a `Clock`: true time, and by how much it is wrong."""

    def __init__(self, timeline: Timeline, skew_ms: int = 0) -> None:
        self._timeline = timeline
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970; jumps with `skew_ms`."""
        return START_MS + self._timeline.now_us // MS + self.skew_ms

    def monotonic_s(self) -> float:
        """True seconds since the beginning."""
        return self._timeline.now_us / SECOND
