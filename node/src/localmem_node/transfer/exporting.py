"""From a memory to an export: pages of events in, one file or stream out."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from localmem_node.errors import TransferError
from localmem_node.selection import Selection
from localmem_node.store.disk import reason, sync_directory
from localmem_node.transfer.lines import LinesWriter
from localmem_node.transfer.seal import Sealer
from localmem_protocol.seams import Random

FetchPage = Callable[[Mapping[str, Any]], dict[str, Any]]
"""A page of events, as `DaemonClient.export_page` returns it."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds; `sha256` is that of its text, sealed or not."""

    events: int
    sha256: str


def fetch_events(fetch: FetchPage, selection: Selection) -> Iterator[tuple[str, list[Any]]]:
    """(device, events as JSON objects) page by page, in order; at least one page."""
    fields: dict[str, Any] = msgspec.to_builtins(selection)
    while True:
        page = fetch(fields)
        yield page["device"], page["events"]
        if page["cursor"] is None:
            return
        fields = fields | {"cursor": page["cursor"]}


def write_export(
    write: Callable[[bytes], object],
    fetch: FetchPage,
    selection: Selection,
    created: int,
    *,
    seal: Callable[[Callable[[bytes], object]], Sealer] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Exported:
    """Write a whole export. `created` is in ms since 1970; `seal` makes a Sealer over `write`;
    `progress` is told how many events are written.
    """
    sealer = None
    lines: LinesWriter | None = None
    for device, events in fetch_events(fetch, selection):
        if lines is None:
            sealer = seal(write) if seal else None
            lines = LinesWriter(sealer.write if sealer else write)
            lines.header(device, created)
        for event in events:
            lines.event(event)
        progress(lines.count)
    assert lines is not None
    digest = lines.finish()
    if sealer is not None:
        sealer.finish()
    return Exported(lines.count, digest)


@contextlib.contextmanager
def new_file(path: Path, random: Random, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file of mode 0600 to write to; it is at `path` once the block has ended well, and synced.

    Until then, and if the block raises, there is nothing at `path`, or what was there before. Raises
    TransferError when there is something already, unless `force`, or when it cannot be written.
    """
    path = _target(path, force=force)
    temporary = path.with_name(f".{path.name}.{random.token_bytes(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _publish(temporary, path, force=force)
        sync_directory(path.parent)
    except OSError as error:
        raise TransferError(f"cannot write {path}: {reason(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path, *, force: bool) -> Path:
    if not os.path.lexists(path):
        return path.absolute()
    if not force:
        raise _exists(path)
    path = Path(os.path.realpath(path))
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise TransferError(f"{path} is not a file; name one, or '-' for standard output")
    return path


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    """Give a finished file its name. A link never replaces; a renaming does."""
    if force:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Such as FAT on a stick; there, one who makes the file at this very moment loses it.
        if os.path.lexists(path):
            raise _exists(path) from None
        temporary.replace(path)


def _exists(path: Path) -> TransferError:
    return TransferError(f"{path} exists; name another file, or replace it with --force")
