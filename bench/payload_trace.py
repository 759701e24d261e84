"""A day of edits on several devices, from real files: what `bench.payload` sends.

Three installed packages stand for three projects, 31 of their files for those that somebody works
on. A device works in one project at a time, one session for each half of the day. Which file is
edited follows Zipf's law; six of ten edits are within six lines of the device's last one in that
file, the others anywhere. A snippet is three to eight lines. Moments are spread evenly by chance.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from bench.edits import SEED, TooFewSources
from localmem_protocol.clock import HybridClock
from localmem_protocol.events import Event, parse_draft, stamp
from localmem_protocol.references import Reference, texts_at

BEGAN_MS: Final = 1_760_000_000_000
DAY_MS: Final = 24 * 3600 * 1000
PROJECTS: Final = 3
FILES: Final = 31
ZIPF: Final = 1.2
RETURNING: Final = 0.6
RETURN_LINES: Final = 6
BURST: Final = 10
TOOLS: Final = ("claude-code", "cursor", "codex")
OWN: Final = ("localmem",)
"""How the names of packages begin that the dictionary may have seen."""

_CHARACTERS: Final = (80, 272)
"""A snippet ends with the line that reaches a number drawn from these; half a line more, then."""

_TAIL_LINES: Final = 3
_FILE_LINES_MIN: Final = 40
_PACKAGE_FILES_MIN: Final = 20
_TURN_MAX: Final = 5


Moments = npt.NDArray[np.int64]


class Hashes(Enum):
    """Which events carry the hash of the model's response."""

    NONE = "none"
    TURNS = "turns"
    EACH = "each"


@dataclass(frozen=True)
class SourceFile:
    """A file: its project, its path there, its lines."""

    project: str
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """Events by device, in order, and the files that they are about."""

    events: dict[str, list[Event]]
    files: list[SourceFile]

    def all_events(self) -> list[Event]:
        """All of them in the order that is the same everywhere."""
        together = [event for events in self.events.values() for event in events]
        return sorted(together, key=lambda event: event.order)


