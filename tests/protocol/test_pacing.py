"""How often a device asks, on a clock of the test's own."""

from localmem_protocol.pacing import REST_FIRST_S, REST_MAX_S, WAITING_S, Pacing
from localmem_protocol.simulation import SeededRandom

DAY_S = 24 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def now_ms(self) -> int:
        return int(self.s * 1000)

    def monotonic_s(self) -> float:
        return self.s


def test_it_asks_each_second_while_there_is_work_and_every_few_minutes_when_there_is_none() -> None:
    clock = Clock()
    pacing = Pacing(clock, SeededRandom(1))
    for _ in range(100):
        pacing.heard()
        rest = pacing.rest_s()
        assert 0.75 * REST_FIRST_S <= rest <= REST_FIRST_S
        clock.s += rest
    rests = []
    while clock.s < 1000 + DAY_S:
        rests.append(pacing.rest_s())
        clock.s += rests[-1]
    assert 0.75 * REST_MAX_S <= rests[-1] <= REST_MAX_S
    assert len(rests) < 500
    assert sum(rest < 60 for rest in rests) < 60
    pacing.heard()
    assert pacing.rest_s() <= REST_FIRST_S


def test_a_hub_that_holds_questions_is_asked_without_a_pause_until_it_is_quiet() -> None:
    clock = Clock()
    pacing = Pacing(clock, SeededRandom(1))
    assert pacing.rest_s(waits=True) == 0
    clock.s += WAITING_S - 1
    assert pacing.rest_s(waits=True) == 0
    clock.s += 2
    assert pacing.rest_s(waits=True) > 60


def test_what_a_device_says_itself_makes_it_ask_sooner_only_where_asking_costs_nothing() -> None:
    clock = Clock()
    pacing = Pacing(clock, SeededRandom(1))
    clock.s += WAITING_S + 1
    for _ in range(10):
        pacing.said()
        assert pacing.rest_s() > 60
        assert pacing.rest_s(waits=True) == 0
        clock.s += 60
    pacing.heard()
    assert pacing.rest_s() <= REST_FIRST_S


def test_devices_do_not_ask_all_at_once() -> None:
    clock = Clock()
    rests = [Pacing(clock, SeededRandom(seed)).rest_s() for seed in range(50)]
    assert len(set(rests)) == 50
