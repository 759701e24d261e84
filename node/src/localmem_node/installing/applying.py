"""Writing what was planned: all of it or nothing.

Every file is looked at before the first is written. Each is replaced whole, beside itself and then by
renaming, where a symbolic link leads; if one fails, those before it get their bytes back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.errors import InstallError
from localmem_node.installing.planning import Change
from localmem_node.installing.record import Record, Written, backup_of, digest, others

PRIVATE: Final = 0o600


@dataclass(slots=True)
class _Undo:
    """What was done so far, as calls that take it back."""

    calls: list[Callable[[], object]] = field(default_factory=list)

    def __call__(self) -> None:
        for call in reversed(self.calls):
            with contextlib.suppress(OSError):
                call()


def check(changes: Sequence[Change]) -> None:
    """Whether every file can be written. Raises InstallError naming the first that cannot."""
    for change in changes:
        if change.does == "none":
            continue
        path = Path(os.path.realpath(change.path))
        if change.before is not None and not _may_write(path):
            raise InstallError(f"{change.path}: is not writable; nothing was changed")
        for folder in {path.parent, change.path.parent}:
            _check_folder(change.path, folder)


def apply(changes: Sequence[Change], record: Record, path: Path) -> Record:
    """Do all changes and keep the record at `path`; the new record.

    Raises InstallError when one fails, after the others were undone.
    """
    check(changes)
    undo = _Undo()
    files = dict(record.files)
    folders: list[str] = []
    try:
        for change in changes:
            folders += _apply(change, files, undo)
        _remove_empty(folders, undo)
        result = Record(files=files, plugin=record.plugin)
        write_record(path, result, undo)
    except OSError as error:
        undo()
        where = error.filename or path
        raise InstallError(f"{where}: {error.strerror or error}; everything is as it was") from None
    except BaseException:
        undo()
        raise
    return result


def write_record(path: Path, record: Record, undo: _Undo | None = None) -> None:
    """Keep the record, or remove it when there is nothing to remember. Raises OSError."""
    undo = undo or _Undo()
    if record == Record():
        _replace(path, None, PRIVATE, undo)
    else:
        _make_folders(path.parent, undo, 0o700)
        _replace(path, msgspec.json.format(msgspec.json.encode(record), indent=1), PRIVATE, undo)


def _apply(change: Change, files: dict[str, Written], undo: _Undo) -> Sequence[str]:
    """Do one change, and note it in `files`; the folders that may be in the way afterwards."""
    name, backup = str(change.path), backup_of(change.path)
    known = files.get(name)
    real = Path(os.path.realpath(change.path))
    rest = others(known, change.part) if known is not None else ()
    if change.does == "none" and change.adds:
        if known is None and not change.note:
            # A record that was lost: whether the backup is of what is here now, nobody knows.
            files[name] = Written("", False, (change.part,))
        elif known is not None and change.part not in known.parts:
            files[name] = msgspec.structs.replace(known, parts=(*known.parts, change.part))
        return ()
    if change.does == "none" and (rest or known is None):
        if known is not None:
            files[name] = msgspec.structs.replace(known, parts=rest)
        return ()
    if _content(real) != change.before:
        raise InstallError(f"{change.path}: was changed meanwhile; everything is as it was")
    if change.before is None and change.after is None:
        return _forget(change, files, undo)  # somebody removed it, and perhaps its folder
    mode = stat.S_IMODE(real.stat().st_mode) if change.before is not None else PRIVATE
    folders = tuple(map(str, _make_folders(real.parent, undo)))
    if change.after is not None and known is not None and rest:
        # What is kept beside the file stays: it is without the others' entries as well.
        _replace(real, change.after, mode, undo)
        intact = change.before is not None and known.digest == digest(change.before)
        parts = (*rest, change.part) if change.adds else rest
        files[name] = msgspec.structs.replace(
            known, digest=digest(change.after) if intact else "", parts=parts
        )
        return ()
    if change.after is not None and change.adds:
        _replace(backup, change.backup, PRIVATE, undo)
        narrowed = mode & ~0o077 if change.secret else mode
        _replace(real, change.after, narrowed, undo)
        was = mode if narrowed != mode else None
        files[name] = Written(
            digest(change.after),
            change.created,
            (change.part,),
            known.folders if known is not None else folders,
            known.mode if known is not None and known.mode is not None else was,
        )
        return ()
    if known is not None and known.mode is not None:
        mode = known.mode
    _replace(real, change.after, mode, undo)
    return _forget(change, files, undo)


def _forget(change: Change, files: dict[str, Written], undo: _Undo) -> Sequence[str]:
    """Remove what install kept beside a file; the folders that it made for it."""
    known = files.pop(str(change.path), None)
    _replace(backup_of(change.path), None, PRIVATE, undo)
    return known.folders if known is not None else ()


def _remove_empty(folders: Sequence[str], undo: _Undo) -> None:
    for folder in sorted(folders, key=len, reverse=True):
        with contextlib.suppress(OSError):  # somebody else uses it now
            os.rmdir(folder)
            undo.calls.append(partial(os.mkdir, folder))


def _replace(path: Path, data: bytes | None, mode: int, undo: _Undo) -> None:
    """Give a file these bytes and permissions, or remove it."""
    before = _content(path)
    if data is None:
        if before is None:
            return
        was = stat.S_IMODE(path.stat().st_mode)
        path.unlink()
        undo.calls.append(lambda: _write(path, before, was))
        return
    old = stat.S_IMODE(path.stat().st_mode) if before is not None else mode
    if before == data and old == mode:
        return
    _write(path, data, mode)
    if before is None:
        undo.calls.append(path.unlink)
    else:
        undo.calls.append(lambda: _write(path, before, old))


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file whole, durably, keeping its owner."""
    temporary = path.with_name(f".{path.name}.localmem-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, PRIVATE), "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(OSError):  # only root can, and only root needs to
                found = path.stat()
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def _make_folders(folder: Path, undo: _Undo, mode: int = 0o777) -> list[Path]:
    """Make a folder and those above it; those that were missing, from the outermost."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    missing.reverse()
    for one in missing:
        one.mkdir(mode=mode)
        undo.calls.append(one.rmdir)
    return missing


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_folder(path: Path, folder: Path) -> None:
    while not (folder.exists() or folder.is_symlink()) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InstallError(f"{path}: {folder} is not a folder; nothing was changed")
    if not _may_write(folder):
        raise InstallError(f"{path}: the folder {folder} is not writable; nothing was changed")


def _may_write(path: Path) -> bool:
    """Whether the system lets us write, and nobody has made it read-only for everyone.

    The latter holds root back as well, who may write to anything else.
    """
    return os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)