class Checkout:
    """Where a receiver finds the text of references: the same files."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self._lines = {file.path: file.lines for file in files}

    def texts(self, reference: Reference) -> list[str]:
        """As `Resolver` says."""
        return texts_at(self._lines.get(reference.file_path, ()), reference.selection_range)


def trace(
    count: int,
    devices: int = 3,
    *,
    seed: int = SEED,
    hashes: Hashes = Hashes.NONE,
    bursts: bool = False,
) -> Trace:
    """`count` events in 24 hours. The same on the same machine. Raises TooFewSources.

    With `bursts` each device's events come ten at a time, 5 to 45 seconds apart.
    """
    chance = np.random.default_rng(seed)
    files = _files(chance)
    names = [blake2b(f"{seed} {n}".encode(), digest_size=8).hexdigest() for n in range(devices)]
    workers = [_Worker(name, number, files, chance) for number, name in enumerate(names)]
    moments = np.sort(chance.choice(DAY_MS, count, replace=False))
    turns = chance.permutation(np.arange(count) % devices)
    if bursts:
        moments, turns = _bursts(count, devices, seed)
    events: dict[str, list[Event]] = {name: [] for name in names}
    for moment, turn in zip(moments, turns, strict=True):
        event = workers[int(turn)].edit(int(moment), hashes)
        events[event.device].append(event)
    return Trace(events, files)


def _bursts(count: int, devices: int, seed: int) -> tuple[Moments, Moments]:
    """When things happen, and on which device, if they come in bursts."""
    chance = np.random.default_rng(seed)
    starts = chance.choice(DAY_MS - 10 * 60_000, -(-count // BURST), replace=False)
    pauses = chance.integers(5_000, 45_000, (len(starts), BURST))
    moments = (starts[:, None] + np.cumsum(pauses, axis=1)).ravel()[:count]
    turns = np.repeat(np.arange(len(starts)) % devices, BURST)[:count]
    order = np.argsort(moments, kind="stable")
    return moments[order], turns[order]


class _Worker:
    """Who works on one device."""

    def __init__(
        self, device: str, number: int, files: Sequence[SourceFile], chance: np.random.Generator
    ) -> None:
        self._device = device
        self._tool = TOOLS[number % len(TOOLS)]
        self._chance = chance
        self._clock = HybridClock()
        self._sequence = 0
        self._last: dict[str, int] = {}
        self._turn, self._response = 0, ""
        self._hashes = np.random.default_rng(number)  # the same edits, whatever hashes they carry
        projects = sorted({file.project for file in files})
        self._sessions = [
            (
                str(UUID(bytes=chance.bytes(16), version=4)),
                [file for file in files if file.project == projects[chosen]],
            )
            for chosen in chance.integers(len(projects), size=2)
        ]

    def edit(self, moment: int, hashes: Hashes) -> Event:
        """The next edit, at a moment of the day."""
        session, files = self._sessions[2 * moment // DAY_MS]
        file, first, last = self._place(files)
        now_ms = BEGAN_MS + moment
        self._sequence += 1
        fields = {
            "timestamp": now_ms,
            "filePath": file.path,
            "selectionRange": [first, last],
            "snippet": "\n".join(file.lines[first - 1 : last]),
            "modelResponseHash": self._hash(hashes),
            "tool": self._tool,
            "session": session,
            "project": blake2b(file.project.encode(), digest_size=8).hexdigest(),
        }
        return stamp(
            parse_draft(fields),
            device=self._device,
            clock=self._clock.tick(now_ms),
            sequence=self._sequence,
        )

    def _place(self, files: Sequence[SourceFile]) -> tuple[SourceFile, int, int]:
        """A file, and the first and last line of a piece of it that is not blank."""
        weights = np.arange(1, len(files) + 1) ** -ZIPF
        while True:
            file = files[int(self._chance.choice(len(files), p=weights / weights.sum()))]
            most = len(file.lines) - _TAIL_LINES
            first = int(self._chance.integers(most))
            if file.path in self._last and self._chance.random() < RETURNING:
                step = int(self._chance.integers(-RETURN_LINES, RETURN_LINES + 1))
                first = max(0, min(most, self._last[file.path] + step))
            wanted = int(self._chance.integers(*_CHARACTERS))
            last = _end(file.lines, first, wanted)
            if "".join(file.lines[first:last]).strip():
                self._last[file.path] = first
                return file, first + 1, last

    def _hash(self, hashes: Hashes) -> str | None:
        if hashes is Hashes.NONE:
            return None
        if hashes is Hashes.EACH or self._turn == 0:
            self._response = self._hashes.bytes(8).hex()
            self._turn = int(self._hashes.integers(1, _TURN_MAX + 1))
        self._turn -= 1
        return self._response


def _end(lines: Sequence[str], first: int, characters: int) -> int:
    """The line after a piece of so many characters."""
    last = first
    while last < len(lines) and characters > 0:
        characters -= len(lines[last]) + 1
        last += 1
    return last


def _files(chance: np.random.Generator) -> list[SourceFile]:
    """Files of a few installed packages, in an order of their own."""
    root, packages = _packages()
    large = [name for name, paths in packages.items() if len(paths) >= _PACKAGE_FILES_MIN]
    if len(large) < PROJECTS:
        raise TooFewSources(f"this machine has {len(large)} packages of enough files")
    chosen: list[SourceFile] = []
    for number, index in enumerate(chance.choice(len(large), PROJECTS, replace=False)):
        package = large[int(index)]
        share = FILES // PROJECTS + (number < FILES % PROJECTS)
        for place in chance.choice(len(packages[package]), share, replace=False):
            path = packages[package][int(place)]
            text = path.read_text(encoding="utf-8", errors="replace")
            chosen.append(
                SourceFile(package, str(path.relative_to(root)), tuple(text.splitlines()))
            )
    return chosen


@cache
def _packages() -> tuple[Path, dict[str, list[Path]]]:
    """Where packages are installed, and the files of each that are long enough."""
    root = Path(sysconfig.get_path("purelib"))
    packages: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.py")):
        package = path.relative_to(root).parts[0]
        if not package.startswith(OWN) and _line_count(path) >= _FILE_LINES_MIN:
            packages.setdefault(package, []).append(path)
    return root, packages


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")
