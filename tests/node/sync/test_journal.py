import sqlite3
from pathlib import Path

import pytest

from localmem_node.errors import SyncError
from localmem_node.sync.journal import SqliteJournal
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
    journal.save(b"one", 3, 30)
    journal.save(b"two", 5, 50)
    journal.save(None, 6, 60)
    journal.acknowledge(2, b"h" * 16)
    journal.close()
    again = SqliteJournal(path, DEVICE, "team")
    assert again.load() == Saved(7, 6, 60, (2, b"h" * 16), (b"one", b"two"))
    again.compact(b"both")
    assert again.load().updates == (b"both",)
    again.reset(8)
    assert again.load() == Saved(8)
    again.close()


@pytest.mark.parametrize(("device", "pool"), [("22" * 8, "team"), (DEVICE, "other")])
def test_another_device_or_pool_starts_anew(path: Path, device: str, pool: str) -> None:
    journal = SqliteJournal(path, DEVICE, "team")
    journal.reset(7)
    journal.save(b"one", 3, 30)
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
