"""Devices that synchronise by single requests with a hub of several processes, in one thread.

What is durable is shared: rows and client ids. Each process has a room of its own, and loads it
again when another one wrote. Requests stay under way until their process commits.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, field

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import GapError, ProtocolError, RefusedError
from localmem_protocol.exchange import (
    Exchange,
    News,
    NumberedRow,
    Poll,
    Visit,
    decode_body,
    encode_body,
    follow,
    news_body,
    parse_position,
)
from localmem_protocol.frames import Ack, Close, decode_frame
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Drop, Effect, Peer, Quarantined, Room
from localmem_protocol.session import Session
from localmem_protocol.simulation import MemoryJournal, MemoryLog, SeededRandom
from localmem_protocol.updates import decode_update

POOL = PoolKey("requests", 1, bytes(range(32)))
ROWS_MAX = 3
"""Rows in one answer, so that there is often more."""


@dataclass
class Durable:
    """What every process of the hub sees. `snapshot` stands for the first `compacted` rows."""

    rows: list[NumberedRow] = field(default_factory=list)
    compacted: int = 0
    snapshot: bytes | None = None
    tags: list[str] = field(default_factory=lambda: [""])
    clients: dict[int, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    step_bytes: int = STEP_BYTES
    random: SeededRandom = field(default_factory=lambda: SeededRandom(1, "client ids"))

    @property
    def head(self) -> int:
        return self.compacted + len(self.rows)

    def load(self) -> Room:
        snapshots = [] if self.snapshot is None else [self.snapshot]
        return Room(
            [*snapshots, *(row.update for row in self.rows)],
            self.clients,
            step_bytes=self.step_bytes,
            random=self.random,
        )

    def append(self, device: str, update: bytes) -> None:
        self.rows.append(NumberedRow(self.head + 1, device, update))
        self.tags.append(follow(self.tags[-1], update))

    def rows_after(self, number: int, last: int | None = None, tag: str | None = None) -> News:
        if not self.compacted <= number <= self.head:
            raise GapError("not that far back")
        if tag is not None and self.tags[number] != tag:
            raise GapError("another history")
        rows = [row for row in self.rows if number < row.number <= (last or self.head)]
        return News(rows[:ROWS_MAX], more=len(rows) > ROWS_MAX)

    def compact(self) -> None:
        self.snapshot = self.load().snapshot()
        self.compacted, self.rows = self.head, []


class Process:
    """One process of the hub."""

    def __init__(self, durable: Durable) -> None:
        self.durable = durable
        self.visits: dict[int, Visit] = {}
        self.loads = 0
        self.restart()

    def restart(self) -> None:
        self.visits.clear()
        self.room = self.durable.load()
        self.head = self.durable.head
        self.loads += 1

    @property
    def newest(self) -> int:
        return self.head + self.room.pending_rows

    def enter(self, number: int, device: str, data: bytes) -> Visit:
        """Take a request in; it is over after a commit, or at once if it changes nothing."""
        if self.head != self.durable.head and not self.room.pending_rows:
            self.restart()
        peer = Peer(number, device, transient=True)
        body = decode_body(data)
        visit = self.visits[number] = Visit(peer, body)
        self.room.join(peer)
        for frame in body.frames:
            self.carry_out(self.room.receive(number, frame))
            if visit.closed is None:
                visit.heard(frame, self.newest)
        self.carry_out(self.room.finish(number))
        return visit

    def commit(self) -> None:
        commit = self.room.take()
        if commit is None:
            return
        taken = commit.clients.keys() & self.durable.clients.keys()
        if self.head != self.durable.head or taken:  # another process was faster
            for visit in self.visits.values():
                visit.drop(Close.STORE_FAILED, "stale")
            self.restart()
            return
        for row in commit.rows:
            self.durable.append(row.device, row.update)
        self.head = self.durable.head
        self.durable.clients |= commit.clients
        self.durable.quarantined += commit.quarantined
        self.carry_out(self.room.committed())

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            visit = self.visits.get(effect.connection)
            if visit is None:
                continue
            if isinstance(effect, Drop):
                visit.drop(effect.code, effect.reason)
                self.room.leave(effect.connection)
                del self.visits[effect.connection]
            else:
                visit.send(effect.data)

    def answer(self, visit: Visit) -> bytes:
        """Raises RefusedError, GapError."""
        if visit.refusal is not None:
            raise visit.refusal
        news = News()
        if visit.asked is not None:
            number, last = visit.wanted or (visit.asked.head, visit.asked.head)
            news = self.durable.rows_after(number, last, visit.asked.tag)
        reached = visit.reached(news)
        return encode_body(visit.answer(news, self.durable.tags[reached] if reached else ""))

    def poll(self, poll: Poll) -> bytes | None:
        """Raises GapError."""
        mark = parse_position(poll.position, writer=True)
        news = self.durable.rows_after(mark.head, tag=mark.tag)
        if not news.rows:
            return None
        return encode_body(news_body(mark, news, self.durable.tags[news.rows[-1].number]))


class Device:
    """A device: what is durable, and the process on top of it."""

    def __init__(self, device: str) -> None:
        self.log = MemoryLog(device)
        self.journal = MemoryJournal()
        self.now_ms = 1_760_000_000_000
        self.image: tuple[MemoryLog, MemoryJournal] | None = None
        self.acknowledged: dict[int, int] = {}
        self.requests = 0
        self.crash()

    def crash(self) -> None:
        self.session = Session(POOL, self.log, self.journal)
        self.greet()

    def greet(self) -> None:
        """Give up whatever is under way."""
        self.session.disconnect()
        self.exchange = Exchange()
        self.under_way: tuple[Process, Visit] | None = None
        self.last: bytes | None = None
        self.say(self.session.hello())

    def record(self, snippet: str) -> None:
        self.now_ms += 1000
        self.log.record(snippet, self.now_ms)

    def say(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.exchange.send(frame)

    def ask(self, process: Process, number: int) -> None:
        """Make the next request, if none is under way."""
        while frames := self.session.upload():
            self.say(frames)
        post = self.exchange.post()
        if post is not None:
            self.requests += 1
            self.last = post.body
            try:
                visit = process.enter(number, self.log.device, post.body)
            except GapError:
                self.greet()
                return
            self.under_way = (process, visit)
        elif self.under_way is None and (poll := self.exchange.poll()) is not None:
            self.requests += 1
            try:
                data = process.poll(poll)
                if data is not None:
                    self.hear(self.exchange.polled(poll, data))
            except (GapError, RefusedError):
                self.greet()

    def take(self) -> None:
        """Take the answer, if it is there."""
        if self.under_way is None:
            return
        process, visit = self.under_way
        if visit.closed is None:
            if visit not in process.visits.values():
                self.greet()  # its process died
            return
        self.under_way = None
        try:
            self.hear(self.exchange.answered(process.answer(visit)))
        except (GapError, RefusedError) as error:
            if error.permanent:
                raise AssertionError(str(error)) from None
            self.greet()

    def hear(self, frames: list[bytes]) -> None:
        try:
            for data in frames:
                frame = decode_frame(data)
                if isinstance(frame, Ack):
                    self.acknowledged[frame.client] = max(
                        frame.clock, self.acknowledged.get(frame.client, 0)
                    )
                self.say(self.session.receive(data))
        except ProtocolError:
            self.crash()

    def save_image(self) -> None:
        self.image = copy.deepcopy((self.log, self.journal))

    def roll_back(self) -> set[str]:
        """Restore the image; the events that this loses here."""
        if self.image is None:
            return set()
        before = set(self.log.events)
        self.log, self.journal = copy.deepcopy(self.image)
        self.crash()
        return before - set(self.log.events)


class RequestsWorld:
    """Everything together. `check` at any time, `settle` at the end."""

    def __init__(self, devices: int = 3, processes: int = 2, step_bytes: int = STEP_BYTES) -> None:
        self.durable = Durable(step_bytes=step_bytes)
        self.processes = [Process(self.durable) for _ in range(processes)]
        self.devices = [Device(f"{number:016x}") for number in range(1, devices + 1)]
        self.may_be_lost: set[str] = set()
        self.recorded: set[str] = set()
        self._numbers = 0

    def record(self, index: int, snippet: str) -> None:
        device = self.devices[index]
        before = set(device.log.events)
        device.record(snippet)
        self.recorded |= set(device.log.events) - before

    def ask(self, index: int, process: int) -> None:
        self._numbers += 1
        self.devices[index].ask(self.processes[process], self._numbers)

    def clone(self, index: int) -> None:
        """A copy of a device's disk starts on another machine; both go on."""
        twin = Device(self.devices[index].log.device)
        twin.log = copy.deepcopy(self.devices[index].log)
        twin.journal = copy.deepcopy(self.devices[index].journal)
        twin.now_ms += 500
        twin.crash()
        self.devices.append(twin)

    def repeat(self, index: int, process: int) -> None:
        """The network carries a request a second time; nobody waits for the answer."""
        data = self.devices[index].last
        if data is not None:
            self._numbers += 1
            with contextlib.suppress(GapError):
                self.processes[process].enter(self._numbers, self.devices[index].log.device, data)

    def settle(self) -> None:
        for _ in range(2000):
            moved = False
            for index, device in enumerate(self.devices):
                before = (device.exchange.position, len(device.log.events), device.session.state)
                self.ask(index, index % len(self.processes))
                for process in self.processes:
                    process.commit()
                device.take()
                moved |= (
                    before
                    != (device.exchange.position, len(device.log.events), device.session.state)
                    or device.exchange.waiting
                    or not device.session.settled
                )
            if not moved:
                break
        else:
            raise AssertionError("the world does not come to rest")
        self.check()
        first, *others = self.devices
        for device in others:
            assert device.log.ordered() == first.log.ordered()
            assert contents(device.session) == contents(first.session)
        assert self.recorded - self.may_be_lost <= set(first.log.events)

    def check(self) -> None:
        assert not self.durable.quarantined, self.durable.quarantined[0].reason
        clocks = self.durable.load()
        for device in self.devices:
            for client, clock in device.acknowledged.items():
                assert clocks._ledger.clock(client) >= clock
            assert not device.session.reported.problems


def contents(session: Session) -> dict[tuple[int, int], bytes | None]:
    """Every clock of a document, however it is grouped into runs."""
    return {
        (client, item.clock + index): item.contents[index] if item.contents else None
        for client, run in decode_update(session.replica.export(), stored=True).items.items()
        for item in run
        for index in range(item.length)
    }
