"""Whatever happens, in whatever order: everybody ends with the same events in the same order."""

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from localmem_protocol.simulation import World, explore
from support.world_steps import DEVICES, WorldSteps, device


class Devices(WorldSteps):
    """Hypothesis chooses every step; the world is checked after each and settled at the end."""

    @initialize(
        skews=st.lists(st.integers(-5000, 5000), min_size=DEVICES, max_size=DEVICES),
        budget=st.sampled_from([800, 3000, 2**24]),
        step_bytes=st.sampled_from([100, 1000, 2**20]),
        references=st.booleans(),
    )
    def begin(self, skews: list[int], budget: int, step_bytes: int, references: bool) -> None:
        self.world = World(DEVICES, skews, budget, step_bytes, references=references)
        self.number = 0

    @rule(index=device, count=st.integers(1, 5))
    def record(self, index: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.world.record(index, f"event {self.number}")

    @rule(index=device, up=st.booleans())
    def reorder(self, index: int, up: bool) -> None:
        self.world.reorder(index, up=up)

    @rule()
    def hub_is_backed_up(self) -> None:
        self.world.hub.back_up()

    @rule()
    def hub_is_restored(self) -> None:
        self.world.restore_hub()

    @rule()
    def hub_restarts(self) -> None:
        self.world.crash_hub()

    @rule()
    def hub_compacts(self) -> None:
        self.world.hub.compact()

    @rule(index=device, writer=st.booleans())
    def token_is_replaced(self, index: int, writer: bool) -> None:
        self.world.give_role(index, writer=writer)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


Devices.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestDevices = Devices.TestCase


def test_a_reader_hears_everything_and_its_own_events_follow_when_it_may_write() -> None:
    world = World(3)
    world.record(0, "before its token was replaced")
    world.give_role(0, writer=False)
    for index in range(3):
        world.record(index, f"of device {index}")
    world.rest()
    held = [{event.snippet for event in device.log.events.values()} for device in world.devices]
    own = {"before its token was replaced", "of device 0"}
    assert held == [own | held[1], held[2], {"of device 1", "of device 2"}]
    world.settle()
    assert all(len(device.log.events) == 4 for device in world.devices)


@pytest.mark.parametrize("references", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_seeded_histories_settle(block: int, references: bool) -> None:
    for seed in range(block * 40, block * 40 + 40):
        explore(seed, references=references)


def test_the_same_seed_gives_the_same_history() -> None:
    histories = [explore(seed) for seed in range(20)]
    assert [explore(seed) for seed in range(20)] == histories
    assert len(set(histories)) == 20


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_many_seeded_histories_settle() -> None:
    for seed in range(1000, 1000 + int(os.environ.get("LOCALMEM_HISTORIES", "5000"))):
        explore(seed, devices=2 + seed % 4)
