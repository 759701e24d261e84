"""A hub that was restored from a backup: what a device sees of it, and what it saves of what is lost.

Where the hub lost no more than what this device wrote, the device just sends that again: the same bytes
at the same clocks, for which it is acknowledged anew. Anything else would let two histories merge
without a word: Yjs takes equal clocks for equal content. So whoever has something of another device
that the hub has not, or has otherwise, puts what it holds of that into its own array, and when the hub
has it, begins anew with the hub's document. Devices do so one after the other: what the first one saved
is there for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from localmem_protocol.hub_view import HubView
from localmem_protocol.parcels import Parcel
from localmem_protocol.replica import Replica
from localmem_protocol.updates import covers, normal


@dataclass
class Difference:
    """What is here and not at the hub, after all that the hub has came here.

    `lost` are client ids of others, with the clock up to which the hub has them; `other` those of
    anybody under which the hub has something else, or another owner.
    """

    lost: dict[int, int] = field(default_factory=dict)
    other: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.lost or self.other)


def compare(replica: Replica, hub: HubView) -> Difference:
    """Hold the document against what the hub said it has; nothing if it did not say.

    What was deleted here alone cannot be compared, until the hub has deleted it as well.
    """
    found = Difference()
    if hub.held is None:
        return found
    for client in replica.ledger:
        account = replica.ledger.account(client)
        if account is None or not account.clock:
            continue
        clock, digest = hub.held.get(client, (0, None))
        if digest is not None:
            gone = normal(hub.deletes.get(client, ()))
            there = {
                at: mark
                for at, mark in account.marks.items()
                if at < clock and not covers(gone, at, 1)
            }
            live = clock - sum(max(0, min(clock - first, size)) for first, size in gone)
            if len(there) == live and account.digest(there.values()) != digest:
                found.other.add(client)
        reached = max(clock, hub.clocks.get(client, 0))
        if account.device != replica.device and account.clock > reached:
            found.lost[client] = reached
    return found


def rescued(replica: Replica, difference: Difference) -> list[Parcel]:
    """What batches of others hold that the hub has not, as far as it is nowhere else in the document."""
    beyond = difference.lost | dict.fromkeys(difference.other, 0)
    others = {c: at for c, at in beyond.items() if replica.ledger.owner(c) != replica.device}
    return lacking(replica, replica.parcels_beyond(others), others)


def lacking(replica: Replica, held: Iterable[Parcel], others: Mapping[int, int]) -> list[Parcel]:
    """What of these is nowhere in the document, but for what `others` have from a clock on."""
    events, tombstones = replica.segments.content_before(others)
    parcels = []
    for parcel in held:
        kept = [e for e in parcel.events if replica.tombstone_key.of(e.id) not in events]
        marks = [mark for mark in parcel.tombstones if mark not in tombstones]
        parcels.append(replace(parcel, events=tuple(kept), tombstones=tuple(marks), heads=()))
    return [one for one in parcels if one.events or one.tombstones or one.references]


def sendable(replica: Replica, difference: Difference) -> Iterable[int]:
    """The own client ids whose batches the hub can go on with."""
    return [c for c in replica.ledger.clients_of(replica.device) if c not in difference.other]
