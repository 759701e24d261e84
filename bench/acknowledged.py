"""What clients of a daemon were told, and whether a store still holds it.

Kept outside the daemon, so that no fault of its can touch it. Every event's content follows from a
seed, its client and its number: what is found can be checked whether it was acknowledged or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import shake_128
from pathlib import Path
from threading import Lock
from typing import Any, Final

from localmem_node.errors import StoreError
from localmem_node.seams import KeyStore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemRandom
from localmem_protocol.events import Event

EVENT_BYTES_MAX: Final = 1300
"""What an event of `text` takes in the ring at most, with a vector that has a record to itself."""

RING_SHARE: Final = 0.8
"""Of the file's bytes, what the ring holds at least; the rest is index section and slack."""

NEW_SHARE: Final[Mapping[str, float]] = {"fifo": 1.0, "relevance": 0.6}
"""Of the ring, what the newest events have for themselves at least, by how others make room. With
`relevance` one byte may be copied forward for two that are new (`retention.COPIED_SHARE`)."""

PROBLEMS_SHOWN: Final = 10
NAME_LETTERS: Final = 20
BLANKS_MAX: Final = 2400
_LABEL: Final = re.compile(r"[a-p]+ client (\d+) event (\d+)\n")


@dataclass
class Result:
    """Counts of one or more rounds; all but the first four are 0 or empty if all is well.

    `evicted` are events that had made room before they were looked for; `not_found`, of the events
    that are there, those that a search for their first word does not find.
    """

    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    evicted: int = 0
    lost_acknowledged: int = 0
    altered: int = 0
    corrupt_opens: int = 0
    damaged_records: int = 0
    not_found: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong."""
        wrong = (self.lost_acknowledged, self.altered, self.corrupt_opens, self.damaged_records)
        return not any(wrong) and not self.not_found and not self.problems

    def add(self, other: Result) -> None:
        """Count another round in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, object]:
        """For a report: the first PROBLEMS_SHOWN problems suffice."""
        problems = self.problems[:PROBLEMS_SHOWN]
        return {**vars(self), "moments": dict(self.moments), "problems": problems}


class Ledger:
    """Acknowledged events by sequence. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: dict[int, Event] = {}
        self.problems: list[str] = []

    def acknowledge(self, event: Event) -> None:
        """A client was told that an event is durable."""
        with self._lock:
            earlier = self._events.setdefault(event.sequence, event)
        if earlier is not event:
            self.problems.append(f"sequence {event.sequence} was given to two events")

    def events(self) -> dict[int, Event]:
        """By sequence, as of now."""
        with self._lock:
            return dict(self._events)


def text(seed: int, client: int, number: int) -> str:
    """The snippet of a client's event: a name that no other has, a few words, and up to 600 bytes.

    These are white space, which cannot be compressed away, and costs neither index nor encoder time.
    """
    stream = shake_128(f"{seed} {client} {number}".encode()).digest(NAME_LETTERS + 2 + BLANKS_MAX)
    letters = bytes(97 + byte % 16 for byte in stream[:NAME_LETTERS]).decode()
    blanks = stream[-(int.from_bytes(stream[NAME_LETTERS : NAME_LETTERS + 2]) % BLANKS_MAX) :]
    noise = "".join(" \t\n\r"[byte % 4] for byte in blanks)
    return f"{letters} client {client} event {number}\n{noise}."


def edit(seed: int, client: int, number: int) -> dict[str, Any]:
    """The JSON object of a client's event; numbers count from 1."""
    return {
        "timestamp": 1_760_000_000_000 + number,
        "filePath": f"src/client_{client}.py",
        "selectionRange": [number, number + 3],
        "snippet": text(seed, client, number),
    }


def compare(
    path: Path,
    keystore: KeyStore,
    size: int,
    seed: int,
    acknowledged: Mapping[int, Event],
    eviction: str = "fifo",
) -> Result:
    """Open the store of `size` bytes at `path`; what is wrong with it.

    With `fifo` every acknowledged event after the oldest that is there must be there as well.
    """
    result = Result()
    try:
        store = open_event_store(path, keystore, SystemRandom(), create=False)
    except StoreError as error:
        result.corrupt_opens = 1
        result.problems.append(str(error))
        return result
    with store:
        scanned = [event for _, event in store.scan()]
        result.damaged_records = store.stats().damaged
    found = {event.sequence: event for event in scanned}
    if len(found) < len(scanned):
        result.problems.append(f"{len(scanned)} events have {len(found)} sequences")
    newest = max(*found, *acknowledged, 0)
    oldest = max(1, newest + 1 - int(NEW_SHARE[eviction] * RING_SHARE * size / EVENT_BYTES_MAX))
    if eviction == "fifo":
        oldest = min(oldest, min(found, default=1))
    for sequence, event in acknowledged.items():
        if sequence not in found:
            result.evicted += sequence < oldest
            result.lost_acknowledged += sequence >= oldest
        elif found[sequence] != event:
            result.altered += 1
    unknown = found.keys() - acknowledged.keys()
    result.altered += sum(not _genuine(found[sequence], seed) for sequence in unknown)
    return result


def _genuine(event: Event, seed: int) -> bool:
    """Whether this is an event that was sent, though nobody was told that it is durable."""
    label = _LABEL.match(event.snippet)
    if label is None:
        return False
    sent = edit(seed, int(label[1]), int(label[2]))
    return (event.snippet, event.file_path, event.timestamp, list(event.selection_range or ())) == (
        sent["snippet"],
        sent["filePath"],
        sent["timestamp"],
        sent["selectionRange"],
    )
