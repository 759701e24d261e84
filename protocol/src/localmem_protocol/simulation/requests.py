"""Requests and answers over a virtual line: the way of frames where nothing but HTTP gets through.

A device has at least one request under way, which the hub holds until it has something to say; what
the device has to say goes up at once in another. Every request and every answer is on its own: it
may overtake others, come twice or never. A device that hears nothing tries a new connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX
from localmem_protocol.simulation.clock import MS, SECOND, Timeline
from localmem_protocol.simulation.network import (
    BYTES_PER_MS,
    GIVE_UP_US,
    NOTICE,
    DeviceEnd,
    HubEnd,
    Line,
    Link,
    Taps,
)

GATHER_US: Final = 2 * MS
"""How long a hub waits for more to put into an answer."""

HOLD_US: Final = 25 * SECOND
"""How long a hub holds a request that it has nothing to answer to."""


class Requests(Link):
    """Requests and their answers, each on its own way."""

    def __init__(
        self, timeline: Timeline, line: Line, device: DeviceEnd, hub: HubEnd, taps: Taps
    ) -> None:
        super().__init__(timeline, line, device, hub, taps)
        self._to_send: list[bytes] = []
        self._planned = False
        self._asked = 0
        self._open: set[int] = set()  # requests without an answer, at the device
        self._held: list[int] = []  # the same, at the hub
        self._outgoing: list[bytes] = []  # at the hub, for the next answer

    def send_up(self, data: bytes) -> None:
        """As `Link` says: it goes with the next request, which sets out at once."""
        self.taps.frame(self.line, "up", data)
        self._to_send.append(data)
        self._plan()

    def send_down(self, data: bytes) -> None:
        """As `Link` says: it goes with the next answer, at once if a request is held."""
        self.taps.frame(self.line, "down", data)
        self._outgoing.append(data)
        if self.waiting_bytes() > OUTGOING_BYTES_MAX:
            hub = self.hub
            self.close(Close.SLOW)
            if hub is not None:
                hub.closed(self)
        elif self._held:
            self.timeline.after(GATHER_US, self._answer)

    def waiting_bytes(self) -> int:
        """As `Link` says."""
        return sum(map(len, self._outgoing))

    def close(self, code: int) -> None:
        """As `Link` says, after what the hub still had to say."""
        if self._outgoing and self._held:
            self._answer()
        super().close(code)

    def _close_delay_us(self) -> int:
        return SECOND

    def _opened(self) -> None:
        super()._opened()
        self._plan()

    def _plan(self) -> None:
        if not self._planned and not self.dead:
            self._planned = True
            self.timeline.after(0, self._request)

    def _request(self) -> None:
        self._planned = False
        if self.device is None or self.dead:
            return
        frames, self._to_send = self._to_send, []
        self._asked += 1
        number = self._asked
        self._open.add(number)
        self._carry(frames, lambda found: self._arrived(found, number))
        self.timeline.after(HOLD_US + GIVE_UP_US, lambda: self._give_up(number))

    def _carry(self, frames: list[bytes], deliver: Callable[[list[bytes]], None]) -> None:
        line, stream = self.line, self.line.stream
        if stream.strikes(line.loss):
            self.taps.fault("loss")
            return
        if frames and stream.strikes(line.damage):
            altered = self.damaged(frames[0])
            if altered is None:
                return
            self.taps.fault("poison")
            frames = [altered, *frames[1:]]
        arrival = self.transit_us() + sum(map(len, frames)) * MS // BYTES_PER_MS
        if stream.strikes(line.reorder):
            self.taps.fault("reorder")
            arrival += stream.below(3 * SECOND)
        self.timeline.after(arrival, lambda: deliver(frames))
        if stream.strikes(line.duplication):
            self.taps.fault("duplication")
            self.timeline.after(arrival + stream.below(2 * SECOND), lambda: deliver(frames))

    def _arrived(self, frames: list[bytes], number: int) -> None:
        for data in frames:
            if self.hub is None or self.dead:
                return
            self.hub.received(self, data)
        self._held.append(number)
        self.timeline.after(GATHER_US if self._outgoing else HOLD_US, self._answer)

    def _answer(self) -> None:
        if not self._held or self.dead or self.hub is None:
            return
        number = self._held.pop(0)
        frames, self._outgoing = self._outgoing, []
        self._carry(frames, lambda found: self._came_back(found, number))

    def _came_back(self, frames: list[bytes], number: int) -> None:
        self._open.discard(number)
        for data in frames:
            if self.device is None or self.dead:
                return
            self.device.received(data)
        if not self._open:
            self._plan()  # there is always one that the hub can answer to

    def _give_up(self, number: int) -> None:
        """A request without an answer: the device tries a new connection."""
        if number in self._open and self.device is not None:
            device, self.device = self.device, None
            self.timeline.after(NOTICE.draw(self.line.stream), self.end_hub)
            self._forget()
            device.closed(None)
