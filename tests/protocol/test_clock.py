from localmem_protocol.clock import HybridClock, reading_ms
from localmem_protocol.limits import DRIFT_MS_MAX


def test_readings_grow_even_when_the_wall_clock_goes_back() -> None:
    clock = HybridClock()
    readings = [clock.tick(now) for now in (1000, 1000, 400, 1001, 0)]
    assert readings == sorted(set(readings))
    assert reading_ms(readings[-1]) == 1001


def test_what_is_recorded_after_a_reading_was_seen_sorts_after_it() -> None:
    ahead, behind = HybridClock(), HybridClock()
    seen = ahead.tick(90_000)
    behind.witness(seen, now_ms=1000)
    assert behind.tick(1000) > seen


def test_a_broken_clock_elsewhere_does_not_drag_ours_along() -> None:
    clock = HybridClock()
    clock.witness((5 + DRIFT_MS_MAX + 1) << 16, now_ms=5)
    assert reading_ms(clock.tick(5)) == 5


def test_a_restored_clock_goes_on_after_its_last_reading() -> None:
    first = HybridClock()
    last = first.tick(50_000)
    assert HybridClock(last).tick(10) == last + 1
