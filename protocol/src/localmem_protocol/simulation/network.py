"""A virtual network: lines of devices to one hub, and two kinds of connections over them.

A `Stream` is like WebSocket over TLS: frames arrive in the order in which they were sent, and one
that is lost is the end of the connection, which both ends learn at different times. `Requests` is
like the sync exchange over HTTP: what a device has to say goes up in a request, what the hub has for
it comes down in the answer; each takes its own time, may overtake another, come twice, or never.

What faults do to a line is a number there: `Line`. A frame that was altered on its way never
reaches the state machines unless their decoders refuse it: telling the others is what TLS is for.
`Requests` are in `requests.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from localmem_protocol.frames import Close
from localmem_protocol.limits import OUTGOING_BYTES_MAX
from localmem_protocol.simulation.clock import MS, SECOND, Timeline
from localmem_protocol.simulation.streams import Distribution, SeededRandom

HOME: Final = Distribution(8 * MS, 11 * MS, 13 * MS, 16 * MS, 22 * MS, 60 * MS, 180 * MS)
"""One way from a developer's desk to a hub on the Internet."""

BYTES_PER_MS: Final = 1250
"""10 Mbit/s."""

NOTICE: Final = Distribution(2 * SECOND, 15 * SECOND, 25 * SECOND, 40 * SECOND)
"""How long an end takes to learn that its connection is dead."""

GIVE_UP_US: Final = 10 * SECOND
"""How long a device waits for a connection, or for an answer."""


class DeviceEnd(Protocol):
    """What a connection tells a device."""

    def opened(self) -> None:
        """It is there."""
        ...

    def received(self, data: bytes) -> None:
        """A frame came."""
        ...

    def closed(self, code: int | None) -> None:
        """It is gone; `code` is what the hub said, if it said anything."""
        ...


class HubEnd(Protocol):
    """What connections tell a hub."""

    def opened(self, link: Link) -> None:
        """One is there."""
        ...

    def received(self, link: Link, data: bytes) -> None:
        """A frame came."""
        ...

    def closed(self, link: Link) -> None:
        """One is gone."""
        ...


@dataclass
class Line:
    """One device's way to the hub, and what is wrong with it at the moment.

    Chances are per mille of the frames; `delay_us` is added to each of them.
    """

    name: str
    stream: SeededRandom
    latency: Distribution = HOME
    up: bool = True
    loss: int = 0
    duplication: int = 0
    reorder: int = 0
    damage: int = 0
    delay_us: int = 0
    links: list[Link] = field(default_factory=list)

    def cut(self) -> None:
        """Nothing gets through any more."""
        self.up = False
        for link in list(self.links):
            link.die()


@dataclass
class Taps:
    """Who sees what happens on the network.

    `frame` gets the line, the direction and every frame as it is sent, `message` the same of what is
    asked about the roster; `fault` the name of every
    fault that strikes a frame; `refuses` says of altered bytes whether a decoder refuses them.
    """

    frame: Callable[[Line, str, bytes], None]
    message: Callable[[Line, str, bytes], None]
    fault: Callable[[str], None]
    refuses: Callable[[bytes], bool]


