"""What a hub on blobs does when the storage, or somebody at it, does not do what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from bench.azurite_server import AzuriteServer
from localmem_hub import blobs
from localmem_hub.blobs import manifest, names
from localmem_hub.blobs.address import Address
from localmem_hub.blobs.connecting import open_container
from localmem_hub.blobs.opening import prepare
from localmem_hub.blobs.store import BlobStore
from localmem_hub.errors import (
    CommitError,
    DamageError,
    DatabaseTimeoutError,
    MigrationError,
    StaleError,
    UnreachableError,
)
from localmem_hub.seams import Batch, Missed, RosterMark
from localmem_protocol.access import room_name
from localmem_protocol.entries import entry_hash
from localmem_protocol.exchange import Mark, News
from localmem_protocol.room import Row
from localmem_protocol.simulation import SeededRandom
from support.azurite import new_container
from support.blob_faults import Faults, FaultyTransport, Killed
from support.pool_members import Team
from support.sync_client import append

ONE, TWO = "0000000000000001", "0000000000000002"
NOW = 1_760_000_000_000
LOG = "/rooms/a/log-"


def row(client: int, clock: int, content: bytes = b"x") -> Row:
    device = f"{client:016x}"
    return Row(device, append(device, client, clock, content))


def takes(missed: Sequence[Missed]) -> set[str]:
    """A room that has nothing to do with what others write."""
    return {one.pool for one in missed}


@pytest.fixture
def address(azurite: AzuriteServer) -> Address:
    return new_container(azurite)


Open = Callable[..., tuple[BlobStore, Faults]]


@pytest.fixture
def start(address: Address) -> Iterator[Open]:
    """Starts processes on one container that has the pool `a`."""
    opened: list[BlobStore] = []

    def one(**options: int) -> tuple[BlobStore, Faults]:
        faults = Faults()
        container = open_container(address, transport=FaultyTransport(faults))
        prepare(container, migrate=True)
        store = BlobStore(container, **options)
        if not opened:
            store.tokens.create("a", None, "writer", SeededRandom(1), NOW)
        opened.append(store)
        return store, faults

    yield one
    for store in opened:
        store.close()


def test_throttling_is_waited_out_and_then_told(start: Open) -> None:
    store, faults = start()
    faults.add("PUT", LOG, "busy", times=3)
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    faults.add("PUT", LOG, "busy", times=99)
    with pytest.raises(DatabaseTimeoutError, match="the storage is busy"):
        store.commit([Batch("a", 1, [row(1, 1)])], NOW)
    faults.rules.clear()
    assert store.load("a").rows == [row(1, 0).update]


@pytest.mark.parametrize("lost", [1, 9], ids=["once", "every time"])
def test_an_append_whose_answer_is_lost_has_one_effect(start: Open, lost: int) -> None:
    store, faults = start()
    faults.add("PUT", LOG, "lost answer", times=lost)
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)  # it is there, and so acknowledged
    assert faults.happened
    faults.rules.clear()
    other, _ = start()
    assert other.load("a") == store.load("a")
    assert store.load("a").rows == [row(1, 0).update]
    store.commit([Batch("a", 1, [row(1, 1)])], NOW)
    assert other.place("a") == store.place("a")


def test_what_never_arrived_is_not_acknowledged(start: Open) -> None:
    store, faults = start()
    faults.add("PUT", LOG, "lost request", times=99)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    faults.rules.clear()
    assert store.load("a").rows == []


def test_an_append_that_arrives_late_is_void_if_it_was_said_again(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    late: list[bytes] = []

    def keep(request: bytes = b"") -> None:
        segment = store.log("a").segment
        assert segment is not None
        late.append(segment.place.segment.encode())

    faults.add("PUT", LOG, keep)
    frames: list[bytes] = []
    real = store.container.append
    store.container.append = lambda name, data: frames.append(data) or real(name, data)  # type: ignore[method-assign, func-returns-value]
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    other.commit([Batch("a", 1, [row(2, 0)], {2: TWO})], NOW, takes)
    other.container.append(late[0].decode(), frames[0])  # the same once more, by the network
    assert other.load("a").rows == [row(1, 0).update, row(2, 0).update]
    assert start()[0].load("a") == other.load("a")


def test_a_store_that_refuses_this_hub_says_what_to_look_at(start: Open) -> None:
    store, faults = start()
    faults.add("PUT", LOG, "refused", times=1)
    with pytest.raises(UnreachableError, match="role, and at this machine's clock"):
        store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    faults.add("GET", "/tokens/", "refused", times=1)
    with pytest.raises(UnreachableError, match="AuthenticationFailed"):
        store.tokens.revoke("0" * 16, NOW)


def test_without_its_container_a_hub_says_how_it_is_made(address: Address) -> None:
    with pytest.raises(MigrationError, match="localmem-hub migrate"):
        blobs.open_store(address)
    store = blobs.open_store(address, migrate=True)
    assert store.current()
    store.container.client.delete_container()
    for call in (store.ping, lambda: store.load("a"), lambda: store.tokens.list()):
        with pytest.raises(MigrationError, match="no such container"):
            call()
    store.close()


def test_a_container_with_other_blobs_is_left_alone(address: Address) -> None:
    container = open_container(address)
    container.make()
    container.create("somebody/else's", b"")
    with pytest.raises(MigrationError, match="other blobs"):
        prepare(container, migrate=True)
    container.create(names.HUB, b'{"format": 99}')
    with pytest.raises(MigrationError, match="newer release"):
        prepare(container)
    container.close()


def test_a_log_that_was_deleted_by_hand_is_missed_and_not_begun_anew(start: Open) -> None:
    store, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    segment = store.log("a").segment
    assert segment is not None
    store.container.delete(segment.place.segment)
    for one in (store, start()[0]):
        with pytest.raises(DamageError, match="is gone from the hub's storage"):
            one.load("a")
        with pytest.raises((DamageError, StaleError)):
            one.commit([Batch("a", 1, [row(1, 1)])], NOW)


def test_copies_of_snapshots_are_for_people_and_may_go(start: Open) -> None:
    store, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    assert store.compact("a", 1, b"snapshot")
    copy = store.container.read(names.latest("a"))
    assert copy is not None
    assert (copy.data, copy.metadata["number"]) == (b"snapshot", "1")
    for one in list(store.container.names(names.snapshots("a"))):
        store.container.delete(one.name)
    assert start()[0].load("a").snapshot == b"snapshot"
    for clock in range(1, 6):
        store.commit([Batch("a", clock, [row(1, clock)])], NOW)
        assert store.compact("a", clock + 1, b"snapshot %d" % clock)
    kept = [one.name for one in store.container.names(names.snapshots("a"))]
    assert len(kept) == 4  # three, and the newest under its other name
    assert store.erase("a")
    kept = [one.name.rpartition("/")[2] for one in store.container.names(names.snapshots("a"))]
    assert kept == ["00000000000000000006", "latest"]


def test_foreign_bytes_in_a_log_are_passed_over(start: Open) -> None:
    store, _ = start()
    other, _ = start()
    other.place("a")
    for clock, foreign in enumerate((b"", b"torn \xf1lmb\x02\x00\xff", b"\xf1lmb", b"\0" * 999)):
        segment = store.log("a").segment
        name = segment.place.segment if segment is not None else ""
        if name:
            store.container.append(name, foreign or b"!")
        store.commit([Batch("a", clock, [row(1, clock)], {} if clock else {1: ONE})], NOW)
        assert other.load("a") == store.load("a")
    assert store.load("a").rows == [row(1, clock).update for clock in range(4)]
    assert start()[0].load("a") == store.load("a")


def test_of_two_devices_that_get_one_client_id_one_is_told_to_look_again(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    mine, theirs = Batch("a", 0, [], {5: ONE}), Batch("a", 0, [], {5: TWO})
    store.place("a")
    faults.add("PUT", LOG, lambda: other.commit([theirs], NOW, takes))
    assert store.commit([mine], NOW, takes) == {"a"}
    assert store.load("a").clients == other.load("a").clients == {5: TWO}


def test_rows_that_came_in_between_are_taken_in_before_the_own(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    theirs = Batch("a", 0, [row(2, 0)], {2: TWO})
    heard: list[Missed] = []

    def catch_up(missed: Sequence[Missed]) -> set[str]:
        heard.extend(missed)
        return {"a"}

    store.place("a")
    faults.add("PUT", LOG, lambda: other.commit([theirs], NOW, takes))
    assert store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW, catch_up) == set()
    assert [(one.after, one.head, one.rows) for one in heard] == [(0, 1, [row(2, 0)])]
    assert store.load("a").rows == [row(2, 0).update, row(1, 0).update]


@pytest.mark.parametrize("between", ["once", "again and again"])
def test_an_append_between_reading_and_closing_is_in_the_next_segment(
    start: Open, between: str
) -> None:
    store, faults = start()
    other, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    said: list[int] = []

    def say() -> None:
        other.commit([Batch("a", 1 + len(said), [row(1, 1 + len(said))])], NOW)
        said.append(1)

    times = 1 if between == "once" else 5
    faults.add("PUT", LOG + "00000001", say, times=times, query="appendblock")
    assert store.compact("a", 1, b"snapshot")
    expected = [row(1, clock).update for clock in range(1, 1 + times)]
    for one in (store, other, start()[0]):
        stored = one.load("a")
        assert (stored.head, stored.snapshot, stored.rows) == (1 + times, b"snapshot", expected)


def test_of_two_compactors_one_is_done(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    for clock in range(3):
        store.commit([Batch("a", clock, [row(1, clock)], {} if clock else {1: ONE})], NOW)
    faults.add("PUT", LOG + "00000001", lambda: other.compact("a", 3, b"theirs"))
    assert not store.compact("a", 3, b"mine")
    assert store.load("a") == other.load("a")
    assert store.load("a").snapshot == b"theirs"
    assert segments_of(store) == [2]


def segments_of(store: BlobStore) -> list[int]:
    listed = store.container.names(names.segments("a"))
    return [int(one.name.rpartition("log-")[2][:8]) for one in listed]


def test_a_lease_that_is_lost_midway_is_harmless(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    hold = store.hold("a")
    assert hold is not None
    assert other.hold("a") is None
    lease = store.container.client.get_blob_client(names.lease("a"))
    faults.add("PUT", LOG + "00000002", lambda: lease.delete_blob(lease=hold.lease))  # type: ignore[attr-defined]
    assert store.compact("a", 1, b"snapshot")
    assert other.hold("a") is not None
    hold.release()
    assert other.load("a").snapshot == b"snapshot"


@pytest.mark.parametrize("step", range(9))
def test_a_compactor_that_dies_at_any_step_leaves_all_there_is(start: Open, step: int) -> None:
    store, faults = start()
    for clock in range(2):
        store.commit([Batch("a", clock, [row(1, clock)], {} if clock else {1: ONE})], NOW)
    rule = faults.add("PUT", "", "killed", skip=step)
    try:
        store.compact("a", 1, b"snapshot")
    except Killed:
        assert not rule.times
    faults.rules.clear()
    other, _ = start()
    for one in (other, store):
        stored = one.load("a")
        rows = [row(1, clock).update for clock in range(2)]
        assert (stored.snapshot, stored.rows) in ((None, rows), (b"snapshot", rows[1:]))
    other.commit([Batch("a", 2, [row(1, 2)])], NOW)
    assert store.load("a").rows[-1] == row(1, 2).update
    assert other.erase("a")
    assert len(segments_of(store)) == 1
    assert store.load("a") == other.load("a")


def test_a_compactor_that_was_held_up_cannot_close_with_what_was_swept(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    faults.add("PUT", LOG + "00000001", lambda: other.erase("a"))  # just before it closes
    assert not store.compact("a", 1, b"snapshot")
    for one in (store, other, start()[0]):
        assert one.load("a").rows == [row(1, 0).update]


def test_a_log_goes_on_elsewhere_before_it_has_all_its_blocks(start: Open) -> None:
    store, _ = start(blocks_max=5)
    other, _ = start(blocks_max=5)
    for clock in range(12):
        one = (store, other)[clock % 2]
        one.place("a")
        one.commit([Batch("a", clock, [row(1, clock)], {} if clock else {1: ONE})], NOW)
    assert store.load("a") == other.load("a")
    assert store.load("a").rows == [row(1, clock).update for clock in range(12)]
    assert segments_of(store)[0] > 2


def test_a_segment_that_is_full_is_left_by_the_manifest(start: Open) -> None:
    store, faults = start()
    other, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    faults.add("PUT", LOG + "00000001", "full", times=99, query="appendblock")
    with pytest.raises(StaleError):
        store.commit([Batch("a", 1, [row(1, 1)])], NOW)
    store.place("a")
    store.commit([Batch("a", 1, [row(1, 1)])], NOW)
    assert other.load("a") == store.load("a")
    assert segments_of(store) == [2]


def test_a_roster_entry_whose_answer_is_lost_is_there_once(start: Open) -> None:
    store, faults = start()
    team = Team()
    mark = RosterMark(1, entry_hash(team.entries[0]))
    code = store.access.invite(1, 1, SeededRandom(1), NOW)
    faults.add("PUT", "/rosters/", "lost answer")
    faults.add("PUT", "/rosters/", "lost answer", query="appendblock")
    assert store.rosters.found(team.pool, team.entries[0], mark, "00", code, NOW)
    entry = b"entry"
    faults.add("PUT", "/rosters/", "lost answer")
    store.rosters.append(team.pool, entry, RosterMark(2, entry_hash(entry)), 1, NOW)
    faults.rules.clear()
    assert start()[0].rosters.read(team.pool, 0, 1 << 20) == [team.entries[0], entry]


def test_a_room_whose_maker_died_is_made_by_whoever_needs_it(start: Open) -> None:
    store, faults = start()
    team = Team()
    mark = RosterMark(1, entry_hash(team.entries[0]))
    faults.add("PUT", "/rooms/", "killed")
    with pytest.raises(Killed):
        store.rosters.found(team.pool, team.entries[0], mark, "00", None, NOW)
    other, _ = start()
    room = room_name(team.pool, 1)
    assert manifest.read(other.container, room) is None
    other.commit([Batch(room, 0, [row(1, 0)], {1: ONE})], NOW, takes)
    assert store.load(room).rows == [row(1, 0).update]
    with pytest.raises(CommitError, match="no pool"):
        other.commit([Batch(room_name("0" * 32, 1), 0, [row(1, 0)])], NOW, takes)


def test_what_happens_once_happens_once_when_answers_get_lost(start: Open) -> None:
    store, faults = start()
    faults.add("PUT", "/spent/", "lost answer")
    faults.add("PUT", "/mailboxes/", "lost answer")
    assert store.access.spend("ab", NOW + 1, NOW)
    assert not store.access.spend("ab", NOW + 1, NOW)
    number = store.mailboxes.open(b"o" * 32, NOW + 9, SeededRandom(1), NOW)
    assert number is not None
    faults.add("PUT", "/mailboxes/", "lost answer", times=1)
    assert store.mailboxes.join(number, b"j" * 32, NOW)
    assert not store.mailboxes.join(number, b"k" * 32, NOW)


def test_requests_are_few(start: Open) -> None:
    """Counted here, and named in docs/azure-storage.md."""
    store, faults = start()
    other, _ = start()

    def count(call: Callable[[], object]) -> int:
        before = len(faults.sent)
        call()
        return len(faults.sent) - before

    store.place("a")
    assert count(lambda: store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW, takes)) == 1
    assert count(lambda: store.place("a")) == 1  # an idle poll
    assert count(lambda: store.rows_after("a", 0, 1)) == 0
    assert count(lambda: store.tag("a", 1)) == 0
    other.commit([Batch("a", 1, [row(2, 0)], {2: TWO})], NOW, takes)
    assert count(lambda: store.commit([Batch("a", 1, [row(1, 1)])], NOW, takes)) == 2
    assert count(lambda: store.load("a")) == 1
    cold, faults = start()
    assert count(lambda: cold.load("a")) == 2
    assert cold.compact("a", 3, b"snapshot")
    assert count(lambda: cold.load("a")) <= 2
    colder, faults = start()
    assert count(lambda: colder.load("a")) == 2


def test_an_idle_poll_is_one_request_wherever_it_comes_to(start: Open) -> None:
    store, _ = start()
    other, _ = start()
    store.commit([Batch("a", 0, [row(1, 0)], {1: ONE})], NOW)
    number, tag = store.place("a")
    held = Mark.parse(Mark(number, True, tag, 3).text)
    known = (held.head, held.tag)
    assert known == (number, tag)
    assert store.tag("a", number) == tag

    def ask() -> tuple[tuple[int, str], int]:
        cold, faults = start()
        before = len(faults.sent)
        return cold.place("a", known), len(faults.sent) - before

    assert ask() == (known, 1)
    other.commit([Batch("a", 1, [row(2, 0)], {2: TWO})], NOW, takes)
    (number, tag), _ = ask()
    assert number == 2
    news = start()[0].rows_after("a", 1, tag=known[1])
    assert news is not None
    assert [one.number for one in news.rows] == [2]
    known = (number, tag)
    assert other.compact("a", 2, b"snapshot")
    assert ask()[0] == known  # though it is elsewhere by now
    assert start()[0].rows_after("a", 2, tag=tag) == News([])
    assert start()[0].rows_after("a", 2, tag="wrong!") is None
    assert start()[0].place("a", (2, "AAAAAA-1-000000000000-0"))[1] != tag
