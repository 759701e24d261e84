"""Whatever is lost, doubled or delayed between devices and the processes of a hub that keeps nothing
between two requests: what was acknowledged is stored, and everybody ends with the same."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.requests_world import RequestsWorld

DEVICES_MAX = 5
device = st.integers(0, DEVICES_MAX - 1)
process = st.integers(0, 1)


class Requests(RuleBasedStateMachine):
    """Hypothesis chooses every step; the world is checked after each and settled at the end."""

    @initialize(step_bytes=st.sampled_from([100, 1000, 2**20]))
    def begin(self, step_bytes: int) -> None:
        self.world = RequestsWorld(step_bytes=step_bytes)
        self.number = 0

    def at(self, index: int) -> int:
        return index % len(self.world.devices)

    @rule(index=device, count=st.integers(1, 4))
    def record(self, index: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.world.record(self.at(index), f"event {self.number}")

    @rule(index=device, process=process)
    def ask(self, index: int, process: int) -> None:
        self.world.ask(self.at(index), process)

    @rule(process=process)
    def commit(self, process: int) -> None:
        self.world.processes[process].commit()

    @rule(index=device)
    def take(self, index: int) -> None:
        self.world.devices[self.at(index)].take()

    @rule(index=device, process=process, rounds=st.integers(1, 4))
    def exchange(self, index: int, process: int, rounds: int) -> None:
        for _ in range(rounds):
            self.world.ask(self.at(index), process)
            self.world.processes[process].commit()
            self.world.devices[self.at(index)].take()

    @rule(index=device)
    def lose_the_answer(self, index: int) -> None:
        self.world.devices[self.at(index)].greet()

    @rule(index=device, process=process)
    def carry_twice(self, index: int, process: int) -> None:
        self.world.repeat(self.at(index), process)

    @rule(process=process)
    def crash_process(self, process: int) -> None:
        self.world.processes[process].restart()

    @rule()
    def compact(self) -> None:
        self.world.durable.compact()

    @rule(index=device)
    def crash_device(self, index: int) -> None:
        self.world.devices[self.at(index)].crash()

    @rule(index=device)
    def save_image(self, index: int) -> None:
        self.world.devices[self.at(index)].save_image()

    @rule(index=device)
    def roll_back(self, index: int) -> None:
        self.world.may_be_lost |= self.world.devices[self.at(index)].roll_back()

    @precondition(lambda self: len(self.world.devices) < DEVICES_MAX)
    @rule(index=device)
    def clone(self, index: int) -> None:
        self.world.clone(self.at(index))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


Requests.TestCase.settings = settings(stateful_step_count=40)
TestRequests = Requests.TestCase
