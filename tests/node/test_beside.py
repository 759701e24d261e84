from __future__ import annotations

from threading import Event as Flag
from threading import current_thread

import pytest

from localmem_node.beside import Beside, Task


def _here() -> str:
    return current_thread().name


def test_work_is_done_by_the_thread_while_the_caller_does_something_else() -> None:
    beside = Beside("beside", cores=2)
    done = Flag()

    def work() -> str:
        done.set()
        return _here()

    task = beside.begin(work)
    assert done.wait(60)
    assert task.result() == "beside"
    assert task.result() == "beside"
    beside.close()


def test_what_the_thread_has_not_begun_is_done_by_whoever_wants_it() -> None:
    beside = Beside("beside", cores=2)
    begun, go_on = Flag(), Flag()

    def hold() -> None:
        begun.set()
        assert go_on.wait(60)

    first = beside.begin(hold)
    assert begun.wait(60)
    assert beside.begin(_here).result() == _here()
    go_on.set()
    first.result()
    beside.close()


def test_work_that_is_under_way_is_waited_for() -> None:
    beside = Beside("beside", cores=2)
    begun, go_on = Flag(), Flag()

    def work() -> str:
        begun.set()
        assert go_on.wait(60)
        return _here()

    task = beside.begin(work)
    assert begun.wait(60)
    waiting = Beside("waiting", cores=2)
    waited = waiting.begin(task.result)
    go_on.set()
    assert (task.result(), waited.result()) == ("beside", "beside")
    beside.close()
    waiting.close()


def test_what_work_raises_is_raised_where_its_result_is_wanted() -> None:
    def fail() -> None:
        raise LookupError("not here")

    for cores in (1, 2):
        beside = Beside("beside", cores=cores)
        task = beside.begin(fail)
        for _ in range(2):
            with pytest.raises(LookupError, match="not here"):
                task.result()
        assert beside.begin(lambda: 7).result() == 7
        beside.close()


@pytest.mark.parametrize("cores", [1, 2])
def test_with_one_core_and_once_closed_there_is_no_thread(cores: int) -> None:
    beside = Beside("beside", cores=cores)
    if cores > 1:
        beside.begin(_here).result()
        beside.close()
    assert beside.begin(_here).result() == _here()
    beside.close()


def test_work_is_done_once() -> None:
    times: list[int] = []
    task = Task(lambda: times.append(1))
    task.run()
    task.run()
    task.result()
    assert times == [1]
