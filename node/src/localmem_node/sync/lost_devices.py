"""Which members somebody means who names lost devices: by id, or by what people call them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from localmem_node.errors import QueryError
from localmem_node.plain_text import clean_start
from localmem_protocol.entries import RECOVERY
from localmem_protocol.errors import RemoteError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.roster import Roster

MEMBERS_NAMED: Final = 16
"""So many members are named in an error."""


def lost_devices(
    found: Sequence[Roster], recovery: DeviceKeys, lost: Sequence[str]
) -> frozenset[str]:
    """The ids of lost devices in the rosters of a recovery phrase, which unseals their labels.

    One that is no member any more is all right. Raises QueryError for what is no member's id or
    label, and for a label of several; it names the members.
    """
    labels: dict[str, set[str]] = {}  # of each member; a device may be called otherwise elsewhere
    former: set[str] = set()
    for roster in found if lost else ():
        keys = roster.epoch_keys(recovery, RECOVERY)
        for device in roster.members:
            labels.setdefault(device, set()).update(_label(roster, device, keys))
        former |= roster.former.keys()
    wanted: set[str] = set()
    for text in lost:
        known = text in labels or text in former
        matching = [text] if known else [one for one in labels if text in labels[one]]
        if len(matching) != 1:
            said = "is the name of several members" if matching else "is no member"
            named = ", ".join(
                " ".join([device, *(f"({clean_start(one, 40)})" for one in sorted(names))])
                for device, names in sorted(labels.items())[:MEMBERS_NAMED]
            )
            more = len(labels) - MEMBERS_NAMED
            named += f" and {more} more" if more > 0 else ""
            raise QueryError("lost", f"{text[:40]!r} {said}; there are: {named}")
        wanted |= set(matching)
    return frozenset(wanted)


def _label(roster: Roster, device: str, keys: dict[int, bytes]) -> list[str]:
    """What a device is called; nothing if that does not open."""
    try:
        label = roster.label(device, keys)
    except RemoteError:
        return []
    return [label] if label else []
