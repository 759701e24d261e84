"""Stores of version 1, as the first release wrote them, open in this one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from localmem_node.errors import StoreError, WrongKey, WrongVersion
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from support.events import event
from support.fault_disk import FaultDisk
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

DATA = Path(__file__).parent / "data"
SMALL_DEVICE, LARGE_DEVICE = "246dee453351e4d3", "11fb2bfee4481a30"


def placed(tmp_path: Path, name: str) -> Path:
    """An image of version 1 as a store."""
    path = tmp_path / "memory.localmem"
    path.write_bytes(gzip.decompress((DATA / f"{name}.v1.gz").read_bytes()))
    path.chmod(0o600)
    return path


def open_store(path: Path, word: str = "right") -> EventStore:
    return open_event_store(path, FixedKeyStore(word), SystemRandom())


def test_a_small_store_that_had_wrapped_is_migrated_whole(tmp_path: Path) -> None:
    path = placed(tmp_path, "small")
    image = path.read_bytes()
    for _ in range(2):
        with open_store(path) as store:
            assert store.file.identity.version == 2
            assert store.device == SMALL_DEVICE
            found = [one for _, one in store.scan()]
            # A block more is kept free than version 1 did.
            assert [one.sequence for one in found][-65:] == list(range(55, 120))
            assert all(one == event(one.sequence, pinned=one.sequence == 110) for one in found)
            assert store.marks.sequence == 0, "its events are of another device"
    assert (tmp_path / "memory.localmem.v1").read_bytes() == image
    assert sorted(os.listdir(tmp_path)) == [
        "memory.localmem",
        "memory.localmem.lock",
        "memory.localmem.v1",
    ]


def test_a_store_that_was_killed_is_migrated_with_vectors_and_pins(tmp_path: Path) -> None:
    path = placed(tmp_path, "large")
    with open_store(path) as store:
        assert store.device == LARGE_DEVICE
        found = dict(store.scan())
        expected = [event(n, snippet=f"{n} " * 30, pinned=n % 10 == 0) for n in range(1, 41)]
        assert list(found.values()) == [*expected, event(41)]
        units = {found[ordinal].sequence: unit for ordinal, unit in store.vectors.by_event()}
        assert sorted(units) == list(range(1, 17))
        assert all(float(unit @ np.eye(16)[n - 1]) > 0.99 for n, unit in units.items())
        assert store.kept_bytes > 0
        assert store.read_checkpoint() is None
        assert min(found) > 42


def test_the_wrong_key_leaves_an_old_store_as_it_was(tmp_path: Path) -> None:
    path = placed(tmp_path, "small")
    image = path.read_bytes()
    with pytest.raises(WrongKey):
        open_store(path, "wrong")
    assert path.read_bytes() == image
    assert not (tmp_path / "memory.localmem.v1").exists()


def test_a_migration_that_was_cut_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = placed(tmp_path, "small")
    image = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(StoreError, match="Input/output error"):
            open_store(path)
    assert path.read_bytes() == image
    with open_store(path) as store:
        assert store.file.identity.version == 2
    assert (tmp_path / "memory.localmem.v1").read_bytes() == image
    assert len(os.listdir(tmp_path)) == 3


def test_a_copy_that_is_there_already_is_never_overwritten(tmp_path: Path) -> None:
    path = placed(tmp_path, "small")
    (tmp_path / "memory.localmem.v1").write_bytes(b"of somebody")
    with open_store(path):
        pass
    assert (tmp_path / "memory.localmem.v1").read_bytes() == b"of somebody"
    assert (tmp_path / "memory.localmem.v1.2").stat().st_size == 10240


def test_on_a_disk_without_names_an_old_store_is_refused() -> None:
    image = gzip.decompress((DATA / "small.v1.gz").read_bytes())
    disk = FaultDisk(SeededRandom(1), image)
    with pytest.raises(WrongVersion, match="format version 1"):
        open_event_store(Path("ring"), FixedKeyStore(), SeededRandom(1), disk=disk)
