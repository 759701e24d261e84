"""Which epoch that is over is read next."""

from __future__ import annotations

from localmem_protocol.past_epochs import PAST_FIRST_S, PAST_MAX_S, PastEpochs


def test_the_oldest_is_read_first_and_nothing_when_all_are() -> None:
    past = PastEpochs()
    assert past.due([1, 2, 3], 0.0) == 1
    assert past.due([3, 2], 0.0) == 2
    assert past.due([], 0.0) is None
    assert past.wait_s([], 0.0) is None


def test_one_that_fails_makes_room_for_the_newest_and_then_for_the_others() -> None:
    past = PastEpochs()
    past.failed(1, "no answer", 10.0)
    assert past.problems == {1: "no answer"}
    assert past.due([1, 2], 10.0) is None
    assert past.wait_s([1, 2], 10.0) == PAST_FIRST_S
    assert past.due([1, 2], 10.0 + PAST_FIRST_S) == 2
    past.finished(2)
    assert past.due([1], 10.0 + PAST_FIRST_S) == 1
    past.finished(1)
    assert past.problems == {}


def test_one_that_fails_for_good_is_tried_ever_more_rarely_and_never_given_up() -> None:
    past, now_s, waits = PastEpochs(), 0.0, []
    for _ in range(2000):
        past.failed(1, "no answer", now_s)
        wait_s = past.wait_s([1], now_s)
        assert wait_s is not None
        waits.append(wait_s)
        now_s += wait_s
        assert past.due([1], now_s) == 1
    assert waits[:3] == [PAST_FIRST_S, 2 * PAST_FIRST_S, 4 * PAST_FIRST_S]
    assert waits[-1] == PAST_MAX_S
