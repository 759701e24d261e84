"""From a path to an open store: made where there is none, rewritten where it is of an older version."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from localmem_node.errors import StoreError, WrongVersion
from localmem_node.seams import Disk, KeyStore
from localmem_node.store.disk import make_directory, reason
from localmem_node.store.event_store import EventStore
from localmem_node.store.layout import DEFAULT_BYTES, VERSION, Geometry
from localmem_node.store.lock import OwnerLock
from localmem_node.store.open_file import (
    create_at,
    create_on,
    open_disk,
    open_path,
    open_with_recovery,
)
from localmem_node.store.recovery_code import decode_recovery
from localmem_node.store.rewrite import Rewrite, discard, migrate
from localmem_protocol.seams import Random


def open_event_store(
    path: Path,
    keystore: KeyStore,
    random: Random,
    *,
    size: int = DEFAULT_BYTES,
    create: bool = True,
    disk: Disk | None = None,
) -> EventStore:
    """Open the store at `path`, or make one of `size` bytes there.

    An existing store keeps its size; one of an older version is rewritten, and kept as a copy.
    With `disk`, that is the file: it is not locked, and made where it stands if it is empty.
    Raises StoreBusy, ForeignFile, WrongVersion, WrongKey, DamagedStore, KeyUnavailable,
    StoreError, and ConfigError for a size that cannot work; the file is then as it was. Raises
    StoreFailed when the disk fails.
    """
    path = Path(os.path.realpath(path))
    if disk is not None:
        return _on_disk(path, disk, keystore, random, size, create=create)
    with ExitStack() as undo:
        if create:
            make_directory(path.parent)
        lock = OwnerLock(path)
        undo.callback(lock.release)
        discard(path)
        if not _is_there(path):
            create_at(path, _geometry(str(path), size, create=create), keystore, random)
        store = EventStore(path, open_path(path, keystore, random), lock)
        undo.callback(store.close)
        if store.file.identity.version < VERSION:
            migrate(store, keystore, random)
        undo.pop_all()
    return store


def recover_event_store(path: Path, code: str, keystore: KeyStore, random: Random) -> EventStore:
    """Open the store at `path` by its recovery code, and keep its keys by `keystore` from now on.

    Raises ConfigError for text that is no code, WrongKey, and what `open_event_store` raises.
    """
    private = decode_recovery(code)
    path = Path(os.path.realpath(path))
    with ExitStack() as undo:
        lock = OwnerLock(path)
        undo.callback(lock.release)
        if not _is_there(path):
            raise StoreError(f"no store at {path}")
        store = EventStore(path, open_with_recovery(path, private, random), lock)
        undo.callback(store.close)
        rewrite = Rewrite(store, keystore, random)
        rewrite.finish()
        rewrite.wipe()
        undo.pop_all()
    return store


def _on_disk(
    path: Path, disk: Disk, keystore: KeyStore, random: Random, size: int, *, create: bool
) -> EventStore:
    if disk.size() == 0:
        create_on(disk, _geometry("the disk", size, create=create), keystore, random)
    store = EventStore(path, open_disk(disk, str(path), keystore, random), None)
    version = store.file.identity.version
    if version < VERSION:
        raise WrongVersion(f"{path} has format version {version}; open it as a file")
    return store


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot open {path}: {reason(error)}") from None
    return True


def _geometry(name: str, size: int, *, create: bool) -> Geometry:
    if not create:
        raise StoreError(f"no store at {name}; record something to make one")
    return Geometry.of(size)
