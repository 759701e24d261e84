"""The real disk: short writes, full disks, and files made in one step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from localmem_node.errors import StoreError, StoreFailed
from localmem_node.store import disk as disk_module
from localmem_node.store.disk import FileDisk
from localmem_node.store.event_store import EventStore
from localmem_node.store.opening import open_event_store
from support.events import event
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

SIZE = 16384


def open_store(path: Path, **options: int) -> EventStore:
    return open_event_store(path, FixedKeyStore(), SeededRandom(1), size=SIZE, **options)  # type: ignore[arg-type]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def short(fd: int, data: memoryview, offset: int) -> int:
        return real(fd, data[: max(1, len(data) // 3)], offset)

    monkeypatch.setattr(os, "pwrite", short)
    offered = [event(number) for number in range(1, 60)]
    with open_store(tmp_path / "ring") as store:
        store.append(offered)
    monkeypatch.undo()
    with open_store(tmp_path / "ring") as store:
        assert [found for _, found in store.scan()] == offered


def test_a_write_that_makes_no_progress_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "ring")
    store.append([event(1)])
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with pytest.raises(StoreFailed, match="nothing was written"):
        store.commit()
    store.close()


def test_what_is_written_is_seen_through_the_map(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    disk = FileDisk(path)
    disk.pwrite(4000, b"across a page" * 20)
    assert disk.mapped(4000, 260) == disk.pread(4000, 260) == b"across a page" * 20
    assert disk.mapped(8190, 10) == bytes(2)
    disk.pwrite(9000, b"longer than it was")
    assert disk.mapped(9000, 6) == b"longer"
    assert disk.size() == 9018
    disk.close()


def test_a_failed_sync_forgets_what_is_only_in_memory_and_fails_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "ring")
    store.append([event(1)])
    store.commit()
    store.append([event(2)])
    advice: list[int] = []

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, end, what: advice.append(what))
    with pytest.raises(StoreFailed, match="Input/output error"):
        store.commit()
    assert advice == [os.POSIX_FADV_DONTNEED]
    monkeypatch.undo()
    with pytest.raises(StoreFailed):
        store.commit()
    store.close()
    with open_store(tmp_path / "ring") as again:
        assert again.get(1) == event(1)


@pytest.mark.parametrize("failing", ["posix_fallocate", "pwrite", "fsync", "rename", "open"])
def test_a_store_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "ring"
    real = getattr(os, failing)

    def full(*arguments: object, **options: object) -> object:
        if failing in ("open", "pwrite") and not _concerns_new_file(arguments):
            return real(*arguments, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(StoreError, match=r"cannot create .*: No space left on device"):
        open_store(path)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["ring.lock"]
    with open_store(path) as store:
        store.append([event(1)])


def _concerns_new_file(arguments: tuple[object, ...]) -> bool:
    if isinstance(arguments[0], int):
        name = os.readlink(f"/proc/self/fd/{arguments[0]}")
        return name.endswith(".new")
    return str(arguments[0]).endswith(".new")


def test_a_crash_while_a_store_is_made_leaves_no_half_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ring"

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", crash)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(KeyboardInterrupt):
        open_store(path)
    monkeypatch.undo()
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert len(names) == 2
    assert names[0].endswith(".new")
    open_store(path).close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["ring", "ring.lock"]


def test_a_file_system_without_preallocation_gets_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    monkeypatch.setattr(disk_module, "_ZEROS", bytes(5000))
    with open_store(tmp_path / "ring") as store:
        store.append([event(1)])
    status = (tmp_path / "ring").stat()
    assert status.st_size == SIZE
    assert status.st_blocks * 512 >= SIZE


def test_a_new_store_has_all_its_space(tmp_path: Path) -> None:
    open_store(tmp_path / "ring").close()
    status = (tmp_path / "ring").stat()
    assert status.st_size == SIZE
    assert status.st_blocks * 512 >= SIZE
