"""What a hub decides about a roster that it keeps: who may enter which room, and what is appended.

Of two who append at once one is too late: an entry is for the end of the list and for no other place.
Whoever tries to append what is there already, at that place, is answered as if it was now: an answer
may have been lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localmem_protocol.chain import Roster, Tip
from localmem_protocol.entries import Rotate, decode_entry, entry_hash

Right = Literal["writer", "reader"]


@dataclass(frozen=True)
class Addition:
    """An entry that may be stored: how far the roster goes with it, and its newest epoch then."""

    entry: bytes
    tip: Tip
    epoch: int


def addition(roster: Roster, expected: int, entry: bytes) -> Addition | None:
    """What to store, for somebody who thinks that the roster has `expected` entries.

    None if it has another length. Raises RosterError for an entry that breaks the rules.
    """
    if expected != roster.length:
        return None
    roster.check(entry)
    actions = decode_entry(entry).actions
    epochs = [action.epoch for action in actions if isinstance(action, Rotate)]
    tip = Tip(roster.length + 1, entry_hash(entry))
    return Addition(entry, tip, max(epochs, default=roster.epoch))


def role_in(roster: Roster, device: str, epoch: int) -> Right | None:
    """What a device may do in the room of an epoch; None if it may not enter.

    Every member reads every epoch that there is; written is only in the newest.
    """
    member = roster.members.get(device)
    if member is None or not 1 <= epoch <= roster.epoch:
        return None
    return "writer" if member.role != "reader" and epoch == roster.epoch else "reader"
