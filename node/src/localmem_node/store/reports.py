"""What a store says: what an append did, where numbers go on, what is damaged, how full it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Change(NamedTuple):
    """What making room did: ordinals of events that left, and (old, new) of those copied forward."""

    evicted: list[int]
    moved: list[tuple[int, int]]


class Appended(NamedTuple):
    """The ordinals of what was appended, of events that left to make room, and (old, new) of those
    that were copied forward for it, in this order.
    """

    ordinals: list[int]
    evicted: list[int]
    moved: list[tuple[int, int]]


def together(changes: Iterable[Change]) -> Appended:
    """What several changes did, one after the other; no ordinals."""
    appended = Appended([], [], [])
    for change in changes:
        appended.evicted.extend(change.evicted)
        appended.moved.extend(change.moved)
    return appended


class Marks(NamedTuple):
    """The highest sequence and clock of the own device's events; 0 before the first.

    They survive the eviction of the events they come from.
    """

    sequence: int
    clock: int


class Damage(NamedTuple):
    """Records that were lost together, between two moments in ms; None where nothing is left."""

    records: int
    after_ms: int | None
    before_ms: int | None


@dataclass(frozen=True)
class StoreStats:
    """What can be said about a store. Ordinals are None while it is empty."""

    path: str
    size_bytes: int
    used_bytes: int
    copied_bytes: int
    events: int
    oldest_ordinal: int | None
    newest_ordinal: int | None
    damaged: int
    key_location: str
