"""The event log as one pool may see it."""

from hypothesis import given
from hypothesis import strategies as st

from localmem_node.sync.shared_log import PAGE_EVENTS, SharedLog
from localmem_node.sync.sharing import EVERYTHING, NOTHING
from localmem_protocol.events import Event
from support.events import DEVICE, event

ONE, TWO = "1" * 16, "2" * 16
SHARED = NOTHING.sharing([ONE], "it")


class Log:
    """Own events with any projects; counts how many it was asked for."""

    device = DEVICE

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.read = 0

    def add(self, *projects: str | None) -> None:
        for project in projects:
            self.events.append(event(len(self.events) + 1, project=project))

    def insert(self, events: object) -> object:
        return events

    def own_events(self, after: int, limit: int) -> list[Event]:
        found = [one for one in self.events if one.sequence > after][:limit]
        self.read += len(found)
        return found

    def subscribe(self, callback: object) -> object:
        return callback


def sequences(log: SharedLog, after: int, limit: int) -> list[int]:
    return [one.sequence for one in log.own_events(after, limit)]


@given(
    st.lists(st.sampled_from([ONE, TWO, None]), max_size=30),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=8),
    st.lists(st.sampled_from([ONE, TWO]), max_size=5),
)
def test_it_gives_what_the_rule_lets_in_whatever_was_asked_before(
    projects: list[str | None], questions: list[tuple[int, int]], later: list[str]
) -> None:
    source = Log()
    source.add(*projects)
    log = SharedLog(source, SHARED)  # type: ignore[arg-type]
    for round_ in range(2):
        for after, limit in questions:
            expected = [
                one.sequence for one in source.events if one.sequence > after and one.project == ONE
            ][:limit]
            assert sequences(log, after, limit) == expected
        if round_ == 0:
            source.add(*later)


def test_what_is_private_is_looked_through_once() -> None:
    source = Log()
    source.add(*[TWO] * (3 * PAGE_EVENTS))
    log = SharedLog(source, SHARED)  # type: ignore[arg-type]
    assert sequences(log, 0, 1) == []
    before = source.read
    source.add(TWO)
    assert sequences(log, 0, 1) == []
    assert source.read - before == 1


def test_a_wider_rule_looks_at_everything_again() -> None:
    source = Log()
    source.add(TWO, TWO)
    log = SharedLog(source, SHARED)  # type: ignore[arg-type]
    assert sequences(log, 0, 5) == []
    log.rule = EVERYTHING
    assert sequences(log, 0, 5) == [1, 2]


def test_events_of_one_sequence_are_not_parted_by_a_page() -> None:
    source = Log()
    source.add(*[ONE] * (2 * PAGE_EVENTS))
    twin = event(PAGE_EVENTS, project=ONE, snippet="of a copy of this machine\n")
    source.events.insert(PAGE_EVENTS, twin)
    log = SharedLog(source, SHARED)  # type: ignore[arg-type]
    assert log.own_events(0, 4 * PAGE_EVENTS) == source.events
