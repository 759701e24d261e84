"""Seeded histories of a world: the same seed, the same history, to the last byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from localmem_protocol.session import ARRAY_BYTES_MAX
from localmem_protocol.simulation.authors import POOL, SimulatedAuthorship
from localmem_protocol.simulation.streams import SeededRandom
from localmem_protocol.simulation.world import World
from localmem_protocol.updates import decode_state_vector


def explore(seed: int, *, devices: int = 3, steps: int = 200, references: bool = False) -> str:
    """Run one seeded history to its end; a digest of what every device holds then.

    The seed also draws how often each fault strikes. Raises InvariantError.
    """
    chance = SeededRandom(seed)
    skews = [chance.below(4001) - 2000 for _ in range(devices)]
    budget = 1000 + chance.below(3000) if chance.below(3) == 0 else ARRAY_BYTES_MAX
    step_bytes = 200 + chance.below(2000)
    world = World(
        devices, skews, budget, step_bytes, SimulatedAuthorship, POOL, references=references
    )

    def anyone() -> int:
        return chance.below(devices)

    def forget() -> None:
        index = anyone()
        events = sorted(world.devices[index].log.events)
        if events:
            world.forget(index, events[chance.below(len(events))])

    def upwards() -> bool:
        return bool(chance.below(2))

    actions: list[tuple[int, Callable[[], object]]] = [
        (30, lambda: world.record(anyone(), f"event {chance.below(10**9)} " * 4)),
        (40, lambda: world.deliver_up(anyone())),
        (40, lambda: world.deliver_down(anyone())),
        (20, world.hub.commit),
        (15, lambda: world.connect(anyone())),
        (10, lambda: world.rest_long(anyone())),
        (chance.below(3), forget),
        (chance.below(6), lambda: world.cut(anyone())),
        (chance.below(6), lambda: world.duplicate(anyone(), up=upwards())),
        (chance.below(6), lambda: world.reorder(anyone(), up=upwards())),
        (chance.below(4), lambda: world.crash(anyone())),
        (chance.below(3), world.crash_hub),
        (chance.below(3), world.hub.compact),
        (chance.below(3), world.fail_commit),
        (chance.below(3), lambda: world.give_role(anyone(), writer=upwards())),
        (chance.below(3), lambda: world.save_image(anyone())),
        (chance.below(4), lambda: world.roll_back(anyone(), journal_too=upwards())),
    ]
    deck = [action for weight, action in actions for _ in range(weight)]
    for _ in range(steps if budget == ARRAY_BYTES_MAX else 4 * steps):
        deck[chance.below(len(deck))]()
        world.check()  # before a crash takes what a device would have reported
    world.settle()
    for _ in range(2):
        for index in range(devices):
            world.rest_long(index)
        world.settle()
    held = "".join(event.id for event in world.devices[0].log.ordered())
    vector = sorted(decode_state_vector(world.devices[0].session.replica.state_vector()).items())
    return hashlib.sha256(f"{held} {vector}".encode()).hexdigest()
