"""What is wrong with a pool, in words: of the status that an agent gives, for `status`, `sync`, `doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

SHOWN_MAX: Final = 5
"""So many problems are told one by one, the newest."""


def problems_of(pool: Mapping[str, Any]) -> Iterator[str]:
    """What batches came that should not have, and what did not come: with the device and the event.

    Gaps, replays, forks, and whatever else `localmem_protocol.signatures.Problem` is of.
    """
    shown = pool["problems"][-SHOWN_MAX:]
    for one in reversed(shown):
        label = one.get("label")
        device = f"{label} ({one['device']})" if label else one["device"]
        event = f", event {one['sequence']}" if one["sequence"] else ""
        yield (
            f"{one['kind']}: device {device}{event}, batch {one['clock']} of client "
            f"{one['client']}: {one['reason']}"
        )
    more = pool["problem_count"] - len(shown)
    if more > 0:
        yield f"{more} earlier ones; the daemon's log has them"


def notices_of(pool: Mapping[str, Any]) -> Iterator[str]:
    """What people should know, and need not do anything about yet."""
    if pool.get("roster_notice"):
        yield str(pool["roster_notice"])
    unread = pool["epochs_unread"]
    for one in unread:
        if one["problem"]:
            yield f"epoch {one['epoch']} is not read yet, and is tried again: {one['problem']}"
    waiting = [str(one["epoch"]) for one in unread if not one["problem"]]
    if waiting:
        yield f"epochs that are yet to be read: {', '.join(waiting)}"


def untold(count: int) -> str:
    """How much was forgotten that a pool could not be told; empty for nothing."""
    if count < 0:
        return "what was forgotten and waits to be told there cannot be read"
    return f"{count} forgotten, to be told there once it works" if count else ""
