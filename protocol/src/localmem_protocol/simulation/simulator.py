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

from localmem_protocol.entries import Role
from localmem_protocol.errors import ProtocolError
from localmem_protocol.events import Draft
from localmem_protocol.frames import Step1, Step2, Update, decode_frame
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Commit
from localmem_protocol.session import ARRAY_BYTES_MAX
from localmem_protocol.simulation.clock import HOUR, MINUTE, MS, Timeline, WallClock
from localmem_protocol.simulation.clones import PACE, Clone, Remote
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.disk import DeviceDisk, HubDisk, Image
from localmem_protocol.simulation.faults import FAULTS, heal, plan, subset
from localmem_protocol.simulation.hub import SimulatedHub
from localmem_protocol.simulation.inquiries import ASK, Inquiry
from localmem_protocol.simulation.network import Line, Link, Stream, Taps
from localmem_protocol.simulation.oracle import Oracle
from localmem_protocol.simulation.owner import Owner
from localmem_protocol.simulation.participants import Implementation
from localmem_protocol.simulation.people import OWNERS, People
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
    """What to simulate. `transport` is "stream", "requests" or "mixed" (drawn for each device);
    `forgetting` is whether developers forget something of what happened; with `references` they work in
    clones of one repository, and what is in a commit there travels as a reference.
    """

    seed: int
    devices: int = 3
    hours: int = 24
    faults: tuple[str, ...] = tuple(FAULTS)
    transport: str = "mixed"
    array_bytes_max: int = ARRAY_BYTES_MAX
    step_bytes: int = STEP_BYTES
    compact_rows: int = COMPACT_ROWS
    forgetting: bool = True
    references: bool = False


