"""A world of devices and one hub, without a single real clock, disk or network.

Devices and hub run the production `Session` and `Room`; only what surrounds them is simulated, and
every step is chosen by the caller: Hypothesis in the tests, a seed in `explore`. What a crash
keeps is what was durable: a device's event log and journal, the hub's committed rows.

`check` raises InvariantError when an acknowledgement was given for what the hub does not have, or
when a refusal hit an honest device; `settle` makes everybody a writer, brings them together and then
demands that all devices hold the same document, and the same events in the same order. (In a world whose arrays are
too small for what happens, a device that was away misses what was evicted meanwhile: there, the
same order of what they share.)
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import ProtocolError
from localmem_protocol.events import Event, parse_draft
from localmem_protocol.frames import Ack, Close, Refusal, decode_frame
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.room import Drop, Effect, Peer, Quarantined, Room
from localmem_protocol.session import ARRAY_BYTES_MAX, Session
from localmem_protocol.signatures import REST_S, Authorship
from localmem_protocol.simulation.checkout import Checkout, Repository
from localmem_protocol.simulation.memory import MemoryJournal, MemoryLog
from localmem_protocol.simulation.streams import SeededRandom
from localmem_protocol.updates import Id, decode_update


class InvariantError(AssertionError):
    """The world is in a state that must not exist."""


@dataclass
class Link:
    """A connection: frames on their way, in both directions."""

    connection: int
    up: deque[bytes] = field(default_factory=deque)
    down: deque[bytes] = field(default_factory=deque)


@dataclass
class Device:
    """A device: what is durable, the process on top of it, its clock's error, its connection."""

    log: MemoryLog
    journal: MemoryJournal
    session: Session
    skew_ms: int = 0
    writer: bool = True
    link: Link | None = None
    acknowledged: dict[int, int] = field(default_factory=dict)
    image: tuple[MemoryLog, MemoryJournal] | None = None


class Hub:
    """The hub: committed rows and client ids, the room on top of them, its connections.

    `stored` is the clock up to which the rows hold each client's batches.
    """

    def __init__(self, step_bytes: int) -> None:
        self._step_bytes = step_bytes
        self._random = SeededRandom(step_bytes, "client ids")
        self.image: tuple[list[bytes], dict[int, int], dict[int, str]] | None = None
        self.rows: list[bytes] = []
        self.stored: dict[int, int] = {}
        self.clients: dict[int, str] = {}
        self.quarantined: list[Quarantined] = []
        self.links: dict[int, Link] = {}
        self.room = Room(step_bytes=step_bytes, random=self._random)

    def back_up(self) -> None:
        """Keep what is committed now."""
        self.image = (list(self.rows), dict(self.stored), dict(self.clients))

    def restore(self) -> bool:
        """Start again with the last backup, if there is one."""
        if self.image is None:
            return False
        rows, stored, clients = self.image
        self.rows, self.stored, self.clients = list(rows), dict(stored), dict(clients)
        self.restart()
        return True

    def restart(self) -> None:
        """Lose what was not committed, and every connection."""
        self.links.clear()
        self.room = Room(self.rows, self.clients, step_bytes=self._step_bytes, random=self._random)

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """What the room decided."""
        for effect in effects:
            link = self.links.get(effect.connection)
            if isinstance(effect, Drop):
                self.links.pop(effect.connection, None)
            elif link is not None:
                link.down.append(effect.data)

    def commit(self) -> bool:
        """Store what waits; whether there was anything."""
        commit = self.room.take()
        if commit is None:
            return False
        for row in commit.rows:
            self.rows.append(row.update)
            self.stored |= _ends(row.update)
        self.clients |= commit.clients
        self.quarantined += commit.quarantined
        self.carry_out(self.room.committed())
        return True

    def compact(self) -> None:
        """Put one snapshot in the place of all committed rows."""
        self.rows = [Room(self.rows, self.clients).snapshot()]
        self.stored = _ends(self.rows[0])

    def fail(self) -> None:
        """The store refuses a transaction."""
        if self.room.take() is not None:
            self.carry_out(self.room.failed("the store failed"))
            self.restart()


