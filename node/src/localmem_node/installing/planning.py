"""What install and uninstall would do to each file. Reads files, writes none.

A file is always made from what it is without us: the backup, if the file is just as install left it,
or else the file with our entries taken out. So a new version replaces the old one's entries, and what
the user changed in between stays.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from localmem_node.errors import InstallError, SettingsRefused
from localmem_node.installing.parts import Part, Refused
from localmem_node.installing.places import Target
from localmem_node.installing.record import Record, backup_of, digest, others

SETTINGS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Claude Code keeps its history in `.claude.json`, which grows; more than this is something else."""

_BOM: Final = b"\xef\xbb\xbf"
_TOKEN: Final = re.compile(r"(?<=Bearer )[0-9a-f]{8,}")
_NO_PORT: Final = re.compile(r"(?<=http://127\.0\.0\.1:)0(?=/)")

Read = Callable[[Path], bytes | None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A file before and after; None where there is none. `backup` is what is kept beside it.

    `created` if without us there would be no file. `secret` if it has a token of ours in it. `part`
    is whose entries they are, and `adds` if they are to be there and not to go.
    """

    part: str
    path: Path
    before: bytes | None
    after: bytes | None
    backup: bytes | None = None
    created: bool = False
    adds: bool = False
    secret: bool = False
    note: str = ""

    @property
    def does(self) -> Literal["none", "create", "change", "remove"]:
        """What happens to the file."""
        if self.before == self.after:
            return "none"
        if self.before is None:
            return "create"
        return "remove" if self.after is None else "change"


def plan_install(targets: Iterable[Target], record: Record, read: Read) -> list[Change]:
    """A change of every file, in order. Raises SettingsRefused, InstallError."""
    return [_install(target, record, read) for target in targets]


def plan_uninstall(targets: Iterable[Target], record: Record, read: Read) -> list[Change]:
    """A change of every file, in order. Raises SettingsRefused, InstallError."""
    found = []
    for target in targets:
        before = read(target.path)
        with_us = before is not None
        after = _without_us(target, record, read) if with_us else None
        note = ""
        if target.part.whole and before is not None and after == before:
            note = f"{target.path} was not written by localmem, or was changed since: it stays"
        found.append(Change(target.name, target.path, before, after, note=note))
    return found


def read_settings(path: Path) -> bytes | None:
    """The bytes of a file; None if there is none. Raises InstallError."""
    try:
        if not (path.exists() or path.is_symlink()):
            return None
        if not path.is_file():
            kind = "leads nowhere" if path.is_symlink() else "is not a file"
            raise InstallError(f"{path}: {kind}; nothing was changed")
        data = path.read_bytes()
    except OSError as error:
        raise InstallError(
            f"{path}: cannot be read: {error.strerror}; nothing was changed"
        ) from None
    if len(data) > SETTINGS_BYTES_MAX:
        raise InstallError(f"{path}: is larger than any settings; nothing was changed")
    return data


def diff(change: Change) -> Iterator[str]:
    """The lines of a unified diff, with our token left out."""
    if change.does == "none":
        return
    before, after = (
        _NO_PORT.sub("<port>", _TOKEN.sub("<token>", (data or b"").decode("utf-8", "replace")))
        for data in (change.before, change.after)
    )
    name = str(change.path)
    yield from difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        name if change.before is not None else "/dev/null",
        name if change.after is not None else "/dev/null",
        lineterm="",
    )


def _install(target: Target, record: Record, read: Read) -> Change:
    before = read(target.path)
    if before is not None and _ask(target, before, lambda part, text: part.holds(text)):
        return Change(target.name, target.path, before, before, adds=True, secret=target.secret)
    base = _without_us(target, record, read) if before is not None else None
    if target.part.whole and base is not None:
        note = f"{target.path} is there already and not from localmem: it stays as it is"
        return Change(target.name, target.path, before, before, adds=True, note=note)
    after = _edit(target, base or b"", lambda part, text: part.added(text))
    return Change(target.name, target.path, before, after, base, base is None, True, target.secret)


def _without_us(target: Target, record: Record, read: Read) -> bytes | None:
    """What a file that is there would be without us; None if it would not be."""
    data, backup = read(target.path), read(backup_of(target.path))
    assert data is not None
    known = record.files.get(str(target.path))
    created = known is not None and known.created
    alone = known is None or not others(known, target.name)
    if known is not None and known.digest == digest(data) and alone:
        if created:
            return None
        if backup is not None:
            return backup
    once = "" if created else _decoded(target.path, backup)[1] if backup is not None else None
    left = _edit(target, data, lambda part, text: part.removed(text, once))
    if left == data:
        return data
    bare = _ask(target, left, lambda part, text: part.is_bare(text))
    return None if bare and alone and (created or target.part.whole) else left


def _edit(target: Target, data: bytes, edit: Callable[[Part, str], str]) -> bytes:
    bom, text = _decoded(target.path, data)
    try:
        return bom + _refusing(target, text, edit).encode()
    except UnicodeEncodeError:
        raise InstallError(
            "the path of the launcher is not UTF-8, which no editor can read; "
            "choose another with LOCALMEM_HOME"
        ) from None


def _ask(target: Target, data: bytes, question: Callable[[Part, str], bool]) -> bool:
    return _refusing(target, _decoded(target.path, data)[1], question)


def _refusing(target: Target, text: str, ask: Callable[[Part, str], T]) -> T:
    try:
        return ask(target.part, text)
    except Refused as error:
        raise _refused(target.path, error) from None


def _decoded(path: Path, data: bytes) -> tuple[bytes, str]:
    """A byte order mark, if there is one, and the text behind it."""
    bom = _BOM if data.startswith(_BOM) else b""
    try:
        return bom, data[len(bom) :].decode()
    except UnicodeDecodeError as error:
        before = data[len(bom) :][: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
        raise _refused(path, Refused("not UTF-8", line, column)) from None


def _refused(path: Path, error: Refused) -> SettingsRefused:
    return SettingsRefused(
        f"{path}:{error.line}:{error.column}: {error.problem}; correct it and try again; "
        "nothing was changed"
    )
