"""What a device keeps of its pools."""

from pathlib import Path

import pytest

from localmem_node.errors import ConfigError
from localmem_node.sync.outbox import open_journal
from localmem_node.sync.pool_files import PoolFiles, PoolRecord
from localmem_node.sync.sharing import EVERYTHING, NOTHING

POOL, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def files(tmp_path: Path) -> PoolFiles:
    return PoolFiles(tmp_path / "pools")


def record(pool: str = POOL) -> PoolRecord:
    return PoolRecord(pool, "https://hub.example.org", "ours", EVERYTHING)


def test_what_was_saved_is_there_and_for_its_owner_alone(files: PoolFiles, tmp_path: Path) -> None:
    assert list(files.records()) == []
    files.save(record(OTHER))
    files.save(record())
    files.save_roster(POOL, b"entries")
    assert list(files.records()) == [record(), record(OTHER)]
    assert (files.roster(POOL), files.roster(OTHER)) == (b"entries", b"")
    for path in (tmp_path / "pools").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_pool_is_forgotten_whole_and_alone(files: PoolFiles, tmp_path: Path) -> None:
    files.save(record())
    files.save(record(OTHER))
    files.remove(POOL)
    files.remove("..")
    assert list(files.records()) == [record(OTHER)]
    assert not (tmp_path / "pools" / POOL).exists()


def test_journals_of_other_epochs_go(files: PoolFiles) -> None:
    files.save(record())
    for epoch in (1, 2, 11):
        for suffix in ("", "-wal", "-shm"):
            path = files.journal(POOL, epoch)
            path.with_name(path.name + suffix).write_bytes(b"x")
    files.drop_journals(POOL, keep=11)
    left = sorted(path.name for path in files.journal(POOL, 1).parent.glob("*.sqlite*"))
    assert left == ["11.sqlite", "11.sqlite-shm", "11.sqlite-wal"]


def test_a_damaged_record_is_named(files: PoolFiles, tmp_path: Path) -> None:
    files.save(record())
    path = tmp_path / "pools" / POOL / "pool.json"
    for text in ("{", '{"pool": 1}', path.read_text().replace(POOL, OTHER)):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"pool\.json"):
            list(files.records())


def test_a_changed_rule_is_kept(files: PoolFiles) -> None:
    changed = PoolRecord(POOL, "https://hub.example.org", "ours", NOTHING.sharing(["1" * 16], "p"))
    files.save(record())
    files.save(changed)
    assert list(files.records()) == [changed]


def test_what_is_still_to_be_forgotten_moves_on_with_the_epoch(files: PoolFiles) -> None:
    device, marks = "11" * 8, [b"a" * 16, b"b" * 16]
    files.save(record())
    first = open_journal(files, device, POOL, 1)
    first.queue(marks)
    first.close()
    second = open_journal(files, device, POOL, 2)
    assert list(second.load().outbox) == marks
    assert not files.journal(POOL, 1).exists()
    second.delivered(marks[:1])
    second.close()
    fourth = open_journal(files, device, POOL, 4)
    assert list(fourth.load().outbox) == marks[1:]
    fourth.close()
