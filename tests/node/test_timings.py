"""What calls took: a window, by kind."""

from __future__ import annotations

import pytest

from localmem_node.timings import WINDOW, Timings
from support.node import NOW_MS


class SteppingClock:
    """Every reading is one step further than the last; the steps grow."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._step_s = 0.0

    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        self._now_s += self._step_s
        self._step_s += 0.0005
        return self._now_s


def test_what_was_never_measured_is_not_there() -> None:
    assert Timings(SteppingClock()).summary() == {}


def test_a_kind_is_summed_up_by_its_percentiles() -> None:
    timings = Timings(SteppingClock())
    for _ in range(3):
        with timings.measured("query"):
            pass
    # Readings are 0, .5, 1, 1.5 … ms after the one before; every other gap is a call.
    assert timings.summary() == {"query": {"count": 3, "p50_ms": 1.5, "p99_ms": 2.48}}


def test_only_the_last_calls_count() -> None:
    timings = Timings(SteppingClock())
    for _ in range(WINDOW + 10):
        with timings.measured("query"):
            pass
    assert timings.summary()["query"]["count"] == WINDOW


def test_a_call_that_fails_does_not_count() -> None:
    timings = Timings(SteppingClock())
    with pytest.raises(KeyError), timings.measured("query"):
        raise KeyError
    assert timings.summary() == {}
