"""A simulated device: a process around a device's side, its disk, its clock and its line.

What production's sync agent does with asyncio happens here in virtual time, with the same policy of
when to try again (`reconnect`) and of where to connect (`roster_view`): before each connection the hub
is asked for the roster; epochs that are over are read to their end; then the device lives in the
newest. A crash keeps what is on disk; a rollback puts a backup there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from localmem_protocol.chain import Tip
from localmem_protocol.entries import Role
from localmem_protocol.errors import ProtocolError, RefusedError, RestoredError
from localmem_protocol.events import Draft, Event
from localmem_protocol.frames import is_permanent
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.reconnect import Backoff, outlives
from localmem_protocol.roster_view import ANEW, RosterAuthorship, RosterView, Stop, Stuck
from localmem_protocol.signatures import QUIET_S
from localmem_protocol.simulation.clock import MINUTE, MS, SECOND, Planned, Timeline, WallClock
from localmem_protocol.simulation.clones import Clone
from localmem_protocol.simulation.disk import Crash, DeviceDisk, Image
from localmem_protocol.simulation.hub import SimulatedHub
from localmem_protocol.simulation.inquiries import pack, unpack
from localmem_protocol.simulation.memory import MemoryJournal
from localmem_protocol.simulation.network import Line, Link
from localmem_protocol.simulation.participants import DeviceSide, Implementation, Resting
from localmem_protocol.simulation.streams import Distribution, SeededRandom
from localmem_protocol.tombstones import TombstoneKey

T = TypeVar("T")

DOWN: Final = Distribution(1 * SECOND, 5 * SECOND, 30 * SECOND, 10 * MINUTE)
"""How long a device is away after a crash."""

WAKE_US: Final = 5 * MS
"""From an event that is recorded to the agent that hears of it."""

HURRY_US: Final = 30 * SECOND
"""At most once in this time a refused connection is tried again at once."""


class Surroundings(Protocol):
    """What a device needs of the world."""

    implementation: Implementation
    timeline: Timeline
    hub: SimulatedHub
    array_bytes_max: int

    def connect(self, device: SimulatedDevice) -> Link:
        """A connection that begins now."""
        ...

    def ask(
        self, device: SimulatedDevice, data: bytes, heard: Callable[[bytes | None], None]
    ) -> None:
        """Ask the hub about the roster."""
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


class _View(RosterView):
    """The roster as a device has it on its disk."""

    def __init__(self, disk: DeviceDisk, pool: str, keys: DeviceKeys) -> None:
        super().__init__(pool, disk.log.device, keys, disk.roster)
        self._disk = disk

    def keep(self, entries: Sequence[bytes]) -> None:
        """As `RosterView` says."""
        self._disk.keep_roster(entries)


class SimulatedDevice:
    """One machine. `name` is unique; `disk.log.device` is not, if the machine was cloned.

    `epoch` is that of the document that it is in, 0 for none; `past` whether it only reads that.
    `clone` is of the repository in which people work here; None in a world without references.
    """

    def __init__(
        self,
        name: str,
        world: Surroundings,
        disk: DeviceDisk,
        keys: DeviceKeys,
        clock: WallClock,
        line: Line,
        stream: SeededRandom,
        clone: Clone | None = None,
    ) -> None:
        self.clone = clone
        self.name, self.disk, self.clock, self.line = name, disk, clock, line
        self.link: Link | None = None
        self.side: DeviceSide | None = None
        self.running = False
        self.transport = "stream"
        self.epoch, self.past = 0, False
        self._world, self._keys, self._stream = world, keys, stream
        self._backoff = Backoff(stream)
        self._life = 0
        self._asking = False
        self._reading = False  # an epoch that is over, or trying to
        self._due_us: int | None = None  # when to upload though nothing happens
        self._settled = False  # in this connection
        self._hurried_us: int | None = None
        self._resting: Planned | None = None  # when nothing came or went for a while
        self._boot()

    @property
    def role(self) -> Role | None:
        """What it is in the pool now; None for no member."""
        member = self._world.hub.roster.members.get(self.disk.log.device)
        return None if member is None else member.role

    @property
    def revoked(self) -> bool:
        """Whether it was a member, and is none now."""
        return self.role is None and self.disk.log.device in self._world.hub.roster.former

    @property
    def journal(self) -> MemoryJournal:
        """The journal of the document that it is in."""
        return MemoryJournal() if self.past else self.disk.journals[self.epoch]

    @property
    def settled(self) -> bool:
        """Connected in the newest epoch, nothing is left to be exchanged, and none to be read before."""
        if self.side is None or self.link is None or self.route.unread():
            return False
        newest = self.epoch == self._world.hub.epoch and not self.past
        return newest and self.side.settled

    def start(self) -> None:
        """The process starts, and connects."""
        if not self.running:
            self.running = True
            self._life += 1
            self._world.note(self.name, "start")
            self._boot()
            self._connect()

    def crash(self) -> None:
        """The process dies, and starts again after a while."""
        if self.running:
            self._world.struck("crash")
            self._world.note(self.name, "crash")
            self.fall()

    def fall(self) -> None:
        """The same, as a part of something else."""
        self.stop()
        self._world.timeline.after(DOWN.draw(self._stream), self.start)

    def stop(self) -> None:
        """The process ends without a word."""
        self.running = self._asking = self._reading = False
        self._life += 1
        self.side = None
        self.epoch = 0
        self.disk.writes.disarm()
        self._rest_no_more()
        if self.link is not None:
            link, self.link = self.link, None
            link.hang_up()

    def record(self, draft: Draft) -> Event | None:
        """Something happens here; the event once it is durable, None if the process is not up."""
        if not self.running:
            return None
        event = self.attempt(lambda: self.disk.log.keep(draft))
        if event is not None:
            self._after(WAKE_US, self._upload)
        return event

    def forget(self, ids: Sequence[str]) -> bool:
        """Somebody forgets events here; whether it is done, and will be told to the others."""
        forget = self._world.implementation.forget
        if not self.running or not self.view.length or forget is None:
            return False
        done = self.attempt(lambda: self._forget(forget, ids))
        if done:
            self._after(WAKE_US, self._upload)
        return bool(done)

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
            self._asking = False
            self._connect()

    def ask(self, data: bytes, heard: Callable[[bytes | None], None]) -> None:
        """Ask the hub about the roster. `heard` gets None if this process hears nothing."""
        life = self._life
        if not self.running:
            self._world.timeline.after(0, lambda: heard(None))
            return
        self._world.ask(self, data, lambda answer: heard(answer if life == self._life else None))

    def look(self, heard: Callable[[bool], None]) -> None:
        """Look at the hub's roster, and give it back what it lacks. `heard` gets whether all is known."""

        def looked(answer: bytes | None) -> None:
            lacking = None if answer is None else self._learn(answer)
            if lacking:
                self.note(f"gives the hub back {len(lacking)} entries")
                give(self.view.length - len(lacking), lacking)
            else:
                heard(lacking is not None)

        def give(place: int, entries: Sequence[bytes]) -> None:
            def given(answer: bytes | None) -> None:
                if answer is None or unpack(answer)[0] != "appended":
                    heard(False)
                elif len(entries) > 1 and unpack(answer)[1]:
                    give(place + 1, entries[1:])
                else:
                    self.look(heard)

            self.ask(pack(("append", place, entries[0])), given)

        self.ask(pack(("read", self.view.length)), looked)

    def _learn(self, answer: bytes) -> Sequence[bytes] | None:
        """What the hub lacks by this answer, once it is taken in; None if that cannot be."""
        kind, *content = unpack(answer)
        if kind != "roster":
            return None
        start, entries, length, head = content

        def learn() -> Sequence[bytes]:
            self.view.learn(entries[max(0, self.view.length - start) :])
            return self.view.lacking(Tip(length, head))

        try:
            return self.attempt(learn)
        except ProtocolError as error:
            self._world.failed(self, error)
            return None

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Do something that writes to the disk; None if the process died of it."""
        try:
            return step()
        except Crash:
            self.crash()
            return None

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        """Plan something that whoever sits here does, whatever becomes of the process."""
        self._world.timeline.after(delay_us, action)

    def note(self, what: str) -> None:
        """A line for the trace."""
        self._world.note(self.name, what)

    def opened(self) -> None:
        """As `DeviceEnd` says."""
        self._settled, self._due_us = False, None
        self._step(lambda side: side.hello())

    def received(self, data: bytes) -> None:
        """As `DeviceEnd` says."""
        self._stir()
        self._step(lambda side: side.receive(data))
        self._upload()

    def closed(self, code: int | None) -> None:
        """As `DeviceEnd` says."""
        error = None if code is None else RefusedError(code, is_permanent(code), "closed")
        self._disconnected(error)

    def _boot(self) -> None:
        """What a process has of the roster when it starts."""
        self.disk.begin()
        self.view = _View(self.disk, self._world.hub.pool, self._keys)
        self.route = self._world.implementation.route(self.view)
        self._authorship = RosterAuthorship(self.view, self._refresh)

    def _connect(self) -> None:
        """Ask for the roster, then go where it says."""
        if self.running and self.link is None and not self._asking:
            self._asking = True
            self.look(self._heard)

    def _heard(self, known: bool) -> None:
        if not self.running or not self._asking:
            return  # that was another process
        self._asking = False
        if not known:
            self._disconnected(None)
            return
        stop = self.route.next(self.disk.read.epochs, self._now_s)
        if isinstance(stop, Stuck):
            self.note(stop.value)
            self._disconnected(None)
        else:
            self._enter(stop)

    def _enter(self, stop: Stop) -> None:
        try:
            self._open(stop)
        except Crash:
            self.crash()
        except Exception as error:
            self._world.broke(self.name, error)
        else:
            self._reading = stop.past
            self._settled = False
            link = self.link = self._world.connect(self)
            due_s = None if stop.past else self.route.past_due_s(self._now_s)
            if due_s is not None:  # then this is left for one that could not be read yet
                self._after(
                    int(due_s * SECOND) + MS, lambda: self._go_on() if self.link is link else None
                )

    def _open(self, stop: Stop) -> DeviceSide:
        """The side of a document: the one that there was, if it is the same place."""
        epoch = stop.key.epoch
        if self.side is None or (self.epoch, self.past) != (epoch, stop.past):
            self.side = None
            if (self.epoch, self.past) != (epoch, stop.past):
                self.note(f"{'reads' if stop.past else 'enters'} epoch {epoch}")
            self.epoch, self.past = epoch, stop.past
            journal = MemoryJournal() if stop.past else self.disk.open_journal(epoch)
            self.side = self._world.implementation.open_device(
                stop.key,
                self.disk.log,
                journal,
                self._world.array_bytes_max,
                reader=stop.past,
                authorship=self._authorship,
                texts=self.clone,
            )
        return self.side

    def _forget(
        self, forget: Callable[[DeviceSide, Sequence[str]], object], ids: Sequence[str]
    ) -> bool:
        key = self.route.here()
        if key is None:
            return False
        if self.side is not None and (self.past or self.epoch != key.epoch):
            # An epoch that is over is being read: whoever comes to the newest one next tells them.
            tombstones = TombstoneKey(key)
            marks = [tombstones.of(event_id) for event_id in ids]
            self.disk.open_journal(key.epoch).queue(marks)
            self.disk.log.forget(marks, tombstones)
            return True
        forget(self._open(Stop(key, past=False)), ids)
        return True

    def _refresh(self) -> None:
        """Look at the roster while something else waits for it: no time passes."""
        if self.line.up:
            answer = self._world.hub.asked(self.disk.log.device, pack(("read", self.view.length)))
            if answer is not None and unpack(answer)[0] == "roster":
                self.view.learn(unpack(answer)[2])
                self.note(f"knows {self.view.length} entries")

    @property
    def _moved(self) -> bool:
        return self.route.moved(getattr(self.side, "roster_length", 0))

    @property
    def _now_s(self) -> float:
        return self._world.timeline.now_us / SECOND

    def _step(self, step: Callable[[DeviceSide], list[bytes]]) -> None:
        """Do something, and send what comes of it; hang up when the side objects."""
        if self.side is None or self.link is None:
            return
        try:
            frames = step(self.side)
            if frames:
                self._stir()
            if self._moved:
                self._world.looked_at(self)
                self._move()
                return
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

    def _stir(self) -> None:
        """Something came or went: let the side know once nothing has for a while."""
        self._rest_no_more()
        self._rest_at(QUIET_S, QUIET_S)

    def _rest_no_more(self) -> None:
        if self._resting is not None:
            self._resting.call_off()
            self._resting = None

    def _rest_at(self, wait_s: float, quiet_s: float) -> None:
        """Let the side rest in `wait_s` seconds, which will have been quiet for `quiet_s` then."""
        timeline = self._world.timeline
        self._resting = timeline.after(int(wait_s * SECOND), lambda: self._rest(quiet_s))

    def _rest(self, quiet_s: float) -> None:
        resting, again_s = self._resting, None

        def rest(side: DeviceSide) -> list[bytes]:
            nonlocal again_s
            if isinstance(side, Resting):
                again_s = side.rest(quiet_s)
            return []

        self._step(rest)
        self._upload()
        if again_s is not None and self._resting is resting:
            self._rest_at(again_s - quiet_s, again_s)

    def _go_on(self) -> None:
        """Remember that all is exchanged; an epoch that is over is done with then."""
        if self.side is None or not self.side.settled:
            return
        if self.past:
            self.disk.note_read(self.epoch)
            self.route.finished(self.epoch)
            self._move()
            return
        self._settled = True
        if self.route.past_due_s(self._now_s) == 0:
            self._move()

    def _move(self) -> None:
        """This connection has done what it was for: another place comes next."""
        self._reading = False
        self._rest_no_more()
        link, self.link = self.link, None
        if link is not None:
            link.hang_up()
        if self.side is not None:
            self.side.disconnect()
        self._after(0, self._connect)

    def _upload(self) -> None:
        while self.side is not None and self.link is not None:
            if self._moved:
                self._move()
                break
            sent: list[bytes] = []

            def step(side: DeviceSide, sent: list[bytes] = sent) -> list[bytes]:
                sent.extend(side.upload(self._now_s))
                return sent

            self._step(step)
            if not sent:
                break
        self._upload_when_due()

    def _upload_when_due(self) -> None:
        """What waits by the policy of production goes at its time."""
        due_s = None if self.side is None or self.link is None else self.side.due_s
        now_us = self._world.timeline.now_us
        due_us = None if due_s is None else max(now_us, int(due_s * SECOND)) + MS
        if due_us is not None and due_us != self._due_us:
            self._after(due_us - now_us, lambda: self._upload_at(due_us))
        self._due_us = due_us

    def _upload_at(self, due_us: int) -> None:
        if self._due_us == due_us:
            self._due_us = None
            self._upload()

    def _disconnected(self, error: ProtocolError | None) -> None:
        self.link = None
        self._rest_no_more()
        if not self.running:
            return
        code = error.close_code if isinstance(error, RefusedError) else None
        try:
            if self.side is not None:
                self.side.disconnect(code)
            if isinstance(error, RestoredError):
                self.disk.read_again()
        except Crash:
            self.crash()
            return
        if not outlives(error):
            self.side = None
        if self._reading:  # it is tried again later: the newest one goes on
            self._reading = False
            self._world.note(self.name, f"epoch {self.epoch} is put off: {error or 'lost'}")
            self.route.put_off(self.epoch, str(error or "lost"), self._now_s)
            self._after(0, self._connect)
            return
        delay_s = self._backoff.delay_s(error, settled=self._settled)
        self._settled = False
        if code in ANEW and self._may_hurry():
            delay_s = 0.0
        self._world.note(self.name, f"not in sync: {error or 'lost'}; next try in {delay_s:.3f} s")
        self._after(int(delay_s * SECOND), self._connect)

    def _may_hurry(self) -> bool:
        now_us = self._world.timeline.now_us
        if self._hurried_us is not None and now_us - self._hurried_us < HURRY_US:
            return False
        self._hurried_us = now_us
        return True

    def _after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Plan a step of this process, which ends with it."""
        life = self._life
        self._world.timeline.after(delay_us, lambda: action() if life == self._life else None)
