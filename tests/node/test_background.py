"""The thread that gives events their vectors: courtesy, rest, idle work."""

from __future__ import annotations

from threading import Event as Flag

import pytest

from localmem_node import background
from support.hashing_encoder import HashingEncoder
from support.node import GatedEncoder


def test_the_background_waits_while_a_query_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "COURTESY_S", 60)
    encoder = HashingEncoder()
    kept: list[int] = []
    thread = background.BackgroundEncoder(
        encoder, str, lambda vectors, last: kept.extend(ordinal for ordinal, _ in vectors)
    )
    with thread.yielding():
        thread.start([1, 2])
        thread.push([3])
        assert encoder.encoded == []
    thread.drain()
    assert sorted(kept) == [1, 2, 3]
    thread.close()


def test_the_background_rests_before_the_first_of_a_queue_unless_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "REST_S", 3600)
    encoder = GatedEncoder()
    encoder.gate.set()
    batches: list[list[int]] = []
    thread = background.BackgroundEncoder(
        encoder, str, lambda vectors, last: batches.append([ordinal for ordinal, _ in vectors])
    )
    thread.start([])
    thread.push([1])
    assert not encoder.asked.wait(0.5)  # it would take a millisecond
    thread.push([2, 3])
    assert encoder.encoded == []
    thread.drain()
    assert batches == [[1, 2, 3]]
    thread.push([4])
    thread.close()  # nobody waits an hour for that either
    assert batches == [[1, 2, 3]]


def test_the_background_goes_on_after_all_that_it_waited_for_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "COURTESY_S", 60)
    encoder = HashingEncoder()
    thread = background.BackgroundEncoder(encoder, str, lambda vectors, last: None)
    with thread.yielding():
        thread.start([1, 2])
        while not thread._waits_for_queries:
            pass
        thread.forget([1, 2, 3])
        assert thread.pending == 0
    thread.drain()
    thread.push([4])
    thread.drain()
    assert encoder.encoded == ["4"]
    thread.close()


def test_idle_work_follows_what_is_queued_and_waits_for_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "COURTESY_S", 60)
    done: list[int] = []
    whole, more = Flag(), Flag()

    def idle() -> bool:
        done.append(len(encoder.encoded))
        if len(done) in (3, 6):
            (whole if len(done) == 3 else more).set()
            return False
        return True

    encoder = HashingEncoder()
    thread = background.BackgroundEncoder(encoder, str, lambda vectors, last: None, idle)
    with thread.yielding():
        thread.start([1, 2])
        while not thread._waits_for_queries:
            pass
        assert done == []
    assert whole.wait(60)
    assert done == [2, 2, 2]
    thread.push([3])  # a batch may make more of it
    assert more.wait(60)
    assert done == [2, 2, 2, 3, 3, 3]
    thread.close()


def test_idle_work_that_fails_leaves_the_encoder_working() -> None:
    def idle() -> bool:
        raise ValueError("broken")

    encoder = HashingEncoder()
    thread = background.BackgroundEncoder(encoder, str, lambda vectors, last: None, idle)
    thread.start([1])
    thread.drain()
    thread.push([2])
    thread.drain()
    assert encoder.encoded == ["1", "2"]
    thread.close()