class Link:
    """A connection of a device, as both ends see it. Subclasses carry the frames."""

    def __init__(
        self, timeline: Timeline, line: Line, device: DeviceEnd, hub: HubEnd, taps: Taps
    ) -> None:
        self.connection = 0  # given by the hub
        self.timeline, self.line = timeline, line
        self.device: DeviceEnd | None = device
        self.hub: HubEnd | None = hub
        self.taps = taps
        self.name = ""
        self.epoch = 0
        line.links.append(self)

    def open(self) -> None:
        """Connect: three times across the line, or not at all."""
        if not self.line.up:
            self.timeline.after(GIVE_UP_US, lambda: self.end_device(None))
            return
        self.timeline.after(3 * self.transit_us(), self._arrive)

    def send_up(self, data: bytes) -> None:
        """A frame of the device sets out."""
        raise NotImplementedError

    def send_down(self, data: bytes) -> None:
        """A frame of the hub sets out."""
        raise NotImplementedError

    def waiting_bytes(self) -> int:
        """What the hub has sent and the device has not taken."""
        return 0

    def hang_up(self) -> None:
        """The device ends it; the hub hears of that, if the line is up, and else later."""
        self.device = None
        delay = self.transit_us() if self.line.up else NOTICE.draw(self.line.stream)
        self.timeline.after(delay, self.end_hub)

    def close(self, code: int) -> None:
        """The hub ends it with a code, which the device hears if the line is up."""
        self.hub = None
        if self.line.up:
            self.timeline.after(self._close_delay_us(), lambda: self.end_device(code))
        else:
            self.timeline.after(NOTICE.draw(self.line.stream), lambda: self.end_device(None))

    def reset(self) -> None:
        """The hub's process is gone, and with it the connection."""
        self.hub = None
        delay = self.transit_us() if self.line.up else NOTICE.draw(self.line.stream)
        self.timeline.after(delay, lambda: self.end_device(None))

    def die(self) -> None:
        """Nothing gets through any more; each end learns it at its own time."""
        self.timeline.after(NOTICE.draw(self.line.stream), lambda: self.end_device(None))
        self.timeline.after(NOTICE.draw(self.line.stream), self.end_hub)
        self._forget()

    def end_device(self, code: int | None) -> None:
        """The device learns that it is over."""
        device, self.device = self.device, None
        if self.hub is None:
            self._forget()
        if device is not None:
            device.closed(code)

    def end_hub(self) -> None:
        """The hub learns that it is over."""
        hub, self.hub = self.hub, None
        if self.device is None:
            self._forget()
        if hub is not None and self.connection:
            hub.closed(self)

    def transit_us(self) -> int:
        """How long something small takes now."""
        return self.line.latency.draw(self.line.stream) + self.line.delay_us

    def _arrive(self) -> None:
        if not self.line.up or self.hub is None or self.device is None:
            return self.die()
        self.hub.opened(self)
        if self.hub is not None:
            self.timeline.after(self.transit_us(), self._opened)
        return None

    def _opened(self) -> None:
        if self.device is not None and self in self.line.links:
            self.device.opened()

    def _close_delay_us(self) -> int:
        return self.transit_us()

    def _forget(self) -> None:
        if self in self.line.links:
            self.line.links.remove(self)

    @property
    def dead(self) -> bool:
        """Whether nothing gets through any more."""
        return self not in self.line.links

    def damaged(self, data: bytes) -> bytes | None:
        """The frame with some bytes altered; None if a decoder would take it for good."""
        stream = self.line.stream
        altered = bytearray(data)
        for _ in range(stream.between(1, 3)):
            altered[stream.below(min(len(altered), 48))] ^= 1 << stream.below(8)
        if stream.strikes(300):
            del altered[stream.below(len(altered)) :]
        return bytes(altered) if self.taps.refuses(bytes(altered)) else None


class Stream(Link):
    """Frames in order, or the end."""

    def __init__(
        self, timeline: Timeline, line: Line, device: DeviceEnd, hub: HubEnd, taps: Taps
    ) -> None:
        super().__init__(timeline, line, device, hub, taps)
        self._last_us = [0, 0]  # when the newest frame arrives: up, down
        self._waiting = 0

    def send_up(self, data: bytes) -> None:
        """As `Link` says."""
        self.taps.frame(self.line, "up", data)
        self._send(0, data, self._deliver_up)

    def send_down(self, data: bytes) -> None:
        """As `Link` says."""
        self.taps.frame(self.line, "down", data)
        self._waiting += len(data)
        self._send(1, data, self._deliver_down)
        if self._waiting > OUTGOING_BYTES_MAX:
            hub = self.hub
            self.close(Close.SLOW)
            if hub is not None:
                hub.closed(self)

    def waiting_bytes(self) -> int:
        """As `Link` says."""
        return self._waiting

    def _send(self, way: int, data: bytes, deliver: Callable[[bytes, int], None]) -> None:
        line, stream = self.line, self.line.stream
        if self.dead:
            return
        if stream.strikes(line.loss):
            self.taps.fault("loss")
            self.die()
            return
        size = len(data)
        now = self.timeline.now_us
        arrival = now + self.transit_us() + size * MS // BYTES_PER_MS
        if stream.strikes(line.damage):
            altered = self.damaged(data)
            if altered is None:
                self.die()
                return
            self.taps.fault("poison")
            data = altered
        if stream.strikes(line.reorder):
            self.taps.fault("reorder")  # those that follow may overtake it
            arrival = max(arrival, self._last_us[way]) + stream.below(500 * MS)
        else:
            arrival = self._last_us[way] = max(arrival, self._last_us[way])
        self.timeline.after(arrival - now, lambda: deliver(data, size))
        if stream.strikes(line.duplication):
            self.taps.fault("duplication")
            again = arrival + stream.below(2 * SECOND)
            self.timeline.after(again - now, lambda: deliver(data, 0))

    def _deliver_up(self, data: bytes, size: int) -> None:
        if self.hub is not None and not self.dead:
            self.hub.received(self, data)

    def _deliver_down(self, data: bytes, size: int) -> None:
        self._waiting -= size
        if self.device is not None and not self.dead:
            self.device.received(data)

    def _close_delay_us(self) -> int:
        """After everything that was sent before."""
        now = self.timeline.now_us
        return max(now + self.transit_us(), self._last_us[1]) - now
