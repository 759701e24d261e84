"""What must hold after a world with forgetting has healed."""

from __future__ import annotations

from localmem_protocol.replica import Replica
from localmem_protocol.simulation import World

JOINER = "ee" * 8


def joined(world: World) -> Replica:
    """A device that comes to the hub's document on this day; everything there must open."""
    joiner = Replica(world.pool, JOINER, 2**20)
    result = joiner.integrate(world.hub.room.snapshot())
    assert result.problems == []
    joiner.loaded = result
    return joiner


def heal(world: World, *, all_at_hub: bool = True) -> None:
    """Bring everybody together: nothing forgotten is left, and nothing else is lost."""
    world.settle()
    forgotten = world.forgotten.keys()
    for device in world.devices:
        assert not device.log.events.keys() & forgotten
        kept = Replica(world.pool, JOINER, 2**20, device.journal.saved.updates)
        assert not {event.id for event in kept.loaded.events} & forgotten
        assert device.session.untold == 0
    joiner = joined(world)
    readable = {event.id for event in joiner.loaded.events}
    assert not readable & forgotten
    names = {name: joiner.referenced.name_of(event) for name, event in world.recorded.items()}
    referred = {name for name in world.recorded if names[name] in joiner.referenced}
    # Where all who knew its text were restored from before, nobody can tell what a reference is to.
    assert not referred & forgotten - world.may_be_lost
    for name in referred & forgotten:
        assert all(names[name] in d.session.replica.referenced.waiting for d in world.devices)
    if all_at_hub:
        wanted = world.recorded.keys() - forgotten - world.may_be_lost
        assert wanted <= readable | referred, f"{len(wanted - readable)} are not at the hub"
