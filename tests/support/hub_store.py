"""A hub's store in a folder, and one that fails or waits when it is told to."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from localmem_hub.access_store import SqlAccess
from localmem_hub.database import open_engine, prepare
from localmem_hub.epoch_store import SqlEpochs
from localmem_hub.errors import CommitError
from localmem_hub.mailbox_store import SqlMailboxes
from localmem_hub.roster_store import SqlRosters
from localmem_hub.seams import Batch, CatchUp, Hold, Missed, RosterMark, Stored
from localmem_hub.store import SqlStore
from localmem_hub.token_store import SqlTokens
from localmem_protocol.access import room_name
from localmem_protocol.entries import entry_hash
from localmem_protocol.exchange import News
from localmem_protocol.room import Quarantined, Row
from localmem_protocol.roster import Roster
from localmem_protocol.simulation import SeededRandom
from support.pool_members import ONE, Team


def open_store(folder: Path, *pools: str) -> SqlStore:
    """A new store with these pools."""
    engine = open_engine(f"sqlite:///{folder / 'hub.db'}")
    prepare(engine)
    store = SqlStore(engine)
    for number, pool in enumerate(pools):
        store.tokens.create(pool, None, "writer", SeededRandom(number), 1)
    return store


def put_team(folder: Path, team: Team) -> None:
    """Store a pool with its roster, and an update in its newest room."""
    engine = open_engine(f"sqlite:///{folder / 'hub.db'}")
    prepare(engine)
    store, entries = SqlStore(engine), team.entries
    mark = RosterMark(1, entry_hash(entries[0]))
    store.rosters.found(team.pool, entries[0], mark, "00", None, 1_760_000_000_000)
    for place, entry in enumerate(entries[1:], start=2):
        epoch = Roster.load(entries[:place]).epoch
        mark = RosterMark(place, entry_hash(entry))
        store.rosters.append(team.pool, entry, mark, epoch, 1_760_000_000_000)
    room = room_name(team.pool, team.roster.epoch)
    store.commit(
        [Batch(room, 0, [Row(ONE, b"12345")], {1: ONE}, [Quarantined(ONE, b"", "why")])], 1
    )
    store.close()


class ObservedStore:
    """A `Store` on another that notes its commits, fails for some pools, and can be held up."""

    def __init__(self, inner: SqlStore) -> None:
        self.inner = inner
        self.commits: list[list[Batch]] = []
        self.loads: list[str] = []
        self.failing: set[str] = set()
        self.entered: queue.SimpleQueue[list[Batch]] = queue.SimpleQueue()
        self.compacted = threading.Semaphore(0)
        self.erased = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    @property
    def tokens(self) -> SqlTokens:
        return self.inner.tokens

    @property
    def rosters(self) -> SqlRosters:
        return self.inner.rosters

    @property
    def epochs(self) -> SqlEpochs:
        return self.inner.epochs

    @property
    def access(self) -> SqlAccess:
        return self.inner.access

    @property
    def mailboxes(self) -> SqlMailboxes:
        return self.inner.mailboxes

    @property
    def shared(self) -> bool:
        return self.inner.shared

    def commit(
        self, batches: Sequence[Batch], now_ms: int, catch_up: CatchUp | None = None
    ) -> set[str]:
        self.entered.put(list(batches))
        assert self.gate.wait(30)
        if any(batch.pool in self.failing for batch in batches):
            raise CommitError("database or disk is full")
        refused = self.inner.commit(batches, now_ms, catch_up)
        self.commits.append(list(batches))
        return refused

    def missed(self, pool: str, head: int, clients: int) -> Missed | None:
        return self.inner.missed(pool, head, clients)

    def heads(self, names: Sequence[str]) -> dict[str, int]:
        return self.inner.heads(names)

    def hold(self, pool: str) -> Hold | None:
        return self.inner.hold(pool)

    def load(self, pool: str) -> Stored:
        self.loads.append(pool)
        return self.inner.load(pool)

    def head(self, pool: str) -> int:
        return self.inner.head(pool)

    def place(self, pool: str, known: tuple[int, str] | None = None) -> tuple[int, str]:
        return self.inner.place(pool, known)

    def tag(self, pool: str, number: int) -> str | None:
        return self.inner.tag(pool, number)

    def sizes(self, room: str, pool: str) -> tuple[int, int]:
        return self.inner.sizes(room, pool)

    def rows_after(
        self, pool: str, number: int, last: int | None = None, *, tag: str | None = None
    ) -> News | None:
        return self.inner.rows_after(pool, number, last, tag=tag)

    def overgrown(self, rows: int) -> list[str]:
        return self.inner.overgrown(rows)

    def compact(self, pool: str, head: int, snapshot: bytes) -> bool:
        done = self.inner.compact(pool, head, snapshot)
        self.compacted.release()
        return done

    def erase(self, pool: str | None) -> bool:
        done = self.inner.erase(pool)
        self.erased.release()
        return done

    def renew(self) -> None:
        self.inner.renew()

    def ping(self) -> None:
        if self.failing:
            raise CommitError("the database does not answer")
        self.inner.ping()

    def current(self) -> bool:
        return self.inner.current()

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()

    def try_room(self) -> None:
        self.inner.try_room()

    def close(self) -> None:
        self.inner.close()
