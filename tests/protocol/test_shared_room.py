"""Replicas of one room on one log: whatever the order, they hold the same and forget nothing said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_protocol.document import Document
from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Ack,
    Close,
    Frame,
    Held,
    Hello,
    Step1,
    Step2,
    Update,
    Welcome,
    decode_frame,
    encode_frame,
)
from localmem_protocol.room import Drop, Effect, Peer, Row
from localmem_protocol.shared_room import SharedRoom
from localmem_protocol.simulation import SeededRandom
from localmem_protocol.updates import decode_update
from support.sync_client import append


class Log:
    """The pool as it is stored."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.clients: dict[int, str] = {}

    def load(self) -> SharedRoom:
        return SharedRoom([row.update for row in self.rows], dict(self.clients))


class Replica:
    """A room, what it has of the log, and who was told what."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.room = log.load()
        self.head = len(log.rows)
        self.told: dict[int, list[Frame]] = {}
        self.codes: dict[int, int] = {}
        self.devices: dict[int, str] = {}

    def join(self, connection: int, device: str, client: int = 0) -> None:
        self.told[connection], self.devices[connection] = [], device
        self.room.join(Peer(connection, device))
        self.hear(connection, Hello(PROTOCOL, CAPABILITIES, device, client))

    def hear(self, connection: int, frame: Frame) -> None:
        self.carry_out(self.room.receive(connection, encode_frame(frame)))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Drop):
                self.codes[effect.connection] = effect.code
            else:
                self.told[effect.connection].append(decode_frame(effect.data))

    def catch_up(self) -> bool:
        """As inside the committing transaction; False when the batch must not be stored."""
        rows, clients = self.log.rows[self.head :], self.log.clients
        try:
            effects, _ = self.room.absorb(rows, clients)
        except ProtocolError:
            return False
        self.head = len(self.log.rows)
        self.carry_out(effects)
        return True

    def rebase(self) -> None:
        self.head = len(self.log.rows)
        self.carry_out(self.room.rebase(self.log.load()))

    def commit(self, *, heard: bool = True) -> None:
        """Store what waits; without `heard` the store's answer gets lost, and it is tried again."""
        commit = self.room.take()
        if commit is None:
            if not self.catch_up():
                self.rebase()
            return
        taken = any(self.log.clients.get(c, d) != d for c, d in commit.clients.items())
        if taken or not self.catch_up():
            self.rebase()
            self.commit()
            return
        self.log.rows += commit.rows
        self.log.clients |= commit.clients
        if not heard:
            self.rebase()
            self.commit()
            return
        self.head += len(commit.rows)
        self.carry_out(self.room.committed())

    def client(self, connection: int) -> int:
        return next(f.client for f in self.told[connection] if isinstance(f, Welcome))

    def acknowledged(self, connection: int) -> int:
        return max((f.clock for f in self.told[connection] if isinstance(f, Ack)), default=0)

    def seen(self, connection: int) -> set[bytes]:
        """The batches that a connection was sent, each after those that it builds on; with every Step2
        it has exactly what it is told that the hub has."""
        found: set[bytes] = set()
        document = Document()
        held = Held(())
        for frame in self.told[connection]:
            if isinstance(frame, Held):
                held = frame
            if isinstance(frame, Update | Step2):
                document.load(frame.update)  # raises GapError
                for run in decode_update(frame.update, stored=True).items.values():
                    found |= {c for item in run for c in item.contents or ()}
            if isinstance(frame, Step2):
                has = [(c, document.ledger.account(c)) for c in document.ledger]
                assert {one for one in held.accounts if one[1]} == {
                    (c, one.clock, one.digest(one.marks.values())) for c, one in has if one
                }
        return found


def device(number: int) -> str:
    return f"{number:016x}"


def settle(*replicas: Replica) -> None:
    for _ in range(3):
        for replica in replicas:
            replica.commit()


