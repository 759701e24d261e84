"""What install has written, file by file, so that uninstall can give back the very bytes.

`installed.json` in the data folder. Without it uninstall still finds our entries and takes them out; it
only cannot know that nothing else has changed since.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import InstallError
from localmem_node.files import SMALL_FILE_BYTES_MAX

BACKUP: Final = ".localmem-backup"


class Written(msgspec.Struct, frozen=True):
    """A file as install left it: the SHA-256 of it, whether there was none before, the folders that
    were made for it, from the outermost, and the permissions that it had if they were narrowed.

    `parts` are whose entries are in it: `.claude.json` has those of the user and of every project.
    The digest is empty once it was changed by others as well.
    """

    digest: str
    created: bool
    parts: tuple[str, ...]
    folders: tuple[str, ...] = ()
    mode: int | None = None


class Record(msgspec.Struct, frozen=True):
    """All files, by path; `plugin` if a plugin needs the launchers as well."""

    files: dict[str, Written] = {}
    plugin: bool = False


def record_path(settings: Settings) -> Path:
    """Where the record is."""
    return settings.data_dir / "installed.json"


def read_record(settings: Settings) -> Record:
    """The record; an empty one if there is none. Raises InstallError if it is not understood."""
    path = record_path(settings)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Record()
    except OSError as error:
        raise InstallError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return msgspec.json.decode(data[: 16 * SMALL_FILE_BYTES_MAX], type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstallError(f"{path}: not understood ({error}); remove it and try again") from None


def digest(data: bytes) -> str:
    """What a file is known by."""
    return hashlib.sha256(data).hexdigest()


def others(known: Written, part: str) -> tuple[str, ...]:
    """Whose entries are in a file beside those of one part."""
    return tuple(one for one in known.parts if one != part)


def backup_of(path: Path) -> Path:
    """Where a file is kept as it is without us."""
    return path.with_name(path.name + BACKUP)
