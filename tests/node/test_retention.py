"""Who earns another round at the tail of the ring."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.errors import DamagedIndex
from localmem_node.retention import (
    BURST_BYTES_MAX,
    BURST_PART,
    COPIED_SHARE,
    FOLLOWED_EVENTS,
    POLICIES,
    Dump,
    Fifo,
    Relevance,
    Retention,
    Weights,
)
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_protocol.events import Event
from support.events import event

RING = 1_000_000
WEIGHTS = Weights()


def edit(number: int = 1, lines: tuple[int, int] = (10, 12), **changes: Any) -> Event:
    return event(number, selectionRange=list(lines), **changes)


def scored(*events: Event) -> Relevance:
    """A policy that was shown these events, each in the slot of its place."""
    policy = Relevance(RING)
    for slot, one in enumerate(events):
        policy.added(slot, one, 500)
    return policy


class Step(NamedTuple):
    """Record an event of `size` bytes about one of a few places, after asking for some slots."""

    size: int
    file: int
    line: int
    characters: int
    asked: list[int]


_steps = st.lists(
    st.builds(
        Step,
        st.integers(1, 3000),
        st.integers(0, 3),
        st.integers(1, 30),
        st.integers(1, 400),
        st.lists(st.integers(0, 30), max_size=10),
    ),
    max_size=80,
)


class Ring:
    """A log of bytes under a policy, as the store drives it."""

    def __init__(self, policy: Retention, capacity: int) -> None:
        self.policy, self.capacity = policy, capacity
        self.log: deque[tuple[int, int]] = deque()
        self.written = self.copied = self.recorded = 0
        self.left: list[int] = []

    def record(self, step: Step) -> None:
        self.policy.used([slot for slot, _ in self.log if slot in step.asked])
        while self.log and sum(size for _, size in self.log) + step.size > self.capacity:
            slot, size = self.log.popleft()
            if self.policy.earned(slot, size):
                self.log.append((slot, size))
                self.copied += size
            else:
                self.policy.removed(slot)
                self.left.append(slot)
            assert self.copied <= COPIED_SHARE * self.written
        lines = (step.line, step.line + 3)
        path = f"src/{step.file}.py" if step.file else None
        kind = "edit" if path else "prompt"
        recorded = edit(
            self.recorded + 1, lines, filePath=path, kind=kind, snippet="x" * step.characters
        )
        self.policy.added(self.recorded, recorded, step.size)
        self.log.append((self.recorded, step.size))
        self.written += step.size
        self.recorded += 1


@given(_steps, st.integers(1000, 30_000))
def test_what_is_copied_never_exceeds_its_share_of_what_is_written(
    steps: list[Step], capacity: int
) -> None:
    ring = Ring(Relevance(capacity), capacity)
    for step in steps:
        before = ring.copied
        ring.record(step)
        assert ring.copied - before <= min(BURST_BYTES_MAX, capacity // BURST_PART)


def test_the_budget_is_used_once_the_ring_is_full() -> None:
    ring = Ring(Relevance(100_000), 100_000)
    for number in range(3000):
        ring.record(Step(500, number % 40, 1 + number % 700, 20 + number * 37 % 700, []))
    assert 0.4 * ring.written < ring.copied <= 0.5 * ring.written
    # Whatever was written and is not in the ring any more has left, once.
    assert len(ring.left) + len(ring.log) == ring.recorded
    assert len(set(ring.left)) == len(ring.left)


def test_what_is_spent_is_spent() -> None:
    policy = Relevance(RING)
    for slot in range(4):
        lines = (slot * 20 + 1, slot * 20 + 5)
        policy.added(slot, edit(slot + 1, lines, snippet="x" * 100 * (slot + 1)), 500)
    assert policy.earned(0, 900)
    assert not policy.earned(1, 101)
    assert policy.earned(2, 100)
    assert not policy.earned(3, 1)


def test_what_comes_to_the_tail_sets_the_threshold() -> None:
    ring = Ring(Relevance(50_000), 50_000)
    shares = []
    for characters in (2000, 20, 300):  # at first all better, then all worse than what was before
        written, copied = ring.written, ring.copied
        for number in range(1000):
            ring.record(Step(500, number % 40, 1 + number % 700, characters + number % 10, []))
        shares.append((ring.copied - copied) / (ring.written - written))
    assert all(0.4 < share < 0.51 for share in shares)


@given(_steps, st.integers(1000, 30_000))
def test_first_in_first_out_copies_nothing(steps: list[Step], capacity: int) -> None:
    ring = Ring(Fifo(), capacity)
    for step in steps:
        ring.record(step)
    assert ring.copied == 0
    assert ring.left == list(range(len(ring.left)))


@given(_steps, st.integers(1000, 30_000))
def test_two_replays_agree(steps: list[Step], capacity: int) -> None:
    first, second = (Ring(Relevance(capacity), capacity) for _ in range(2))
    for step in steps:
        first.record(step)
        second.record(step)
    assert first.left == second.left
    assert first.policy.dump() == second.policy.dump()


def test_longer_edits_score_higher() -> None:
    policy = scored(edit(1, snippet="x" * 20), edit(2, (50, 60), snippet="x" * 600))
    assert policy.score(1) > policy.score(0)


def test_an_answer_to_everything_scores_lower() -> None:
    policy = scored(edit(1), edit(2, (50, 60)))
    for _ in range(5):
        policy.used([0])
    assert policy.score(0) < policy.score(1)


def test_an_answer_that_work_on_its_file_followed_scores_higher_than_one_without() -> None:
    policy = scored(edit(1), edit(2, filePath="src/other.py"))
    policy.used([0, 1])
    policy.added(2, edit(3, (50, 60)), 500)
    assert policy.score(0) == pytest.approx(policy.score(1) + WEIGHTS.followed)


def test_an_answer_that_has_left_is_not_taken_for_its_successor() -> None:
    policy = scored(edit(1))
    policy.used([0])
    policy.removed(0)
    policy.added(0, edit(2), 500)
    before = policy.score(0)
    policy.added(1, edit(3, (50, 60)), 500)
    assert policy.score(0) == before


def test_work_long_after_an_answer_does_not_confirm_it() -> None:
    policy = scored(edit(1))
    policy.used([0])
    score = policy.score(0)
    for number in range(FOLLOWED_EVENTS):
        policy.added(1 + number, edit(2 + number, filePath=f"src/{number}.py"), 500)
    policy.added(100, edit(100, (50, 60)), 500)
    assert policy.score(0) == score


def test_a_newer_event_about_the_same_lines_replaces_an_older_one() -> None:
    policy = scored(edit(1), edit(2, (40, 50)), edit(3, filePath="src/other.py"))
    before = [policy.score(slot) for slot in range(3)]
    policy.added(3, edit(4, (12, 20)), 500)
    after = [policy.score(slot) for slot in range(3)]
    assert after == pytest.approx([before[0] + WEIGHTS.replaced, *before[1:]])


def test_namesakes_in_another_project_replace_nothing() -> None:
    policy = scored(edit(1, project="a"))
    before = policy.score(0)
    policy.added(1, edit(2, project="b"), 500)
    assert policy.score(0) == before


def test_an_older_event_that_arrives_late_replaces_nothing() -> None:
    policy = scored(edit(5))
    before = policy.score(0)
    policy.added(1, edit(4), 500)
    assert policy.score(0) == before
    policy.added(2, edit(6), 500)
    assert policy.score(0) == policy.score(1) < before


def test_each_round_makes_the_next_one_harder() -> None:
    policy = scored(edit(1))
    before = policy.score(0)
    assert policy.earned(0, 100)
    assert policy.score(0) == pytest.approx(before + WEIGHTS.round)


def test_of_two_the_better_one_stays() -> None:
    policy = Relevance(RING)
    for slot in range(200):
        policy.added(slot, edit(slot + 1, (slot * 20 + 1, slot * 20 + 5)), 500)
        policy.used([slot] * (4 * (slot % 2)))
    stays = [policy.earned(slot, 500) for slot in range(200)]
    assert sum(stays[0::2]) > 10 * sum(stays[1::2])


def test_what_is_not_known_leaves() -> None:
    policy = scored(edit(1))
    policy.used([7])
    policy.removed(7)
    policy.removed(0)
    assert not policy.earned(0, 1)
    assert not policy.earned(7, 1)
    assert not policy.earned(-1, 1)


def test_an_event_read_again_at_opening_gives_nothing_to_copy_with() -> None:
    policy = Relevance(RING)
    policy.added(0, edit(1), 0)
    assert not policy.earned(0, 1)


def test_a_slot_is_taken_once() -> None:
    policy = scored(edit(1))
    for slot in (0, -1, SLOTS_MAX):
        with pytest.raises(ValueError, match=f"slot {slot} is taken"):
            policy.added(slot, edit(2), 1)
    policy.removed(0)
    policy.added(0, edit(3), 1)
    assert policy.score(0) == scored(edit(3)).score(0)


def test_a_ring_has_bytes_and_a_share_is_not_negative() -> None:
    with pytest.raises(ValueError, match="a ring has bytes"):
        Relevance(0)
    with pytest.raises(ValueError, match="not negative"):
        Relevance(1, share=-0.1)


@given(_steps, _steps, st.integers(1000, 30_000))
def test_a_policy_that_was_saved_goes_on_alike(
    before: list[Step], after: list[Step], capacity: int
) -> None:
    ring = Ring(Relevance(capacity), capacity)
    # What was asked just before is not saved: work follows it at once, or not at all.
    quiet = [Step(100, 0, 1, 10, [])] * FOLLOWED_EVENTS
    for step in [*before, *quiet]:
        ring.record(step)
    loaded = Relevance(capacity)
    loaded.load(ring.policy.dump(), [slot for slot, _ in ring.log])
    again = Ring(loaded, capacity)
    again.log, again.left, again.recorded = deque(ring.log), list(ring.left), ring.recorded
    again.written, again.copied = ring.written, ring.copied
    for step in after:
        ring.record(step)
        again.record(step)
    assert again.left == ring.left
    assert again.policy.dump() == ring.policy.dump()


def test_scores_survive_a_restart_and_those_that_left_meanwhile_are_forgotten() -> None:
    policy = scored(
        edit(1), edit(2, (50, 60)), edit(3), event(4, kind="note", filePath=None), edit(5, (1, 2))
    )
    policy.used([1, 3])
    assert policy.earned(1, 10)
    loaded = Relevance(RING)
    loaded.load(policy.dump(), [0, 1, 3, 4])
    for slot in (0, 1, 3, 4):
        assert loaded.score(slot) == policy.score(slot)
    assert not loaded.earned(2, 1)
    loaded.added(2, edit(6, (55, 58)), 500)
    assert loaded.score(1) == pytest.approx(policy.score(1) + WEIGHTS.replaced)


def test_a_smaller_ring_takes_over_what_may_be_copied_up_to_its_own_bound() -> None:
    policy = Relevance(RING)
    for slot in range(1000):
        policy.added(slot, edit(slot + 1), 500)
    smaller = Relevance(16_000)
    smaller.load(policy.dump(), [0])
    assert not smaller.earned(0, 16_000 // BURST_PART + 1)


def test_nothing_saved_is_nothing_known() -> None:
    policy = Relevance(RING)
    policy.load(Fifo().dump(), [0, 1])
    assert not policy.earned(0, 1)
    Fifo().load(scored(edit(1)).dump(), [0])


def _damaged() -> list[bytes]:
    whole = msgspec.msgpack.decode(scored(edit(1), edit(2)).dump(), type=Dump)
    changes: list[dict[str, object]] = [
        {"version": 99},
        {"slots": whole.slots[:-1]},
        {"slots": whole.slots[:4] * 2},
        {"slots": b"\xff" * 8},
        {"rows": whole.rows[:-1]},
        {"rows": bytes(len(whole.rows))},
        {"newest": -1},
        {"threshold": float("nan")},
        {"saved": float("inf")},
    ]
    bad = [msgspec.msgpack.encode(msgspec.structs.replace(whole, **change)) for change in changes]
    return [b"\xc1", b"nonsense", *bad]


@pytest.mark.parametrize("data", _damaged())
def test_what_does_not_load_is_an_error_and_leaves_nothing_known(data: bytes) -> None:
    policy = Relevance(RING)
    with pytest.raises(DamagedIndex, match="retention"):
        policy.load(data, [0, 1])
    assert not policy.earned(0, 1)


@given(st.binary(max_size=80))
def test_any_bytes_load_or_are_an_error(data: bytes) -> None:
    policy = Relevance(RING)
    with suppress(DamagedIndex):
        policy.load(data, range(10))
    policy.added(0, edit(1), 10)


def test_every_setting_makes_a_policy() -> None:
    assert set(POLICIES) == {"fifo", "relevance"}
    for make in POLICIES.values():
        policy: Retention = make(RING)
        policy.added(0, edit(1), 500)
        policy.used([0])
        policy.removed(0)
        policy.load(make(RING).dump(), [])


def test_weights_decide() -> None:
    policy = Relevance(RING, replace(WEIGHTS, returned=1.0))
    policy.added(0, edit(1), 500)
    before = policy.score(0)
    policy.used([0])
    assert policy.score(0) > before
