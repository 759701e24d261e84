"""When a device tries again."""

from localmem_protocol.errors import FrameError, GapError, RefusedError
from localmem_protocol.frames import Close, later
from localmem_protocol.reconnect import (
    RETRY_FIRST_S,
    RETRY_MAX_S,
    RETRY_REFUSED_S,
    Backoff,
    outlives,
)
from localmem_protocol.simulation import SeededRandom


def test_delays_double_up_to_the_longest_and_begin_again_after_success() -> None:
    backoff = Backoff(SeededRandom(1))
    delays = [backoff.delay_s(None, settled=False) for _ in range(10)]
    for failures, delay in enumerate(delays, start=1):
        most = min(RETRY_FIRST_S * 2**failures, RETRY_MAX_S)
        assert most / 2 <= delay <= most
    assert backoff.delay_s(None, settled=True) <= RETRY_FIRST_S


def test_two_devices_of_one_hub_do_not_return_together() -> None:
    one, two = Backoff(SeededRandom(1)), Backoff(SeededRandom(2))
    assert one.delay_s(None, settled=False) != two.delay_s(None, settled=False)


def test_what_trying_again_cannot_help_is_hardly_tried() -> None:
    refused = RefusedError(Close.BAD_TOKEN, permanent=True, reason="no")
    assert Backoff(SeededRandom(1)).delay_s(refused, settled=True) == RETRY_REFUSED_S
    assert Backoff(SeededRandom(1)).delay_s(GapError("later"), settled=True) <= RETRY_FIRST_S


def test_who_is_told_when_to_try_again_waits_that_long() -> None:
    def wait_s(reason: str) -> float:
        limited = RefusedError(Close.LIMITED, permanent=False, reason=reason)
        return Backoff(SeededRandom(1)).delay_s(limited, settled=True)

    assert 40 <= wait_s(later("too much", 39.5)) <= 50
    assert RETRY_FIRST_S <= wait_s("it does not say when") <= 2 * RETRY_FIRST_S
    assert wait_s(later("a hub that says anything", 99_999)) <= 1.25 * RETRY_REFUSED_S


def test_a_session_outlives_what_the_hub_said_and_nothing_that_it_stumbled_over() -> None:
    assert outlives(None)
    assert outlives(RefusedError(Close.SLOW, permanent=False, reason="slow"))
    assert not outlives(FrameError("no frame"))
    assert not outlives(GapError("a gap"))