class World:
    """Devices, a hub, and time that only moves when something happens."""

    def __init__(
        self,
        devices: int,
        skews_ms: Sequence[int] = (),
        array_bytes_max: int = ARRAY_BYTES_MAX,
        step_bytes: int = STEP_BYTES,
        authorship: Callable[[str], Authorship | None] = lambda device: None,
        pool: str = "simulation",
        references: bool = False,
    ) -> None:
        self.pool = PoolKey(pool, 1, bytes(range(32)))
        self.now_ms = 1_760_000_000_000
        self.hub = Hub(step_bytes)
        self.recorded: dict[str, Event] = {}
        self.may_be_lost: set[str] = set()
        self.forgotten: dict[str, set[str]] = {}  # by whom
        self.repository = Repository() if references else None
        self._array_bytes_max = array_bytes_max
        self._authorship = authorship
        self._evicting = array_bytes_max < ARRAY_BYTES_MAX
        self._connections = 0
        self.devices = [
            self._device(f"{number:016x}", skew)
            for number, skew in zip(
                range(1, devices + 1), [*skews_ms, *[0] * devices], strict=False
            )
        ]

    def record(self, index: int, snippet: str) -> Event:
        """Something happens on a device."""
        self.now_ms += 7
        device = self.devices[index]
        now_ms = self.now_ms + device.skew_ms
        if self.repository is None:
            event = device.log.record(snippet, now_ms)
        else:
            draft = {"timestamp": now_ms, "snippet": snippet, "kind": "edit"}
            event = device.log.keep(parse_draft(draft | self.repository.place(snippet)))
        self.recorded[event.id] = event
        self._send(device, device.session.upload)
        return event

    def forget(self, index: int, event_id: str) -> None:
        """Somebody forgets an event on a device; it is to be nowhere after healing."""
        device = self.devices[index]
        self.forgotten.setdefault(event_id, set()).add(device.log.device)
        device.session.forget([event_id])
        self._send(device, device.session.upload)

    def connect(self, index: int) -> None:
        """A device connects, unless it is."""
        device = self.devices[index]
        if device.link is None:
            self._connections += 1
            device.link = Link(self._connections)
            self.hub.links[self._connections] = device.link
            self.hub.room.join(Peer(self._connections, device.log.device, device.writer))
            self._send(device, device.session.hello)

    def rest_long(self, index: int) -> None:
        """Nothing happens on a device's connection for longer than it waits for anything.

        Nothing happens here either while frames are on their way to it.
        """
        device = self.devices[index]
        if device.link is not None and (device.link.up or device.link.down):
            return

        def rest() -> list[bytes]:
            device.session.rest(REST_S)
            return device.session.upload()

        self._send(device, rest)

    def cut(self, index: int) -> None:
        """A connection breaks; what was under way is lost."""
        device = self.devices[index]
        if device.link is not None:
            self.hub.room.leave(device.link.connection)
            self.hub.links.pop(device.link.connection, None)
            device.link = None
            device.session.disconnect()

    def give_role(self, index: int, *, writer: bool) -> None:
        """A device gets another token."""
        self.cut(index)
        self.devices[index].writer = writer

    def crash(self, index: int) -> None:
        """A device's process dies and starts again."""
        self.cut(index)
        device = self.devices[index]
        device.session = self._session(device.log, device.journal)

    def save_image(self, index: int) -> None:
        """Take a backup of a device."""
        device = self.devices[index]
        device.image = (copy.deepcopy(device.log), copy.deepcopy(device.journal))

    def roll_back(self, index: int, *, journal_too: bool = True) -> None:
        """Restore a device from its backup, or its event log alone."""
        device = self.devices[index]
        if device.image is None:
            return
        self.cut(index)
        log, journal = copy.deepcopy(device.image)
        self.may_be_lost.update(device.log.events.keys() - log.events.keys())
        if journal_too:
            self._take_back(device, {*device.journal.saved.outbox} - {*journal.saved.outbox})
        device.log = log
        device.journal = journal if journal_too else device.journal
        self.crash(index)

    def crash_hub(self) -> None:
        """The hub's process dies and starts again."""
        self.hub.restart()
        self._notice_drops()
        self.check()

    def restore_hub(self) -> None:
        """The hub is restored from its backup; what it acknowledged since is void."""
        before = set(self.hub.stored.items())
        if self.hub.restore():
            for device in self.devices:
                for client, clock in list(device.acknowledged.items()):
                    device.acknowledged[client] = min(clock, self.hub.stored.get(client, 0))
            if before - self.hub.stored.items():
                # Some are nowhere but where they were received, or not even there.
                held = set().union(*(device.log.events for device in self.devices))
                self.may_be_lost |= self.recorded.keys() - held
        self._notice_drops()
        self.check()

    def deliver_up(self, index: int) -> bool:
        """The hub takes one frame of a device; whether there was one."""
        link = self.devices[index].link
        if link is None or not link.up:
            return False
        self.hub.carry_out(self.hub.room.receive(link.connection, link.up.popleft()))
        return True

    def deliver_down(self, index: int) -> bool:
        """A device takes one frame of the hub; whether there was one."""
        device = self.devices[index]
        if device.link is None:
            return False
        if not device.link.down:
            self._notice_drops()
            return False
        data = device.link.down.popleft()
        self._note(device, data)
        self._send(device, lambda: device.session.receive(data))
        self._send(device, device.session.upload)
        return True

    def duplicate(self, index: int, *, up: bool) -> None:
        """The next frame of a connection arrives twice."""
        queue = self._queue(index, up=up)
        if queue:
            queue.appendleft(queue[0])

    def reorder(self, index: int, *, up: bool) -> None:
        """The next frame of a connection arrives last."""
        queue = self._queue(index, up=up)
        queue.rotate(-1)

    def fail_commit(self) -> None:
        """The hub's store refuses a transaction."""
        self.hub.fail()
        self._notice_drops()

    def settle(self) -> None:
        """Let everybody write, let everything arrive, and demand that all agree."""
        for index, device in enumerate(self.devices):
            if not device.writer:
                self.give_role(index, writer=True)
        self.rest()
        self._wait_for_texts()
        self._agree()

    def rest(self) -> None:
        """Connect everybody, and let everything arrive."""
        self.rest_of(*range(len(self.devices)))

    def rest_of(self, *indexes: int) -> None:
        """The same with these devices, beside those that are connected."""
        here = [self.devices[index] for index in indexes]
        for _ in range(1000 * len(self.devices)):
            for index in indexes:
                self.connect(index)
            if not self._everything_once() and all(one.session.settled for one in here):
                break
        else:
            raise InvariantError("the world does not come to rest")
        self.check()

    def check(self) -> None:
        """What must hold at any time."""
        if self.hub.quarantined:
            raise InvariantError(f"an honest update was refused: {self.hub.quarantined[0].reason}")
        for device in self.devices:
            for client, clock in device.acknowledged.items():
                if self.hub.stored.get(client, 0) < clock:
                    raise InvariantError(f"acknowledged {clock} of client {client}, then lost it")
            if device.session.reported.problems:
                raise InvariantError(
                    f"a problem among the honest: {device.session.reported.problems[0]}"
                )

    def _agree(self) -> None:
        first = self.devices[0]
        document = _structs(first.session.replica.export())
        for device in self.devices[1:]:
            if _structs(device.session.replica.export()) != document:
                raise InvariantError("two devices hold different documents")
            self._agree_on_order(first.log, device.log)
        held = set().union(*(device.log.events for device in self.devices))
        lost = self.recorded.keys() - self.may_be_lost - held - self.forgotten.keys()
        if lost:
            raise InvariantError(f"{len(lost)} events are lost")

    def _agree_on_order(self, one: MemoryLog, other: MemoryLog) -> None:
        ids = [event.id for event in one.ordered()]
        others = [event.id for event in other.ordered()]
        if self._evicting:
            shared = set(ids) & set(others)
            ids = [name for name in ids if name in shared]
            others = [name for name in others if name in shared]
        if ids != others:
            raise InvariantError("two devices hold different events, or another order")

    def _wait_for_texts(self) -> None:
        """Let everybody answer for those who do not."""
        for _ in self.devices:
            if not any(device.session.texts_waiting for device in self.devices):
                break
            for index in range(len(self.devices)):
                self.rest_long(index)
            self.rest()

    def _everything_once(self) -> bool:
        moved = self.hub.commit()
        for index in range(len(self.devices)):
            while self.deliver_up(index):
                moved = True
        moved = self.hub.commit() or moved
        for index, device in enumerate(self.devices):
            while self.deliver_down(index):
                moved = True
            self._send(device, device.session.upload)
        return moved

    def _take_back(self, device: Device, tombstones: set[bytes]) -> None:
        """What a device forgot, and told nobody, before it became an older one."""
        key = device.session.replica.tombstone_key
        for name in [name for name in self.forgotten if key.of(name) in tombstones]:
            self.forgotten[name].discard(device.log.device)
            if not self.forgotten[name]:
                del self.forgotten[name]
                self.may_be_lost.add(name)

    def _device(self, name: str, skew_ms: int) -> Device:
        log, journal = MemoryLog(name), MemoryJournal()
        return Device(log, journal, self._session(log, journal), skew_ms)

    def _session(self, log: MemoryLog, journal: MemoryJournal) -> Session:
        authorship = self._authorship(log.device)
        texts = None if self.repository is None else Checkout(self.repository, log.device)
        return Session(
            self.pool,
            log,
            journal,
            self._array_bytes_max,
            authorship=authorship,
            texts=texts,
        )

    def _queue(self, index: int, *, up: bool) -> deque[bytes]:
        link = self.devices[index].link
        if link is None:
            return deque()
        return link.up if up else link.down

    def _send(self, device: Device, step: Callable[[], list[bytes]]) -> None:
        """What a transport does: send what the session says, and hang up when it objects."""
        if device.link is None:
            return
        try:
            frames = step()
            while frames:
                device.link.up.extend(frames)
                frames = device.session.upload()
        except ProtocolError:
            self.cut(self.devices.index(device))

    def _note(self, device: Device, data: bytes) -> None:
        frame = decode_frame(data)
        if isinstance(frame, Refusal) and frame.code == Close.READ_ONLY:
            raise InvariantError("a reader sent an update")
        if isinstance(frame, Ack):
            known = device.acknowledged.get(frame.client, 0)
            device.acknowledged[frame.client] = max(known, frame.clock)

    def _notice_drops(self) -> None:
        for index, device in enumerate(self.devices):
            link = device.link
            if link is not None and link.connection not in self.hub.links and not link.down:
                self.cut(index)


def _ends(update: bytes) -> dict[int, int]:
    """client -> the clock after what an update holds of it."""
    return {client: run[-1].end for client, run in decode_update(update, stored=True).items.items()}


def _structs(document: bytes) -> dict[Id, tuple[bytes | None, Id | None, str | None]]:
    """Every clock's content and place, however a replica happens to group them into runs."""
    found: dict[Id, tuple[bytes | None, Id | None, str | None]] = {}
    for client, run in decode_update(document, stored=True).items.items():
        for item in run:
            for clock in range(item.clock, item.end):
                content = item.contents[clock - item.clock] if item.contents else None
                first = clock == item.clock
                origin = item.origin if first else (client, clock - 1)
                found[client, clock] = (content, origin, item.root if first else None)
    return found
