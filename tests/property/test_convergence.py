"""Whatever happens, in whatever order: everybody ends with the same events in the same order."""

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from localmem_protocol.simulation import World, explore

DEVICES = 3
device = st.integers(0, DEVICES - 1)


class Devices(RuleBasedStateMachine):
    """Hypothesis chooses every step; the world is checked after each and settled at the end."""

    @initialize(
        skews=st.lists(st.integers(-5000, 5000), min_size=DEVICES, max_size=DEVICES),
        budget=st.sampled_from([800, 3000, 2**24]),
        step_bytes=st.sampled_from([100, 1000, 2**20]),
    )
    def begin(self, skews: list[int], budget: int, step_bytes: int) -> None:
        self.world = World(DEVICES, skews, budget, step_bytes)
        self.number = 0

    @rule(index=device, count=st.integers(1, 5))
    def record(self, index: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.world.record(index, f"event {self.number}")

    @rule(index=device)
    def connect(self, index: int) -> None:
        self.world.connect(index)

    @rule(index=device)
    def partition(self, index: int) -> None:
        self.world.cut(index)

    @rule(index=device, count=st.integers(1, 6))
    def hub_hears(self, index: int, count: int) -> None:
        for _ in range(count):
            self.world.deliver_up(index)

    @rule(index=device, count=st.integers(1, 6))
    def device_hears(self, index: int, count: int) -> None:
        for _ in range(count):
            self.world.deliver_down(index)

    @rule(index=device, up=st.booleans())
    def duplicate(self, index: int, up: bool) -> None:
        self.world.duplicate(index, up=up)

    @rule(index=device, up=st.booleans())
    def reorder(self, index: int, up: bool) -> None:
        self.world.reorder(index, up=up)

    @rule(index=device)
    def restart(self, index: int) -> None:
        self.world.crash(index)

    @rule()
    def hub_commits(self) -> None:
        self.world.hub.commit()

    @rule()
    def hub_store_fails(self) -> None:
        self.world.fail_commit()

    @rule()
    def hub_restarts(self) -> None:
        self.world.crash_hub()

    @rule()
    def hub_compacts(self) -> None:
        self.world.hub.compact()

    @rule(index=device, writer=st.booleans())
    def token_is_replaced(self, index: int, writer: bool) -> None:
        self.world.give_role(index, writer=writer)

    @rule(index=device)
    def back_up(self, index: int) -> None:
        self.world.save_image(index)

    @rule(index=device, journal_too=st.booleans())
    def restore(self, index: int, journal_too: bool) -> None:
        self.world.roll_back(index, journal_too=journal_too)

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


@pytest.mark.parametrize("block", range(4))
def test_seeded_histories_settle(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        explore(seed)


def test_the_same_seed_gives_the_same_history() -> None:
    assert [explore(seed) for seed in range(20)] == [explore(seed) for seed in range(20)]
    assert len({explore(seed) for seed in range(20)}) == 20


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_many_seeded_histories_settle() -> None:
    for seed in range(1000, 1000 + int(os.environ.get("LOCALMEM_HISTORIES", "5000"))):
        explore(seed, devices=2 + seed % 4)
