"""The faults, by name: when each strikes, and what it does.

Every fault draws from a stream of its own, so leaving one out does not move the others. How often
each strikes is drawn as well (swarm testing: Groce et al., "Swarm Testing", ISSTA 2012, found that
leaving features out at random finds more than always having all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from localmem_protocol.simulation.clock import HOUR, MINUTE, MS, SECOND, Timeline
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.hub import SimulatedHub
from localmem_protocol.simulation.rogue import Rogue
from localmem_protocol.simulation.streams import Distribution, SeededRandom, Streams

FAULTS: Final = {
    "partition": "the line between a device and the hub is cut for a while",
    "loss": "a frame or a request is lost; a stream ends with it",
    "duplication": "a frame or a request arrives twice",
    "reorder": "a frame or a request is overtaken by later ones",
    "delay": "a line takes seconds, for a while",
    "crash": "a device or the hub dies, at any write or between two; a store refuses a transaction",
    "rollback": "a device is restored from a backup, or its event log alone",
    "clone": "a copy of a device runs beside it",
    "skew": "wall clocks are wrong and jump",
    "poison": "bytes are altered on their way; a rogue device sends what it must not",
    "revoke": "a device's token is revoked",
    "rotate": "a new epoch begins, with a new key and an empty document",
}
"""Name -> what it does."""

OUTAGE: Final = Distribution(10 * SECOND, 1 * MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR)
"""How long a partition lasts."""

SLOW: Final = Distribution(300 * MS, 2 * SECOND, 8 * SECOND, 30 * SECOND)
"""What a slow line adds, one way."""


JUMP: Final = Distribution(1 * SECOND, 40 * SECOND, 10 * MINUTE, 3 * HOUR, 50 * HOUR)
"""How far a wall clock jumps, or is off."""


class World(Protocol):
    """What faults need of the world. `end_us` is when everything heals."""

    timeline: Timeline
    hub: SimulatedHub
    devices: list[SimulatedDevice]
    rogue: Rogue
    end_us: int

    def struck(self, fault: str) -> None:
        """Count a fault."""
        ...

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        ...

    def gone(self, ids: set[str]) -> None:
        """A rollback took these events."""
        ...

    def clone(self, device: SimulatedDevice) -> None:
        """Let a copy of a device run beside it."""
        ...

    def revoke(self, device: SimulatedDevice) -> None:
        """Cut a device off."""
        ...

    def rotate(self) -> None:
        """Begin a new epoch."""
        ...


def plan(world: World, names: Iterable[str], streams: Streams) -> None:
    """Plan every strike of these faults, for the whole time."""
    chosen = set(names)
    for name in FAULTS:
        if name in chosen:
            _PLANNERS[name](world, streams.stream(f"fault {name}"))


def heal(world: World) -> None:
    """Everything that can be repaired is: lines, processes, the store. Clocks stay wrong."""
    for device in world.devices:
        line = device.line
        line.up = True
        line.loss = line.duplication = line.reorder = line.damage = line.delay_us = 0
        device.disk.writes.disarm()
        device.start()
    world.hub.disk.writes.disarm()
    world.hub.refuse_commits = 0
    world.hub.start()


def _times(world: World, stream: SeededRandom, most: int) -> Iterable[int]:
    """When something strikes: up to `most` times a day, once at least."""
    days = max(1, world.end_us // (24 * HOUR))
    return [stream.below(world.end_us) for _ in range(stream.between(1, most) * days)]


def _partition(world: World, stream: SeededRandom) -> None:
    for device in list(world.devices):
        for when in _times(world, stream, 5):
            length = min(OUTAGE.draw(stream), world.end_us // 4)

            def strike(device: SimulatedDevice = device, length: int = length) -> None:
                world.struck("partition")
                world.note(device.name, "line cut")
                device.line.cut()
                world.timeline.after(length, mend)

            def mend(device: SimulatedDevice = device) -> None:
                device.line.up = True

            world.timeline.after(when, strike)


def _per_frame(attribute: str, most: int) -> Callable[[World, SeededRandom], None]:
    """A fault that strikes frames: `most` per mille of them at the worst."""

    def planner(world: World, stream: SeededRandom) -> None:
        for device in world.devices:
            setattr(device.line, attribute, stream.between(1, most))

    return planner


def _delay(world: World, stream: SeededRandom) -> None:
    for device in list(world.devices):
        for when in _times(world, stream, 4):
            added, length = SLOW.draw(stream), OUTAGE.draw(stream)

            def strike(device: SimulatedDevice = device, added: int = added) -> None:
                world.struck("delay")
                device.line.delay_us = added

            def mend(device: SimulatedDevice = device) -> None:
                device.line.delay_us = 0

            world.timeline.after(when, strike)
            world.timeline.after(when + length, mend)


def _crash(world: World, stream: SeededRandom) -> None:
    for device in list(world.devices):
        for when in _times(world, stream, 6):
            number, kept = stream.between(0, 12), bool(stream.below(2))

            def strike(
                device: SimulatedDevice = device, number: int = number, kept: bool = kept
            ) -> None:
                if number:
                    device.disk.writes.crash_at(number, kept=kept)
                else:
                    device.crash()

            world.timeline.after(when, strike)
    for when in _times(world, stream, 6):
        number, kept = stream.between(0, 6), bool(stream.below(2))

        def strike_hub(number: int = number, kept: bool = kept) -> None:
            if number:
                world.hub.disk.writes.crash_at(number, kept=kept)
            else:
                world.hub.crash()

        world.timeline.after(when, strike_hub)
    for when in _times(world, stream, 2):
        world.timeline.after(when, lambda: setattr(world.hub, "refuse_commits", 1))


def _rollback(world: World, stream: SeededRandom) -> None:
    for device in list(world.devices):
        for when in _times(world, stream, 2):
            age = min(when, stream.below(6 * HOUR))
            log_only = stream.strikes(300)

            def back_up(
                device: SimulatedDevice = device, age: int = age, log_only: bool = log_only
            ) -> None:
                image = device.disk.image()

                def strike() -> None:
                    world.struck("rollback")
                    world.note(device.name, "restored" + (", its event log alone" * log_only))
                    world.gone(device.roll_back(image, log_only=log_only))

                world.timeline.after(age, strike)

            world.timeline.after(when - age, back_up)


def _clone(world: World, stream: SeededRandom) -> None:
    device = stream.pick(world.devices)

    def strike() -> None:
        world.struck("clone")
        world.note(device.name, "cloned")
        world.clone(device)

    world.timeline.after(stream.below(world.end_us * 3 // 4), strike)


def _skew(world: World, stream: SeededRandom) -> None:
    def wrong() -> int:
        return JUMP.draw(stream) // MS * stream.pick((-1, 1))

    for device in list(world.devices):
        device.clock.skew_ms = wrong()
        for when in _times(world, stream, 3):

            def strike(device: SimulatedDevice = device, skew_ms: int = wrong()) -> None:
                world.struck("skew")
                world.note(device.name, f"clock off by {skew_ms} ms")
                device.clock.skew_ms = skew_ms

            world.timeline.after(when, strike)


def _poison(world: World, stream: SeededRandom) -> None:
    for device in world.devices:
        device.line.damage = stream.between(1, 10)
    for _ in range(3):
        for when in _times(world, stream, 8):
            world.timeline.after(when, world.rogue.strike)


def _revoke(world: World, stream: SeededRandom) -> None:
    names = sorted({device.disk.log.device for device in world.devices})
    if len(names) < 3:
        return  # somebody has to be left to agree with
    device = stream.pick(world.devices)

    def strike() -> None:
        world.struck("revoke")
        world.note(device.name, "token revoked")
        world.revoke(device)

    world.timeline.after(stream.below(world.end_us), strike)


def _rotate(world: World, stream: SeededRandom) -> None:
    for when in _times(world, stream, 2):

        def strike() -> None:
            world.struck("rotate")
            world.rotate()

        world.timeline.after(when, strike)


_PLANNERS: Final[dict[str, Callable[[World, SeededRandom], None]]] = {
    "partition": _partition,
    "loss": _per_frame("loss", 20),
    "duplication": _per_frame("duplication", 60),
    "reorder": _per_frame("reorder", 60),
    "delay": _delay,
    "crash": _crash,
    "rollback": _rollback,
    "clone": _clone,
    "skew": _skew,
    "poison": _poison,
    "revoke": _revoke,
    "rotate": _rotate,
}


def subset(stream: SeededRandom, names: Sequence[str]) -> tuple[str, ...]:
    """Each of these faults or not, evenly (swarm testing)."""
    return tuple(name for name in names if stream.below(2))