def drawn(
    seed: int, devices: int = 3, hours: int = 24, faults: Sequence[str] = tuple(FAULTS)
) -> Settings:
    """Settings of a swarm: half of these faults, small limits in some of the worlds, references in half."""
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
        references=bool(stream.below(2)),
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
        self.oracle = Oracle(
            implementation,
            settings.array_bytes_max,
            self.timeline.stop,
            references=settings.references,
        )
        self._remote = Remote() if settings.references else None
        self.devices: list[SimulatedDevice] = []
        self.working = False
        self._streams = Streams(settings.seed)
        self.people = People(self._streams)
        self._numbers = 0
        members = [self._next_id() for _ in range(settings.devices)]
        disk = HubDisk(lambda data: self.oracle.look("on the hub's disk", data))
        poisoned = "poison" in settings.faults
        disk.roster = self.people.found([*members, ROGUE] if poisoned else members)
        self.hub = SimulatedHub(
            self.timeline,
            self._streams.stream("hub"),
            disk,
            implementation,
            self,
            step_bytes=settings.step_bytes,
            compact_rows=settings.compact_rows,
        )
        self._taps = Taps(self._frame, self._message, self.struck, _refuses)
        for number, member in enumerate(members, start=1):
            self._device(f"d{number}", member)
        self.owners = [
            Owner(device, self.people, self._streams.stream(f"owner {device.name}"), self._whole)
            for device in self.devices[:OWNERS]
        ]
        self.rogue = Rogue(self, self._streams.stream("rogue"), tuple(members))
        self._rogue_line = Line("rogue", self._streams.stream("line rogue"))
        if poisoned:
            self.oracle.rogues.add(ROGUE)
            self.oracle.damaged.update(members)
        self.oracle.begin_epoch(self.people.key(self.hub.roster, 1))

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

    def forget(self, device: SimulatedDevice, stream: SeededRandom | None = None) -> None:
        """Let somebody forget a few of the newest events that a device has, of whomever."""
        stream = stream or self._streams.stream(f"forgetting {len(self.oracle.forgotten)}")
        known = [
            event.id for event in device.disk.log.ordered() if event.id in self.oracle.recorded
        ]
        if not known or self.implementation.forget is None or not device.running:
            return
        chosen = {
            known[-1 - stream.below(min(len(known), 60))] for _ in range(stream.between(1, 3))
        }
        ids = sorted(chosen)
        self.oracle.note_forgetting(ids)
        if device.forget(ids):
            self.note(device.name, f"forgets {' '.join(one[:8] for one in ids)}")
            self.oracle.note_forgotten(device, ids)

    def move(self, device: SimulatedDevice) -> None:
        """Let somebody commit, pull, or do something else with the clone on a device, if there is one."""
        if device.clone is not None:
            self.note(device.name, f"clone: {device.clone.move()}")

    def roll_back(self, device: SimulatedDevice, image: Image, *, log_only: bool) -> None:
        """Restore a device from a backup."""
        self.oracle.split.add(device.disk.log.device)
        before = device.disk.outbox()
        self.oracle.note_gone(device.roll_back(image, log_only=log_only))
        self.oracle.note_untold(device, before - device.disk.outbox())
        self.oracle.note_unknown(self.devices)

    def finish(self) -> Report:
        """Heal everything, let everybody come together, and look at what they have."""
        if not self.timeline.stopped:
            self._heal()
        if self.timeline.stopped:
            self.oracle.count_lost(self.devices, set())
        else:
            trusted = [device for device in self.devices if device.role is not None]
            self.oracle.finish(trusted, self.devices)
            self.oracle.check_forgotten(self.hub.disk.room(self.hub.epoch).rows, trusted)
            self.oracle.check_removed(self.people, self.hub.roster)
            if not self.settings.faults and self.working:
                self.oracle.check_payload(sum(one.bytes["up"] for one in self.traffic.values()))
        return self._report()

    # What devices, hub, faults and rogue need of the world.

    def connect(self, device: SimulatedDevice) -> Link:
        """A connection of a device that begins now."""
        kind = Stream if device.transport == "stream" else Requests
        link = kind(self.timeline, device.line, device, self.hub, self._taps)
        link.name, link.epoch = device.disk.log.device, device.epoch
        link.open()
        return link

    def ask(
        self, device: SimulatedDevice, data: bytes, heard: Callable[[bytes | None], None]
    ) -> None:
        """A device asks the hub about the roster."""
        name, life = device.disk.log.device, self.hub.life

        def asked(data: bytes) -> bytes | None:
            return self.hub.asked(name, data) if life == self.hub.life else None

        ask = Inquiry(self.timeline, device.line, self._taps, asked, heard)
        ask.send(data)

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

    def clone(self, device: SimulatedDevice) -> None:
        """Let a copy of a device run beside it, and a developer of its own, if any work."""
        self.oracle.split.add(device.disk.log.device)
        twin = self._device(f"{device.name}+{len(self.devices)}", device.disk.log.device)
        twin.disk.restore(device.disk.image())
        twin.clock.skew_ms = device.clock.skew_ms
        if twin.clone is not None and device.clone is not None:
            twin.clone.copy(device.clone)
        twin.start()
        if self.working:
            self._developer(twin).start()

    def revoke(self, device: SimulatedDevice, by: int = 0) -> None:
        """Have an owner remove a device, and its copies, which are the same to everybody."""
        self.owners[by].remove(device.disk.log.device)

    def rotate(self, *by: int, fatal: bool = False) -> None:
        """Have these owners begin a new epoch, all at once; with `fatal` their devices die of it."""
        for number in by or (0,):
            self.owners[number % len(self.owners)].rotate(fatal=fatal)

    def let_in(self) -> None:
        """Have the first owner let another device in, which comes at once."""
        device = self._device(f"d{self._numbers + 1}", self._next_id())
        self.oracle.damaged.update({device.disk.log.device} if self.oracle.damaged else ())
        self.owners[0].admit(device.disk.log.device)
        device.start()
        if self.working:
            self._developer(device).start()

    def set_role(self, device: SimulatedDevice, role: Role) -> None:
        """Have the first owner give a member another role."""
        if not device.revoked:
            self.owners[0].set_role(device.disk.log.device, role)

    def roster_changed(self, before: int) -> None:
        """The hub's roster is longer."""
        roster = self.hub.roster
        self.note("hub", f"has {roster.length} entries, epoch {roster.epoch}")
        for epoch in range(before + 1, roster.epoch + 1):
            self.oracle.begin_epoch(self.people.key(roster, epoch))

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

    def backed_up(self) -> object:
        """A backup of the hub is made."""
        return self.oracle.books()

    def restored(self, image: object) -> None:
        """The hub has an older state again."""
        rooms = {epoch: room.rows for epoch, room in self.hub.disk.rooms.items()}
        self.oracle.note_restored(image, rooms, self.hub.epoch)
        self.oracle.note_unknown(self.devices)

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
            device_id,
            clock,
            lambda data: self.oracle.look(f"on the disk of {name}", data),
            self._streams.stream(f"runs {name}"),
        )
        line = Line(name, self._streams.stream(f"line {name}"))
        stream = self._streams.stream(f"device {name}")
        keys = self.people.keys(device_id)
        clone = None
        if self._remote is not None:
            clone = Clone(self._remote, self._streams.stream(f"clone {name}"))
        device = SimulatedDevice(name, self, disk, keys, clock, line, stream, clone)
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

        def forget(stream: SeededRandom) -> None:
            if self.timeline.now_us < self.end_us and self.settings.forgetting:
                self.forget(device, stream)

        self._plan_move(device, self._streams.stream(f"moves {device.name}"))
        stream = self._streams.stream(f"developer {device.name}")
        return Developer(self.timeline, stream, device.clock.now_ms, record, forget)

    def _plan_move(self, device: SimulatedDevice, stream: SeededRandom) -> None:
        def move() -> None:
            if self.timeline.now_us < self.end_us:
                self.move(device)
                self._plan_move(device, stream)

        if device.clone is not None:
            self.timeline.after(PACE.draw(stream), move)

    def _record(self, device: SimulatedDevice, draft: Draft) -> None:
        event = device.record(draft)
        if event is not None:
            self.oracle.note_recorded(event)
            if device.clone is not None:
                device.clone.edit(event)
            self.note(device.name, f"records {event.id[:8]}")

    def _frame(self, line: Line, direction: str, data: bytes) -> None:
        self._see(line, direction, data, self.implementation.kind(data))

    def _message(self, line: Line, direction: str, data: bytes) -> None:
        self._see(line, direction, data, ASK)

    def _see(self, line: Line, direction: str, data: bytes, kind: str) -> None:
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
        for device in self.devices:
            becoming = f"make {device.disk.log.device} a reader"
            if device.role == "reader" or self.owners[0].wants(becoming):
                self.set_role(device, "member")
        quiet = 0
        for _ in range(HEALING_HOURS * 60):
            self.timeline.run_until(self.timeline.now_us + MINUTE)
            quiet = quiet + 1 if self._at_rest() else 0
            if quiet > QUIET_MINUTES or self.timeline.stopped:
                return

    def _at_rest(self) -> bool:
        """Whether everybody who is a member is in sync, and nobody wants to change that."""
        if not all(owner.content or owner.device.role is None for owner in self.owners):
            return False
        members = [device for device in self.devices if device.role is not None]
        if not self._whole() or not all(device.settled for device in members):
            return False
        return not self.oracle.naming.due(members)

    def _whole(self) -> bool:
        """Whether the hub's roster has all that somebody knows whom it lets in."""
        known = (len(one.disk.roster) for one in self.devices if one.role is not None)
        return self.hub.roster.length >= max(known, default=0)

    def _next_id(self) -> str:
        self._numbers += 1
        return f"{self._numbers:016x}"

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
            forgotten=len(oracle.forgotten),
            epochs=self.hub.epoch,
            evicted_undelivered=oracle.evicted_undelivered,
            lost_with_hub=oracle.lost_with_hub,
            referred=len(oracle.referred),
            texts_missing=oracle.texts_missing,
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
