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
from typing import Protocol

from localmem_protocol.envelope import PoolKey
from localmem_protocol.room import Commit, Effect, Peer
from localmem_protocol.session import EventLog, Journal


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

    def upload(self) -> list[bytes]:
        """Frames that can be sent now; called until there are none."""
        ...

    def disconnect(self, code: int | None = None) -> None:
        """The connection is gone; `code` is what the hub closed it with, if it did."""
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
    """Sees what a hub commits, row by row."""

    def committed(self, update: bytes) -> Sequence[str]:
        """A row is stored: the ids of the events that it brings. Raises ValueError for a bad one."""
        ...

    def holds(self) -> set[str]:
        """The ids of the events of which the document of all that was committed has the content."""
        ...

    def promises(self, frame: bytes) -> str | None:
        """What a frame of the hub says is stored, and is not; None for all others."""
        ...


@dataclass(frozen=True)
class Implementation:
    """Both sides, and how to look at them.

    `open_device` gets the pool's key, the event log, the journal and how many bytes its array may
    hold; `open_hub` the committed rows, the client ids handed out, and how many bytes an answer may
    have. `document` gives the bytes that two devices must have in common when all have settled, and
    `holds` the ids of the events in it. `limits` names a limit that a device's side exceeds, `unsaved`
    what a frame says that a device's journal would not know after a crash; `kind` names a frame, for
    the traffic.
    """

    open_device: Callable[[PoolKey, EventLog, Journal, int], DeviceSide]
    open_hub: Callable[[Sequence[bytes], dict[int, str], int], HubSide]
    document: Callable[[DeviceSide], bytes]
    holds: Callable[[DeviceSide], set[str]]
    witness: Callable[[PoolKey], Witness] | None = None
    limits: Callable[[DeviceSide, Journal, int], str | None] | None = None
    unsaved: Callable[[bytes, Journal], str | None] | None = None
    kind: Callable[[bytes], str] = lambda frame: "frame"
