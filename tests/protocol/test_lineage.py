"""Which log is the one that something was written about: runs of logs, copies, and copies of copies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.lineage import NO_RUNS, NOWHERE, RUNS_MAX, Lineage, Reach, Run


def test_a_log_has_reached_what_it_had_and_all_before() -> None:
    lineage = NO_RUNS.begun(0, b"one").begun(5, b"two").begun(9, b"three")
    for position in range(1, 13):
        reach = lineage.reach(position)
        assert reach.run == (b"one" if position <= 5 else b"two" if position <= 9 else b"three")
        assert lineage.has_reached(reach, 12)
        assert lineage.has_reached(reach, position)
        assert not lineage.has_reached(reach, position - 1)


def test_a_copy_that_was_put_back_has_not_reached_what_came_after_however_far_it_goes() -> None:
    copy = NO_RUNS.begun(0, b"one")
    original = copy.begun(4, b"two")
    assert not copy.begun(4, b"put back").has_reached(original.reach(6), 100)
    assert not copy.begun(4, b"put back").has_reached(copy.reach(6), 100)  # it went on in that run
    assert copy.begun(4, b"put back").has_reached(original.reach(4), 100)


def test_what_was_written_before_there_were_marks_holds_until_the_first_run() -> None:
    lineage = NO_RUNS.begun(7, b"first")
    assert lineage.has_reached(Reach(7), 9)
    assert not lineage.has_reached(Reach(8), 9)


def test_every_log_has_reached_nothing() -> None:
    assert NO_RUNS.has_reached(NOWHERE, 0)
    lineage = NO_RUNS
    for number in range(RUNS_MAX + 1):
        lineage = lineage.begun(number, b"%d" % number)
    assert lineage.has_reached(NOWHERE, 0)


def test_the_oldest_run_is_not_known_any_more_when_there_are_too_many() -> None:
    lineage = NO_RUNS
    for number in range(RUNS_MAX + 2):
        lineage = lineage.begun(number, b"%d" % number)
    assert len(lineage.runs) == RUNS_MAX
    assert not lineage.has_reached(Reach(1, b"0"), 20)
    assert not lineage.has_reached(Reach(1), 20)
    assert lineage.has_reached(Reach(4, b"3"), 20)


def test_runs_that_kept_nothing_push_none_out() -> None:
    lineage = Lineage((Run(0, b"one"),))
    for number in range(20):
        lineage = lineage.begun(3, b"%d" % number)
    assert lineage.runs == (Run(0, b"one"), Run(3, b"19"))


@dataclass(frozen=True)
class Log:
    """What it has kept, in order, and its runs."""

    kept: tuple[int, ...] = ()
    lineage: Lineage = field(default=NO_RUNS)


@given(st.data())
def test_whoever_has_reached_a_place_has_what_was_there(data: st.DataObject) -> None:
    marks = iter(range(10**6))
    logs, written = [Log()], list[tuple[Reach, tuple[int, ...]]]()
    for _ in range(data.draw(st.integers(1, 40))):
        at = data.draw(st.integers(0, len(logs) - 1))
        log = logs[at]
        match data.draw(st.sampled_from(["keep", "open", "copy", "write"])):
            case "keep" if log.lineage.runs:
                logs[at] = replace(log, kept=(*log.kept, next(marks)))
            case "copy":  # a copy is opened before it is written to
                mark = b"%d" % next(marks)
                logs.append(Log(log.kept, log.lineage.begun(len(log.kept), mark)))
            case "write":
                written.append((log.lineage.reach(len(log.kept)), log.kept))
            case _:
                mark = b"%d" % next(marks)
                logs[at] = replace(log, lineage=log.lineage.begun(len(log.kept), mark))
    for log in logs:
        for reach, kept in written:
            if log.lineage.has_reached(reach, len(log.kept)):
                assert log.kept[: len(kept)] == kept
