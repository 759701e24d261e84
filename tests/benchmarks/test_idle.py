"""The bench of idle devices, and the budget of their day."""

from __future__ import annotations

from bench import idle
from bench.edits import SEED
from bench.payload_trace import BURST, trace
from localmem_protocol.batching import DEFAULT

IDLE_BYTES_A_DAY = 4096


def test_an_idle_day_keeps_its_budget_whatever_others_do() -> None:
    working = idle.others_work(idle.HOURS, SEED)
    assert working.updates > 0
    flapping = idle.one_comes_and_goes(idle.HOURS, SEED)
    assert flapping.notices > 20
    alone = idle.nobody_is_there(idle.HOURS, SEED)
    assert max(one.rest for one in (working, flapping, alone)) <= IDLE_BYTES_A_DAY


def test_gathering_saves_most_when_nobody_listens_and_holds_nothing_for_too_long() -> None:
    rows = idle.gathering(trace(60, seed=SEED, bursts=True))
    sizes = [row["bytes"] for row in rows.values()]
    eager, tens, listened, alone = sizes
    assert alone < listened <= eager
    assert alone < 1.1 * tens
    assert rows["adaptive, somebody listens"]["longest_wait_s"] <= DEFAULT.wait_s
    assert rows["adaptive, nobody listens"]["longest_wait_s"] <= DEFAULT.idle_wait_s


def test_bursts_are_of_one_device_each() -> None:
    day = trace(60, seed=SEED, bursts=True)
    assert [len(events) for events in day.events.values()] == [2 * BURST] * 3
