"""The simulation: a world of devices and a hub in virtual time, from one seed to one report.

    report = simulate(Settings(seed=7, devices=3, hours=24, faults=tuple(FAULTS)))

Developers work, faults strike, frames travel; at the end of the time everything heals, devices get
virtual hours to come together, and the oracle looks at what everybody has. Devices and hub run the
state machines of production, or those of an `Implementation` of yours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError
from localmem_protocol.events import Draft
from localmem_protocol.frames import Step1, Step2, Update, decode_frame
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Commit
from localmem_protocol.session import ARRAY_BYTES_MAX
from localmem_protocol.simulation.clock import HOUR, MINUTE, MS, Timeline, WallClock
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.disk import DeviceDisk, HubDisk
from localmem_protocol.simulation.faults import FAULTS, heal, plan, subset
from localmem_protocol.simulation.hub import SimulatedHub
from localmem_protocol.simulation.network import Line, Link, Stream, Taps
from localmem_protocol.simulation.oracle import Oracle
from localmem_protocol.simulation.participants import Implementation
from localmem_protocol.simulation.production import PRODUCTION
from localmem_protocol.simulation.report import Report, Trace, Traffic
from localmem_protocol.simulation.requests import Requests
from localmem_protocol.simulation.rogue import ROGUE, Rogue
from localmem_protocol.simulation.streams import SeededRandom, Streams
from localmem_protocol.simulation.workload import Developer, draft
from localmem_protocol.updates import decode_state_vector, decode_update

HEALING_HOURS: Final = 2
"""Virtual hours after which devices must agree; the longest wait of a device is ten minutes."""

QUIET_MINUTES: Final = 3
"""How long everybody must be in sync before the oracle looks: longer than any frame travels."""

COMPACT_ROWS: Final = 200
"""Rows after which a simulated hub makes a snapshot."""


@dataclass(frozen=True)
class Settings:
    """What to simulate. `transport` is "stream", "requests" or "mixed" (drawn for each device)."""

    seed: int
    devices: int = 3
    hours: int = 24
    faults: tuple[str, ...] = tuple(FAULTS)
    transport: str = "mixed"
    array_bytes_max: int = ARRAY_BYTES_MAX
    step_bytes: int = STEP_BYTES
    compact_rows: int = COMPACT_ROWS


def drawn(
    seed: int, devices: int = 3, hours: int = 24, faults: Sequence[str] = tuple(FAULTS)
) -> Settings:
    """Settings of a swarm: half of these faults, and small limits in some of the worlds."""
    stream = SeededRandom(seed, "settings")
    return Settings(
        seed,
        devices,
        hours,
        subset(stream, faults),
        stream.pick(("stream", "requests", "mixed")),
        stream.pick((ARRAY_BYTES_MAX, ARRAY_BYTES_MAX, 4_000, 20_000)),
        stream.pick((STEP_BYTES, 200, 2_000)),
        stream.pick((8, 50, COMPACT_ROWS)),
    )


def simulate(
    settings: Settings,
    implementation: Implementation = PRODUCTION,
    sink: Callable[[str], object] | None = None,
) -> Report:
    """Play a seed to its end. `sink` gets every line of the trace."""
    return Simulation(settings, implementation, sink).run()


class Simulation:
    """One world, from its beginning to its report."""

    def __init__(
        self,
        settings: Settings,
        implementation: Implementation = PRODUCTION,
        sink: Callable[[str], object] | None = None,
    ) -> None:
        self.settings, self.implementation = settings, implementation
        self.array_bytes_max = settings.array_bytes_max
        self.timeline = Timeline()
        self.end_us = settings.hours * HOUR
        self.faults = dict.fromkeys(FAULTS, 0)
        self.trace = Trace(sink)
        self.traffic: dict[str, Traffic] = {}
        self.oracle = Oracle(implementation, settings.array_bytes_max, self.timeline.stop)
        self.devices: list[SimulatedDevice] = []
        self.working = False
        self._streams = Streams(settings.seed)
        self._keys: dict[int, PoolKey] = {}
        self.hub = SimulatedHub(
            self.timeline,
            self._streams.stream("hub"),
            HubDisk(lambda data: self.oracle.look("on the hub's disk", data)),
            implementation,
            self,
            step_bytes=settings.step_bytes,
            compact_rows=settings.compact_rows,
        )
        self._taps = Taps(self._frame, self.struck, _refuses)
        for number in range(1, settings.devices + 1):
            self._device(f"d{number}", f"{number:016x}")
        victims = tuple(device.disk.log.device for device in self.devices)
        self.rogue = Rogue(self, self._streams.stream("rogue"), victims)
        self._rogue_line = Line("rogue", self._streams.stream("line rogue"))
        if "poison" in settings.faults:
            self.oracle.rogues.add(ROGUE)
            self.oracle.damaged.update(victims)
        self.oracle.begin_epoch(self.key(1))

    def run(self) -> Report:
        """Play it to its end."""
        self.working = True
        plan(self, self.settings.faults, self._streams)
        self.start()
        for device in self.devices:
            self._developer(device).start()
        self.timeline.run_until(self.end_us)
        return self.finish()

    def start(self) -> None:
        """Switch every device on; for those who play a world step by step (with `record`,
        `advance`, the faults' methods below and on devices and hub) and `finish` it.
        """
        for device in self.devices:
            device.start()

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self.timeline.run_until(self.timeline.now_us + ms * MS)

    def record(self, device: SimulatedDevice) -> None:
        """Let something happen on a device."""
        stream = self._streams.stream(f"event {len(self.oracle.recorded)}")
        self._record(device, draft(stream, device.clock.now_ms(), "src/main.py"))

    def finish(self) -> Report:
        """Heal everything, let everybody come together, and look at what they have."""
        if not self.timeline.stopped:
            self._heal()
        if self.timeline.stopped:
            self.oracle.count_lost(self.devices, set())
        else:
            trusted = [device for device in self.devices if not device.revoked]
            self.oracle.finish(trusted, self.devices)
            if not self.settings.faults and self.working:
                self.oracle.check_payload(sum(one.bytes["up"] for one in self.traffic.values()))
        return self._report()

    # What devices, hub, faults and rogue need of the world.

    def key(self, epoch: int) -> PoolKey:
        """The key of an epoch."""
        if epoch not in self._keys:
            secret = self._streams.stream(f"key {epoch}").token_bytes(32)
            self._keys[epoch] = PoolKey("simulation", epoch, secret)
        return self._keys[epoch]

    def connect(self, device: SimulatedDevice) -> Link:
        """A connection of a device that begins now."""
        kind = Stream if device.transport == "stream" else Requests
        link = kind(self.timeline, device.line, device, self.hub, self._taps)
        link.name, link.epoch = device.disk.log.device, device.disk.epoch
        link.open()
        return link

    def connect_rogue(self, rogue: Rogue) -> Link:
        """A connection of the rogue device."""
        link = Stream(self.timeline, self._rogue_line, rogue, self.hub, self._taps)
        link.name, link.epoch = ROGUE, self.hub.epoch
        link.open()
        return link

    def struck(self, fault: str) -> None:
        """Count a fault."""
        self.faults[fault] += 1

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        self.trace.note(self.timeline.now_us, who, what)

    def gone(self, ids: set[str]) -> None:
        """A rollback took these events from a device."""
        self.oracle.note_gone(ids)

    def clone(self, device: SimulatedDevice) -> None:
        """Let a copy of a device run beside it, and a developer of its own, if any work."""
        twin = self._device(f"{device.name}+{len(self.devices)}", device.disk.log.device)
        twin.disk.restore(device.disk.image())
        twin.clock.skew_ms = device.clock.skew_ms
        twin.revoked = device.revoked
        twin.start()
        if self.working:
            self._developer(twin).start()

    def revoke(self, device: SimulatedDevice) -> None:
        """Cut a device off, and its copies, which have the same token."""
        for one in self.devices:
            one.revoked = one.revoked or one.disk.log.device == device.disk.log.device
        self.hub.revoke(device.disk.log.device)

    def rotate(self) -> None:
        """Begin a new epoch."""
        self.note("hub", f"epoch {self.hub.epoch + 1}")
        self.oracle.begin_epoch(self.key(self.hub.epoch + 1))
        self.hub.rotate()

    def looked_at(self, device: SimulatedDevice) -> None:
        """Something happened on a device."""
        self.oracle.check(device)
        if device.settled:
            self.oracle.note_settled(device)

    def sent(self, device: SimulatedDevice, frame: bytes) -> None:
        """A device sends a frame."""
        self.oracle.note_sent(device, frame)

    def failed(self, device: SimulatedDevice, error: ProtocolError) -> None:
        """A device objected to what the hub said."""
        self.note(device.name, f"objects: {type(error).__name__}: {error}")

    def broke(self, who: str, error: BaseException) -> None:
        """An implementation raised what it must not."""
        self.note(who, f"breaks: {type(error).__name__}: {error}")
        self.oracle.violation(f"{who} breaks: {type(error).__name__}: {error}")

    def committed(self, epoch: int, commit: Commit) -> None:
        """The hub's store has this."""
        self.note("hub", f"commits {len(commit.rows)} rows, {len(commit.quarantined)} aside")
        self.oracle.note_committed(epoch, commit)

    def said(self, epoch: int, frame: bytes) -> None:
        """The hub says this to somebody."""
        self.oracle.note_said(epoch, frame)

    # The rest is how the world is put together, heals, and reports.

    def _device(self, name: str, device_id: str) -> SimulatedDevice:
        clock = WallClock(self.timeline)
        disk = DeviceDisk(
            device_id, clock, lambda data: self.oracle.look(f"on the disk of {name}", data)
        )
        line = Line(name, self._streams.stream(f"line {name}"))
        device = SimulatedDevice(
            name, self, disk, clock, line, self._streams.stream(f"device {name}")
        )
        transport = self.settings.transport
        if transport == "mixed":
            transport = self._streams.stream(f"transport {name}").pick(("stream", "requests"))
        device.transport = transport
        self.devices.append(device)
        self.traffic[name] = Traffic()
        return device

    def _developer(self, device: SimulatedDevice) -> Developer:
        def record(draft: Draft) -> None:
            if self.timeline.now_us < self.end_us:
                self._record(device, draft)

        stream = self._streams.stream(f"developer {device.name}")
        return Developer(self.timeline, stream, device.clock.now_ms, record)

    def _record(self, device: SimulatedDevice, draft: Draft) -> None:
        event = device.record(draft)
        if event is not None:
            self.oracle.note_recorded(event)
            self.note(device.name, f"records {event.id[:8]}")

    def _frame(self, line: Line, direction: str, data: bytes) -> None:
        kind = self.implementation.kind(data)
        self.oracle.look("on the wire", data)
        if line.name in self.traffic:
            self.traffic[line.name].count(direction, kind, len(data))
            if direction == "up" and kind == "update":
                self.rogue.seen.append(data)
        digest = hashlib.blake2b(data, digest_size=6).hexdigest()
        self.note(line.name, f"{direction} {kind} {len(data)} {digest}")

    def _heal(self) -> None:
        self.note("world", "heals")
        heal(self)  # whoever is connected stays so: coming back would hide what was missed before
        for device in self.devices:
            self.timeline.after(MINUTE, device.reconnect)
        trusted = [device for device in self.devices if not device.revoked]
        quiet = 0
        for _ in range(HEALING_HOURS * 60):
            self.timeline.run_until(self.timeline.now_us + MINUTE)
            quiet = quiet + 1 if all(device.settled for device in trusted) else 0
            if quiet > QUIET_MINUTES or self.timeline.stopped:
                return

    def _report(self) -> Report:
        oracle = self.oracle
        return Report(
            seed=self.settings.seed,
            devices=self.settings.devices,
            hours=self.settings.hours,
            converged=not oracle.violations,
            lost_acknowledged=oracle.lost,
            violations=tuple(oracle.violations),
            faults=dict(self.faults),
            events=len(oracle.recorded),
            snippet_bytes=oracle.snippet_bytes,
            evicted_undelivered=oracle.evicted_undelivered,
            traffic={name: traffic.as_dict() for name, traffic in self.traffic.items()},
            document_bytes=len(oracle.document),
            document=hashlib.blake2b(oracle.document, digest_size=16).hexdigest(),
            steps=self.trace.count,
            trace_hash=self.trace.digest(),
            last_steps=tuple(self.trace.last),
        )


def _refuses(data: bytes) -> bool:
    """Whether a strict decoder refuses these bytes."""
    try:
        match decode_frame(data):
            case Update(update) | Step2(update):
                decode_update(update)
            case Step1(vector):
                decode_state_vector(vector)
    except ProtocolError:
        return True
    return False
