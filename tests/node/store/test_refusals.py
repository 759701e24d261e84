"""Files that cannot be opened: the error says which, and the file stays as it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localmem_node.errors import (
    DamagedStore,
    ForeignFile,
    StoreBusy,
    StoreError,
    WrongKey,
    WrongVersion,
)
from localmem_node.seams import KeyStore
from localmem_node.store.event_store import EventStore
from localmem_node.store.keys import KeyFileStore, PassphraseStore
from localmem_node.store.layout import Cost
from localmem_node.store.opening import open_event_store
from support.events import event
from support.seeded import SeededRandom
from support.store_keys import FixedKeyStore

NOBODY = 65534
LIGHT = Cost(memory_kib=64, iterations=1, lanes=1)


def open_store(path: Path, keystore: KeyStore | None = None, **options: bool) -> EventStore:
    keys = keystore or FixedKeyStore()
    return open_event_store(path, keys, SeededRandom(1), size=10240, **options)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one event."""
    with open_store(tmp_path / "ring.localmem") as store:
        store.append([event(1)])
    return tmp_path / "ring.localmem"


def refused(
    path: Path, error: type[StoreError], match: str, keystore: KeyStore | None = None
) -> None:
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns
    with pytest.raises(error, match=match) as raised:
        open_store(path, keystore)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) == before


def rewrite(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def test_a_wrong_key_is_refused(path: Path) -> None:
    refused(path, WrongKey, "does not open", FixedKeyStore("wrong"))
    with open_store(path) as store:
        assert store.get(1) == event(1)


def test_a_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    open_store(path, PassphraseStore("right", LIGHT)).close()
    refused(path, WrongKey, "made with a passphrase", PassphraseStore("wrong", LIGHT))
    # The cost is read from the store: the default one of this key store would not fit.
    with open_store(path, PassphraseStore("right")) as store:
        assert store.stats().events == 0


def test_another_kind_of_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    open_store(path, PassphraseStore("right", LIGHT)).close()
    refused(path, WrongKey, "a passphrase, and the key given is a key file", KeyFileStore(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" * 4096, bytes(20_000)])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    refused(path, ForeignFile, "is not a localmem store")


def test_another_version_is_refused(path: Path) -> None:
    def upgrade(data: bytearray) -> None:
        for slot in (0, 1024):
            data[slot + 4] = 9
            checksum = zlib.crc32(data[slot : slot + 508])
            data[slot + 508 : slot + 512] = checksum.to_bytes(4, "little")

    rewrite(path, upgrade)
    refused(path, WrongVersion, "format version 9, this release reads 1 to 2")


def test_two_damaged_headers_are_reported(path: Path) -> None:
    def damage(data: bytearray) -> None:
        data[100] ^= 1
        data[1024 + 300] ^= 1

    rewrite(path, damage)
    refused(path, DamagedStore, "both headers are damaged")


def test_a_version_that_is_only_damaged_is_no_other_version(path: Path) -> None:
    def damage(data: bytearray) -> None:
        data[4] ^= 8

    rewrite(path, damage)
    with open_store(path) as store:
        assert store.get(1) == event(1)


def test_forged_headers_are_reported(path: Path) -> None:
    def forge(data: bytearray) -> None:
        for slot in (0, 1024):
            data[slot + 16] ^= 0xFF  # the generation
            checksum = zlib.crc32(data[slot : slot + 508])
            data[slot + 508 : slot + 512] = checksum.to_bytes(4, "little")

    rewrite(path, forge)
    refused(path, DamagedStore, "headers were altered")


def test_a_busy_store_is_refused_and_the_owner_named(path: Path) -> None:
    with open_store(path) as store:
        refused(path, StoreBusy, f"in use by process {os.getpid()}")
        store.append([event(2)])
        store.commit()
        code = (
            "import sys; from pathlib import Path; from localmem_node.store.lock import OwnerLock\n"
            "try: OwnerLock(Path(sys.argv[1]))\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        output = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        ).stdout
    assert output.startswith("StoreBusy")
    assert str(os.getpid()) in output
    with open_store(path) as store:
        assert store.stats().events == 2


def test_a_refusal_leaves_the_store_free_for_the_next_owner(path: Path) -> None:
    refused(path, WrongKey, "does not open", FixedKeyStore("wrong"))
    open_store(path).close()


def test_a_directory_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ring").mkdir()
    with pytest.raises(StoreError, match="cannot open"):
        open_store(tmp_path / "ring")


def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="cannot create the directory"):
        open_store(tmp_path / "data" / "ring")


@contextlib.contextmanager
def folder_of_somebody() -> Iterator[Path]:
    """A folder of a user who is not root, and that user; root may write anywhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where anybody may go
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def test_a_directory_without_permission_is_an_error() -> None:
    with folder_of_somebody() as folder:
        open_store(folder / "allowed" / "ring").close()
        (folder / "data").mkdir(mode=0o500)
        with pytest.raises(StoreError, match="Permission denied"):
            open_store(folder / "data" / "ring")


def test_a_missing_store_is_not_made_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        open_store(tmp_path / "ring", create=False)
    assert not (tmp_path / "ring").exists()


def test_a_new_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_store(tmp_path / "data" / "ring").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for name in ("ring", "ring.lock"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600


def test_a_store_reached_through_a_link_is_the_same_store(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with open_store(path), pytest.raises(StoreBusy):
        open_store(link)
    with open_store(link) as store:
        assert store.get(1) == event(1)
