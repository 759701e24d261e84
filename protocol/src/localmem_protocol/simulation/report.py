"""What a simulation found: one frozen record, the same to the last byte for the same seed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

LAST_STEPS: Final = 40
"""Steps of a trace that a report repeats when something went wrong."""


class Trace:
    """Everything that happens, a line each: hashed, and the last lines kept.

    `sink` gets every line, if there is one.
    """

    def __init__(self, sink: Callable[[str], object] | None = None) -> None:
        self.last: deque[str] = deque(maxlen=LAST_STEPS)
        self.count = 0
        self._sink = sink
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, now_us: int, who: str, what: str) -> None:
        """One line: true time in seconds, who, and what."""
        line = f"{now_us // 1_000_000}.{now_us % 1_000_000:06d} {who} {what}"
        self.count += 1
        self._hash.update(line.encode() + b"\n")
        self.last.append(line)
        if self._sink is not None:
            self._sink(line)

    def digest(self) -> str:
        """The hash of all lines so far, 32 hex digits."""
        return self._hash.hexdigest()


@dataclass
class Traffic:
    """Frames of one device: how many and how large, by direction and by kind."""

    frames: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    bytes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    kinds: dict[str, int] = field(default_factory=dict)

    def count(self, direction: str, kind: str, size: int) -> None:
        """One more frame."""
        self.frames[direction] += 1
        self.bytes[direction] += size
        name = f"{direction} {kind}"
        self.kinds[name] = self.kinds.get(name, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in an order that does not depend on what came first."""
        return {
            "frames_up": self.frames["up"],
            "frames_down": self.frames["down"],
            "bytes_up": self.bytes["up"],
            "bytes_down": self.bytes["down"],
            "kinds": dict(sorted(self.kinds.items())),
        }


@dataclass(frozen=True)
class Report:
    """What came of one seed.

    `converged`: after healing all devices hold the same document, and the same events in the same
    order, and nothing else that the oracle watches was wrong on the way; `violations` says what was.
    `lost_acknowledged` counts events that somebody was told are kept and nobody has any more.
    `lost_with_hub` counts events that only the hub had, and lost when it was restored from a backup, and
    (event, device) pairs where the rest of an epoch that was over went that way.
    `faults` counts by name what really struck. `traffic` is by device, in bytes of frames.
    `forgotten` counts events that somebody forgot, and that are nowhere any more; `epochs` how many keys
    the pool had.
    `referred` counts the events that travelled as references, and `texts_missing` the (event, device) pairs
    where a reference came and nobody whom that device could ask had the text any more.
    `evicted_undelivered` counts (event, device) pairs where the event left its owner's array before
    that device had it. `document` and `trace_hash` are the same for the same seed.
    """

    seed: int
    devices: int
    hours: int
    converged: bool
    lost_acknowledged: int
    violations: tuple[str, ...]
    faults: Mapping[str, int]
    events: int
    snippet_bytes: int
    forgotten: int
    epochs: int
    evicted_undelivered: int
    lost_with_hub: int
    referred: int
    texts_missing: int
    traffic: Mapping[str, Mapping[str, Any]]
    document_bytes: int
    document: str
    steps: int
    trace_hash: str
    last_steps: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return self.converged and not self.lost_acknowledged

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the last steps only when something went wrong."""
        fields = asdict(self)
        if self.passed:
            del fields["last_steps"]
        return fields

    def explanation(self) -> str:
        """For people, when something went wrong: seed, faults, what, and the last steps."""
        faults = ", ".join(f"{name} {count}" for name, count in self.faults.items() if count)
        return "\n".join(
            [
                f"seed {self.seed}: {self.devices} devices, {self.hours} h; faults: {faults or 'none'}",
                *(f"  {violation}" for violation in self.violations),
                "the last steps:",
                *(f"  {step}" for step in self.last_steps),
            ]
        )
