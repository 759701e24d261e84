"""Updates and snapshots, in SQL and on blobs."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from localmem_hub.compaction import build_room, make_snapshot
from localmem_hub.database import open_engine
from localmem_hub.errors import CommitError, ConfigError, DamageError, SnapshotError, StaleError
from localmem_hub.limits import QUARANTINE_BYTES_MAX, QUARANTINE_ROWS_MAX
from localmem_hub.seams import Batch, Stored
from localmem_hub.store import SqlStore
from localmem_hub.tables import quarantine, updates
from localmem_protocol.envelope import PoolKey
from localmem_protocol.limits import BATCH_SEALED_BYTES_MAX, UPDATE_BYTES_MAX
from localmem_protocol.replica import Replica
from localmem_protocol.room import Quarantined, Room, Row
from support.events import event
from support.hub_databases import AnyStore, OpenAnyStore, OpenStore
from support.hub_store import open_store
from support.sync_client import append

ONE, TWO = "0000000000000001", "0000000000000002"


@pytest.fixture
def store(open_any_stores: OpenAnyStore) -> AnyStore:
    return open_any_stores("a", "b")


@pytest.fixture
def sql_store(open_stores: OpenStore) -> SqlStore:
    return open_stores("a", "b")


def rows(*updates: bytes) -> list[Row]:
    return [Row(ONE, update) for update in updates]


def all_of(store: SqlStore, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with store._engine.begin() as connection:
        return list(connection.execute(sa.select(table)).all())


def refused(store: AnyStore, pool: str) -> list[bytes]:
    """What is in quarantine, oldest first."""
    found = [store.quarantine.get(one.id) for one in store.quarantine.list(pool)]
    return [one[1] for one in found if one is not None]


def history(device: str, client: int, batches: int) -> list[bytes]:
    """The updates of a device that appends batches and evicts the oldest segments."""
    replica = Replica(PoolKey("a", 1, bytes(32)), device, client)
    made: list[bytes] = []
    for number in range(1, batches + 1):
        made.append(replica.append([event(number, device)]))
        evicted = replica.evict(2000)
        made += [] if evicted is None else [evicted]
    return made


def test_updates_are_loaded_in_the_order_in_which_they_were_stored(store: AnyStore) -> None:
    store.commit([Batch("a", 0, rows(b"1", b"2"), {7: ONE})], 5)
    store.commit([Batch("a", 2, rows(b"3")), Batch("b", 0, rows(b"x"))], 6)
    assert store.load("a") == Stored(3, None, [b"1", b"2", b"3"], {7: ONE})
    assert store.load("b") == Stored(1, None, [b"x"], {})
    news = store.rows_after("a", 0)
    assert news is not None
    assert [(row.number, row.device) for row in news.rows] == [(1, ONE), (2, ONE), (3, ONE)]


def test_rows_say_when_they_came(sql_store: SqlStore) -> None:
    sql_store.commit([Batch("a", 0, rows(b"1", b"2"))], 5)
    sql_store.commit([Batch("a", 2, rows(b"3")), Batch("b", 0, rows(b"x"))], 6)
    assert [(r.pool, r.seq, r.received_ms) for r in all_of(sql_store, updates)] == [
        ("a", 1, 5),
        ("a", 2, 5),
        ("a", 3, 6),
        ("b", 1, 6),
    ]


def test_a_pool_without_updates_loads_as_nothing(store: AnyStore) -> None:
    assert store.load("a") == Stored()


def test_a_commit_is_all_or_nothing_over_all_pools(sql_store: SqlStore) -> None:
    store = sql_store
    store.commit([Batch("b", 0, rows(b"x"), {1: ONE})], 1)
    taken = Batch("b", 1, rows(b"y"), {1: TWO}, [Quarantined(TWO, b"q", "why")])
    with pytest.raises(CommitError, match=r"UNIQUE|unique"):
        store.commit([Batch("a", 0, rows(b"1"), {2: ONE}), taken], 2)
    assert store.load("a") == Stored()
    assert store.load("b") == Stored(1, None, [b"x"], {1: ONE})
    assert all_of(store, quarantine) == []


def test_a_commit_on_a_head_that_moved_is_given_up(store: AnyStore) -> None:
    store.commit([Batch("a", 0, rows(b"1"))], 1)
    with pytest.raises(StaleError, match="another process wrote to pool a"):
        store.commit([Batch("a", 0, rows(b"2"))], 1)
    assert store.load("a").rows == [b"1"]


def test_a_commit_to_a_pool_that_does_not_exist_fails(store: AnyStore) -> None:
    with pytest.raises(CommitError, match="no pool nowhere"):
        store.commit([Batch("nowhere", 0, rows(b"1"))], 1)
    with pytest.raises(CommitError, match=r"(?i)foreign key|no pool"):
        store.commit([Batch("nowhere", 0, [], {1: ONE})], 1)


def test_errors_name_neither_statements_nor_values(store: AnyStore) -> None:
    store.commit([Batch("a", 0, [], {1: ONE})], 1)
    with pytest.raises(CommitError) as failed:
        store.commit([Batch("a", 0, rows(b"sealed bytes"), {1: ONE})], 1)
    assert "INSERT" not in str(failed.value)
    assert "sealed" not in str(failed.value)


def test_writers_in_several_threads_leave_no_gap(store: AnyStore) -> None:
    def write(pool: str) -> None:
        for head in range(20):
            store.commit([Batch(pool, head, rows(b"%d" % head))], 1)

    threads = [threading.Thread(target=write, args=(pool,)) for pool in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pool in ("a", "b"):
        assert store.load(pool).rows == [b"%d" % head for head in range(20)]


def test_the_quarantine_keeps_the_newest_within_its_rows(store: AnyStore) -> None:
    for first in range(0, QUARANTINE_ROWS_MAX + 10, 10):
        numbers = range(first, min(first + 10, QUARANTINE_ROWS_MAX + 10))
        some = [Quarantined(ONE, b"%d" % number, "why") for number in numbers]
        store.commit([Batch("a", 0, [], {}, some)], first)
    store.commit([Batch("b", 0, [], {}, [Quarantined(ONE, b"b", "why")])], 1)
    assert refused(store, "a") == [b"%d" % number for number in range(10, QUARANTINE_ROWS_MAX + 10)]


def test_the_quarantine_keeps_the_newest_within_its_bytes(store: AnyStore) -> None:
    third = QUARANTINE_BYTES_MAX // 3
    for size in (third, third, third, third, QUARANTINE_BYTES_MAX + 1):
        store.commit([Batch("a", 0, [], {}, [Quarantined(ONE, bytes(size), "why")])], size)
        sizes = [one.size for one in store.quarantine.list()]
        assert sum(sizes) <= QUARANTINE_BYTES_MAX or len(sizes) == 1
    assert sizes == [QUARANTINE_BYTES_MAX + 1]


def test_compaction_keeps_the_document_and_what_comes_after_it(store: AnyStore) -> None:
    one, two = history(ONE, 1, 60), history(TWO, 2, 60)
    first, later = [*one[:40], *two[:40]], [*one[40:], *two[40:]]
    store.commit([Batch("a", 0, rows(*first), {1: ONE, 2: TWO})], 1)
    made = make_snapshot(store, "a")
    assert made is not None
    store.commit([Batch("a", len(first), rows(*later))], 2)
    assert store.compact("a", *made)
    stored = store.load("a")
    assert (stored.snapshot, stored.rows) == (made[1], later)
    assert stored.head == len(first) + len(later)
    whole = Room([*first, *later], {1: ONE, 2: TWO}).snapshot()
    assert Room(stored.updates, stored.clients).snapshot() == whole
    assert len(made[1]) < sum(map(len, first))


def test_rooms_with_many_rows_after_their_snapshot_are_found(store: AnyStore) -> None:
    one = history(ONE, 1, 40)
    store.commit([Batch("a", 0, rows(*one[:30]), {1: ONE}), Batch("b", 0, rows(*one[:10]))], 1)
    assert store.overgrown(10) == ["a", "b"]
    assert store.overgrown(11) == ["a"]
    made = make_snapshot(store, "a")
    assert made is not None
    assert store.compact("a", *made)
    assert store.overgrown(1) == ["b"]
    store.commit([Batch("a", 30, rows(*one[30:]))], 2)
    assert store.overgrown(10) == ["a", "b"]


def test_compacting_twice_goes_on_from_the_snapshot(store: AnyStore) -> None:
    one = history(ONE, 1, 30)
    for head, part in ((0, one[:10]), (10, one[10:20]), (20, one[20:])):
        store.commit([Batch("a", head, rows(*part), {1: ONE} if head == 0 else {})], 1)
        made = make_snapshot(store, "a")
        assert made is not None
        assert store.compact("a", *made)
        assert make_snapshot(store, "a") is None
    assert store.load("a").snapshot == Room(one, {1: ONE}).snapshot()
    assert store.load("a").rows == []


def test_an_older_snapshot_does_not_replace_a_later_one(store: AnyStore) -> None:
    one = history(ONE, 1, 10)
    store.commit([Batch("a", 0, rows(*one[:5]), {1: ONE})], 1)
    older = make_snapshot(store, "a")
    store.commit([Batch("a", 5, rows(*one[5:]))], 1)
    later = make_snapshot(store, "a")
    assert older is not None
    assert later is not None
    assert store.compact("a", *later)
    assert not store.compact("a", *older)
    assert store.load("a").snapshot == later[1]


def test_rows_that_would_get_lost_in_a_snapshot_stay(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = history(ONE, 1, 3)
    store.commit([Batch("a", 0, rows(*one), {1: ONE})], 1)
    monkeypatch.setattr(Room, "snapshot", lambda room: one[0])  # a library that forgets
    with pytest.raises(SnapshotError, match="would lose some"):
        make_snapshot(store, "a")


@pytest.mark.parametrize("lost", [0, 1], ids=["first", "middle"])
def test_rows_that_were_never_checked_do_not_load(store: AnyStore, lost: int) -> None:
    one = history(ONE, 1, 3)
    del one[lost]
    store.commit([Batch("a", 0, rows(*one), {1: ONE})], 1)
    store.commit([Batch("b", 0, rows(b"no update"))], 1)
    for pool in ("a", "b"):
        with pytest.raises(DamageError, match=f"pool {pool} does not load"):
            make_snapshot(store, pool)


def test_a_pool_larger_than_an_update_may_be_is_compacted_and_loads(store: AnyStore) -> None:
    size = BATCH_SEALED_BYTES_MAX
    count = UPDATE_BYTES_MAX // size + 1
    large = [append(ONE, 1, clock, bytes(size)) for clock in range(count)]
    store.commit([Batch("a", 0, rows(*large), {1: ONE})], 1)
    made = make_snapshot(store, "a")
    assert made is not None
    assert store.compact("a", *made)
    assert build_room("a", store.load("a")).snapshot() == made[1]


def test_the_database_is_private_to_its_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new", "a")
    store.commit([Batch("a", 0, rows(b"1"))], 1)
    files = list((tmp_path / "new").iterdir())
    assert {path.name for path in files} == {"hub.db", "hub.db-wal", "hub.db-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    store.close()


def test_commits_are_synced_and_foreign_keys_hold(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store._engine.begin() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "oracledb://x"])
def test_a_database_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        open_engine(url)
