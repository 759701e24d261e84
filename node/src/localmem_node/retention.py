"""Which events earn another round when their turn at the tail of the ring has come.

Copying forward is the second chance of log-structured cleaning. It is worth its writes only for an
event that is likelier to be asked for than the one that leaves earlier in its place, so only a share
of what is written may be copied, and the score has to rise above a threshold that follows from
what else came to the tail: the quantile that fills that share (Robbins, Monro, "A Stochastic
Approximation Method", 1951). What the score is made of, what it is worth and what did not help is in
`docs/decisions/0007-retention.md`; `python -m bench eviction` prints it.

Pure: no I/O, no clock (time is counted in events), no randomness. Not thread-safe: the engine holds
a lock. No call takes longer in a larger store. Pinned events are never asked about: the ring keeps
them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.slots import SLOTS_MAX, grown
from localmem_protocol.events import Event

COPIED_SHARE: Final = 0.5
"""Bytes that may be copied forward per byte newly written. What earns nothing leaves after two thirds
of the time. A quarter gains less, as much again no more."""

BURST_BYTES_MAX: Final = 64 * 1024
"""Bytes saved up for copying: what one append may cause at most."""

BURST_PART: Final = 16
"""In a small ring, no more is saved up than this part of it."""

THRESHOLD_PER_RING: Final = 8.0
"""How far the threshold could move, in units of the score, while one ring of bytes passes the tail:
several times the spread of the score, so that it settles early in the first round."""

FOLLOWED_EVENTS: Final = 10
"""An answer was of use if one of so many events after it is about the same file."""

NEIGHBOURS_MAX: Final = 64
"""Events of the same file that a new one is compared with, newest first."""

CHARACTERS_BASE: Final = 100
"""Added to the characters of a snippet: below some hundred, fewer are hardly worse."""

VERSION: Final = 1

_KNOWN: Final = 1
_REPLACED: Final = 2
_CONFIRMED: Final = 4
_NO_FILE: Final = 0
_CHARACTERS: Final = 0xFFFF
_RETURNED: Final = 0xFFFF
_ROUNDS: Final = 0xFF
_ROW: Final = np.dtype(
    [
        ("file", "<u4"),
        ("first", "<i4"),
        ("last", "<i4"),
        ("characters", "<u2"),
        ("returned", "<u2"),
        ("rounds", "u1"),
        ("flags", "u1"),
    ]
)


class Retention(Protocol):
    """What is known of live events, by slot, and who stays. The engine reports what happens."""

    def added(self, slot: int, event: Event, size: int) -> None:
        """An event is live; `size` bytes were written for it, 0 if it was only read again."""
        ...

    def used(self, slots: Sequence[int]) -> None:
        """A query was answered with these events."""
        ...

    def removed(self, slot: int) -> None:
        """An event has left; unknown slots are ignored."""
        ...

    def earned(self, slot: int, size: int) -> bool:
        """Whether the event at the tail is to be copied forward, which writes `size` bytes.

        True takes them from what may be copied: the caller copies, or the event leaves.
        """
        ...

    def dump(self) -> bytes:
        """What is to be known again after a restart, for `load`."""
        ...

    def load(self, data: bytes, slots: Sequence[int]) -> None:
        """Take up what was dumped, of the events that are still live. Before anything else.

        Raises DamagedIndex for anything else; then nothing is known, and nothing earns a round.
        """
        ...


class Fifo:
    """First in, first out: nothing earns another round."""

    def added(self, slot: int, event: Event, size: int) -> None:
        """Nothing to remember."""

    def used(self, slots: Sequence[int]) -> None:
        """Nothing to remember."""

    def removed(self, slot: int) -> None:
        """Nothing to forget."""

    def earned(self, slot: int, size: int) -> bool:
        """Never."""
        return False

    def dump(self) -> bytes:
        """Nothing."""
        return b""

    def load(self, data: bytes, slots: Sequence[int]) -> None:
        """Whatever another policy knew is dropped."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts for another round (positive), and against it.

    `content`: per natural logarithm of the snippet's characters: long edits are built on for longer.
    `returned`: per natural logarithm of the times it was an answer: what answers everything is seldom
    what was asked for, and stands in the way of what is. `followed`: it was an answer, and work on its
    file followed. `replaced`: a newer event is about the same lines of the same file. `round`: for each
    round granted before.
    """

    content: float = 0.3
    returned: float = -0.3
    followed: float = 0.3
    replaced: float = -0.3
    round: float = -0.2


class Dump(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What is kept of `Relevance`: a row per event, and where the threshold and the budget stand."""

    version: int
    slots: bytes  # uint32 per event
    rows: bytes  # _ROW per event
    newest: int
    threshold: float | None
    saved: float


