"""The engine: what is recorded is found, stays, and keeps its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from localmem_node import background, beside
from localmem_node.capture.admission import Admission
from localmem_node.engine import Engine
from localmem_node.errors import NodeError, QueryError
from localmem_node.retrieval import index as search_index
from localmem_node.retrieval.adaptive import AdaptiveIndex
from localmem_node.selection import Selection
from localmem_protocol.clock import reading_ms
from localmem_protocol.errors import EventError
from localmem_protocol.events import Event, Order, stamp
from localmem_protocol.limits import DRIFT_MS_MAX, MARK_MAX
from support.events import draft, event
from support.hashing_encoder import HashingEncoder
from support.node import (
    NOW_MS,
    BrokenEncoder,
    GatedEncoder,
    StandingClock,
    open_node,
)
from support.seeded import SeededRandom

OTHER = "ffeeddccbbaa9988"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.localmem"


@pytest.fixture
def node(path: Path) -> Iterator[Engine]:
    engine = open_node(path)
    yield engine
    engine.close()


def snippets(engine: Engine, query: str, k: int = 3) -> list[str]:
    return [found.event.snippet for found in engine.query_recent(k, query)]


def newest(engine: Engine, k: int = 1000) -> list[Event]:
    return [found.event for found in engine.recent(k)]


def test_an_event_is_found_by_words_before_it_has_a_vector(path: Path) -> None:
    encoder = GatedEncoder()
    engine = open_node(path, encoder=encoder)
    engine.record([draft(snippet="retry_limit = 5"), draft(snippet="colour = 'red'")])
    assert encoder.asked.wait(60)
    assert engine.status()["encoder"]["waiting"] == 2
    encoder.gate.set()  # the query's own encoding goes through the same gate
    assert snippets(engine, "where is the retry limit")[0] == "retry_limit = 5"
    engine.close()


def test_recorded_events_are_stamped_with_device_clock_and_sequence(node: Engine) -> None:
    first, second = node.record([draft(snippet="a"), draft(snippet="b")])
    assert (first.device, second.device) == (node.device, node.device)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.clock < second.clock
    assert reading_ms(first.clock) == NOW_MS


def test_everything_is_there_after_reopening_and_nothing_is_encoded_again(path: Path) -> None:
    engine = open_node(path)
    recorded = engine.record([draft(snippet=f"value_{n} = {n}") for n in range(20)])
    engine.drain()
    device = engine.device
    engine.close()
    encoder = HashingEncoder()
    again = open_node(path, encoder=encoder)
    again.drain()
    assert encoder.encoded == []
    assert again.device == device
    assert newest(again) == recorded[::-1]
    assert snippets(again, "value_7", 1) == ["value_7 = 7"]
    again.close()


def test_events_left_without_a_vector_are_encoded_after_reopening(path: Path) -> None:
    encoder = GatedEncoder()
    engine = open_node(path, encoder=encoder)
    engine.record([draft(snippet="alpha beta gamma")])
    closing = Thread(target=engine.close)
    closing.start()
    encoder.gate.set()
    closing.join()
    resumed = HashingEncoder()
    again = open_node(path, encoder=resumed)
    again.drain()
    done_before = len(encoder.encoded)
    assert done_before + len(resumed.encoded) == 1
    again.close()


def test_another_model_encodes_every_event_anew(path: Path) -> None:
    engine = open_node(path, encoder=HashingEncoder(64))
    engine.record([draft(snippet="alpha"), draft(snippet="beta")])
    engine.drain()
    engine.close()
    other = HashingEncoder(32)
    again = open_node(path, encoder=other)
    again.drain()
    assert len(other.encoded) == 2
    again.close()


def test_a_small_store_works_without_keeping_vectors(path: Path) -> None:
    engine = open_node(path, size=10 * 1024)
    engine.record([draft(snippet=f"number {n}") for n in range(8)])
    engine.drain()
    engine.close()
    again = open_node(path)
    again.drain()
    assert [one.snippet for one in newest(again, 2)] == ["number 7", "number 6"]
    assert snippets(again, "number 3", 1) == ["number 3"]
    again.close()


def test_sequence_and_clock_go_on_after_every_own_event_was_evicted(path: Path) -> None:
    clock = StandingClock()
    engine = open_node(path, size=10 * 1024, clock=clock)
    ahead = NOW_MS + DRIFT_MS_MAX // 2
    engine.insert([event(1, OTHER, timestamp=ahead)])
    last = engine.record([draft(snippet="mine")])[0]
    position = 0
    while engine.own_events(0, 1):
        position += 1
        engine.insert([event(position, OTHER, snippet=f"{position} " * 100)])
    engine.close()
    clock.ms -= 60_000
    again = open_node(path, clock=clock)
    assert again.own_events(0, 10) == []
    after = again.record([draft(snippet="mine too")])[0]
    assert after.sequence == last.sequence + 1
    assert after.clock > last.clock
    again.close()


def test_what_is_recorded_after_an_event_arrived_sorts_after_it(node: Engine) -> None:
    arrived = event(5, OTHER)
    node.insert([arrived])
    recorded = node.record([draft(snippet="later")])[0]
    assert recorded.order > arrived.order


def test_a_clock_that_is_absurdly_ahead_does_not_pull_ours(path: Path) -> None:
    engine = open_node(path)
    absurd = event((DRIFT_MS_MAX + 3_600_000) // 1000, OTHER)
    engine.insert([absurd])
    assert engine.record([draft(snippet="now")])[0].order < absurd.order
    engine.close()
    again = open_node(path)
    assert again.record([draft(snippet="still now")])[0].order < absurd.order
    again.close()


def test_insert_returns_what_was_new_and_keeps_it_once(node: Engine) -> None:
    batch = [event(1, OTHER), event(2, OTHER), event(1, OTHER)]
    assert node.insert(batch) == batch[:2]
    assert node.insert([event(2, OTHER), event(3, OTHER)]) == [event(3, OTHER)]
    assert node.insert([]) == []
    assert len(newest(node)) == 3


def test_own_events_that_come_back_from_elsewhere_move_the_sequence(node: Engine) -> None:
    restored = event(41, node.device)
    node.insert([restored])
    assert node.record([draft(snippet="next")])[0].sequence == 42


def test_an_own_event_out_of_all_bounds_does_not_move_the_marks(node: Engine) -> None:
    first = node.record([draft(snippet="first")])[0]
    ahead = event((DRIFT_MS_MAX + 3_600_000) // 1000, node.device)
    endless = stamp(draft(), device=node.device, clock=first.clock + 1, sequence=MARK_MAX)
    refused: list[tuple[Event, str]] = []
    assert (
        node.insert([ahead, endless], refused=lambda *one: refused.append((one[0], one[1].field)))
        == []
    )
    assert refused == [(ahead, "clock"), (endless, "sequence")]
    second = node.record([draft(snippet="second")])[0]
    assert second.sequence == 2
    assert second.order < ahead.order
    assert newest(node) == [second, first]


def test_own_events_that_a_clock_once_made_far_ahead_can_come_back(path: Path) -> None:
    engine = open_node(path, clock=StandingClock(NOW_MS + 10 * DRIFT_MS_MAX))
    made = engine.record([draft(snippet=f"made {n} " * 300) for n in range(2)])
    engine.close()
    again = open_node(path)
    assert again.insert(made) == []
    earlier = stamp(draft(), device=again.device, clock=made[0].clock - 1, sequence=1)
    assert again.insert([earlier]) == [earlier]
    again.close()


def test_what_is_refused_is_told_with_its_reason_and_the_others_are_kept(path: Path) -> None:
    engine = open_node(path, size=10 * 1024)
    large = event(2, OTHER, snippet=SeededRandom(1).token_bytes(30_000).hex())
    refused: list[Event] = []
    batch = [event(1, OTHER), large, event(3, OTHER)]
    assert engine.insert(batch, refused=lambda one, _: refused.append(one)) == [batch[0], batch[2]]
    assert refused == [large]
    engine.close()


def test_pages_go_through_everything_once_in_the_order_of_events(node: Engine) -> None:
    node.insert([event(number, OTHER) for number in (7, 3, 9, 1, 5)])
    seen: list[Event] = []
    after: Order | None = None
    sizes: list[int] = []
    while True:
        events, after = node.page(after, 2)
        seen += events
        sizes.append(len(events))
        if after is None:
            break
    assert seen == newest(node)[::-1]
    assert sizes == [2, 2, 1]
    assert node.page(None, 1000) == (seen, None)


def test_only_a_full_ring_has_a_next_to_leave_and_it_does_leave(path: Path) -> None:
    engine = open_node(path, size=10 * 1024, eviction="fifo")
    first = engine.record([draft(snippet="first")])[0]
    assert (engine.next_to_leave(), engine.evicted) == (None, 0)
    recorded = [first]
    while (leaving := engine.next_to_leave()) is None:
        recorded += engine.record(
            [draft(snippet=SeededRandom(len(recorded)).token_bytes(200).hex())]
        )
    while engine.next_to_leave() == leaving:
        recorded += engine.record(
            [draft(snippet=SeededRandom(len(recorded)).token_bytes(200).hex())]
        )
    gone = [one for one in recorded if not engine.holds(one.id)]
    assert gone
    assert leaving in [one.order for one in gone]
    assert engine.evicted == len(gone)
    engine.close()


def test_own_events_are_ascending_after_a_sequence_and_of_this_device_only(node: Engine) -> None:
    own = node.record([draft(snippet=f"own {n}") for n in range(5)])
    node.insert([event(9, OTHER)])
    assert node.own_events(0, 100) == own
    assert node.own_events(2, 2) == own[2:4]
    assert node.own_events(5, 10) == []


def test_recent_follows_the_order_of_events_not_of_arrival(node: Engine) -> None:
    late, early = event(2, OTHER), event(1, OTHER)
    node.insert([late])
    node.insert([early])
    assert newest(node) == [late, early]
    assert newest(node, 1) == [late]


def test_a_project_limits_what_is_found(node: Engine) -> None:
    node.record(
        [draft(snippet="timeout = 3", project="aa"), draft(snippet="timeout = 4", project="bb")]
    )
    a, b = Selection(project="aa"), Selection(project="bb")
    found = node.query_recent(10, "timeout", selection=a)
    assert [one.event.project for one in found] == ["aa"]
    assert [one.event.project for one in node.recent(10, selection=b)] == ["bb"]
    assert node.query_recent(10, "timeout", selection=Selection(project="cc")) == []
    assert node.recent(10, selection=Selection(project="cc")) == []


def test_an_empty_store_finds_nothing(node: Engine) -> None:
    assert node.query_recent(5, "anything") == []
    assert node.recent(5) == []


@pytest.mark.parametrize(
    ("k", "query", "field"),
    [(0, "x", "k"), (-1, "x", "k"), (101, "x", "k"), (True, "x", "k"), ("3", "x", "k"), (1, "", "query"),
     (1, " \n", "query"), (1, "x" * 10_001, "query"), (1, 7, "query"), (1, "\ud800", "query")],
)  # fmt: skip
def test_a_query_that_cannot_be_asked_is_refused_by_name(
    node: Engine, k: int, query: str, field: str
) -> None:
    with pytest.raises(QueryError) as caught:
        node.query_recent(k, query)
    assert caught.value.field == field


def test_secrets_never_reach_the_store(node: Engine) -> None:
    secret = "glpat-" + "abcDEF123456ghiJKL78"
    recorded = node.record([draft(snippet=f"token = '{secret}'", session=f"s {secret}")])[0]
    assert secret not in recorded.snippet
    assert secret not in (recorded.session or "")
    assert "[redacted:gitlab-token]" in recorded.snippet


def test_a_denied_draft_is_refused_and_nothing_of_its_batch_is_kept(path: Path) -> None:
    engine = open_node(path, admission=Admission(["secrets/**"]))
    with pytest.raises(EventError) as caught:
        engine.record([draft(snippet="fine"), draft(filePath="app/secrets/deep/x.py")])
    assert caught.value.field == "filePath"
    assert newest(engine) == []
    engine.close()


def test_evicted_events_are_not_found_and_index_and_store_agree(path: Path) -> None:
    engine = open_node(path, size=16 * 1024)
    for start in range(0, 400, 20):
        engine.record([draft(snippet=f"value_{n} " * 9) for n in range(start, start + 20)])
    engine.drain()
    status = engine.status()
    live = newest(engine)
    assert 0 < len(live) == status["events"] < 400
    assert live == engine.own_events(0, 1000)[::-1]
    assert live[0].snippet.startswith("value_399")
    assert all(found.event in live for found in engine.query_recent(100, "value_3"))
    engine.close()


def test_evicted_events_no_longer_wait_for_a_vector(path: Path) -> None:
    encoder = GatedEncoder()
    engine = open_node(path, size=16 * 1024, encoder=encoder)
    for n in range(400):
        engine.record([draft(snippet=f"value_{n} " * 9)])
    assert encoder.asked.wait(60)
    status = engine.status()
    busy = background.BATCH_TEXTS  # at most: they were being encoded when they were evicted
    assert 0 < status["encoder"]["waiting"] <= status["events"] + busy < 400
    encoder.gate.set()
    engine.drain()
    assert engine.status()["encoder"]["waiting"] == 0
    engine.close()


def test_an_event_too_large_for_the_ring_is_refused_and_the_others_are_kept(path: Path) -> None:
    engine = open_node(path, size=10 * 1024)
    noise = SeededRandom(1).token_bytes(30_000).hex()
    outcomes = engine.record_admitted(
        [draft(snippet="a"), draft(snippet=noise), draft(snippet="b")]
    )
    assert isinstance(outcomes[1], EventError)
    assert outcomes[1].field == "snippet"
    assert [one.sequence for one in (outcomes[0], outcomes[2]) if isinstance(one, Event)] == [1, 2]
    assert [one.snippet for one in newest(engine)] == ["b", "a"]
    engine.close()


def test_without_a_working_encoder_search_goes_on_by_words(path: Path) -> None:
    engine = open_node(path, encoder=BrokenEncoder())
    engine.record([draft(snippet="retry_limit = 5"), draft(snippet="colour = 'red'")])
    with pytest.raises(NodeError, match="no such file"):
        engine.drain()
    assert snippets(engine, "retry limit") == ["retry_limit = 5"]
    assert "no such file" in engine.status()["encoder"]["problem"]
    engine.close()


def test_subscribers_hear_of_own_events_once_they_are_durable(node: Engine) -> None:
    heard: list[int] = []
    unsubscribe = node.subscribe(lambda: heard.append(len(node.own_events(0, 10))))
    node.record([draft(snippet="one")])
    node.insert([event(1, OTHER)])
    node.record([draft(snippet="two")])
    node.insert([event(40, node.device)])
    unsubscribe()
    node.record([draft(snippet="three")])
    assert heard == [1, 2, 3]


def test_a_subscriber_that_fails_harms_nobody(node: Engine) -> None:
    heard: list[str] = []

    def fail() -> None:
        raise RuntimeError("no")

    node.subscribe(fail)
    node.subscribe(lambda: heard.append("yes"))
    assert len(node.record([draft(snippet="one")])) == 1
    assert heard == ["yes"]


def test_a_closed_engine_refuses_to_record(path: Path) -> None:
    engine = open_node(path)
    engine.close()
    engine.close()
    with pytest.raises(NodeError, match="closed"):
        engine.record([draft()])


def test_a_graph_grows_beside_an_open_engine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = AdaptiveIndex(HashingEncoder().dimensions, crossover=20)
    monkeypatch.setattr(search_index, "AdaptiveIndex", lambda dimensions: index)
    engine = open_node(path)
    engine.record([draft(snippet=f"needle {number}") for number in range(40)])
    engine.drain()
    while not index.approximate:
        pass
    assert "needle 7" in snippets(engine, "needle 7")
    engine.close()


def test_what_changes_while_a_query_is_encoded_is_in_its_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Flag()
    prepare = search_index.SearchIndex.prepare

    def told(*arguments: Any, **options: Any) -> Any:
        found = prepare(*arguments, **options)
        prepared.set()
        return found

    monkeypatch.setattr(search_index.SearchIndex, "prepare", told)
    encoder = GatedEncoder()
    node = open_node(path, encoder=encoder)
    node.record([draft(snippet="retry the upload")])
    answers: list[list[str]] = []
    asking = Thread(target=lambda: answers.append(snippets(node, "retry the upload")))
    asking.start()
    # With one core nothing is prepared before the vector is there.
    prepared.wait(60 if beside.usable_cores() > 1 else 0)
    node.record([draft(snippet="retry the upload of a picture", filePath="b.py")])
    encoder.gate.set()
    asking.join()
    assert sorted(answers[0]) == ["retry the upload", "retry the upload of a picture"]
    node.close()
