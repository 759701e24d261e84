import pytest

from localmem_protocol.envelope import PoolKey
from localmem_protocol.errors import GapError, MergeError, UpdateError
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import SEGMENT_BATCHES_MAX
from localmem_protocol.replica import Replica
from localmem_protocol.updates import Item, Update, encode_update
from support.events import DEVICE, event

POOL = PoolKey("team", 1, bytes(32))
OTHER = "ff" * 8


def test_what_one_replica_appends_another_opens_in_order() -> None:
    writer, reader = Replica(POOL, DEVICE, 1), Replica(POOL, OTHER, 2)
    for number in range(1, 40):
        assert reader.integrate(writer.append([event(number)])).events == [event(number)]
    assert reader.state_vector() == writer.state_vector()


def test_a_replica_goes_on_from_its_kept_updates() -> None:
    first = Replica(POOL, DEVICE, 1)
    kept = [first.append([event(number)]) for number in range(1, 6)]
    again = Replica(POOL, DEVICE, 1, kept)
    assert again.loaded.events == [event(number) for number in range(1, 6)]
    reader = Replica(POOL, OTHER, 2, [again.export()])
    assert reader.integrate(again.append([event(6)])).events == [event(6)]


def test_the_same_update_twice_brings_its_events_once() -> None:
    writer, reader = Replica(POOL, DEVICE, 1), Replica(POOL, OTHER, 2)
    update = writer.append([event(1)])
    assert len(reader.integrate(update).events) == 1
    assert reader.integrate(update).events == []


def test_an_update_that_came_too_early_is_a_gap_and_changes_nothing() -> None:
    writer, reader = Replica(POOL, DEVICE, 1), Replica(POOL, OTHER, 2)
    first, second = writer.append([event(1)]), writer.append([event(2)])
    with pytest.raises(GapError):
        reader.integrate(second)
    assert reader.integrate(first).events == [event(1)]
    assert reader.integrate(second).events == [event(2)]


def test_only_whole_segments_are_evicted_and_never_the_running_one() -> None:
    writer, reader = Replica(POOL, DEVICE, 1), Replica(POOL, OTHER, 2)
    for number in range(1, 3 * SEGMENT_BATCHES_MAX + 2):
        reader.integrate(writer.append([event(number)]))
    assert writer.evict(10**9) is None
    before = len(writer.export())
    evicted = writer.evict(0)
    assert evicted is not None
    reader.integrate(evicted)
    assert len(writer.export()) < before / 10
    assert reader.export() == writer.export()
    joiner = Replica(POOL, OTHER, 3)
    assert joiner.integrate(writer.export()).events == [event(3 * SEGMENT_BATCHES_MAX + 1)]
    assert writer.evict(0) is None


def test_eviction_leaves_whole_segments_of_two_copies_that_write_at_once() -> None:
    ours, copy = Replica(POOL, DEVICE, 1), Replica(POOL, DEVICE, 2)
    for number in range(1, 6):
        copy.integrate(ours.append([event(number)]))
    for number in range(6, 60):  # segments of both lie interleaved
        copy.integrate(ours.append([event(number)]))
        ours.integrate(copy.append([event(number + 100)]))
    evicted = ours.evict(len(ours.export()) // 2)
    assert evicted is not None
    copy.integrate(evicted)
    copy.append([event(200)])
    joiner = Replica(POOL, OTHER, 3)
    result = joiner.integrate(copy.export())
    assert result.problems == []
    assert {event(59).id, event(159).id, event(200).id} <= {one.id for one in result.events}
    assert event(1).id not in {one.id for one in result.events}


def test_former_client_ids_leave_nothing_behind_for_good() -> None:
    most, kept, number, sizes = 4_000, [Replica(POOL, DEVICE, 1).export()], 0, []
    for client in range(1, 100):
        ours = Replica(POOL, DEVICE, client, kept)
        for _ in range(3):
            number += 1
            ours.append([event(number)])
            ours.evict(most)
        kept = [ours.export()]
        sizes.append(sum(len(sealed) for _, sealed in ours._own.batches()))
    assert max(sizes) <= most
    assert min(sizes[50:]) > most // 2


def test_a_document_at_a_fixed_budget_stays_flat() -> None:
    writer = Replica(POOL, DEVICE, 1)
    sizes = []
    for number in range(1, 1200):
        writer.append([event(number)])
        writer.evict(5_000)
        sizes.append(len(writer.export()))
    assert max(sizes[600:]) <= max(sizes[:600]) * 1.02


def test_a_wrong_key_is_a_problem_that_stops_nobody() -> None:
    writer = Replica(PoolKey("team", 1, b"\x01" * 32), DEVICE, 1)
    result = Replica(POOL, OTHER, 2).integrate(writer.append([event(1)]))
    assert result.events == []
    assert [(p.device, p.client, p.clock) for p in result.problems] == [(DEVICE, 1, 0)]


def test_the_head_before_any_clock_that_is_here_is_known() -> None:
    writer = Replica(POOL, DEVICE, 1)
    heads = []
    for number in range(1, 2 * SEGMENT_BATCHES_MAX):
        writer.append([event(number)])
        heads.append(writer.head_before(writer.clock))
    assert [writer.head_before(clock) for clock in range(1, len(heads) + 1)] == heads
    assert writer.head_before(0) == bytes(16)
    assert writer.head_before(99) is None
    writer.evict(0)
    assert writer.head_before(3) is None
    assert writer.head_before(len(heads)) == heads[-1]


def test_batches_under_our_own_client_id_from_elsewhere_are_refused() -> None:
    ours = Replica(POOL, DEVICE, 1)
    clone = Replica(POOL, DEVICE, 1)
    with pytest.raises(UpdateError, match="did not write"):
        ours.integrate(clone.append([event(1)]))


def test_what_makes_the_library_panic_or_fail_never_reaches_it() -> None:
    ours = Replica(POOL, DEVICE, 1)
    nowhere = Update({9: [Item(0, 1, (b"x",), origin=(8, 5))]})
    with pytest.raises(GapError):
        ours.integrate(encode_update(nowhere))
    with pytest.raises(UpdateError):
        ours.integrate(b"\x01\x01\xff\xff\xff\xff\x0f\x00\x04\x01\x01t\x01a\x00")


def test_what_is_not_in_the_document_after_the_merge_is_no_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Replica(POOL, DEVICE, 1)
    ours.integrate(encode_update(Update({9: [Item(0, 1, (b"x",), root=OTHER)]})))
    monkeypatch.setattr(Ledger, "check", lambda ledger, update: {})
    with pytest.raises(MergeError):
        ours.integrate(encode_update(Update({9: [Item(1, 1, (b"y",), origin=(9, 1))]})))


def test_nothing_is_appended_without_a_client_id() -> None:
    with pytest.raises(ValueError, match="client id"):
        Replica(POOL, DEVICE).append([event(1)])
