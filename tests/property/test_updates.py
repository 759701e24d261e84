"""Whatever a device sends: what the hub acknowledges is there, for everybody and after a restart."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array, Doc

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import UpdateError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Hello,
    Refusal,
    Step1,
    decode_frame,
    encode_frame,
)
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.limits import CLOCK_MAX
from localmem_protocol.replica import Replica
from localmem_protocol.room import Effect, Peer, Room, Send
from localmem_protocol.updates import (
    Id,
    Item,
    Update,
    after,
    decode_state_vector,
    decode_update,
    encode_update,
)
from support.events import event

POOL = PoolKey("team", 1, bytes(32))
ONE, TWO, THREE = "11" * 8, "22" * 8, "33" * 8
OWN, SECOND, OTHERS, NEW = 1, 2, 3, 4
"""Client ids: of the device that sends, its second one, another device's, and one that nobody has."""


class Hub:
    """A room with a device that sends anything, an honest one, and what was accepted so far."""

    def __init__(self) -> None:
        clients = {OWN: ONE, SECOND: ONE, OTHERS: TWO}
        honest = Item(0, 1, (b"of another device",), root=TWO)
        self.rows = [encode_update(Update({OTHERS: [honest]}))]
        self.clients: dict[int, str] = clients
        self.room = Room(self.rows, clients)
        self.contents: dict[Id, bytes] = {(OTHERS, 0): b"of another device"}
        self.deleted: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.vector: dict[int, int] = {}
        self._connections = 0

    def send(self, data: bytes) -> int:
        """Send an update as device ONE; the code of the refusal, 0 for an acknowledgement."""
        connection = self._join()
        (told,) = self._settle(self.room.receive(connection, encode_frame(UpdateFrame(data))))
        assert not self.room.broken  # the strict check must do, without the look afterwards
        if isinstance(told, Refusal):
            return told.code
        assert isinstance(told, Ack)
        self._note(decode_update(data))
        self._join()
        assert self.vector.get(OWN, 0) == told.clock
        return 0

    def check(self) -> None:
        """What was accepted is in every document that is made of what is stored."""
        self._join()
        snapshot = Room(self.rows, self.clients).snapshot()
        for updates in (self.rows, [self.room.snapshot()], [snapshot]):
            document: Doc[Array[bytes]] = Doc()
            for data in updates:
                document.apply_update(data)
            assert decode_state_vector(document.get_state()) == self.vector
            for device in (ONE, TWO):
                array = document.get(device, type=Array)
                assert sorted(map(bytes, array)) == self._alive(device)
        reader = Replica(POOL, THREE)
        reader.integrate(snapshot)
        assert decode_state_vector(reader.state_vector()) == self.vector

    def _alive(self, device: str) -> list[bytes]:
        return sorted(
            sealed
            for (client, clock), sealed in self.contents.items()
            if self.clients[client] == device
            and not any(first <= clock < first + size for first, size in self.deleted[client])
        )

    def _note(self, update: Update) -> None:
        for client, run in update.items.items():
            for item in after(run, client, self.vector.get(client, 0)):
                if item.contents is None:
                    self.deleted[client].append((item.clock, item.length))
                for clock, sealed in enumerate(item.contents or (), start=item.clock):
                    self.contents[client, clock] = sealed
        for client, ranges in update.deletes.items():
            self.deleted[client] += ranges

    def _join(self) -> int:
        """A new connection of device ONE, told how far the document reaches."""
        self._connections += 1
        self.room.join(Peer(self._connections, ONE))
        hello = encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, OWN))
        for frame in self._settle(self.room.receive(self._connections, hello)):
            if isinstance(frame, Step1):
                self.vector = decode_state_vector(frame.state_vector)
        return self._connections

    def _settle(self, effects: list[Effect]) -> list[Frame]:
        """What is said once everything is stored."""
        commit = self.room.take()
        if commit is not None:
            self.rows += [row.update for row in commit.rows]
            self.clients |= commit.clients
            effects = effects + self.room.committed()
        return [decode_frame(effect.data) for effect in effects if isinstance(effect, Send)]


