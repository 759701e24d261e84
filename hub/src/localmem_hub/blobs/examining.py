"""What an operator has to know of a container before anybody complains."""

from __future__ import annotations

from localmem_hub.blobs import manifest, names
from localmem_hub.blobs.container import Container


def lost_logs(container: Container) -> list[str]:
    """The rooms whose manifest leads to a segment that is not there."""
    blobs = list(container.names(names.ROOMS, metadata=True))
    there = {one.name for one in blobs}
    rooms = (manifest.listed(one) for one in blobs)
    missing = [room for room in rooms if room is not None and room.segment not in there]
    # It may have been compacted while it was listed.
    return [room.room for room in missing if _is_lost(container, room.room)]


def _is_lost(container: Container, room: str) -> bool:
    known = manifest.read(container, room)
    return known is not None and container.look(known.manifest.place.segment) is None