def test_replicas_that_write_at_once_pass_each_others_batches_on() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    one.commit()
    two.join(2, device(2))
    two.commit()
    for replica, connection in ((one, 1), (two, 2)):
        replica.hear(connection, Step1(b"\x00"))
        client = replica.client(connection)
        replica.hear(connection, Update(append(device(connection), client, 0, b"%d" % connection)))
        assert replica.acknowledged(connection) == 0
    settle(one, two)
    assert one.room.snapshot() == two.room.snapshot() == log.load().snapshot()
    assert (one.acknowledged(1), two.acknowledged(2)) == (1, 1)
    assert (one.seen(1), two.seen(2)) == ({b"2"}, {b"1"})
    assert [row.device for row in log.rows] == [device(1), device(2)]


def test_new_devices_at_two_replicas_get_client_ids_of_their_own() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    two.join(2, device(2))
    settle(one, two)
    assert {one.client(1), two.client(2)} == {1, 2}
    assert log.clients == {1: device(1), 2: device(2)}
    assert (one.codes, two.codes) == ({}, {})


def test_client_ids_are_drawn_where_there_is_chance() -> None:
    drawn = set()
    for seed in range(2):
        room = SharedRoom(random=SeededRandom(seed))
        room.join(Peer(1, device(1)))
        room.receive(1, encode_frame(Hello(PROTOCOL, CAPABILITIES, device(1), 0)))
        commit = room.take()
        assert commit is not None
        drawn |= set(commit.clients)
    assert len(drawn) == 2
    assert 1 not in drawn


def test_a_commit_whose_outcome_got_lost_is_acknowledged_and_stored_once() -> None:
    log = Log()
    one = Replica(log)
    one.join(1, device(1))
    one.join(2, device(2))
    one.commit()
    for connection in (1, 2):
        one.hear(connection, Step1(b"\x00"))
    one.hear(1, Update(append(device(1), one.client(1), 0, b"batch")))
    one.commit(heard=False)
    assert one.acknowledged(1) == 1
    assert len(log.rows) == 1
    assert one.seen(2) == {b"batch"}
    assert one.codes == {}


def test_what_was_absorbed_beside_a_commit_that_got_lost_is_passed_on_all_the_same() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    one.commit()
    two.join(2, device(2))
    two.commit()
    one.hear(1, Step1(b"\x00"))
    for clock in range(2):
        two.hear(2, Update(append(device(2), two.client(2), clock, b"%d" % clock)))
        two.commit()
        one.hear(1, Update(append(device(1), one.client(1), clock, b"own %d" % clock)))
        one.commit(heard=False)
    assert one.seen(1) >= {b"0", b"1"}
    assert one.acknowledged(1) == 2
    assert len(log.rows) == 4


def test_who_asks_while_a_commit_is_given_up_is_told_everything_once_and_in_order() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    one.commit()
    two.join(2, device(2))
    two.commit()
    two.hear(2, Update(append(device(2), two.client(2), 0, b"first")))
    two.commit()
    one.commit()
    one.hear(1, Update(append(device(1), one.client(1), 0, b"own")))
    one.hear(1, Step1(b"\x00"))
    two.hear(2, Update(append(device(2), two.client(2), 1, b"second")))
    two.commit()
    assert one.room.take() is not None
    one.rebase()
    one.commit()
    assert one.seen(1) >= {b"first", b"second"}
    assert sum(isinstance(frame, Update | Step2) for frame in one.told[1]) == 1


def test_of_two_who_write_under_one_client_id_the_other_bytes_are_refused() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    one.commit()
    two.join(2, device(1), 1)
    two.commit()
    assert two.client(2) == 1
    one.hear(1, Update(append(device(1), 1, 0, b"one")))
    two.hear(2, Update(append(device(1), 1, 0, b"two")))
    settle(one, two)
    assert one.acknowledged(1) == 1
    assert two.codes == {2: Close.REFUSED_UPDATE}
    assert len(log.rows) == 1
    assert one.room.snapshot() == two.room.snapshot()