client_ids = st.sampled_from([OWN, SECOND, NEW, OTHERS])
extreme = st.sampled_from([CLOCK_MAX - 1, CLOCK_MAX, 2**31, 2**32 - 1, 2**32, 2**40])
lengths = st.integers(1, 3) | extreme


@st.composite
def placed(draw: st.DrawFn, client: int, run: Item, ids: list[Id], tangled: bool) -> Item:
    """A run put somewhere: where its writer would put it, or beside any of these ids."""
    clock = run.clock
    if not tangled and draw(st.booleans()):
        origin, root = ((client, clock - 1), None) if clock else (None, ONE)
        return run._replace(origin=origin, root=root)
    beside = st.none() | st.sampled_from(ids)
    origin, right = draw(beside), draw(beside)
    root = None if origin or right else draw(st.sampled_from([ONE, TWO, ""]))
    return run._replace(origin=origin, right=right, root=root)


@st.composite
def updates(draw: st.DrawFn, known: dict[int, int]) -> Update:
    """An update to a document that reaches that far; it may contradict it, or itself."""
    bare: dict[int, list[Item]] = {}
    for client in draw(st.lists(client_ids, max_size=2, unique=True)):
        clock = max(0, known.get(client, 0) + draw(st.sampled_from([0, 0, 0, 0, -1, 1])))
        bare[client] = []
        for _ in range(draw(st.integers(1, 2))):
            sealed = draw(st.none() | st.lists(st.binary(max_size=3), min_size=1, max_size=2))
            length = draw(lengths) if sealed is None else len(sealed)
            bare[client].append(Item(clock, length, None if sealed is None else tuple(sealed)))
            clock += length
    tangled = draw(st.booleans())  # it builds on nothing but itself
    ends = {} if tangled else {client: min(clock, 9) for client, clock in known.items()}
    ends |= {client: min(run[-1].end + 1, 9) for client, run in bare.items()}
    ids = [(client, clock) for client, end in ends.items() for clock in range(end)]
    runs = {
        client: [draw(placed(client, item, [*ids, (OWN, CLOCK_MAX)], tangled)) for item in run]
        for client, run in bare.items()
    }
    ranges = st.lists(st.tuples(st.integers(0, 5), lengths), min_size=1, max_size=2)
    return Update(runs, draw(st.just({}) | st.dictionaries(client_ids, ranges, max_size=2)))


@given(st.data())
def test_what_is_acknowledged_is_there_whatever_was_sent(data: st.DataObject) -> None:
    hub = Hub()
    base = Update({OWN: [Item(0, 3, (b"a", b"b", b"c"), root=ONE)]})
    assert hub.send(encode_update(base)) == 0
    for _ in range(data.draw(st.integers(1, 5))):
        hub.send(encode_update(data.draw(updates(hub.vector))))
    hub.check()


@given(st.data())
def test_what_is_acknowledged_of_a_mutated_update_is_there(data: st.DataObject) -> None:
    hub, writer = Hub(), Replica(POOL, ONE, OWN)
    for number in range(1, data.draw(st.integers(1, 20))):
        assert hub.send(writer.append([event(number, ONE)])) == 0
    evicted = writer.evict(1)
    last = evicted or writer.append([event(99, ONE)])
    sent = bytearray(data.draw(st.sampled_from([last, writer.export()])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(sent) - 1))
        sent[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    code = hub.send(bytes(sent))
    hub.check()
    if code:
        assert code in (Close.REFUSED_UPDATE, Close.GAP)
        assert hub.send(last) == 0


@given(st.data())
def test_a_device_has_what_it_takes_from_any_hub(data: st.DataObject) -> None:
    replica = Replica(POOL, THREE, 9)
    replica.integrate(encode_update(Update({OWN: [Item(0, 2, (b"a", b"b"), root=ONE)]})))
    for _ in range(data.draw(st.integers(1, 5))):
        vector = decode_state_vector(replica.state_vector())
        try:
            replica.integrate(encode_update(data.draw(updates(vector))))
        except UpdateError:
            continue
        reached = decode_state_vector(replica.state_vector())
        assert reached == {client: replica.ledger.clock(client) for client in replica.ledger}
    again = Replica(POOL, THREE, 9, [replica.export()])
    assert decode_state_vector(again.state_vector()) == decode_state_vector(replica.state_vector())
