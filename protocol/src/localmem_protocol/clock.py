"""The hybrid logical clock: one total order of events, the same on every device.

Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
Databases", 2014. A reading is one integer: 48 bits of wall milliseconds, 16 of a counter. It never
goes back, stays near wall time, and everything recorded after an event was received sorts after
that event. Ties between devices are broken by device id, then sequence (`Event.order`).
"""

from __future__ import annotations

from localmem_protocol.limits import DRIFT_MS_MAX, TIMESTAMP_MS_MAX

COUNTER_BITS = 16


def reading_ms(reading: int) -> int:
    """The wall milliseconds in a clock reading."""
    return reading >> COUNTER_BITS


def latest_reading(now_ms: int) -> int:
    """The highest reading of another device that is not absurdly ahead of our clock."""
    return ((max(now_ms, 0) + DRIFT_MS_MAX + 1) << COUNTER_BITS) - 1


class HybridClock:
    """One device's clock. `last` is its latest reading; restore it from what was stored."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def tick(self, now_ms: int) -> int:
        """A reading for an event that happens here now; greater than every one before."""
        wall = min(max(now_ms, 0), TIMESTAMP_MS_MAX) << COUNTER_BITS
        # A counter overflow runs into the milliseconds, which keeps the order and costs 1 ms.
        self.last = max(self.last + 1, wall)
        return self.last

    def witness(self, reading: int, now_ms: int) -> None:
        """Take note of another device's reading, unless its clock is absurdly ahead of ours."""
        if reading <= latest_reading(now_ms):
            self.last = max(self.last, reading)
