"""Hypothesis chooses what happens in virtual time: every fault, at any moment, in any order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localmem_protocol.entries import Role
from localmem_protocol.session import ARRAY_BYTES_MAX
from localmem_protocol.simulation import Settings, Simulation
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.disk import Image

DEVICES = 3
COPIES_MAX = 2
EPOCHS_MAX = 4
device = st.integers(0, DEVICES + COPIES_MAX - 1)


class VirtualDays(RuleBasedStateMachine):
    """A world without chance of its own but the seed's; a failure prints seed and last steps."""

    @initialize(
        seed=st.integers(0, 1 << 20),
        transport=st.sampled_from(["stream", "requests", "mixed"]),
        budget=st.sampled_from([ARRAY_BYTES_MAX, 1_500, 6_000]),
        step_bytes=st.sampled_from([1 << 20, 300]),
        compact_rows=st.sampled_from([200, 3]),
        references=st.booleans(),
    )
    def begin(
        self,
        seed: int,
        transport: str,
        budget: int,
        step_bytes: int,
        compact_rows: int,
        references: bool,
    ) -> None:
        limits = (budget, step_bytes, compact_rows)
        self.world = Simulation(
            Settings(seed, DEVICES, 1, (), transport, *limits, references=references)
        )
        self.images: dict[str, Image] = {}
        self.removing = False
        self.world.start()

    @rule(index=device, count=st.integers(1, 20))
    def work(self, index: int, count: int) -> None:
        for _ in range(count):
            self.world.record(self.device(index))

    @rule(one=device, other=device, count=st.integers(10, 25), ms=st.sampled_from([50, 1_000]))
    def both_are_busy(self, one: int, other: int, count: int, ms: int) -> None:
        for _ in range(count):
            self.world.record(self.device(one))
            self.world.record(self.device(other))
            self.world.advance(ms)

    @rule(ms=st.sampled_from([1, 3, 10, 30, 100, 1_000, 20_000, 600_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    @rule(index=device)
    def line_is_cut(self, index: int) -> None:
        self.world.note(self.device(index).name, "line cut")
        self.device(index).line.cut()

    @rule(index=device)
    def line_is_mended(self, index: int) -> None:
        self.device(index).line.up = True

    @rule(
        index=device,
        what=st.sampled_from(["loss", "duplication", "reorder"]),
        per_mille=st.sampled_from([0, 100, 500]),
    )
    def line_gets_bad(self, index: int, what: str, per_mille: int) -> None:
        setattr(self.device(index).line, what, per_mille)

    @rule(index=device, write=st.integers(1, 4), kept=st.booleans())
    def device_will_die_at_a_write(self, index: int, write: int, kept: bool) -> None:
        self.device(index).disk.writes.crash_at(write, kept=kept)

    @rule(index=device)
    def device_dies(self, index: int) -> None:
        self.device(index).crash()

    @rule(write=st.integers(1, 3), kept=st.booleans())
    def hub_will_die_at_a_write(self, write: int, kept: bool) -> None:
        self.world.hub.disk.writes.crash_at(write, kept=kept)

    @rule()
    def hub_dies(self) -> None:
        self.world.hub.crash()

    @rule()
    def store_refuses(self) -> None:
        self.world.hub.refuse_commits += 1

    @rule(index=device)
    def back_up(self, index: int) -> None:
        self.images[self.device(index).name] = self.device(index).disk.image()

    @rule(index=device, log_only=st.booleans())
    def restore(self, index: int, log_only: bool) -> None:
        one = self.device(index)
        if one.name in self.images:
            self.world.note(one.name, "restored")
            self.world.roll_back(one, self.images[one.name], log_only=log_only)

    @precondition(lambda self: len(self.world.devices) < DEVICES + COPIES_MAX)
    @rule(index=device)
    def copy_starts(self, index: int) -> None:
        self.world.note(self.device(index).name, "cloned")
        self.world.clone(self.device(index))

    @rule(index=device)
    def somebody_forgets(self, index: int) -> None:
        self.world.forget(self.device(index))

    @precondition(lambda self: self.world.settings.references)
    @rule(index=device)
    def a_clone_moves(self, index: int) -> None:
        self.world.move(self.device(index))

    @precondition(lambda self: self.world.hub.epoch < EPOCHS_MAX)
    @rule(by=st.sampled_from([(0,), (1,), (0, 1)]), fatal=st.booleans())
    def owners_begin_an_epoch(self, by: tuple[int, ...], fatal: bool) -> None:
        self.world.rotate(*by, fatal=fatal)

    @precondition(lambda self: len(self.world.devices) < DEVICES + COPIES_MAX)
    @rule()
    def a_device_is_let_in(self) -> None:
        self.world.let_in()

    @rule(role=st.sampled_from(["reader", "member"]))
    def a_role_changes(self, role: Role) -> None:
        self.world.set_role(self.world.devices[DEVICES - 1], role)

    @precondition(lambda self: not self.removing)
    @rule(index=st.integers(1, DEVICES - 1))
    def a_device_is_removed(self, index: int) -> None:
        self.removing = True
        self.world.revoke(self.device(index))

    @rule(index=device, ms=st.sampled_from([-(10**9), -5_000, 0, 60_000, 3 * 10**8]))
    def clock_jumps(self, index: int, ms: int) -> None:
        self.device(index).clock.skew_ms = ms

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "world"):
            assert not self.world.oracle.violations, self.world.finish().explanation()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            report = self.world.finish()
            assert report.passed, report.explanation()

    def device(self, index: int) -> SimulatedDevice:
        return self.world.devices[index % len(self.world.devices)]


def test_a_failure_says_seed_and_last_steps() -> None:
    days = VirtualDays()
    days.begin(4711, "stream", ARRAY_BYTES_MAX, 300, 3, False)
    days.work(0, 3)
    days.time_passes(600_000)
    days.world.devices[1].disk.log.events.popitem()  # what no device may lose
    with pytest.raises(AssertionError) as failed:
        days.teardown()
    assert "seed 4711: 3 devices" in str(failed.value)
    assert "did not reach everybody" in str(failed.value)
    assert days.world.trace.last[-1] in str(failed.value)


VirtualDays.TestCase.settings = settings(stateful_step_count=25, deadline=None)
TestVirtualDays = VirtualDays.TestCase
