"""How long calls took of late: a bounded window per kind, for status, doctor and benchmarks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from localmem_protocol.seams import Clock

WINDOW: Final = 512
"""Calls of a kind that are remembered."""


class Timings:
    """Thread-safe. A kind that was never measured is not in the summary."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str, deque[float]] = {}

    @contextmanager
    def measured(self, kind: str) -> Iterator[None]:
        """Count what happens inside; a call that raises does not count."""
        began = self._clock.monotonic_s()
        yield
        took_ms = 1000 * (self._clock.monotonic_s() - began)
        self._windows.setdefault(kind, deque(maxlen=WINDOW)).append(took_ms)

    def summary(self) -> dict[str, Any]:
        """Per kind {"count", "p50_ms", "p99_ms"} of the window."""
        result: dict[str, Any] = {}
        for kind, window in list(self._windows.items()):
            values = list(window)
            p50, p99 = np.percentile(values, [50, 99]).tolist()
            result[kind] = {"count": len(values), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}
        return result
