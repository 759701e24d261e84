"""What was forgotten leaves the hub: in no byte of its files is the ciphertext that it received."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_hub.compaction import make_snapshot
from localmem_hub.seams import Batch
from localmem_hub.store import SqlStore
from localmem_protocol.envelope import PoolKey
from localmem_protocol.replica import Replica
from localmem_protocol.room import Quarantined, Row
from localmem_protocol.updates import decode_update
from support.events import event
from support.hub_store import open_store

POOL = PoolKey("a", 1, bytes(32))
OWNER, FORGETTER = "11" * 8, "22" * 8


def sealed_in(update: bytes) -> list[bytes]:
    """The sealed batches that an update carries."""
    runs = decode_update(update, stored=True).items.values()
    return [batch for run in runs for item in run for batch in item.contents or ()]


def files_with(folder: Path, secrets: list[bytes]) -> list[str]:
    """The files that hold any of these, searched byte by byte."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(one in path.read_bytes() for one in secrets)]


class Writer:
    """Stores what replicas say, a row each."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.head = store, 0

    def write(self, *updates: bytes, refused: bytes = b"") -> None:
        quarantined = [Quarantined(OWNER, refused, "refused")] if refused else []
        rows = [Row(OWNER, update) for update in updates]
        self.store.commit([Batch("a", self.head, rows, {}, quarantined)], 1)
        self.head += len(rows)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


@pytest.mark.parametrize("size", [10, 500, 4000])
def test_no_page_and_no_log_keeps_what_was_compacted_away(
    store: SqlStore, tmp_path: Path, size: int
) -> None:
    owner, forgetter = Replica(POOL, OWNER, 1), Replica(POOL, FORGETTER, 2)
    writer = Writer(store)
    forgotten: list[bytes] = []
    for number in range(1, 120):
        update = owner.append([event(number, OWNER, snippet=f"{number} {number * 7919} " * size)])
        forgetter.integrate(update)
        writer.write(update, refused=update if number == 5 else b"")
        forgotten += sealed_in(update)
    assert files_with(tmp_path, forgotten[:1]) != []
    segments = forgetter.segments.holding(
        {owner.tombstone_key.of(event_id(n, size)) for n in (5, 40)}
    )
    due = [one for place in segments if (one := forgetter.segments.segment_of(*place))]
    assert len(due) == 2
    gone = [batch for one in due for batch in forgotten[one.clock : one.end]]
    kept = [batch for batch in forgotten if batch not in gone]
    writer.write(*forgetter.trim(due, lambda one: one.sequence not in (5, 40)))
    made = make_snapshot(store, "a")
    assert made is not None
    assert store.compact("a", *made)
    assert store.erase("a")
    assert files_with(tmp_path, gone) == []
    # With a few bytes at a time nothing of it is there either.
    pieces = [batch[at : at + 24] for batch in gone for at in range(1, len(batch) - 24, 24)]
    assert files_with(tmp_path, pieces) == []
    assert files_with(tmp_path, kept) == ["hub.db"]  # else the search means nothing


def event_id(number: int, size: int) -> str:
    return event(number, OWNER, snippet=f"{number} {number * 7919} " * size).id


def test_a_log_that_somebody_reads_is_emptied_later(store: SqlStore, tmp_path: Path) -> None:
    update = Replica(POOL, OWNER, 1).append([event(1, OWNER)])
    Writer(store).write(update)
    with store._reading.connect() as reader:
        reader.exec_driver_sql("PRAGMA busy_timeout=1")
        reader.exec_driver_sql("SELECT * FROM updates").all()
        assert not store.erase(None)
    assert store.erase(None)
    assert (tmp_path / "hub.db-wal").stat().st_size == 0
