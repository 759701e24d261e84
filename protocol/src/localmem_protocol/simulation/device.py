"""A simulated device: a process around a device's side, its disk, its clock and its line.

What production's sync agent does with asyncio happens here in virtual time, with the same policy of
when to try again (`reconnect`). A crash keeps what is on disk; a rollback puts a backup there. A
device learns of a new epoch when it connects: it receives the rest of the old document first, as a
reader, then begins with an empty one and fills it from its event log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError, RefusedError
from localmem_protocol.events import Draft, Event
from localmem_protocol.frames import is_permanent
from localmem_protocol.reconnect import Backoff, outlives
from localmem_protocol.simulation.clock import MINUTE, MS, SECOND, Timeline, WallClock
from localmem_protocol.simulation.disk import Crash, DeviceDisk, Image
from localmem_protocol.simulation.hub import SimulatedHub
from localmem_protocol.simulation.network import Line, Link
from localmem_protocol.simulation.participants import DeviceSide, Implementation
from localmem_protocol.simulation.streams import Distribution, SeededRandom

DOWN: Final = Distribution(1 * SECOND, 5 * SECOND, 30 * SECOND, 10 * MINUTE)
"""How long a device is away after a crash."""

WAKE_US: Final = 5 * MS
"""From an event that is recorded to the agent that hears of it."""


class Surroundings(Protocol):
    """What a device needs of the world."""

    implementation: Implementation
    timeline: Timeline
    hub: SimulatedHub
    array_bytes_max: int

    def key(self, epoch: int) -> PoolKey:
        """The key of an epoch."""
        ...

    def connect(self, device: SimulatedDevice) -> Link:
        """A connection that begins now."""
        ...

    def looked_at(self, device: SimulatedDevice) -> None:
        """Something happened on it."""
        ...

    def sent(self, device: SimulatedDevice, frame: bytes) -> None:
        """It sends a frame."""
        ...

    def broke(self, who: str, error: BaseException) -> None:
        """Its side raised what it must not."""
        ...

    def failed(self, device: SimulatedDevice, error: ProtocolError) -> None:
        """Its side objected to what the hub said."""
        ...

    def struck(self, fault: str) -> None:
        """A fault struck."""
        ...

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        ...


class SimulatedDevice:
    """One machine. `name` is unique; `disk.log.device` is not, if the machine was cloned."""

    def __init__(
        self,
        name: str,
        world: Surroundings,
        disk: DeviceDisk,
        clock: WallClock,
        line: Line,
        stream: SeededRandom,
    ) -> None:
        self.name, self.disk, self.clock, self.line = name, disk, clock, line
        self.link: Link | None = None
        self.side: DeviceSide | None = None
        self.running = False
        self.revoked = False
        self.transport = "stream"
        self._world, self._stream = world, stream
        self._backoff = Backoff(stream)
        self._life = 0
        self._settled = False  # in this connection

    @property
    def settled(self) -> bool:
        """Connected in the newest epoch, and nothing is left to be exchanged."""
        newest = self.disk.epoch == self._world.hub.epoch
        return self.side is not None and newest and self.side.settled

    def start(self) -> None:
        """The process starts, and connects."""
        if not self.running:
            self.running = True
            self._life += 1
            self._world.note(self.name, "start")
            self._connect()

    def crash(self) -> None:
        """The process dies, and starts again after a while."""
        if self.running:
            self._world.struck("crash")
            self._world.note(self.name, "crash")
            self.stop()
            self._world.timeline.after(DOWN.draw(self._stream), self.start)

    def stop(self) -> None:
        """The process ends without a word."""
        self.running = False
        self._life += 1
        self.side = None
        self.disk.writes.disarm()
        if self.link is not None:
            link, self.link = self.link, None
            link.hang_up()

    def record(self, draft: Draft) -> Event | None:
        """Something happens here; the event once it is durable, None if the process is not up."""
        if not self.running:
            return None
        try:
            event = self.disk.log.keep(draft)
        except Crash:
            self.crash()
            return None
        self._after(WAKE_US, self._upload)
        return event

    def roll_back(self, image: Image, *, log_only: bool) -> set[str]:
        """Restore a backup; the ids of the events that are gone."""
        self.stop()
        gone = self.disk.restore(image, log_only=log_only)
        self._world.timeline.after(DOWN.draw(self._stream), self.start)
        return gone

    def reconnect(self) -> None:
        """Try now, whatever the policy says."""
        if self.running and self.link is None:
            self._life += 1
            self._connect()

    def opened(self) -> None:
        """As `DeviceEnd` says."""
        self._settled = False
        self._step(lambda side: side.hello())

    def received(self, data: bytes) -> None:
        """As `DeviceEnd` says."""
        self._step(lambda side: side.receive(data))
        self._upload()

    def closed(self, code: int | None) -> None:
        """As `DeviceEnd` says."""
        error = None if code is None else RefusedError(code, is_permanent(code), "closed")
        self._disconnected(error)

    def _connect(self) -> None:
        if not self.running or self.link is not None:
            return
        try:
            if self.side is None:
                key = self._world.key(self.disk.epoch)
                self.side = self._world.implementation.open_device(
                    key, self.disk.log, self.disk.journal, self._world.array_bytes_max
                )
        except Crash:
            self.crash()
            return
        except Exception as error:
            self._world.broke(self.name, error)
            return
        self.link = self._world.connect(self)

    def _step(self, step: Callable[[DeviceSide], list[bytes]]) -> None:
        """Do something, and send what comes of it; hang up when the side objects."""
        if self.side is None or self.link is None:
            return
        try:
            frames = step(self.side)
            for frame in frames:
                if self.link is not None:
                    self._world.sent(self, frame)
                    self.link.send_up(frame)
            self._world.looked_at(self)
            self._go_on()
        except Crash:
            self.crash()
        except ProtocolError as error:
            if not isinstance(error, RefusedError):
                self._world.failed(self, error)
            link, self.link = self.link, None
            if link is not None:
                link.hang_up()
            self._disconnected(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pyo3's PanicException is no Exception
            self._world.broke(self.name, error)

    def _go_on(self) -> None:
        """Remember that all is exchanged; in an epoch that is over, go to the next."""
        if self.side is None or not self.side.settled:
            return
        self._settled = True
        if self.disk.epoch < self._world.hub.epoch:
            self.disk.enter(self.disk.epoch + 1)
            self._world.note(self.name, f"enters epoch {self.disk.epoch}")
            self.side = None
            link, self.link = self.link, None
            if link is not None:
                link.hang_up()
            self._after(0, self._connect)

    def _upload(self) -> None:
        while self.side is not None and self.link is not None:
            sent: list[bytes] = []

            def step(side: DeviceSide, sent: list[bytes] = sent) -> list[bytes]:
                sent.extend(side.upload())
                return sent

            self._step(step)
            if not sent:
                return

    def _disconnected(self, error: ProtocolError | None) -> None:
        self.link = None
        if not self.running:
            return
        try:
            if self.side is not None:
                self.side.disconnect(error.close_code if isinstance(error, RefusedError) else None)
        except Crash:
            self.crash()
            return
        if not outlives(error):
            self.side = None
        delay_s = self._backoff.delay_s(error, settled=self._settled)
        self._settled = False
        self._world.note(self.name, f"not in sync: {error or 'lost'}; next try in {delay_s:.3f} s")
        self._after(int(delay_s * SECOND), self._connect)

    def _after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Plan a step of this process, which ends with it."""
        life = self._life
        self._world.timeline.after(delay_us, lambda: action() if life == self._life else None)
