"""Where an agent connects next: the `Way` seam, and the way to a pool whose key is in the settings.

`roster_way` has the other: pools with a roster, whose key changes with every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from localmem_node.config import HubSettings
from localmem_node.sync.remedy import remedy
from localmem_node.sync.transport import Transport
from localmem_protocol.envelope import PoolKey
from localmem_protocol.padding import Padding
from localmem_protocol.session import Journal as SessionJournal
from localmem_protocol.signatures import Authorship


class Journal(SessionJournal, Protocol):
    """A journal that is given back at the end."""

    def close(self) -> None:
        """Give it back."""
        ...


@dataclass(frozen=True)
class Place:
    """A document, and where its journal is; who signs and may write there, if there is a roster; how
    batches are padded."""

    key: PoolKey
    open_journal: Callable[[], Journal]
    authorship: Authorship | None = None
    padding: Padding = Padding.NONE


@dataclass(frozen=True)
class Target:
    """A document at a hub. `past`: of an epoch that is over, to be read once to its end."""

    place: Place
    transport: Transport
    past: bool = False


class Way(Protocol):
    """How to get to a pool. All but the properties are called in the agent's thread, and may wait."""

    @property
    def url(self) -> str:
        """The hub's address."""
        ...

    @property
    def name(self) -> str:
        """What people call the pool."""
        ...

    def next(self) -> Target:
        """Where to connect. In another thread than the rest, since it waits for the hub.

        Raises SyncError, RefusedError and HubRefused.
        """
        ...

    def here(self) -> Place:
        """The document that this device writes into, as far as it knows without asking."""
        ...

    def finished(self, target: Target) -> None:
        """A target that is past was read to its end."""
        ...

    def put_off(self, target: Target, problem: str) -> None:
        """A target that is past could not be read to its end: `next` has something else first."""
        ...

    def past_due_s(self) -> float | None:
        """Seconds until `next` has a target that is past; None if all are read. From any thread."""
        ...

    def unread(self) -> dict[int, str | None]:
        """Epochs that are over and not read to their end, and why, if that failed. From any thread."""
        ...

    def moved(self, roster_length: int) -> bool:
        """Whether the hub, by how long it says the roster is, knows more than `next` did."""
        ...

    def refused(self, error: Exception) -> bool:
        """A connection was refused: whether to ask `next` again soon."""
        ...

    def restored(self) -> None:
        """The hub was restored from a backup. Of epochs that are over it may show more than before: they
        are read again.
        """
        ...

    def remedy(self, error: Exception) -> str:
        """What to do about an error, in half a sentence; empty when it says that itself."""
        ...


class FixedWay:
    """One document for good: hub, token, pool and key as the settings have them."""

    def __init__(self, hub: HubSettings, target: Target) -> None:
        self._hub = hub
        self._target = target
        self.url, self.name = hub.url, hub.pool

    def next(self) -> Target:
        """As `Way` says."""
        return self._target

    def here(self) -> Place:
        """As `Way` says."""
        return self._target.place

    def finished(self, target: Target) -> None:
        """As `Way` says: it never is."""

    def put_off(self, target: Target, problem: str) -> None:
        """As `Way` says: there is only one."""

    def past_due_s(self) -> float | None:
        """As `Way` says."""
        return None

    def unread(self) -> dict[int, str | None]:
        """As `Way` says."""
        return {}

    def moved(self, roster_length: int) -> bool:
        """As `Way` says: there is no roster."""
        return False

    def refused(self, error: Exception) -> bool:
        """As `Way` says."""
        return False

    def restored(self) -> None:
        """As `Way` says; there is one document."""

    def remedy(self, error: Exception) -> str:
        """As `Way` says."""
        return remedy(error, self._hub)
