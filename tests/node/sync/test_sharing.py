"""What of a device's events enters a pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import QueryError
from localmem_node.sync.sharing import EVERYTHING, NOTHING, PROJECTS_MAX, Rule, preview
from support.events import event

ONE, TWO, THREE = "1" * 16, "2" * 16, "3" * 16
rules = st.builds(
    Rule,
    everything=st.booleans(),
    projects=st.dictionaries(st.sampled_from([ONE, TWO, THREE]), st.just("a project")),
    out=st.dictionaries(st.sampled_from([ONE, TWO, THREE]), st.just("a project")),
)


def test_nothing_is_shared_until_somebody_says_so() -> None:
    assert not Rule().covers(ONE)
    assert not NOTHING.covers(None)


def test_a_project_is_shared_by_all_its_ids_and_nothing_else() -> None:
    rule = NOTHING.sharing([ONE, TWO], "localmem")
    assert [rule.covers(one) for one in (ONE, TWO, THREE, None)] == [True, True, False, False]


def test_everything_but_a_project() -> None:
    rule = EVERYTHING.keeping_out([ONE], "secret")
    assert [rule.covers(one) for one in (ONE, TWO, None)] == [False, True, True]
    assert rule.sharing([ONE], "secret").covers(ONE)


@given(rules, st.sampled_from([ONE, TWO, THREE]))
def test_what_was_said_last_of_a_project_holds(rule: Rule, project: str) -> None:
    assert rule.sharing([project], "it").covers(project)
    assert not rule.keeping_out([project], "it").covers(project)


@given(rules, rules)
def test_a_rule_that_lets_something_new_in_widens(before: Rule, after: Rule) -> None:
    some_new = any(
        after.covers(one) and not before.covers(one) for one in (ONE, TWO, THREE, "4" * 16, None)
    )
    assert not some_new or after.widens(before)


def test_ids_are_checked_and_rules_bounded() -> None:
    for wrong in ([], ["x"], [ONE, "../etc"]):
        with pytest.raises(QueryError, match="projects"):
            NOTHING.sharing(wrong, "it")
    with pytest.raises(QueryError, match=str(PROJECTS_MAX)):
        NOTHING.sharing([f"{number:016x}" for number in range(PROJECTS_MAX + 1)], "many")


def test_a_preview_says_what_of_each_project_would_be_shared() -> None:
    events = [
        event(1, project=ONE, snippet="aä"),
        event(2, project=ONE),
        event(3, project=TWO),
        event(4),
    ]
    (share,) = preview(events, NOTHING.sharing([ONE], "it"))
    assert (share.project, share.events, share.newest_ms) == (ONE, 2, events[1].timestamp)
    assert share.bytes == len("aä".encode()) + len(events[1].snippet)
    assert {one.project for one in preview(events, EVERYTHING)} == {ONE, TWO, None}