def test_who_is_connected_under_a_client_id_that_goes_on_elsewhere_is_replaced() -> None:
    log = Log()
    one, two = Replica(log), Replica(log)
    one.join(1, device(1))
    one.commit()
    two.join(2, device(1), 1)
    two.commit()
    assert two.room.newcomers == [1]
    two.hear(2, Update(append(device(1), 1, 0, b"two")))
    two.commit()
    one.commit()
    assert one.codes == {1: Close.REPLACED}
    three = Replica(log)
    three.join(3, device(1), 1)
    three.commit()
    two.carry_out(two.room.taken_over(1))
    assert two.codes == {2: Close.REPLACED}
    assert three.codes == {}


def test_what_cannot_be_absorbed_is_heard_by_nobody_until_it_is_rebased() -> None:
    log = Log()
    one = Replica(log)
    one.join(1, device(1))
    one.commit()
    with pytest.raises(ProtocolError):
        one.room.absorb([Row(device(2), append(device(2), 9, 5, b"gap"))], {9: device(2)})
    assert one.room.broken
    one.rebase()
    assert not one.room.broken
    one.hear(1, Update(append(device(1), 1, 0, b"after")))
    one.commit()
    assert one.acknowledged(1) == 1


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["join", "step", "write", "commit", "lost", "rebase", "move"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_history_converges_and_loses_nothing_that_was_acknowledged(
    steps: list[tuple[int, str, int]],
) -> None:
    log = Log()
    replicas = [Replica(log) for _ in range(3)]
    numbers = iter(range(1, 1000))
    written: dict[tuple[int, int], list[bytes]] = {}  # what a connection said, in order

    for at, action, which in steps:
        replica = replicas[at]
        mine = [c for c in replica.told if c not in replica.codes]
        welcomed = [c for c in mine if any(isinstance(f, Welcome) for f in replica.told[c])]
        if action == "join":
            connection = next(numbers)
            replica.join(connection, device(connection))
        elif action == "commit":
            replica.commit()
        elif action == "lost":
            replica.commit(heard=False)
        elif action == "rebase" and not replica.room._under_way:
            replica.rebase()
        elif action == "move" and welcomed:  # a device connects elsewhere, and goes on there
            old = welcomed[which % len(welcomed)]
            connection = next(numbers)
            replicas[(at + 1) % 3].join(connection, replica.devices[old], replica.client(old))
        elif welcomed:
            connection = welcomed[which % len(welcomed)]
            if action == "step":
                replica.hear(connection, Step1(b"\x00"))
            elif action == "write":
                client = replica.client(connection)
                said = written.setdefault((at, connection), [])
                clock = _welcome(replica, connection).clock + len(said)
                said.append(b"%d %d %d" % (at, connection, len(said)))
                update = append(replica.devices[connection], client, clock, said[-1])
                replica.hear(connection, Update(update))
    settle(*replicas)

    fresh = log.load()
    stored = _batches(fresh)
    for replica in replicas:
        assert replica.room.snapshot() == fresh.snapshot()
        for connection, frames in replica.told.items():
            if said := written.get((replicas.index(replica), connection), []):
                reached = replica.acknowledged(connection) - _welcome(replica, connection).clock
                assert set(said[: max(reached, 0)]) <= stored
            if connection in replica.codes:
                continue
            assert any(isinstance(frame, Welcome) for frame in frames)
            if any(isinstance(frame, Step2) for frame in frames):
                own = set(written.get((replicas.index(replica), connection), []))
                assert replica.seen(connection) | own >= stored


def _welcome(replica: Replica, connection: int) -> Welcome:
    return next(f for f in replica.told[connection] if isinstance(f, Welcome))


def _batches(room: SharedRoom) -> set[bytes]:
    found = decode_update(room.snapshot(), stored=True)
    return {c for run in found.items.values() for item in run for c in item.contents or ()}
