"""Group commit: shared work, own results, shared errors."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event as Flag
from threading import Thread

import pytest

from localmem_node.errors import NodeError, StoreFailed
from localmem_node.group_commit import GroupCommit


def test_everybody_gets_the_result_of_their_own_request() -> None:
    groups: list[list[int]] = []
    first, go_on = Flag(), Flag()

    def apply(requests: Sequence[int]) -> list[int]:
        groups.append(list(requests))
        if len(groups) == 1:
            first.set()
            assert go_on.wait(60)
        return [-request for request in requests]

    commits = GroupCommit(apply)
    results: dict[int, int] = {}

    def submit(number: int) -> None:
        results[number] = commits.submit(number)

    threads = [Thread(target=submit, args=(number,)) for number in range(20)]
    threads[0].start()
    assert first.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(commits._queue) < 19:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == {number: -number for number in range(20)}
    assert [len(group) for group in groups] == [1, 19]


def test_an_error_reaches_everybody_of_the_group_and_the_next_group_is_tried() -> None:
    fail = True

    def apply(requests: Sequence[str]) -> list[str]:
        if fail:
            raise StoreFailed("disk full")
        return list(requests)

    commits = GroupCommit(apply)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="disk full"):
            commits.submit("x")
    fail = False
    assert commits.submit("x") == "x"


def test_an_interruption_stops_its_own_thread_and_is_an_error_to_the_others() -> None:
    first, go_on = Flag(), Flag()

    def apply(requests: Sequence[int]) -> list[int]:
        first.set()
        assert go_on.wait(60)
        if 1 in requests:
            raise KeyboardInterrupt
        return list(requests)

    commits = GroupCommit(apply)
    raised: dict[int, BaseException] = {}

    def submit(number: int) -> None:
        try:
            commits.submit(number)
        except BaseException as error:
            raised[number] = error

    threads = [Thread(target=submit, args=(number,)) for number in (0, 1, 2)]
    threads[0].start()
    assert first.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(commits._queue) < 2:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    kinds = sorted(type(error).__name__ for error in raised.values())
    assert kinds == ["KeyboardInterrupt", "NodeError"]
    assert any(isinstance(error, NodeError) for error in raised.values())
