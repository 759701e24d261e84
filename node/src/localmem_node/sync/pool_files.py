"""What a device keeps of the pools that it is in: one folder for each beside its store.

    pools/<pool id>/pool.json      where its hub is, what is shared there, what people call it (0600)
    pools/<pool id>/roster         the signed membership list, as far as it was verified here
    pools/<pool id>/<epoch>.sqlite the sync journal of an epoch
    pools/<pool id>/read           the epochs before that were read to their end, and how far the store
                                   had got with that
    pools/<pool id>/told           those of them that the hub was told of
    pools/<pool id>/untold         what was forgotten and could not be told there yet (`untold`)

No key is in them: epoch keys are sealed to this device in the roster, and this device's keys follow
from its store's.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError, SyncError
from localmem_node.files import private_directory, read_private, write_private
from localmem_node.sync.sending import PLAIN, Sending
from localmem_node.sync.sharing import Rule
from localmem_protocol.access import is_pool_id
from localmem_protocol.lineage import NOWHERE, Reach

POOLS: Final = "pools"
"""The folder of the pools, beside the store."""

POOLS_MAX: Final = 32
"""Pools of one device; each has a connection and a document in memory."""

ROSTER_BYTES_MAX: Final = 64 * 1024 * 1024

_EPOCHS: Final = msgspec.json.Decoder(list[int])
_EPOCH: Final = re.compile(r"([1-9][0-9]{0,8})\.sqlite")


def has_pools(settings: Settings) -> bool:
    """Whether this device is in any pool."""
    return any((settings.state_dir / POOLS).glob("*/pool.json"))


class PoolRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool that this device is in: its id, its hub, what people call it, what is shared there, how."""

    pool: str
    hub: str
    name: str
    rule: Rule
    version: int = 1
    sending: Sending = PLAIN


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Epochs that are over and were read to their end, and how far the event log has got with that."""

    epochs: tuple[int, ...] = ()
    reach: Reach = NOWHERE


class PoolFiles:
    """The folder of all pools. Raises ConfigError and SyncError naming a file that cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pools(self) -> list[str]:
        """The ids of every pool, sorted."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if is_pool_id(path.name))
        except FileNotFoundError:
            return []
        return [name for name in names if (self._folder / name / "pool.json").exists()]

    def records(self) -> Iterator[PoolRecord]:
        """Every pool, by id."""
        return map(self.record, self.pools())

    def save(self, record: PoolRecord) -> None:
        """Keep a pool, new or changed."""
        data = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        self._write(record.pool, "pool.json", data)

    def roster_path(self, pool: str) -> Path:
        """Where the roster is."""
        return self._folder / pool / "roster"

    def roster(self, pool: str) -> bytes:
        """The roster as it was saved; empty if it was not."""
        path = self.roster_path(pool)
        data = _read(path)
        if len(data) > ROSTER_BYTES_MAX:
            raise SyncError(f"{path}: is larger than any roster")
        return data

    def save_roster(self, pool: str, data: bytes) -> None:
        """Keep a verified roster."""
        self._write(pool, "roster", data)

    def journal(self, pool: str, epoch: int) -> Path:
        """Where the journal of an epoch is."""
        return self._folder / pool / f"{epoch}.sqlite"

    def older_journals(self, pool: str, epoch: int) -> list[int]:
        """Epochs before this one that have a journal."""
        names = (path.name for path in (self._folder / pool).glob("*.sqlite"))
        found = (int(match[1]) for name in names if (match := _EPOCH.fullmatch(name)))
        return sorted(one for one in found if one < epoch)

    def drop_journals(self, pool: str, keep: int) -> None:
        """Remove what journals of other epochs than `keep` leave behind."""
        for path in (self._folder / pool).glob("*.sqlite*"):
            name = path.name.removesuffix("-wal").removesuffix("-shm")
            if (epoch := _EPOCH.fullmatch(name)) and int(epoch[1]) != keep:
                path.unlink(missing_ok=True)

    def untold_path(self, pool: str) -> Path:
        """Where is what could not be told yet."""
        return self._folder / pool / "untold"

    def untold(self, pool: str) -> bytes:
        """What was saved of what could not be told yet; empty if nothing was."""
        return _read(self.untold_path(pool))

    def save_untold(self, pool: str, data: bytes) -> None:
        """Keep what could not be told yet."""
        self._write(pool, "untold", data)

    def remove_untold(self, pool: str) -> None:
        """All of it was told."""
        self.untold_path(pool).unlink(missing_ok=True)

    def read(self, pool: str) -> Read:
        """What was saved of epochs that are over."""
        try:
            return msgspec.json.decode((self._folder / pool / "read").read_bytes(), type=Read)
        except (OSError, msgspec.DecodeError):
            return Read()  # they are read once more

    def save_read(self, pool: str, read: Read) -> None:
        """Keep what `read` gives."""
        self._write(pool, "read", msgspec.json.encode(read))

    def epochs_told(self, pool: str) -> frozenset[int]:
        """Those of them that the hub knows this device has read."""
        try:
            return frozenset(_EPOCHS.decode((self._folder / pool / "told").read_bytes()))
        except (OSError, msgspec.DecodeError):
            return frozenset()  # it is told once more

    def forget_told(self, pool: str) -> None:
        """The hub may not know any more which epochs this device has read."""
        (self._folder / pool / "told").unlink(missing_ok=True)

    def note_told(self, pool: str, epoch: int) -> None:
        """The hub knows that this device has read an epoch."""
        epochs = sorted({*self.epochs_told(pool), epoch})
        self._write(pool, "told", msgspec.json.encode(epochs))

    def remove(self, pool: str) -> None:
        """Forget a pool."""
        if is_pool_id(pool):
            shutil.rmtree(self._folder / pool, ignore_errors=True)

    def _write(self, pool: str, name: str, data: bytes) -> None:
        path = self._folder / pool / name
        try:
            private_directory(self._folder)
            private_directory(path.parent)
            write_private(path, data)
        except OSError as error:
            raise SyncError(f"{path}: cannot be written: {error.strerror}") from None

    def record(self, pool: str) -> PoolRecord:
        """What was saved of a pool. Raises ConfigError."""
        path = self._folder / pool / "pool.json"
        try:
            record = msgspec.json.decode(read_private(path, "a pool"), type=PoolRecord)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: {error}; mend the file and run: localmem down; or be let in again: "
                "localmem pair"
            ) from None
        if record.pool != pool or record.version != 1:
            raise ConfigError(f"{path}: is of another pool, or another version of localmem")
        return record


def _read(path: Path) -> bytes:
    """A file's bytes; none if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SyncError(f"{path}: cannot be read: {error.strerror}") from None
