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
    rows = catalogue.rows()
    assert dict(zip(rows.ordinals.tolist(), rows.slots.tolist(), strict=True)) == slots
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


@given(_steps, _steps)
def test_a_restored_catalogue_goes_on_as_the_one_that_was_saved(
    steps: list[tuple[str, int, bool, str | None]],
    further: list[tuple[str, int, bool, str | None]],
) -> None:
    catalogue, live, _ = run(steps)
    rows = catalogue.rows()
    ids = [live[ordinal].id for ordinal in rows.ordinals.tolist()]
    restored = Catalogue.restore(OWN, rows, ids)
    ordinal = 100
    for what, number, own, project in further:
        added = event(number, OWN if own else OTHER, project=project)
        if what == "add" and added.id not in catalogue:
            ordinal += 1
            catalogue.add(ordinal, added)
            restored.add(ordinal, added)
        elif what == "remove":
            assert (catalogue.remove(number) is None) == (restored.remove(number) is None)
    assert list(restored.ordinals()) == list(catalogue.ordinals())
    assert restored.own_after(0, 100) == catalogue.own_after(0, 100)
    assert len(restored) == len(catalogue)
    for project in (*PROJECTS, "c"):
        assert restored.newest(50, project) == catalogue.newest(50, project)
        if project is not None:
            assert int(restored.in_project(project).sum()) == int(
                catalogue.in_project(project).sum()
            )


def test_an_event_that_moves_keeps_its_slot() -> None:
    catalogue = Catalogue(OWN)
    slot = catalogue.add(1, event(1, OWN))
    assert catalogue.move(1, 9)
    assert not catalogue.move(1, 10)
    assert (catalogue.slot(9), catalogue.slot(1), catalogue.ordinal(slot)) == (slot, None, 9)
    assert catalogue.ordinal_of(event(1, OWN).id) == catalogue.position == 9
    assert catalogue.own_after(0, 5) == [9]
    assert catalogue.remove(9) == slot
