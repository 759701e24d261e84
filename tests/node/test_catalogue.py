"""The catalogue against the plainest model of it: a list of (ordinal, event)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localmem_node.catalogue import Catalogue
from localmem_protocol.events import Event
from support.events import event

OWN, OTHER = "0000000000000001", "ffffffffffffffff"
PROJECTS = (None, "a", "b")

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40), st.booleans(), st.sampled_from(PROJECTS)),
        st.tuples(st.just("remove"), st.integers(0, 40), st.booleans(), st.none()),
    ),
    max_size=60,
)


def run(
    steps: list[tuple[str, int, bool, str | None]],
) -> tuple[Catalogue, dict[int, Event], dict[int, int]]:
    """(catalogue, the live events by ordinal, the slots by ordinal) after some steps."""
    catalogue = Catalogue(OWN)
    live: dict[int, Event] = {}
    slots: dict[int, int] = {}
    ordinal = 0
    for what, number, own, project in steps:
        if what == "add":
            added = event(number, OWN if own else OTHER, project=project)
            if added.id in catalogue:
                continue
            ordinal += 1
            live[ordinal] = added
            slots[ordinal] = catalogue.add(ordinal, added)
        else:
            slot = catalogue.remove(number)
            assert slot == slots.pop(number, None)
            live.pop(number, None)
    return catalogue, live, slots


@given(_steps, st.integers(1, 50))
def test_it_says_what_the_list_says(
    steps: list[tuple[str, int, bool, str | None]], limit: int
) -> None:
    catalogue, live, slots = run(steps)
    newest = sorted(live, key=lambda ordinal: live[ordinal].order, reverse=True)
    assert len(catalogue) == len(live)
    assert all(one.id in catalogue for one in live.values())
    assert catalogue.places() == slots
    assert list(catalogue.ordinals()) == newest[::-1]
    assert [catalogue.slot(ordinal) for ordinal in slots] == list(slots.values())
    assert [catalogue.ordinal(slot) for slot in slots.values()] == list(slots)
    for project in (*PROJECTS, "c"):
        matching = [ordinal for ordinal in newest if project in (None, live[ordinal].project)]
        assert catalogue.newest(limit, project) == matching[:limit]
    for place in (None, *(live[ordinal].order for ordinal in newest[:3])):
        following = [o for o in newest[::-1] if place is None or live[o].order > place]
        assert [ordinal for _, ordinal in catalogue.after(place, limit)] == following[:limit]
    assert catalogue.next_to_leave() == (live[min(live)].order if live else None)
    own = sorted(
        (ordinal for ordinal in live if live[ordinal].device == OWN),
        key=lambda ordinal: (live[ordinal].sequence, live[ordinal].id),
    )
    assert catalogue.own_count() == len(own)
    for after in (0, 5, 20):
        above = [ordinal for ordinal in own if live[ordinal].sequence > after]
        assert catalogue.own_after(after, limit) == above[:limit]


@given(_steps)
def test_slots_are_few_and_the_mask_of_a_project_names_its_own(
    steps: list[tuple[str, int, bool, str | None]],
) -> None:
    catalogue, live, slots = run(steps)
    assert len(set(slots.values())) == len(slots)
    most = sum(what == "add" for what, *_ in steps)
    assert max(slots.values(), default=-1) < most
    for project in ("a", "b", "c"):
        mask = catalogue.in_project(project)
        members = {slots[ordinal] for ordinal in live if live[ordinal].project == project}
        assert {slot for slot, member in enumerate(mask.tolist()) if member} == members


def test_reserved_slots_are_given_out_by_name_only_until_they_are_released() -> None:
    catalogue = Catalogue(OWN, {0, 2}, 3)
    assert catalogue.add(1, event(1, OWN), 2) == 2
    assert catalogue.add(2, event(2, OWN)) == 1
    assert catalogue.add(3, event(3, OWN)) == 3
    catalogue.release(0)
    assert catalogue.add(4, event(4, OWN)) == 0
