"""The faults, by name: when each strikes, and what it does.

Every fault draws from a stream of its own, so leaving one out does not move the others. How often
each strikes is drawn as well (swarm testing: Groce et al., "Swarm Testing", ISSTA 2012, found that
leaving features out at random finds more than always having all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from localmem_protocol.entries import Role
from localmem_protocol.simulation.clock import HOUR, MINUTE, MS, SECOND, Timeline
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.disk import Image
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
    "restore": "the hub is restored from a backup, now or between a commit and what it says of it",
    "clone": "a copy of a device runs beside it",
    "skew": "wall clocks are wrong and jump",
    "poison": "bytes are altered on their way; a rogue device sends what it must not",
    "revoke": "an owner removes a device; what it wrote before stays, what it sends later is refused",
    "rotate": "owners begin new epochs, also two at once, and die on the way; members change roles; "
    "a device is let in",
}
"""Name -> what it does."""

OUTAGE: Final = Distribution(10 * SECOND, 1 * MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR)
"""How long a partition lasts."""

SLOW: Final = Distribution(300 * MS, 2 * SECOND, 8 * SECOND, 30 * SECOND)
"""What a slow line adds, one way."""

AGE: Final = Distribution(1, 50 * MS, 20 * SECOND, 5 * MINUTE, 1 * HOUR, 6 * HOUR)
"""How old the backup is that the hub is restored from."""

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

    def roll_back(self, device: SimulatedDevice, image: Image, *, log_only: bool) -> None:
        """Restore a device from a backup."""
        ...

    def clone(self, device: SimulatedDevice) -> None:
        """Let a copy of a device run beside it."""
        ...

    def revoke(self, device: SimulatedDevice, by: int = 0) -> None:
        """Have an owner remove a device."""
        ...

    def rotate(self, *by: int, fatal: bool = False) -> None:
        """Have owners begin a new epoch."""
        ...

    def let_in(self) -> None:
        """Have an owner let another device in."""
        ...

    def set_role(self, device: SimulatedDevice, role: Role) -> None:
        """Have an owner give a device another role."""
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
                    world.roll_back(device, image, log_only=log_only)

                world.timeline.after(age, strike)

            world.timeline.after(when - age, back_up)


def _restore(world: World, stream: SeededRandom) -> None:
    for when in _times(world, stream, 2):
        age = min(when, AGE.draw(stream))
        at_write = stream.below(4)

        def back_up(age: int = age, at_write: int = at_write) -> None:
            image = world.hub.back_up()
            world.timeline.after(age, lambda: world.hub.restore(image, at_write=at_write))

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
    device = stream.pick(world.devices[1:])
    by = stream.below(2) if device is not world.devices[1] else 0

    def strike() -> None:
        world.struck("revoke")
        world.revoke(device, by)

    world.timeline.after(stream.below(world.end_us), strike)


def _rotate(world: World, stream: SeededRandom) -> None:
    """An epoch for each time; one of the strikes lets a device in, another takes a right away."""
    times = [*_times(world, stream, 3), *_times(world, stream, 1)]
    for number, when in enumerate(times):
        kind = stream.pick(("one", "both", "fatal", "in", "role")) if number else "both"
        by = stream.below(2)
        victim = stream.pick(world.devices)

        def strike(kind: str = kind, by: int = by, victim: SimulatedDevice = victim) -> None:
            world.struck("rotate")
            match kind:
                case "in":
                    world.let_in()
                case "role" if victim not in world.devices[:2]:
                    world.set_role(victim, "reader")
                    back = min(2 * HOUR, world.end_us - world.timeline.now_us)
                    world.timeline.after(back, lambda: world.set_role(victim, "member"))
                case "both":
                    world.rotate(0, 1)
                case _:
                    world.rotate(by, fatal=kind == "fatal")

        world.timeline.after(when, strike)


_PLANNERS: Final[dict[str, Callable[[World, SeededRandom], None]]] = {
    "partition": _partition,
    "loss": _per_frame("loss", 20),
    "duplication": _per_frame("duplication", 60),
    "reorder": _per_frame("reorder", 60),
    "delay": _delay,
    "crash": _crash,
    "rollback": _rollback,
    "restore": _restore,
    "clone": _clone,
    "skew": _skew,
    "poison": _poison,
    "revoke": _revoke,
    "rotate": _rotate,
}


def subset(stream: SeededRandom, names: Sequence[str]) -> tuple[str, ...]:
    """Each of these faults or not, evenly (swarm testing)."""
    return tuple(name for name in names if stream.below(2))
