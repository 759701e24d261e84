"""What a hub stands on, and what it must hold: the stores of updates, snapshots, tokens, rosters,
what access by key needs, and mailboxes.

Above: the rooms and the endpoints. Below: SQL (`store.py`, `*_store.py`), or Azure's blobs (`blobs/`).
A store never looks inside an entry, nor inside an update but for whose arrays it touches. Every call blocks, is made from a worker thread,
and raises StoreError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from localmem_protocol.exchange import News
from localmem_protocol.room import Quarantined, Row
from localmem_protocol.seams import Random

Role = Literal["writer", "reader"]
Kind = Literal["sealed", "plain"]
"""Of a room: one of sealed batches, or one of a standard Yjs document."""
Party = Literal["opener", "joiner"]


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
class Missed:
    """What other replicas stored of a pool: the `rows` after number `after`, up to `head`, and every
    client id that is registered now.

    `rows` is None when they are too many, or not there any more: load the pool.
    """

    pool: str
    after: int
    head: int
    rows: Sequence[Row] | None
    clients: Mapping[int, str]


CatchUp = Callable[[Sequence[Missed]], set[str]]
"""Takes in what was missed; the pools whose batches, which are being stored, hold beside it."""


@dataclass(frozen=True)
class Identity:
    """Whom a token stands for. `fresh` is whether its use still has to be noted.

    For a session token `pool` is the room, `roster` the pool whose roster decides, and `token` empty.
    A device token may be good until `expires_ms` only; `first` is whether it is nobody's yet.
    """

    token: str
    pool: str
    device: str
    role: Role
    fresh: bool = False
    roster: str = ""
    epoch: int = 0
    expires_ms: int | None = None
    first: bool = False


class UpdateLog(Protocol):
    """Append-only updates of every pool, numbered from 1 without gaps."""

    def commit(
        self, batches: Sequence[Batch], now_ms: int, catch_up: CatchUp | None = None
    ) -> set[str]:
        """Store all of it, durably, or nothing; at most one batch per pool. Blobs store each pool for
        itself: after an error some may be there, and nothing is to be acknowledged.

        Raises CommitError, and StaleError when a pool's newest row is not its batch's head. With
        `catch_up` that is no error: it is called while nobody else can write to the pool, and if what
        was missed and the batch have nothing to do with each other, the batch is stored after it. The
        pools of the others, of which nothing is stored, are returned: load them, and look again.
        """
        ...

    def missed(self, pool: str, head: int, clients: int) -> Missed | None:
        """What there is beyond row `head` and so many registered client ids; None for nothing."""
        ...

    def heads(self, names: Sequence[str]) -> dict[str, int]:
        """The numbers of the newest rows of those of these pools that there are."""
        ...

    def load(self, pool: str) -> Stored:
        """One consistent state of a pool."""
        ...

    def head(self, pool: str) -> int:
        """The number of the newest row, without looking at any; 0 when there is none."""
        ...

    def place(self, pool: str, known: tuple[int, str] | None = None) -> tuple[int, str]:
        """The same, and the tag of that row (`exchange.follow`, and perhaps where it is).

        A place that somebody holds is `known`: if it is that of the newest row, it is the answer, whatever
        it says beside; and who asks may spare the store to look for anything else.
        """
        ...

    def tag(self, pool: str, number: int) -> str | None:
        """The tag of a row, or of a snapshot up to it; None when neither is there."""
        ...

    def sizes(self, room: str, pool: str) -> tuple[int, int]:
        """Bytes stored of one room, and of all rooms of its pool (that room, if it has no roster)."""
        ...

    def rows_after(
        self, pool: str, number: int, last: int | None = None, *, tag: str | None = None
    ) -> News | None:
        """The rows after this one (up to `last`), at least one if there is any, else as many as
        STEP_BYTES hold. None when they are not all there any more, when `number` is beyond the newest,
        or when the row of that number has another tag than `tag`.
        """
        ...


class Hold(Protocol):
    """The right to compact a pool, which one process has at a time."""

    def release(self) -> None:
        """Give it back; raises nothing."""
        ...


class SnapshotStore(Protocol):
    """Snapshots, which stand for all rows up to one of them."""

    def hold(self, pool: str) -> Hold | None:
        """Begin to compact; None while another process does."""
        ...

    def overgrown(self, rows: int) -> list[str]:
        """The sealed rooms with at least so many rows after their snapshot."""
        ...

    def compact(self, pool: str, head: int, snapshot: bytes) -> bool:
        """Put a snapshot in the place of all rows up to `head`; False if a later one is there."""
        ...

    def erase(self, pool: str | None) -> bool:
        """After `compact`: see that what it took out is nowhere in the store's files.

        What was refused of this pool, if one is named, goes as well, since it may hold the same.
        False when somebody was reading: try again.
        """
        ...


class TokenStore(Protocol):
    """The device tokens, of which only hashes are kept."""

    def check(
        self, text: str, pool: str, device: str | None, now_ms: int, *, kind: Kind = "sealed"
    ) -> Identity:
        """Whom a token stands for on this device, or any (None); reads only. Raises TokenError.

        A token opens rooms of one kind. One of a plain room is nobody's device: its own id stands
        in the place of that.
        """
        ...

    def note(self, identity: Identity, now_ms: int) -> None:
        """Bind a token to its first device, and note its use. Raises TokenError."""
        ...

    def revoked(self, ids: Iterable[str]) -> set[str]:
        """Which of these token ids are revoked, or gone."""
        ...

    def changes(self) -> int:
        """A number that is another one after a token was revoked, a pool removed, or a roster changed,
        by any process; of a store for one hub."""
        ...


@dataclass(frozen=True)
class RosterMark:
    """How far a roster has come: its length, and the hash of its newest entry."""

    length: int
    head: bytes


class RosterStore(Protocol):
    """The signed rosters: append-only entries of every pool, numbered from 0 without gaps."""

    def mark(self, pool: str) -> RosterMark | None:
        """How far a pool's roster has come; None if there is no such pool."""
        ...

    def read(self, pool: str, start: int, bytes_max: int) -> list[bytes]:
        """Entries from `start`, in order: as many as fit, and at least one if there is any."""
        ...

    def found(
        self,
        pool: str,
        entry: bytes,
        mark: RosterMark,
        recovery: str,
        invitation: str | None,
        now_ms: int,
    ) -> bool:
        """A new pool with its first entry and the room of epoch 1; False if it is there already.

        `recovery` is the fingerprint of the recovery public keys in hex. An invitation is used up by it,
        in the same transaction; None asks for none. Raises AdmissionError.
        """
        ...

    def append(self, pool: str, entry: bytes, mark: RosterMark, epoch: int, now_ms: int) -> None:
        """Append the entry that leads to `mark`, and make the room of its epoch if there is none.

        Raises LengthError when the roster has not one entry less than that.
        """
        ...

    def recovered(self, recovery: str, limit: int) -> list[str]:
        """The pools whose roster names the recovery key of this fingerprint, oldest first."""
        ...


