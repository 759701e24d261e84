import contextlib
import sqlite3
from pathlib import Path

import pytest

from localmem_node.errors import SyncError
from localmem_node.sync.journal import SqliteJournal
from localmem_protocol.lineage import Reach
from localmem_protocol.session import Saved

DEVICE = "11" * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sync.sqlite"


def test_a_new_journal_is_empty_and_private(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    assert journal.load() == Saved()
    assert path.stat().st_mode & 0o777 == 0o600
    journal.close()


def test_what_was_saved_is_there_after_reopening(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    journal.reset(7)
    journal.save(b"one", 3, Reach(30))
    journal.save(b"two", 5, Reach(50, b"a run"))
    journal.save(None, 6, Reach(60, b"another"))
    journal.acknowledge(2, b"h" * 16)
    journal.close()
    again = SqliteJournal(path, DEVICE, "team")
    assert again.load() == Saved(7, 6, Reach(60, b"another"), (2, b"h" * 16), (b"one", b"two"))
    again.compact(b"both")
    assert again.load().updates == (b"both",)
    again.reset(8)
    assert again.load() == Saved(8)
    again.close()


def test_heads_of_others_outlive_a_new_incarnation_and_compaction(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    journal.keep_heads({3: ("33" * 8, b"old"), 4: ("44" * 8, b"four")})
    journal.keep_heads({3: ("33" * 8, b"new")})
    journal.save(b"one", 3, Reach(30))
    journal.compact(b"all")
    journal.reset(8)
    journal.close()
    again = SqliteJournal(path, DEVICE, "team")
    assert again.load() == Saved(8, heads={3: ("33" * 8, b"new"), 4: ("44" * 8, b"four")})
    again.close()
    other = SqliteJournal(path, DEVICE, "other")
    assert other.load() == Saved()
    other.close()


@pytest.mark.parametrize(("device", "pool"), [("22" * 8, "team"), (DEVICE, "other")])
def test_another_device_or_pool_starts_anew(path: Path, device: str, pool: str) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    journal.reset(7)
    journal.save(b"one", 3, Reach(30))
    journal.close()
    other = SqliteJournal(path, device, pool)
    assert other.load() == Saved()
    other.close()


def test_a_transaction_is_synced_before_it_counts(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


def test_a_file_of_another_version_is_left_alone(path: Path) -> None:
    SqliteJournal(path, DEVICE, "team").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SyncError, match="version 99"):
        SqliteJournal(path, DEVICE, "team")


def test_a_file_that_is_no_journal_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"my thesis" * 1000)
    with pytest.raises(SyncError, match="cannot be used"):
        SqliteJournal(path, DEVICE, "team")
    assert path.read_bytes() == b"my thesis" * 1000


def test_the_outbox_outlives_a_new_incarnation_and_empties_by_name(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    one, two, three = (bytes([number]) * 16 for number in range(3))
    journal.queue([one, two])
    journal.queue([two, three])
    journal.reset(7)
    journal.close()
    again = SqliteJournal(path, DEVICE, "team")
    assert again.load() == Saved(7, outbox=(one, two, three))
    again.delivered([one, three, bytes(16)])
    assert again.load().outbox == (two,)
    again.close()
    other = SqliteJournal(path, DEVICE, "other")
    assert other.load().outbox == ()
    other.close()


def test_what_is_compacted_away_is_in_no_byte_of_the_files(path: Path) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    journal.reset(7)
    secrets = [bytes(f"{number:08} ", "ascii") * (3 + number * 7) for number in range(60)]
    for secret in secrets:
        journal.save(secret, 1, Reach(1))
    assert any(secrets[5] in file.read_bytes() for file in path.parent.iterdir())
    journal.compact(b"what is left")
    for file in path.parent.iterdir():
        data = file.read_bytes()
        assert not [secret for secret in secrets if secret[:9] in data], file
    journal.close()


def test_a_journal_of_version_1_is_brought_to_this_one_and_cleaned(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.executescript(VERSION_1)
        connection.execute("INSERT INTO updates (bytes) VALUES (?)", (b"deleted " * 2000,))
        connection.execute("DELETE FROM updates")
        connection.execute("INSERT INTO updates (bytes) VALUES (?)", (b"kept",))
    assert b"deleted " in path.read_bytes()
    journal = SqliteJournal(path, DEVICE, "team")
    assert journal.load() == Saved(7, 3, Reach(30), (2, b"h" * 16), (b"kept",))
    journal.queue([bytes(16)])
    journal.close()
    assert b"deleted " not in path.read_bytes()


VERSION_1 = """
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    device TEXT NOT NULL,
    pool TEXT NOT NULL,
    client INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    position INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    head BLOB NOT NULL
) STRICT;
CREATE TABLE updates (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
INSERT INTO state VALUES (1, '1111111111111111', 'team', 7, 3, 30, 2, CAST('hhhhhhhhhhhhhhhh' AS BLOB));
PRAGMA user_version = 1;
"""
