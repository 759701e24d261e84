"""How many requests a day's work comes to, where a hub does not let questions wait.

The moments are those of the trace that `bench payload` sends, in bursts of ten edits; when what is new is
sent and when a device asks is decided by `batching` and `pacing`, in virtual time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bench.payload_trace import BEGAN_MS, DAY_MS, trace
from localmem_protocol.batching import DEFAULT, Audience, Unsent
from localmem_protocol.pacing import Pacing
from localmem_protocol.simulation import SeededRandom

EVENTS: Final = 200
DEVICES: Final = 3
DAY_S: Final = DAY_MS / 1000


class Clock:
    """The time of day."""

    def __init__(self) -> None:
        self.s = 0.0

    def now_ms(self) -> int:
        """As `Clock` says."""
        return int(self.s * 1000)

    def monotonic_s(self) -> float:
        """As `Clock` says."""
        return self.s


@dataclass
class Device:
    """A device that is on all day; `seen` is how much of the log it has."""

    moments: list[float]
    pacing: Pacing
    asks_s: float = 0.0
    unsent: list[float] = field(default_factory=list)
    seen: int = 0
    posts: int = 0
    polls: int = 0

    @property
    def due_s(self) -> float:
        """When what it has not sent is to go out."""
        if not self.unsent:
            return DAY_S
        held = Unsent(len(self.unsent), 200 * len(self.unsent), self.unsent[0], self.unsent[-1])
        due = DEFAULT.due_s(held, Audience.LISTENING)
        return DAY_S if due is None else due

    @property
    def next_s(self) -> float:
        """When something happens."""
        return min(self.moments[0] if self.moments else DAY_S, self.due_s, self.asks_s)

    def act(self, now_s: float, head: int) -> int:
        """Do what is due; how long the log is then."""
        if self.moments and self.moments[0] <= now_s:
            self.unsent.append(self.moments.pop(0))
            return head
        if head > self.seen:
            self.pacing.heard()
        if self.due_s <= now_s:
            self.unsent.clear()
            self.posts += 1
            head += 1
            self.pacing.said()
        else:
            self.polls += 1
        self.seen = head
        self.asks_s = now_s + self.pacing.rest_s()
        return head


def requests_in_a_day(events: int = EVENTS) -> dict[str, int]:
    """Of one device among three: requests that bring something, and those that only ask."""
    clock = Clock()
    found = trace(events, DEVICES, bursts=True).events.values() if events else [[]] * DEVICES
    devices = [
        Device(
            [(event.timestamp - BEGAN_MS) / 1000 for event in own], Pacing(clock, SeededRandom(n))
        )
        for n, own in enumerate(found)
    ]
    head = 0
    while (device := min(devices, key=lambda one: one.next_s)).next_s < DAY_S:
        clock.s = device.next_s
        head = device.act(clock.s, head)
    return {
        "posts": round(sum(device.posts for device in devices) / DEVICES),
        "polls": round(sum(device.polls for device in devices) / DEVICES),
    }
