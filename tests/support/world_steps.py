"""Steps of a `World` that Hypothesis chooses: what state machines over one have in common."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from localmem_protocol.simulation import World

DEVICES = 3
device = st.integers(0, DEVICES - 1)


class WorldSteps(RuleBasedStateMachine):
    """Connections that come and go, frames that arrive or do not, crashes, backups. Make `world` first."""

    world: World

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

    @rule(index=device)
    def nothing_happens_for_long(self, index: int) -> None:
        self.world.rest_long(index)

    @rule(index=device)
    def restart(self, index: int) -> None:
        self.world.crash(index)

    @rule()
    def hub_commits(self) -> None:
        self.world.hub.commit()

    @rule()
    def hub_store_fails(self) -> None:
        self.world.fail_commit()

    @rule(index=device)
    def back_up(self, index: int) -> None:
        self.world.save_image(index)

    @rule(index=device, journal_too=st.booleans())
    def restore(self, index: int, journal_too: bool) -> None:
        self.world.roll_back(index, journal_too=journal_too)
