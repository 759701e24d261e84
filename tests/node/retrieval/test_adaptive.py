from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from localmem_node.retrieval import adaptive
from localmem_node.retrieval.adaptive import AdaptiveIndex, best_graph
from localmem_node.retrieval.graph import Graph
from localmem_node.retrieval.hnswlib_index import HnswlibGraph
from localmem_node.retrieval.quantised import Codes, Slots
from localmem_node.retrieval.usearch_index import UsearchGraph
from localmem_node.store.records import decode_vectors, encode_vectors
from support.vectors import clustered, recall

_DIMENSIONS = 32
_CROSSOVER = 300
_SLACK = 0.01


class _Failing(UsearchGraph):
    """A graph without room for more."""

    def put(self, slots: Slots, codes: Codes, scales: npt.NDArray[np.float32]) -> None:
        if len(self) >= 100:
            raise RuntimeError("out of memory")
        super().put(slots, codes, scales)


def _filled(
    count: int, **options: object
) -> tuple[AdaptiveIndex, dict[int, npt.NDArray[np.float32]]]:
    index = AdaptiveIndex(_DIMENSIONS, crossover=_CROSSOVER, **options)  # type: ignore[arg-type]
    vectors = clustered(count, _DIMENSIONS, 1)
    index.put_many(np.arange(count), vectors)
    return index, dict(enumerate(vectors))


def _found(index: AdaptiveIndex, held: dict[int, npt.NDArray[np.float32]]) -> float:
    return recall(index, held, clustered(40, _DIMENSIONS, 2), 10, _SLACK)


def test_a_small_store_needs_no_graph() -> None:
    index, held = _filled(_CROSSOVER, make_graph=lambda dimensions: pytest.fail("not needed"))
    assert not index.catch_up(1000)
    assert not index.approximate
    assert _found(index, held) == 1


def test_beyond_the_crossover_search_is_exact_until_the_graph_has_caught_up() -> None:
    index, held = _filled(_CROSSOVER + 1)
    steps = 0
    while index.catch_up(50):
        steps += 1
        assert not index.approximate
        assert _found(index, held) == 1
    assert steps >= 6
    assert index.approximate
    assert _found(index, held) >= 0.95
    assert not index.catch_up(50)


def test_a_graph_is_dropped_far_below_the_crossover_only_and_comes_back() -> None:
    index, held = _filled(_CROSSOVER + 50)
    made: list[int] = []

    def counted(dimensions: int) -> Graph | None:
        made.append(dimensions)
        return best_graph(dimensions)

    index._make_graph = counted
    for _ in range(3):  # around the bound nothing is built again
        while index.catch_up(64):
            pass
        for slot in range(51):
            index.remove(slot)
        assert len(index) < _CROSSOVER
        assert index.approximate
        for slot in range(51):
            index.put(slot, held[slot])
    assert made == [_DIMENSIONS]
    for slot in range(250):
        index.remove(slot)
    assert not index.approximate
    left = {slot: held[slot] for slot in range(250, _CROSSOVER + 50)}
    assert _found(index, left) == 1
    index.put_many(np.arange(250), np.stack([held[slot] for slot in range(250)]))
    while index.catch_up(64):
        pass
    assert index.approximate
    assert made == [_DIMENSIONS] * 2
    assert _found(index, held) >= 0.95


def test_a_ring_may_turn_over_twice_while_its_graph_grows() -> None:
    index, held = _filled(800)
    for turn, vector in enumerate(clustered(1600, _DIMENSIONS, 3)):
        slot = turn % 800
        index.remove(slot)
        index.put(slot, vector)
        held[slot] = vector
        if turn % 8 == 0:
            index.catch_up(5)
    while index.catch_up(5):
        pass
    assert index.approximate
    assert len(index._index.graph if index._index else ()) == 800
    assert _found(index, held) >= 0.95


def test_a_stale_graph_grows_anew_and_search_is_exact_meanwhile() -> None:
    index, held = _filled(400)
    while index.catch_up(64):
        pass
    for slot, vector in enumerate(clustered(201, _DIMENSIONS, 7)):
        assert index.approximate
        index.put(slot, vector)
        held[slot] = vector
    assert _found(index, held) >= 0.95
    assert index.catch_up(64)
    assert not index.approximate
    assert _found(index, held) == 1
    while index.catch_up(64):
        pass
    assert index.approximate
    assert _found(index, held) >= 0.95
    assert not index.catch_up(64)


def test_slots_that_come_while_the_graph_grows_are_in_it() -> None:
    index, held = _filled(400)
    index.catch_up(100)
    for slot, vector in enumerate(clustered(50, _DIMENSIONS, 4)):
        for at in (slot, 1000 + slot):  # behind what the graph has reached, and before it
            index.put(at, vector)
            held[at] = vector
    index.remove(2)
    index.remove(399)
    del held[2], held[399]
    while index.catch_up(100):
        pass
    assert len(index._index.graph if index._index else ()) == len(held)
    assert _found(index, held) >= 0.95


def test_a_builder_that_is_never_heard_of_again_leaves_search_exact() -> None:
    index, held = _filled(500)
    assert index.catch_up(200)
    for slot in range(0, 500, 7):
        index.remove(slot)
        del held[slot]
    assert not index.approximate
    assert _found(index, held) == 1


def test_without_a_backend_search_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"none": ("localmem_node.retrieval.no_such_module", "Graph")}
    monkeypatch.setattr(adaptive, "BACKENDS", missing)
    index, held = _filled(500)
    assert not index.catch_up(100)
    assert not index.approximate
    assert _found(index, held) == 1


def test_the_first_backend_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(best_graph(4), UsearchGraph)
    missing = {"usearch": ("localmem_node.retrieval.no_such_module", "Graph")}
    monkeypatch.setattr(adaptive, "BACKENDS", adaptive.BACKENDS | missing)
    assert isinstance(best_graph(4), HnswlibGraph)


def test_a_graph_that_fails_is_given_up_and_no_vector_is_lost() -> None:
    index, held = _filled(500, make_graph=_Failing)
    while index.catch_up(30):
        pass
    assert not index.approximate
    assert not index.catch_up(30)
    index.put(0, held[1])
    held[0] = held[1]
    assert _found(index, held) == 1


class _Blind(UsearchGraph):
    """A graph in pieces: it proposes what is far away."""

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> Slots:
        return super().nearest(-vector, count)


def test_a_graph_that_does_not_find_what_is_there_never_answers() -> None:
    index, held = _filled(500, make_graph=_Blind)
    while index.catch_up(100):
        assert not index.approximate
    assert not index.approximate
    assert not index.catch_up(100)
    assert _found(index, held) == 1


def test_what_a_store_keeps_of_a_vector_answers_as_the_vector_did() -> None:
    vectors = clustered(900, _DIMENSIONS, 5)
    records = encode_vectors(900, bytes(8), list(enumerate(vectors)))
    _, slots, kept = decode_vectors(900, records)
    before, after = AdaptiveIndex(_DIMENSIONS), AdaptiveIndex(_DIMENSIONS)
    before.put_many(slots, vectors)
    after.put_many(slots, kept)
    for query in clustered(20, _DIMENSIONS, 6):
        (were, scored), (are, score) = before.search(query, 50), after.search(query, 50)
        assert were.tolist() == are.tolist()
        assert score == pytest.approx(scored, abs=1e-6)


def test_a_graph_may_come_before_the_encoder() -> None:
    code = "import localmem_node.retrieval.usearch_index, onnxruntime; print('both')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"both\n"), done.stderr
