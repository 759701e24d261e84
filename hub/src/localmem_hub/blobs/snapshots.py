"""Snapshots beside the log: the newest, and some before it, for whoever has to repair something.

The hub itself reads the one in the log's segment. These are written after that, with conditions, so
that an older one never takes the place of a later one; should it fail, the next compaction does it.
"""

from __future__ import annotations

import logging
from typing import Final

from localmem_hub.blobs import names
from localmem_hub.blobs.container import Container
from localmem_hub.blobs.judging import Segment
from localmem_hub.errors import StoreError

log: Final = logging.getLogger(__name__)

KEPT: Final = 3
"""Snapshots of a room, the newest included."""

TRIES: Final = 4


def keep(container: Container, room: str, number: int, tag: str, snapshot: bytes) -> None:
    """Have a snapshot up to this row as the newest, and let those go that are too many."""
    metadata = {"number": str(number), "tag": tag}
    try:
        container.create(f"{names.snapshots(room)}{number:020d}", snapshot, metadata)
        for _ in range(TRIES):
            found = container.look(names.latest(room))
            if found is None:
                done = container.create(names.latest(room), snapshot, metadata)
            elif int(found.metadata.get("number", "0")) >= number:
                done = True
            else:
                done = container.replace(names.latest(room), snapshot, found.etag, metadata)
            if done:
                break
        earlier = [one.name for one in container.names(names.snapshots(room))]
        for name in sorted(set(earlier) - {names.latest(room)})[:-KEPT]:
            container.delete(name)
    except StoreError as error:
        log.warning("no copy of a snapshot was kept pool=%s: %s", room, error)


def forget_history(container: Container, room: str, segment: Segment | None) -> bool:
    """Remove every snapshot but that which is in the log; all of them if there is no log."""
    number = 0 if segment is None else segment.first
    for one in list(container.names(names.snapshots(room), metadata=True)):
        if not number or one.metadata.get("number") != str(number):
            container.delete(one.name)
    return True
