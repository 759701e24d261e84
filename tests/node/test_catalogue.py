"""The catalogue against the plainest model of it: a list of (ordinal, event)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.attributes import LABELS
from localmem_node.catalogue import Catalogue
from localmem_node.selection import Selection
from localmem_protocol.events import Event
from support.events import MOMENT, event

OWN, OTHER = "0000000000000001", "ffffffffffffffff"
PROJECTS = (None, "a", "b")
TOOLS = (None, "editor", "shell")
SESSIONS = (None, "s1", "s2")
PATHS = ("a.py", "/home/src/a.py", "src/b/a.py", "/src/c.go", "src.py")
FILES = (None, *PATHS, "src", "/src", "b/a.py", "nowhere", "/home/src/a.py/")

_marks = st.fixed_dictionaries(
    {
        "project": st.sampled_from(PROJECTS),
        "tool": st.sampled_from(TOOLS),
        "session": st.sampled_from(SESSIONS),
        "filePath": st.sampled_from(PATHS),
        "kind": st.sampled_from(("edit", "read", "error")),
    }
)
_selections = st.builds(
    Selection,
    project=st.sampled_from((*PROJECTS, "c")),
    file=st.sampled_from(FILES),
    kind=st.lists(st.sampled_from(("edit", "error", "note")), unique=True).map(tuple),
    tool=st.lists(st.sampled_from(("editor", "shell", "x")), unique=True).map(tuple),
    device=st.sampled_from((None, OWN, OTHER, "0" * 16)),
    session=st.sampled_from((*SESSIONS, "s3")),
    since=st.none() | st.integers(MOMENT, MOMENT + 40_000),
    before=st.none() | st.integers(MOMENT, MOMENT + 40_000),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40), st.booleans(), _marks),
        st.tuples(st.just("remove"), st.integers(0, 40), st.booleans(), st.just({})),
    ),
    max_size=60,
)
Steps = list[tuple[str, int, bool, dict[str, Any]]]


def run(steps: Steps) -> tuple[Catalogue, dict[int, Event], dict[int, int]]:
    """(catalogue, the live events by ordinal, the slots by ordinal) after some steps."""
    catalogue = Catalogue(OWN)
    live: dict[int, Event] = {}
    slots: dict[int, int] = {}
    ordinal = 0
    for what, number, own, marks in steps:
        if what == "add":
            added = event(number, OWN if own else OTHER, **marks)
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


def members(mask: npt.NDArray[np.bool_]) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


@given(_steps, st.integers(1, 50))
def test_it_says_what_the_list_says(steps: Steps, limit: int) -> None:
    catalogue, live, slots = run(steps)
    newest = sorted(live, key=lambda ordinal: live[ordinal].order, reverse=True)
    assert len(catalogue) == len(live)
    assert all(one.id in catalogue for one in live.values())
    rows = catalogue.rows()
    assert dict(zip(rows.ordinals.tolist(), rows.slots.tolist(), strict=True)) == slots
    assert list(catalogue.ordinals()) == newest[::-1]
    assert [catalogue.slot(ordinal) for ordinal in slots] == list(slots.values())
    assert [catalogue.ordinal(slot) for slot in slots.values()] == list(slots)
    assert catalogue.newest(limit) == newest[:limit]
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
def test_slots_are_few(steps: Steps) -> None:
    _, _, slots = run(steps)
    assert len(set(slots.values())) == len(slots)
    most = sum(what == "add" for what, *_ in steps)
    assert max(slots.values(), default=-1) < most


@given(_steps, st.lists(_selections, min_size=1, max_size=4), st.integers(1, 50))
def test_a_mask_names_the_slots_of_what_a_selection_takes(
    steps: Steps, selections: list[Selection], limit: int
) -> None:
    catalogue, live, slots = run(steps)
    newest = sorted(live, key=lambda ordinal: live[ordinal].order, reverse=True)
    for selection in selections:
        meant = [ordinal for ordinal in newest if selection.takes(live[ordinal])]
        mask = catalogue.mask(selection)
        assert (mask is None) == (selection == Selection())
        if mask is not None:
            assert members(mask) == {slots[ordinal] for ordinal in meant}
        assert catalogue.newest(limit, selection) == meant[:limit]
        ids = tuple(live[ordinal].id for ordinal in newest[::2])
        mask = catalogue.mask(msgspec.structs.replace(selection, ids=(*ids, "gone")))
        assert mask is not None
        assert members(mask) == {slots[ordinal] for ordinal in newest[::2] if ordinal in meant}


@given(_steps, _selections, st.integers(0, 5), st.integers(0, 5))
def test_the_neighbours_of_an_event_are_those_nearest_in_time(
    steps: Steps, selection: Selection, older: int, newer: int
) -> None:
    catalogue, live, _ = run(steps)
    in_time = sorted(live, key=lambda ordinal: (live[ordinal].timestamp, live[ordinal].order))
    assert catalogue.around("gone", older, newer, selection) == []
    for at, ordinal in enumerate(in_time):
        before = [one for one in in_time[:at] if selection.takes(live[one])]
        after = [one for one in in_time[at + 1 :] if selection.takes(live[one])]
        expected = [*before[len(before) - older if older < len(before) else 0 :], ordinal]
        expected += after[:newer]
        assert catalogue.around(live[ordinal].id, older, newer, selection) == expected


@given(_steps, _steps, st.lists(_selections, min_size=1, max_size=4))
def test_a_restored_catalogue_goes_on_as_the_one_that_was_saved(
    steps: Steps, further: Steps, selections: list[Selection]
) -> None:
    catalogue, live, _ = run(steps)
    rows = catalogue.rows()
    ids = [live[ordinal].id for ordinal in rows.ordinals.tolist()]
    restored = Catalogue.restore(OWN, rows, ids)
    ordinal = 100
    for what, number, own, marks in further:
        added = event(number, OWN if own else OTHER, **marks)
        if what == "add" and added.id not in catalogue:
            ordinal += 1
            catalogue.add(ordinal, added)
            restored.add(ordinal, added)
        elif what == "remove":
            for selection in selections:  # so that what is kept of paths has to follow
                catalogue.mask(selection)
            assert (catalogue.remove(number) is None) == (restored.remove(number) is None)
    assert list(restored.ordinals()) == list(catalogue.ordinals())
    assert restored.own_after(0, 100) == catalogue.own_after(0, 100)
    assert len(restored) == len(catalogue)
    for selection in (Selection(), *selections):
        assert restored.newest(50, selection) == catalogue.newest(50, selection)


@given(_steps, st.lists(st.booleans(), max_size=60))
def test_names_that_no_event_has_any_more_are_given_up(steps: Steps, stays: list[bool]) -> None:
    catalogue, live, _ = run(steps)
    rows = catalogue.rows()
    kept = np.array((stays + [True] * 60)[: len(rows.slots)], np.bool_)
    rows = rows.chosen(kept)
    left = [live[ordinal] for ordinal in rows.ordinals.tolist()]
    restored = Catalogue.restore(OWN, rows, [one.id for one in left])
    for at, label in enumerate(LABELS):
        names = {getattr(one, label) for one in left} - {None}
        assert set(restored.rows().about.names[at]) == names
    for ordinal in rows.ordinals.tolist():
        restored.remove(ordinal)
    assert restored.rows().about.names == [[], [], [], []]
    catalogue.renumber({})
    assert catalogue.rows().about.names == [[], [], [], []]


def test_files_that_were_asked_for_long_ago_are_looked_up_anew() -> None:
    catalogue = Catalogue(OWN)
    slots = [catalogue.add(n, event(n, filePath=f"src/f{n}.py")) for n in range(1, 40)]
    for _ in range(2):
        for n in range(1, 40):
            mask = catalogue.mask(Selection(file=f"f{n}.py"))
            assert mask is not None
            assert members(mask) == {slots[n - 1]}


def test_an_event_that_moves_keeps_its_slot() -> None:
    catalogue = Catalogue(OWN)
    slot = catalogue.add(1, event(1, OWN))
    assert catalogue.move(1, 9)
    assert not catalogue.move(1, 10)
    assert (catalogue.slot(9), catalogue.slot(1), catalogue.ordinal(slot)) == (slot, None, 9)
    assert catalogue.ordinal_of(event(1, OWN).id) == 9
    assert catalogue.own_after(0, 5) == [9]
    assert catalogue.remove(9) == slot
