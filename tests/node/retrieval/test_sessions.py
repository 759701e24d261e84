from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localmem_node.retrieval.sessions import AFTER, BEFORE, NOBODY, NUMBER, PROMPT, Sessions

_SLOTS = 70  # more than are made room for at first
_LABELS = st.sampled_from(["a", "a", "a", "", "b", None])
_HIGH = 2**64 - 1
_KEYS = st.tuples(
    st.sampled_from([0, 1, 2, 2**63, _HIGH]),
    st.sampled_from([0, 1, _HIGH]),
    st.sampled_from([0, 1, 2, 3, 4, 5, _HIGH]),
)


class _Member(NamedTuple):
    label: str | None
    key: tuple[int, int, int]
    is_prompt: bool


_MEMBERS = st.builds(_Member, _LABELS, _KEYS, st.sampled_from([False, False, True]))


class SessionsMachine(RuleBasedStateMachine):
    """`Sessions` beside one sorted list per session."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.newness = np.zeros((3, _SLOTS), np.uint64)
        self.members: dict[int, _Member] = {}

    @initialize(high=st.booleans())
    def start(self, high: bool) -> None:
        if high:
            self._add(_SLOTS - 1, _Member(None, (9, 9, 9), True))

    @rule(made=st.lists(_MEMBERS, min_size=1, max_size=6), from_end=st.booleans())
    def add(self, made: list[_Member], from_end: bool) -> None:
        free = [slot for slot in range(24) if slot not in self.members]
        for slot, member in zip(reversed(free) if from_end else free, made, strict=False):
            if all(member.key != other.key for other in self.members.values()):
                self._add(slot, member)

    def _add(self, slot: int, member: _Member) -> None:
        self.newness[:, slot] = member.key
        self.sessions.add(slot, member.label, self.newness, is_prompt=member.is_prompt)
        self.members[slot] = member

    @rule(slot=st.integers(24, _SLOTS + 200))
    def remove_any(self, slot: int) -> None:
        self.sessions.remove(slot)
        self.members.pop(slot, None)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.remove_any(data.draw(st.sampled_from(sorted(self.members))))

    @rule()
    def save_and_load(self) -> None:
        slots = np.array(sorted(self.members), np.int64)
        labels, places = self.sessions.labels(slots)
        used = {member.label for member in self.members.values()} - {None}
        assert len(labels) == len(used)
        assert set(labels) == used
        named = [None if place == NOBODY else labels[place] for place in places.tolist()]
        assert named == [self.members[slot].label for slot in slots.tolist()]
        is_prompt = np.array([self.members[slot].is_prompt for slot in slots.tolist()], np.bool_)
        self.sessions = Sessions.load(slots, labels, places, is_prompt, self.newness)

    @invariant()
    def neighbours_are_those_of_the_sorted_lists(self) -> None:
        slots = np.array([*sorted(self.members), NOBODY], np.int64)
        if len(slots) > 1:
            for which, expected in zip((BEFORE, AFTER, PROMPT), self._expected(), strict=True):
                found = self.sessions.neighbours(slots, which=which).tolist()
                assert found == [*(expected[slot] for slot in slots[:-1].tolist()), NOBODY]
                assert self.sessions.links(slots[:-1])[which].tolist() == found[:-1]

    @invariant()
    def a_number_stands_for_a_session(self) -> None:
        slots = sorted(self.members)
        numbers: list[int] = []
        if slots:
            numbers = self.sessions.links(np.array(slots, np.int64))[NUMBER].tolist()
        pairs = {
            (self.members[slot].label, number) for slot, number in zip(slots, numbers, strict=True)
        }
        assert len(pairs) == len({label for label, _ in pairs}) == len({to for _, to in pairs})
        assert all((label is None) == (number == NOBODY) for label, number in pairs)
        assert self.sessions.empty == all(label is None for label, _ in pairs)

    def _expected(self) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        before, after, prompts = (dict.fromkeys(self.members, NOBODY) for _ in range(3))
        for label in {member.label for member in self.members.values()} - {None}:
            ordered = sorted(
                (slot for slot, member in self.members.items() if member.label == label),
                key=lambda slot: self.members[slot].key,
            )
            prompt = NOBODY
            for at, slot in enumerate(ordered):
                before[slot] = ordered[at - 1] if at else NOBODY
                after[slot] = ordered[at + 1] if at + 1 < len(ordered) else NOBODY
                prompts[slot] = prompt
                prompt = slot if self.members[slot].is_prompt else prompt
        return before, after, prompts


TestSessions = SessionsMachine.TestCase


def _links(sessions: Sessions, slots: npt.ArrayLike, which: int) -> list[int]:
    found: list[int] = sessions.neighbours(np.array(slots, np.int64), which=which).tolist()
    return found


def test_what_arrives_late_takes_its_place() -> None:
    newness = np.array([[1, 3, 2], [0] * 3, [0] * 3], np.uint64)
    sessions = Sessions()
    for slot in range(3):
        sessions.add(slot, "s", newness, is_prompt=slot == 2)
    assert _links(sessions, [0, 1, 2], BEFORE) == [NOBODY, 2, 0]
    assert _links(sessions, [0, 1, 2], AFTER) == [2, NOBODY, 1]
    assert _links(sessions, [0, 1, 2], PROMPT) == [NOBODY, 2, NOBODY]
    sessions.remove(2)
    assert _links(sessions, [0, 1], PROMPT) == [NOBODY, NOBODY]


def test_a_long_session_is_as_its_list() -> None:
    count = 500
    chance = np.random.default_rng(5)
    newness = np.zeros((3, count), np.uint64)
    newness[0] = chance.permutation(count)
    sessions = Sessions()
    for slot in range(count):
        sessions.add(slot, "s", newness, is_prompt=bool(chance.random() < 0.1))
    left = np.flatnonzero(chance.random(count) < 0.7)
    for slot in np.setdiff1d(np.arange(count), left).tolist():
        sessions.remove(slot)
    ordered = left[np.argsort(newness[0, left])]
    assert _links(sessions, ordered, BEFORE) == [NOBODY, *ordered[:-1].tolist()]
    assert _links(sessions, ordered, AFTER) == [*ordered[1:].tolist(), NOBODY]