class Relevance:
    """Copies forward what scores best, within a budget: see the module."""

    def __init__(
        self, ring_bytes: int, weights: Weights = Weights(), *, share: float = COPIED_SHARE
    ) -> None:
        """`ring_bytes`: what the ring holds. After a resize another object takes over (`dump`, `load`).

        `share`: bytes that may be copied per byte newly written.
        """
        if ring_bytes < 1 or share < 0:
            raise ValueError("a ring has bytes, and the share of what is copied is not negative")
        self.weights, self._share = weights, share
        self._ring_bytes = ring_bytes
        self._burst = float(min(BURST_BYTES_MAX, ring_bytes // BURST_PART))
        self._rows = np.zeros(0, dtype=_ROW)
        self._asked = np.zeros(0, dtype=np.int64)  # `_events` when it was last an answer; 0: never
        self._files: dict[int, array[int]] = {}  # live slots, oldest first
        self._events = 1
        self._newest = 0
        self._saved = 0.0
        self._threshold: float | None = None

    def added(self, slot: int, event: Event, size: int) -> None:
        """See `Retention`. Raises ValueError for a slot that is taken or out of bounds."""
        if not 0 <= slot < SLOTS_MAX or self._knows(slot):
            raise ValueError(f"slot {slot} is taken, or not from 0 to {SLOTS_MAX - 1}")
        self._saved = min(self._saved + self._share * size, self._burst)
        self._events += 1
        self._rows, self._asked = grown(self._rows, slot + 1), grown(self._asked, slot + 1)
        file, (first, last) = _file(event), event.selection_range or (1, 0)
        # One that arrives late, from another device, says nothing about what is newer.
        if file != _NO_FILE and event.clock >= self._newest:
            self._compare(file, first, last)
        self._newest = max(self._newest, event.clock)
        characters = min(len(event.snippet), _CHARACTERS)
        self._rows[slot] = (file, first, last, characters, 0, 0, _KNOWN)
        self._asked[slot] = 0
        if file != _NO_FILE:
            self._files.setdefault(file, array("i")).append(slot)

    def used(self, slots: Sequence[int]) -> None:
        """See `Retention`."""
        for slot in slots:
            if self._knows(slot):
                self._rows["returned"][slot] = min(self._rows["returned"][slot] + 1, _RETURNED)
                self._asked[slot] = self._events

    def removed(self, slot: int) -> None:
        """See `Retention`."""
        if not self._knows(slot):
            return
        file = int(self._rows["file"][slot])
        if file != _NO_FILE:
            slots = self._files[file]
            slots.remove(slot)  # at the front, if events leave in the order they came
            if not slots:
                del self._files[file]
        self._rows[slot] = 0

    def earned(self, slot: int, size: int) -> bool:
        """See `Retention`. What is not known leaves."""
        if not self._knows(slot):
            return False
        score = self.score(slot)
        threshold = score if self._threshold is None else self._threshold
        above = score >= threshold
        # So that of the bytes at the tail just those that the budget can copy are above it.
        share = self._share / (1 + self._share)
        step = THRESHOLD_PER_RING * size / self._ring_bytes
        self._threshold = threshold + step * (1 - share if above else -share)
        if not above or size > self._saved:
            return False
        self._saved -= size
        self._rows["rounds"][slot] = min(self._rows["rounds"][slot] + 1, _ROUNDS)
        return True

    def score(self, slot: int) -> float:
        """What counts for an event that is known."""
        row: tuple[int, ...] = self._rows[slot].item()
        _, _, _, characters, returned, rounds, flags = row
        weights = self.weights
        return (
            weights.content * math.log(CHARACTERS_BASE + characters)
            + weights.returned * math.log1p(returned)
            + weights.followed * bool(flags & _CONFIRMED)
            + weights.replaced * bool(flags & _REPLACED)
            + weights.round * rounds
        )

    def dump(self) -> bytes:
        """See `Retention`: 22 bytes per event, before compression."""
        # By file and age, as `load` needs them; events without a file come last.
        held = [slot for slots in self._files.values() for slot in slots]
        known = self._rows["flags"] != 0
        known[held] = False
        slots = np.array([*held, *np.flatnonzero(known).tolist()], dtype=np.int64)
        return msgspec.msgpack.encode(
            Dump(
                version=VERSION,
                slots=slots.astype("<u4").tobytes(),
                rows=self._rows[slots].tobytes(),
                newest=self._newest,
                threshold=self._threshold,
                saved=self._saved,
            )
        )

    def load(self, data: bytes, slots: Sequence[int]) -> None:
        """See `Retention`."""
        if not data:
            return
        dump = _checked(data)
        places = np.frombuffer(dump.slots, dtype="<u4").astype(np.int64)
        rows = np.frombuffer(dump.rows, dtype=_ROW)
        live = np.isin(places, np.asarray(slots, dtype=np.int64))
        places, rows = places[live], rows[live]
        width = int(places.max(initial=-1)) + 1
        self._rows, self._asked = grown(self._rows, width), grown(self._asked, width)
        self._rows[places] = rows
        for slot, file in zip(places.tolist(), rows["file"].tolist(), strict=True):
            if file != _NO_FILE:
                self._files.setdefault(file, array("i")).append(slot)
        self._newest, self._threshold = dump.newest, dump.threshold
        self._saved = min(max(dump.saved, 0.0), self._burst)

    def _knows(self, slot: int) -> bool:
        return 0 <= slot < len(self._rows) and bool(self._rows["flags"][slot])

    def _compare(self, file: int, first: int, last: int) -> None:
        """Mark what a new event about these lines replaces, and which answers it confirms."""
        held = self._files.get(file)
        if held is None:
            return
        near = np.array(held[-NEIGHBOURS_MAX:], dtype=np.int64)
        rows = self._rows[near]
        replaced = near[(rows["first"] <= last) & (rows["last"] >= first)]
        asked = self._asked[near]
        confirmed = near[(asked > 0) & (self._events - asked <= FOLLOWED_EVENTS)]
        self._rows["flags"][replaced] |= _REPLACED
        self._rows["flags"][confirmed] |= _CONFIRMED


POLICIES: Final[dict[str, Callable[[int], Retention]]] = {
    "fifo": lambda ring_bytes: Fifo(),
    "relevance": Relevance,
}
"""What `store.eviction` can be; each is made for a ring of so many bytes."""


def _file(event: Event) -> int:
    """A number for the file of an event, other than _NO_FILE if it has one. Two files that share a
    number count as one, which costs an event a fraction of its score.
    """
    if event.file_path is None:
        return _NO_FILE
    name = f"{event.project or ''}\0{event.file_path}".encode()
    return int.from_bytes(blake2b(name, digest_size=4).digest(), "little") or 1


def _checked(data: bytes) -> Dump:
    try:
        dump = msgspec.msgpack.decode(data, type=Dump)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedIndex(f"the saved retention does not parse ({error}); it is dropped") from None
    if dump.version != VERSION:
        raise DamagedIndex("the saved retention is of another version; it is dropped")
    events = len(dump.slots) // 4
    slots: npt.NDArray[np.uint32] = np.frombuffer(dump.slots[: 4 * events], dtype="<u4")
    rows = np.frombuffer(dump.rows[: len(dump.rows) // _ROW.itemsize * _ROW.itemsize], dtype=_ROW)
    sound = (
        len(dump.slots) == 4 * events
        and len(dump.rows) == _ROW.itemsize * events
        and int(slots.max(initial=0)) < SLOTS_MAX
        and len(np.unique(slots)) == events
        and bool((rows["flags"] & _KNOWN).all())
        and dump.newest >= 0
        and all(math.isfinite(number) for number in (dump.threshold or 0.0, dump.saved))
    )
    if not sound:
        raise DamagedIndex("the saved retention contradicts itself; it is dropped")
    return dump
