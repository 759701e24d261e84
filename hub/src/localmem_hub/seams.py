"""What a hub stands on, and what it must hold: the store of updates, snapshots and tokens.

Above: the rooms and the endpoint. Below: SQL (`store.py`, `tokens.py`); blobs later. A store never
looks inside an update. Every call blocks, is made from a worker thread, and raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from localmem_protocol.room import Quarantined, Row

Role = Literal["writer", "reader"]


@dataclass(frozen=True)
class Batch:
    """What one room has to store. `head` is the number of the newest row that the room knows."""

    pool: str
    head: int
    rows: Sequence[Row] = ()
    clients: Mapping[int, str] = field(default_factory=dict)
    quarantined: Sequence[Quarantined] = ()


@dataclass(frozen=True)
class Stored:
    """What is stored of a pool: a snapshot (or none), the `rows` after it, and the client ids.

    `head` is the number of the newest update in it, 0 when there is none.
    """

    head: int = 0
    snapshot: bytes | None = None
    rows: list[bytes] = field(default_factory=list)
    clients: dict[int, str] = field(default_factory=dict)

    @property
    def updates(self) -> list[bytes]:
        """Everything, in the order in which it is merged."""
        return [*([] if self.snapshot is None else [self.snapshot]), *self.rows]


@dataclass(frozen=True)
class Identity:
    """Whom a token stands for. `fresh` is whether its use still has to be noted."""

    token: str
    pool: str
    device: str
    role: Role
    fresh: bool = False


class UpdateLog(Protocol):
    """Append-only updates of every pool, numbered from 1 without gaps."""

    def commit(self, batches: Sequence[Batch], now_ms: int) -> None:
        """Store all of it, durably, or nothing; at most one batch per pool.

        Raises CommitError, and StaleError when a pool's newest row is not its batch's head.
        """
        ...

    def load(self, pool: str) -> Stored:
        """One consistent state of a pool."""
        ...


class SnapshotStore(Protocol):
    """Snapshots, which stand for all rows up to one of them."""

    def compact(self, pool: str, head: int, snapshot: bytes) -> bool:
        """Put a snapshot in the place of all rows up to `head`; False if a later one is there."""
        ...


class TokenStore(Protocol):
    """The device tokens, of which only hashes are kept."""

    def check(self, text: str, pool: str, device: str | None, now_ms: int) -> Identity:
        """Whom a token stands for on this device, or any (None); reads only. Raises TokenError."""
        ...

    def note(self, identity: Identity, now_ms: int) -> None:
        """Bind a token to its first device, and note its use. Raises TokenError."""
        ...

    def revoked(self, ids: Iterable[str]) -> set[str]:
        """Which of these token ids are revoked, or gone."""
        ...


class Store(UpdateLog, SnapshotStore, Protocol):
    """All of it, as one place."""

    @property
    def tokens(self) -> TokenStore:
        """The tokens."""
        ...

    def ping(self) -> None:
        """Return if the store answers; raises StoreError."""
        ...

    def close(self) -> None:
        """Give the store back."""
        ...
