"""What waits to be told to a pool is sealed, durable, and not lost by a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmem_node.errors import SyncError
from localmem_node.sync.pool_files import PoolFiles
from localmem_node.sync.untold import Untold
from support.seeded import SeededRandom

POOL, OTHER = "a" * 32, "b" * 32
ONE, TWO = "aaaaaaaaaaaaaaa1", "aaaaaaaaaaaaaaa2"


def untold(folder: Path, key: bytes = bytes(32)) -> Untold:
    return Untold(PoolFiles(folder), key, SeededRandom(1))


def test_what_is_kept_is_there_after_a_restart_until_it_is_told(tmp_path: Path) -> None:
    assert untold(tmp_path).ids(POOL) == []
    untold(tmp_path).keep(POOL, [ONE])
    untold(tmp_path).keep(POOL, [TWO, ONE])
    assert untold(tmp_path).ids(POOL) == [ONE, TWO]
    assert untold(tmp_path).ids(OTHER) == []
    untold(tmp_path).told(POOL, [ONE])
    assert untold(tmp_path).ids(POOL) == [TWO]
    untold(tmp_path).told(POOL, [TWO])
    assert list(tmp_path.rglob("untold")) == []


def test_nobody_else_reads_it_and_it_is_of_one_pool(tmp_path: Path) -> None:
    untold(tmp_path).keep(POOL, [ONE])
    path = tmp_path / POOL / "untold"
    assert path.stat().st_mode & 0o777 == 0o600
    assert ONE.encode() not in path.read_bytes()
    (tmp_path / OTHER).mkdir(mode=0o700)
    (tmp_path / OTHER / "untold").write_bytes(path.read_bytes())
    for one, pool in ((untold(tmp_path), OTHER), (untold(tmp_path, b"\1" * 32), POOL)):
        with pytest.raises(SyncError, match="damaged"):
            one.ids(pool)


def test_a_damaged_file_is_named_and_nothing_is_written_over_it(tmp_path: Path) -> None:
    untold(tmp_path).keep(POOL, [ONE])
    path = tmp_path / POOL / "untold"
    for data in (path.read_bytes()[:-1], b"x"):
        path.write_bytes(data)
        with pytest.raises(SyncError, match=r"untold: is damaged"):
            untold(tmp_path).keep(POOL, [TWO])
        assert path.read_bytes() == data