@dataclass(frozen=True)
class PastEpoch:
    """An epoch that is over: since when (milliseconds since 1970), which devices have read it to its end,
    and when what it held was dropped."""

    pool: str
    epoch: int
    over_ms: int
    readers: frozenset[str] = frozenset()
    dropped_ms: int | None = None


class EpochStore(Protocol):
    """Epochs that are over, of pools with a roster."""

    def note_read(self, pool: str, epoch: int, device: str) -> bool:
        """A device has read an epoch to its end; False if that was known, or it is dropped."""
        ...

    def past(self, pool: str | None = None) -> list[PastEpoch]:
        """Those of a pool, or of all, in order."""
        ...

    def drop(self, pool: str, epoch: int, now_ms: int) -> bool:
        """Delete all that the room of an epoch holds; False if it is not over, or was dropped before."""
        ...


class AccessStore(Protocol):
    """What access by key stands on."""

    def secret(self, name: str, random: Random) -> bytes:
        """32 random bytes, drawn at the first call for a name and the same ever after."""
        ...

    def spend(self, nonce: str, expires_ms: int, now_ms: int) -> bool:
        """Note that a challenge was answered, until it expires; False if it was before."""
        ...


class MailboxStore(Protocol):
    """Mailboxes of two parties; secrets come as their SHA-256. Expired ones are not there."""

    def open(self, secret_hash: bytes, expires_ms: int, random: Random, now_ms: int) -> int | None:
        """A new mailbox; its number, or None when there are too many."""
        ...

    def join(self, number: int, secret_hash: bytes, now_ms: int) -> bool:
        """Become its second party; False if there is no such mailbox, or it has two."""
        ...

    def party(self, number: int, secret_hash: bytes, now_ms: int) -> Party | None:
        """Which party this secret makes one."""
        ...

    def put(self, number: int, slot: int, data: bytes) -> bool:
        """Leave a message; False if another one is there. The same again changes nothing."""
        ...

    def get(self, number: int, slot: int) -> bytes | None:
        """The message in a slot."""
        ...

    def remove(self, number: int) -> None:
        """End a mailbox, and everything in it."""
        ...

    def sweep(self, now_ms: int) -> None:
        """End those that have expired; writes only if there is one."""
        ...


class Herald(Protocol):
    """Tells the other replicas what happened here. Neither call waits, or is sure to arrive."""

    def stored(self, pool: str, head: int) -> None:
        """Rows up to this one are stored."""
        ...

    def greeted(self, pool: str, client: int) -> None:
        """A device connected under a client id."""
        ...


class Store(UpdateLog, SnapshotStore, Protocol):
    """All of it, as one place.

    With `shared` other processes write to it at the same time: rooms catch up with each other.
    """

    @property
    def shared(self) -> bool:
        """Whether this is a store for several replicas."""
        ...

    @property
    def rosters(self) -> RosterStore:
        """The rosters."""
        ...

    @property
    def epochs(self) -> EpochStore:
        """The epochs that are over."""
        ...

    @property
    def access(self) -> AccessStore:
        """Secrets and spent challenges."""
        ...

    @property
    def mailboxes(self) -> MailboxStore:
        """The mailboxes."""
        ...

    @property
    def tokens(self) -> TokenStore:
        """The tokens."""
        ...

    def renew(self) -> None:
        """The store was away: begin with new connections."""
        ...

    def ping(self) -> None:
        """Return if the store answers; raises StoreError."""
        ...

    def current(self) -> bool:
        """Whether its tables are those of this release; raises StoreError."""
        ...

    def free_bytes(self) -> int | None:
        """Bytes that are free where it keeps its data; None if it cannot tell."""
        ...

    def try_room(self) -> None:
        """Store something of PROBE_BYTES, and take it away again. Raises FullError, StoreError."""
        ...

    def close(self) -> None:
        """Give the store back."""
        ...
