"""The seam of the simulation: what a device's side and a hub's side must be able to do.

`Session` and `Room` do it, and are what is simulated unless you bring something else. A device's
side is made anew after every crash, from what its event log and its journal have; a hub's side from
the rows that were committed. They talk in frames, whose bytes are nobody else's business, and may
store anything in the rows and updates that they have kept for them.

A `Witness` sees what the hub commits and can open it. It lets the oracle say of every single event
that it is stored, rather than only of those of devices that have settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from localmem_protocol.chain import Roster
from localmem_protocol.envelope import PoolKey
from localmem_protocol.events import Event
from localmem_protocol.references import Texts
from localmem_protocol.room import Commit, Effect, Peer
from localmem_protocol.roster_log import Addition, addition
from localmem_protocol.roster_view import RosterView, Route
from localmem_protocol.seams import Random
from localmem_protocol.session import EventLog, Journal
from localmem_protocol.signatures import Authorship, Problem

Sealed = tuple[int, int, bytes]
"""A sealed batch: its client id, its clock, its bytes."""


class DeviceSide(Protocol):
    """One device's synchronisation, as `Session` describes it."""

    @property
    def settled(self) -> bool:
        """Connected, everything received, everything of ours confirmed that the hub would take."""
        ...

    def hello(self) -> list[bytes]:
        """A connection begins: the frames to send first."""
        ...

    def receive(self, data: bytes) -> list[bytes]:
        """A frame from the hub: the frames to answer. A ProtocolError ends the connection."""
        ...

    @property
    def due_s(self) -> float | None:
        """When `upload` is to be called though nothing happens; None if there is no need."""
        ...

    def upload(self, now_s: float) -> list[bytes]:
        """Frames to send now, in seconds of the machine's uptime; called until there are none."""
        ...

    def disconnect(self, code: int | None = None) -> None:
        """The connection is gone; `code` is what the hub closed it with, if it did."""
        ...


@runtime_checkable
class Resting(Protocol):
    """A device's side that has something to do when nothing happens; it need not be one."""

    def rest(self, quiet_s: float) -> float | None:
        """Nothing came or went for so many seconds; how many it has to be for the next call, None
        for not before something does. What it makes is sent by `upload`.
        """
        ...


class HubSide(Protocol):
    """A hub's side of one document, as `Room` describes it."""

    def join(self, peer: Peer) -> None:
        """A connection is there."""
        ...

    def leave(self, connection: int) -> None:
        """A connection is gone."""
        ...

    def receive(self, connection: int, data: bytes) -> list[Effect]:
        """A frame: what to do at once."""
        ...

    def take(self) -> Commit | None:
        """What to store now, in one transaction; nothing more until `committed`."""
        ...

    def committed(self) -> list[Effect]:
        """It is stored: what to do now."""
        ...

    def snapshot(self) -> bytes:
        """One row that may take the place of all that were stored."""
        ...


class Witness(Protocol):
    """Sees what a hub commits, row by row. Events are given by id, or as `Implementation` says."""

    def committed(self, update: bytes) -> Sequence[str]:
        """A row is stored: the events that it brings. Raises ValueError for a bad one."""
        ...

    def holds(self) -> set[str]:
        """The events of which the document of all that was committed has the content."""
        ...

    def tombstones(self) -> set[bytes]:
        """What stands for forgotten events in all that was ever committed."""
        ...

    def promises(self, frame: bytes) -> str | None:
        """What a frame of the hub says is stored, and is not; None for all others."""
        ...


class OpenDevice(Protocol):
    """Makes a device's side of one document, of what its event log and its journal have.

    A `reader` sends nothing: the document's epoch is over. `authorship` says who may write, and signs.
    `texts` is the device's checkout, for those that send and read references; None in a world without.
    """

    def __call__(
        self,
        pool: PoolKey,
        log: EventLog,
        journal: Journal,
        array_bytes_max: int,
        /,
        *,
        reader: bool,
        authorship: Authorship,
        texts: Texts | None,
    ) -> DeviceSide:
        """The pool's key, the event log, the journal, and how many bytes its array may hold."""
        ...


@dataclass(frozen=True)
class Implementation:
    """Both sides, and how to look at them.

    `open_device` is as `OpenDevice` says; `open_hub` gets the committed rows, the client ids handed out,
    how many bytes an answer may have, and what to draw from, which no backup of the hub brings back.
    `tell` is called after what happens at a hub, and at the moment that it named last: what to do then,
    and when to call it again. `document` gives the bytes that two devices must have in common when all
    have settled, and
    `holds` the ids of the events in it. `limits` names a limit that a device's side exceeds, `unsaved`
    what a frame says that a device's journal would not know after a crash; `kind` names a frame, for
    the traffic. `sealed` gives the batches in a frame or a row, as (client id, clock, bytes), and `opens`
    those of them that a key opens; `forget` has a device forget events, and `remembers` gives the ids of
    the events that somebody with the key finds in updates, deleted or not. `route` says where a device
    goes by the roster, and `addition` what a hub appends to that.

    Where an event is there as a reference, `holds`, `remembers` and a witness give what `named` says of it
    under that key, instead of its id (None: it never travels so). `waiting` gives those names, too: of
    the references whose text a device has not found. `blind` is whether a device never read some of what
    could explain a problem that it reports.
    """

    open_device: OpenDevice
    open_hub: Callable[[Sequence[bytes], dict[int, str], int, Random], HubSide]
    document: Callable[[DeviceSide], bytes]
    holds: Callable[[DeviceSide], set[str]]
    tell: Callable[[HubSide, float], tuple[list[Effect], float | None]] = lambda hub, now_s: (
        [],
        None,
    )
    witness: Callable[[PoolKey], Witness] | None = None
    limits: Callable[[DeviceSide, Journal, int], str | None] | None = None
    unsaved: Callable[[bytes, Journal], str | None] | None = None
    kind: Callable[[bytes], str] = lambda frame: "frame"
    sealed: Callable[[bytes], list[Sealed]] | None = None
    opens: Callable[[PoolKey, Sequence[tuple[str, Sealed]]], set[tuple[int, int]]] | None = None
    forget: Callable[[DeviceSide, Sequence[str]], object] | None = None
    remembers: Callable[[PoolKey, Sequence[bytes]], set[str]] | None = None
    route: Callable[[RosterView], Route] = Route
    addition: Callable[[Roster, int, bytes], Addition | None] = addition
    named: Callable[[PoolKey, Event], str | None] = lambda key, event: None
    waiting: Callable[[DeviceSide], set[str]] = lambda side: set()
    blind: Callable[[DeviceSide, Problem], bool] = lambda side, problem: True
