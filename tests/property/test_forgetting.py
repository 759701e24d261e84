"""Whatever is forgotten, whenever and by whomever: it is nowhere after healing, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from localmem_protocol.simulation import SeededRandom, World
from support.healing import heal, joined
from support.world_steps import DEVICES, WorldSteps, device

FORGOTTEN_MAX = 12
"""Of so many every array keeps the tombstones, however small it is."""

TIGHT = 8 * 16 * 2 * FORGOTTEN_MAX


class Devices(WorldSteps):
    """Hypothesis chooses every step; everybody is brought together at the end."""

    @initialize(
        budget=st.sampled_from([TIGHT, 2**24]),
        step_bytes=st.sampled_from([200, 2**20]),
        references=st.booleans(),
    )
    def begin(self, budget: int, step_bytes: int, references: bool) -> None:
        self.start(budget, step_bytes, references)

    def start(self, budget: int, step_bytes: int, references: bool) -> None:
        self.world = World(DEVICES, (), budget, step_bytes, references=references)
        self.tight = budget == TIGHT

    @rule(index=device, count=st.integers(1, 4))
    def record(self, index: int, count: int) -> None:
        for _ in range(count):
            self.world.record(index, f"event {len(self.world.recorded)}")

    @rule(index=device, which=st.integers(0, 40))
    def forget(self, index: int, which: int) -> None:
        names = [*self.world.recorded]
        if names and len(self.world.forgotten) < FORGOTTEN_MAX:
            self.world.forget(index, names[-1 - which % len(names)])

    @rule()
    def exchange(self) -> None:
        for index in range(DEVICES):
            while self.world.deliver_up(index):
                pass
        self.world.hub.commit()
        for index in range(DEVICES):
            while self.world.deliver_down(index):
                pass

    @rule()
    def hub_compacts_and_restarts(self) -> None:
        self.world.hub.compact()
        self.world.crash_hub()

    @invariant()
    def nothing_acknowledged_is_lost_and_everything_at_the_hub_opens(self) -> None:
        if hasattr(self, "world"):
            self.world.check()
            joined(self.world)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            heal(self.world, all_at_hub=not self.tight)


Devices.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestDevices = Devices.TestCase


def play(seed: int, *, steps: int = 120, references: bool = False) -> None:
    """A seeded history with much forgetting."""
    chance = SeededRandom(seed)
    machine = Devices()
    budget, step_bytes = [TIGHT, 2**24][chance.below(2)], [200, 2**20][chance.below(2)]
    machine.start(budget, step_bytes, references)
    world = machine.world

    def anyone() -> int:
        return chance.below(DEVICES)

    actions: list[Callable[[], object]] = [
        *(6 * [lambda: machine.record(anyone(), 1 + chance.below(4))]),
        *(6 * [lambda: machine.forget(anyone(), chance.below(12))]),
        *(6 * [lambda: world.connect(anyone())]),
        *(6 * [machine.exchange]),
        *(6 * [lambda: machine.hub_hears(anyone(), 2)]),
        *(6 * [lambda: machine.device_hears(anyone(), 2)]),
        *(3 * [world.hub.commit]),
        *(chance.below(4) * [lambda: world.cut(anyone())]),
        *(chance.below(3) * [lambda: world.crash(anyone())]),
        *(chance.below(3) * [lambda: world.duplicate(anyone(), up=bool(chance.below(2)))]),
        *(chance.below(2) * [machine.hub_compacts_and_restarts]),
        *(chance.below(2) * [world.fail_commit]),
        *(references * [lambda: world.rest_long(anyone())]),
        *(chance.below(2) * [lambda: world.save_image(anyone())]),
        *(chance.below(2) * [lambda: world.roll_back(anyone(), journal_too=bool(chance.below(2)))]),
    ]
    for number in range(steps):
        actions[chance.below(len(actions))]()
        if number % 4 == 0:
            joined(world)
    machine.teardown()


@pytest.mark.parametrize("references", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_seeded_histories_with_forgetting_heal(block: int, references: bool) -> None:
    for seed in range(block * 30, block * 30 + 30):
        play(seed, references=references)
