"""What holds on PostgreSQL when several replicas store at once, and when it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import pytest

from bench.postgres_server import PostgresServer
from localmem_hub import postgres as settings
from localmem_hub.app import Policy, create_app
from localmem_hub.compaction import make_snapshot
from localmem_hub.database import failures, open_engine
from localmem_hub.errors import (
    CommitError,
    ConfigError,
    DatabaseTimeoutError,
    PlainStoreError,
    UnreachableError,
)
from localmem_hub.postgres import lock_for_transaction, lock_key
from localmem_hub.seams import Batch, Missed, RosterMark
from localmem_hub.shared_log import append_all, settle
from localmem_hub.store import SqlStore
from localmem_hub.system import SystemClock
from localmem_protocol.access import room_name
from localmem_protocol.exchange import follow
from localmem_protocol.room import Quarantined, Row
from localmem_protocol.simulation import SeededRandom
from support.hub_databases import engine_of
from support.sync_client import append

ONE, TWO = "0000000000000001", "0000000000000002"


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.prepared()


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], SqlStore]]:
    stores: list[SqlStore] = []

    def open_one() -> SqlStore:
        stores.append(SqlStore(open_engine(url)))
        return stores[-1]

    first = open_one()
    for number, pool in enumerate(("a", "b")):
        first.tokens.create(pool, None, "writer", SeededRandom(number), 1)
    yield open_one
    for store in stores:
        store.close()


def batch(pool: str, head: int, *updates: bytes) -> Batch:
    return Batch(pool, head, [Row(ONE, update) for update in updates])


def fits(missed: Sequence[Missed]) -> set[str]:
    return {one.pool for one in missed}


class Waiting:
    """A commit in a thread of its own, and what it was told that it missed."""

    def __init__(self, store: SqlStore, *batches: Batch, answer: bool = True) -> None:
        self.missed: list[Missed] = []
        self.refused: set[str] = set()
        self.error: Exception | None = None

        def catch_up(missed: Sequence[Missed]) -> set[str]:
            self.missed += missed
            return fits(missed) if answer else set()

        def run() -> None:
            try:
                self.refused = store.commit(batches, 2, catch_up)
            except Exception as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def join(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert self.error is None


def until_somebody_waits_for_a_lock(server: PostgresServer) -> None:
    while not server.run("SELECT 1 FROM pg_locks WHERE NOT granted"):
        pass


def test_who_began_first_and_commits_last_gets_the_later_number(
    opened: Callable[[], SqlStore],
) -> None:
    early, late, reader = opened(), opened(), opened()
    with engine_of(early).begin() as connection:
        settle(connection, [batch("b", 0, b"x")], fits)  # it has begun
        late.commit([batch("a", 0, b"late")], 1, fits)
        assert reader.load("a").rows == [b"late"]
        settled = settle(connection, [batch("a", 0, b"early")], fits)
        append_all(connection, settled, 1)
        assert reader.load("a").rows == [b"late"]
        assert reader.heads(["a", "b"]) == {"a": 1, "b": 0}
    assert reader.load("a").rows == [b"late", b"early"]
    assert reader.heads(["a"]) == {"a": 2}


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "gives-up"])
def test_no_number_is_seen_before_those_in_front_of_it(
    postgres: PostgresServer, opened: Callable[[], SqlStore], commits: bool
) -> None:
    first, second, reader = opened(), opened(), opened()
    with engine_of(first).connect() as connection:
        transaction = connection.begin()
        settled = settle(connection, [batch("a", 0, b"first")], fits)
        append_all(connection, settled, 1)
        waiting = Waiting(second, batch("a", 0, b"second"))
        until_somebody_waits_for_a_lock(postgres)
        assert reader.load("a").rows == []
        news = reader.rows_after("a", 0)
        assert news is not None
        assert list(news.rows) == []
        transaction.commit() if commits else transaction.rollback()
    waiting.join()
    told = [(missed.after, missed.head, missed.rows) for missed in waiting.missed]
    assert told == ([(0, 1, [Row(ONE, b"first")])] if commits else [])
    assert reader.load("a").rows == ([b"first", b"second"] if commits else [b"second"])


def test_what_does_not_go_with_what_was_missed_is_not_stored_and_the_rest_is(
    opened: Callable[[], SqlStore],
) -> None:
    one, two = opened(), opened()
    one.commit([batch("a", 0, b"one")], 1, fits)
    both = (batch("a", 0, b"two"), batch("b", 0, b"x"))
    waiting = Waiting(two, *both, answer=False)
    waiting.join()
    assert waiting.refused == {"a"}
    assert (one.load("a").rows, one.load("b").rows) == ([b"one"], [b"x"])


def test_tags_are_chained_whoever_stores_the_rows(opened: Callable[[], SqlStore]) -> None:
    one, two = opened(), opened()
    assert one.commit([batch("a", 0, b"1", b"2"), batch("b", 0, b"x")], 1, fits) == set()
    assert two.commit([batch("a", 0, b"3"), batch("b", 1, b"y", b"z")], 1, fits) == set()
    for pool, rows in (("a", [b"1", b"2", b"3"]), ("b", [b"x", b"y", b"z"])):
        tags = [*accumulate(rows, follow, initial="")]
        assert [one.tag(pool, number) for number in range(4)] == tags
        assert two.place(pool) == (3, tags[3])
        news = two.rows_after(pool, 1, tag=tags[1])
        assert news is not None
        assert [row.update for row in news.rows] == rows[1:]


def test_a_snapshot_of_a_dropped_epoch_does_not_come_after_it(
    postgres: PostgresServer, opened: Callable[[], SqlStore]
) -> None:
    one, two = opened(), opened()
    pool = "0123456789abcdef" * 2
    room = room_name(pool, 1)
    one.rosters.found(pool, b"first", RosterMark(1, b"1"), "00", None, 1)
    one.rosters.append(pool, b"second", RosterMark(2, b"2"), 2, 1)
    one.commit([batch(room, 0, b"x")], 1, fits)
    assert one.epochs.note_read(pool, 1, ONE)
    assert not two.epochs.note_read(pool, 1, ONE)
    dropped: list[bool] = []
    dropping = threading.Thread(target=lambda: dropped.append(two.epochs.drop(pool, 1, 2)))
    with engine_of(one).begin() as connection:
        lock_for_transaction(connection, lock_key("snapshot", room))  # as a compaction does
        dropping.start()
        until_somebody_waits_for_a_lock(postgres)
        assert one.head(room) == 1
    dropping.join(30)
    assert dropped == [True]
    assert not one.epochs.drop(pool, 1, 2)
    assert not one.compact(room, 1, b"snapshot")
    assert one.load(room).updates == []
    gone_back = one.missed(room, 1, 0)
    assert gone_back is not None
    assert (gone_back.head, gone_back.rows) == (0, None)
    assert not one.epochs.note_read(pool, 1, TWO)


def test_plain_rooms_are_refused_where_there_may_be_replicas(
    opened: Callable[[], SqlStore],
) -> None:
    with pytest.raises(PlainStoreError, match="SQLite"):
        create_app(opened(), SystemClock(), policy=Policy(plain_workers=1))


def test_a_client_id_is_registered_for_one_device(opened: Callable[[], SqlStore]) -> None:
    one, two = opened(), opened()
    assert one.commit([Batch("a", 0, [], {1: ONE})], 1, fits) == set()
    assert two.commit([Batch("a", 0, [], {1: TWO})], 1, fits) == {"a"}
    assert two.commit([Batch("a", 0, [], {1: ONE, 2: TWO})], 1, fits) == set()
    assert one.load("a").clients == {1: ONE, 2: TWO}
    missed = two.missed("a", 0, 1)
    assert missed is not None
    assert (missed.head, missed.rows, missed.clients) == (0, [], {1: ONE, 2: TWO})
    assert two.missed("a", 0, 2) is None


def test_what_was_refused_is_kept_beside_what_others_store(opened: Callable[[], SqlStore]) -> None:
    one, two = opened(), opened()
    one.commit([batch("a", 0, b"one")], 1, fits)
    two.commit([Batch("a", 0, [], {}, [Quarantined(TWO, b"bad", "why")])], 1, fits)
    with engine_of(one).begin() as connection:
        assert connection.exec_driver_sql("SELECT device FROM quarantine").scalars().all() == [TWO]


def test_rows_that_a_snapshot_replaced_are_missed_as_a_whole(
    opened: Callable[[], SqlStore],
) -> None:
    store = opened()
    updates = [append(ONE, 1, clock, b"%d" % clock) for clock in range(3)]
    store.commit([Batch("a", 0, [Row(ONE, update) for update in updates], {1: ONE})], 1, fits)
    made = make_snapshot(store, "a")
    assert made is not None
    assert store.compact("a", *made)
    missed = store.missed("a", 1, 1)
    assert missed is not None
    assert (missed.after, missed.head, missed.rows) == (1, 3, None)


def test_replicas_that_write_to_the_same_pools_never_wait_in_a_circle(
    opened: Callable[[], SqlStore],
) -> None:
    def write(store: SqlStore, order: tuple[str, str]) -> None:
        for number in range(15):
            batches = [batch(pool, 0, b"%d" % number) for pool in order]
            assert store.commit(batches, 1, fits) == set()

    threads = [
        threading.Thread(target=write, args=(opened(), order))
        for order in (("a", "b"), ("b", "a"), ("a", "b"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert opened().heads(["a", "b"]) == {"a": 45, "b": 45}


def test_one_process_compacts_a_pool_at_a_time(opened: Callable[[], SqlStore]) -> None:
    one, two = opened(), opened()
    held = one.hold("a")
    assert held is not None
    assert two.hold("a") is None
    other = two.hold("b")
    assert other is not None
    held.release()
    again = two.hold("a")
    assert again is not None
    two.renew()
    for hold in (again, other):
        hold.release()


def test_who_dies_while_compacting_leaves_no_lock(
    postgres: PostgresServer, opened: Callable[[], SqlStore]
) -> None:
    one, two = opened(), opened()
    held = one.hold("a")
    assert held is not None
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )
    again = two.hold("a")
    while again is None:
        again = two.hold("a")
    held.release()  # raises nothing
    again.release()


def test_a_lock_that_is_not_given_back_costs_an_error(
    opened: Callable[[], SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings._OPTIONS, "lock_timeout", 100)
    one, two = opened(), opened()
    with engine_of(one).begin() as connection:
        settle(connection, [batch("a", 0, b"x")], fits)
        with pytest.raises(DatabaseTimeoutError, match="took too long"):
            two.commit([batch("a", 0, b"y")], 1, fits)
    assert two.commit([batch("a", 0, b"y")], 1, fits) == set()


def test_a_statement_that_does_not_end_costs_an_error(
    opened: Callable[[], SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings._OPTIONS, "statement_timeout", 100)
    store = opened()
    with (
        pytest.raises(DatabaseTimeoutError, match="resting"),
        failures("resting"),
        engine_of(store).begin() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(20)")


def test_a_replica_that_stops_with_a_transaction_open_loses_its_locks(
    opened: Callable[[], SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings._OPTIONS, "idle_in_transaction_session_timeout", 100)
    one, two = opened(), opened()
    with engine_of(one).connect() as connection:
        transaction = connection.begin()
        settled = settle(connection, [batch("a", 0, b"stopped")], fits)
        append_all(connection, settled, 1)
        assert two.commit([batch("a", 0, b"y")], 1, fits) == set()
        with pytest.raises(CommitError), failures("storing"):
            transaction.commit()
    assert two.load("a").rows == [b"y"]


def test_a_database_that_is_away_is_named_and_comes_back(
    postgres: PostgresServer, url: str, opened: Callable[[], SqlStore]
) -> None:
    store = opened()
    name = url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    postgres.run(end)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        store.commit([batch("a", 0, b"x")], 1, fits)
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    store.renew()
    assert store.commit([batch("a", 0, b"x")], 1, fits) == set()
    with pytest.raises(UnreachableError):
        SqlStore(open_engine("postgresql+psycopg://hub@127.0.0.1:1/hub")).ping()


def test_a_commit_waits_for_the_disk_whatever_the_database_says(
    postgres: PostgresServer, url: str
) -> None:
    postgres.run(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    engine.dispose()


def test_what_was_forgotten_is_in_no_row(opened: Callable[[], SqlStore]) -> None:
    store = opened()
    updates = [append(ONE, 1, clock, b"secret %d" % clock) for clock in range(2)]
    store.commit([Batch("a", 0, [Row(ONE, update) for update in updates], {1: ONE})], 1, fits)
    store.commit([Batch("a", 0, [], {}, [Quarantined(ONE, b"secret", "why")])], 1, fits)
    assert store.compact("a", 2, b"without it")
    assert store.erase("a")
    with engine_of(store).begin() as connection:
        for table in ("updates", "snapshots", "quarantine"):
            kept = connection.exec_driver_sql(f"SELECT bytes FROM {table}").scalars().all()
            assert not any(b"secret" in bytes(data) for data in kept)


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_another_driver_is_named(driver: str) -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg"):
        open_engine(f"{driver}://hub@127.0.0.1/hub")
