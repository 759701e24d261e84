"""What a process wrote, had synced and said, in order: read from strace, kept as a disk would keep it.

A file is what was synced of it, and the writes since; a folder likewise: a new name lasts once its
folder was synced. A sync covers the writes that had begun before it did, and counts when it has returned;
what is sent counts when the call begins. So whatever the kernel did in between, no write is taken for
synced that might not have been when something was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

SECTOR: Final = 512
"""Bytes that a power cut leaves whole: old or new."""

_CALLS: Final = (
    "openat,pwrite64,write,pwritev,writev,ftruncate,fallocate,fsync,fdatasync,unlink,unlinkat,"
    "rename,renameat,renameat2,sendto,sendmsg,sendfile"
)
COMMAND: Final = (
    *("strace", "-f", "-qq", "-y", "-xx", "-s", "10000000"),
    *("-e", "signal=none", "-e", f"trace={_CALLS}"),
)
"""strace of all threads, with the names of descriptors and every byte of every string."""

_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)", re.DOTALL)
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_RESULT: Final = re.compile(r"\) += (-?\d+)[^)]*$")
_ESCAPED: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_NAMED: Final = re.compile(r"(\d+)<((?:[^<>]|<[^<>]*>)*)>")
_UNFINISHED: Final = "<unfinished ...>"


@dataclass(frozen=True)
class Call:
    """A system call: when it began (`result` None), or was over. `name` is what the first descriptor
    stands for, a path or a socket; `data` all strings, one after the other; `numbers` the arguments."""

    kind: str
    name: str
    data: bytes
    numbers: tuple[int, ...]
    result: int | None = None


@dataclass(eq=False)
class File:
    """What is on the medium, and what was written since: (offset, bytes), or a new length."""

    synced: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, bytes] | int] = field(default_factory=list)

    def sync(self, count: int) -> bool:
        """The first `count` of its writes are on the medium; whether there were any."""
        for write in self.writes[:count]:
            _apply(self.synced, write)
        del self.writes[:count]
        return count > 0

    def image(self, chance: np.random.Generator | None) -> bytes:
        """What a power cut leaves: nothing that was not synced, or some of it."""
        image = bytearray(self.synced)
        if chance is not None:
            for write in self.writes:
                for part in _sectors(write):
                    if chance.random() < 0.5:
                        _apply(image, part)
        return bytes(image)


class Disk:
    """One folder: the files that it has, and those that it has on the medium, by name.

    `version` changes whenever something reaches the medium.
    """

    def __init__(self, folder: Path) -> None:
        self.version = 0
        self._folder = str(folder)
        self._here: dict[str, File] = {}
        self._synced: dict[str, File] = {}
        self._syncing: dict[str, int] = {}

    def take(self, call: Call) -> None:
        """Something began, or was over. Raises ValueError for a call that is not understood."""
        if call.kind in ("fsync", "fdatasync"):
            self._sync(call)
            return
        if call.result is None or call.result < 0:
            return
        named = self._local(call.data.decode("utf-8", "replace"))
        if call.kind == "openat":
            if named:
                self._here.setdefault(named, File())
        elif call.kind in ("unlink", "unlinkat"):
            self._here.pop(named, None)
        elif (file := self._here.get(self._local(call.name))) is not None:
            if call.kind == "pwrite64":
                file.writes.append((call.numbers[-1], call.data[: call.result]))
            elif call.kind == "ftruncate":
                file.writes.append(call.numbers[-1])
            else:
                raise ValueError(f"{call.kind} on {call.name}")

    def _sync(self, call: Call) -> None:
        file = self._here.get(self._local(call.name))
        if call.name == self._folder and call.result == 0:
            self.version += self._synced != self._here
            self._synced = dict(self._here)
        elif file is not None and call.result is None:
            self._syncing[call.name] = len(file.writes)
        elif file is not None and call.result == 0:
            self.version += file.sync(self._syncing.pop(call.name))

    def images(self, chance: np.random.Generator | None = None) -> dict[str, bytes]:
        """What a power cut leaves, by name: all that was synced, and some of the rest by chance."""
        names = dict(self._synced)
        if chance is not None:
            for name in sorted(self._synced.keys() | self._here.keys()):
                if chance.random() < 0.5:
                    names.pop(name, None)
                    if name in self._here:
                        names[name] = self._here[name]
        # The index of the log is shared memory, and made anew by whoever comes first.
        return {
            name: file.image(chance) for name, file in names.items() if not name.endswith("-shm")
        }

    def _local(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return name if folder == self._folder else ""


def read_trace(path: Path) -> Iterator[Call]:
    """The calls of a trace, beginnings and ends in order; one that nothing came between has both."""
    begun: dict[str, Call] = {}
    with path.open() as lines:
        for line in lines:
            line = line.rstrip("\n")
            if resumed := _RESUMED.match(line):
                call = begun.pop(resumed[1])
                yield _ended(call, resumed[3])
            elif found := _LINE.match(line):
                call = _begun(found[2], found[3])
                yield call
                if found[3].endswith(_UNFINISHED):
                    begun[found[1]] = call
                else:
                    yield _ended(call, found[3])


def _begun(kind: str, text: str) -> Call:
    strings = _ESCAPED.findall(text)
    if any(cut for _, cut in strings):
        raise ValueError(f"a string of {kind} is cut")
    data = b"".join(_bytes(escaped) for escaped, _ in strings)
    named = _NAMED.match(text)
    name = _bytes_in(named[2]) if named else ""
    plain = _RESULT.sub("", _ESCAPED.sub("", text)).removesuffix(_UNFINISHED)
    numbers = tuple(int(n) for n in re.findall(r"(?<=, )(\d+)(?=[,\s)]|$)", plain))
    return Call(kind, name, data, numbers)


def _ended(call: Call, text: str) -> Call:
    # Killed in it: a write may have happened, a sync may not.
    value = -1 if "sync" in call.kind else len(call.data)
    if (result := _RESULT.search(text)) is not None:
        value = int(result[1])
    return Call(call.kind, call.name, call.data, call.numbers, value)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _bytes_in(text: str) -> str:
    return re.sub(
        r"(?:\\x[0-9a-f]{2})+", lambda found: _bytes(found[0]).decode("utf-8", "replace"), text
    )


def _apply(image: bytearray, write: tuple[int, bytes] | int) -> None:
    if isinstance(write, int):
        image.extend(bytes(max(0, write - len(image))))
        del image[write:]
        return
    offset, data = write
    image.extend(bytes(max(0, offset - len(image))))
    image[offset : offset + len(data)] = data


def _sectors(write: tuple[int, bytes] | int) -> Iterator[tuple[int, bytes] | int]:
    if isinstance(write, int):
        yield write
        return
    offset, data = write
    at = 0
    while at < len(data):
        size = SECTOR - (offset + at) % SECTOR
        yield offset + at, data[at : at + size]
        at += size
