"""What every `seams.VectorIndex` holds, whatever finds its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from localmem_node.retrieval.adaptive import AdaptiveIndex
from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.graph import GraphIndex
from localmem_node.retrieval.hnswlib_index import HnswlibGraph
from localmem_node.retrieval.quantised import QuantisedIndex
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_node.retrieval.usearch_index import UsearchGraph
from localmem_node.seams import VectorIndex
from support.vectors import clustered, recall, unit

_ROUNDING = 0.01
"""The most that 8 bits a component move the product of two unit vectors of these dimensions."""


def _usearch(storage: str) -> Callable[[int], VectorIndex]:
    return lambda dimensions: GraphIndex(
        QuantisedIndex(dimensions), UsearchGraph(dimensions, storage)
    )


class _CaughtUp(AdaptiveIndex):
    """An adaptive index whose owner lets it catch up before each search."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions, crossover=8)

    def search(
        self,
        vector: npt.NDArray[np.float32],
        k: int,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        while self.catch_up(5):
            pass
        return super().search(vector, k, allowed)


_KINDS: dict[str, Callable[[int], VectorIndex]] = {
    "exact": ExactIndex,
    "quantised": QuantisedIndex,
    "usearch": _usearch("i8"),
    "usearch bf16": _usearch("bf16"),
    "usearch f32": _usearch("f32"),
    "hnswlib": lambda dimensions: GraphIndex(QuantisedIndex(dimensions), HnswlibGraph(dimensions)),
    "adaptive": _CaughtUp,
}
_MISS_NOTHING = {"exact", "quantised"}


@pytest.fixture(params=list(_KINDS))
def make(request: pytest.FixtureRequest) -> Callable[[int], VectorIndex]:
    return _KINDS[request.param]


def _axis(dimensions: int, at: int) -> npt.NDArray[np.float32]:
    axis = np.zeros(dimensions, dtype=np.float32)
    axis[at] = 1
    return axis


def _filled(
    index: VectorIndex, vectors: npt.NDArray[np.float32]
) -> dict[int, npt.NDArray[np.float32]]:
    for first in range(0, len(vectors), 500):
        some = vectors[first : first + 500]
        index.put_many(np.arange(first, first + len(some)), some)
    return dict(enumerate(vectors))


def test_an_empty_index_finds_nothing(make: Callable[[int], VectorIndex]) -> None:
    index = make(4)
    slots, products = index.search(_axis(4, 0), 3)
    assert (len(index), slots.tolist(), products.tolist()) == (0, [], [])
    assert index.scores_of(_axis(4, 0)[None], np.array([0, 7, -1]))[0].tolist() == [0, 0, 0]
    index.remove(5)
    index.put_many(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert len(index) == 0


def test_products_with_several_vectors_are_those_with_each(
    make: Callable[[int], VectorIndex],
) -> None:
    index = make(16)
    vectors = clustered(40, 16, 3)
    _filled(index, vectors)
    index.remove(7)
    slots = np.array([3, 7, 39, -1, 40, 3, 5000])
    together = index.scores_of(vectors[:3], slots)
    assert together.shape == (3, 7)
    for vector, products in zip(vectors[:3], together, strict=True):
        assert products.tolist() == index.scores_of(vector[None], slots)[0].tolist()
    assert index.scores_of(vectors[:2], slots[:0]).shape == (2, 0)


def test_an_emptied_index_finds_nothing_and_can_be_filled_again(
    make: Callable[[int], VectorIndex],
) -> None:
    index = make(4)
    for _ in range(3):
        for slot in range(4):
            index.put(slot, _axis(4, slot))
        assert index.search(_axis(4, 2), 1)[0].tolist() == [2]
        for slot in range(4):
            index.remove(slot)
        assert len(index) == 0
        assert index.search(_axis(4, 2), 2)[0].tolist() == []


def test_fewer_than_k_are_all_found_and_k_of_none_finds_none(
    make: Callable[[int], VectorIndex],
) -> None:
    index = make(4)
    for slot in range(4):
        index.put(slot, _axis(4, slot))
    assert sorted(index.search(_axis(4, 1), 100)[0].tolist()) == [0, 1, 2, 3]
    assert index.search(_axis(4, 1), 0)[0].tolist() == []


def test_equals_come_by_slot(make: Callable[[int], VectorIndex]) -> None:
    index = make(4)
    for slot in (9, 3, 6, 0):
        index.put(slot, _axis(4, 1))
    slots, products = index.search(_axis(4, 1), 10)
    assert slots.tolist() == [0, 3, 6, 9]
    assert len(set(products.tolist())) == 1


def test_slots_at_both_bounds_are_held(make: Callable[[int], VectorIndex]) -> None:
    index = make(2)
    index.put(0, _axis(2, 0))
    index.put(SLOTS_MAX - 1, _axis(2, 1))
    assert index.search(_axis(2, 1), 1)[0].tolist() == [SLOTS_MAX - 1]
    index.remove(SLOTS_MAX - 1)
    assert index.search(_axis(2, 1), 2)[0].tolist() == [0]


@pytest.mark.parametrize("slot", [-1, SLOTS_MAX])
def test_a_slot_out_of_bounds_is_refused(make: Callable[[int], VectorIndex], slot: int) -> None:
    index = make(2)
    with pytest.raises(ValueError, match="slot"):
        index.put(slot, _axis(2, 0))
    with pytest.raises(ValueError, match="slot"):
        index.put_many(np.array([0, slot]), np.eye(2, dtype=np.float32))
    assert len(index) == 0


@pytest.mark.parametrize("numbers", [[1], [1, 2, 3], [1, float("nan")], [float("inf"), 0]])
def test_a_vector_of_another_shape_or_not_finite_is_refused(
    make: Callable[[int], VectorIndex], numbers: list[float]
) -> None:
    index, vector = make(2), np.array(numbers, dtype=np.float32)
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.put(0, vector)
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.put_many(np.array([0]), vector[None])
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.search(vector, 1)
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.scores_of(vector[None], np.array([0]))[0]
    assert len(index) == 0


def test_nearly_all_neighbours_are_found(make: Callable[[int], VectorIndex]) -> None:
    index = make(48)
    held = _filled(index, clustered(3000, 48, 1))
    assert recall(index, held, clustered(60, 48, 2), 10, _ROUNDING) >= 0.95


def test_neighbours_are_found_after_every_vector_was_replaced_twice(
    make: Callable[[int], VectorIndex],
) -> None:
    index = make(48)
    held = _filled(index, clustered(1500, 48, 3))
    for turn, vector in enumerate(clustered(3000, 48, 4)):
        slot = turn % 1500
        if turn % 2:
            index.remove(slot)
        index.put(slot, vector)
        held[slot] = vector
    assert len(index) == 1500
    assert recall(index, held, clustered(60, 48, 5), 10, _ROUNDING) >= 0.95


def test_neighbours_are_found_among_many_equal_vectors(make: Callable[[int], VectorIndex]) -> None:
    index = make(48)
    vectors = clustered(2000, 48, 6)
    vectors[::10] = vectors[0]
    held = _filled(index, vectors)
    assert recall(index, held, clustered(60, 48, 7), 10, _ROUNDING) >= 0.95


@pytest.mark.parametrize("share", [0.001, 0.05, 0.9])
def test_only_allowed_slots_are_found_and_as_many_as_there_are(
    make: Callable[[int], VectorIndex], share: float
) -> None:
    index = make(48)
    vectors = clustered(3000, 48, 8)
    _filled(index, vectors)
    allowed = np.random.default_rng(9).random(2500) < share  # those beyond are not allowed either
    there = np.flatnonzero(allowed)
    held = {slot: vectors[slot] for slot in there.tolist()}
    k = min(10, len(held))
    queries = clustered(30, 48, 10)
    for query in queries:
        slots, products = index.search(query, 10, allowed)
        assert len(slots) == k
        assert set(slots.tolist()) <= held.keys()
        assert products.tolist() == sorted(products.tolist(), reverse=True)
    assert index.search(queries[0], 10, np.zeros(3000, np.bool_))[0].tolist() == []
    assert index.search(queries[0], 10, np.zeros(0, np.bool_))[0].tolist() == []


def test_allowed_neighbours_are_the_right_ones(make: Callable[[int], VectorIndex]) -> None:
    index = make(48)
    vectors = clustered(3000, 48, 11)
    _filled(index, vectors)
    allowed = np.random.default_rng(12).random(3000) < 0.8
    held = {slot: vectors[slot] for slot in np.flatnonzero(allowed).tolist()}

    queries = clustered(60, 48, 13)
    assert recall(index, held, queries, 10, _ROUNDING, allowed) >= 0.95


def test_equal_vectors_score_equally_wherever_they_stand(
    make: Callable[[int], VectorIndex],
) -> None:
    index = make(384)
    vector, query = unit(np.random.default_rng(14).standard_normal((2, 384)).astype(np.float32))
    slots = np.arange(700)
    index.put_many(slots, np.tile(vector, (700, 1)))
    found, products = index.search(query, 700)
    assert found.tolist() == slots.tolist()
    assert len(set(products.tolist())) == 1
    assert set(index.scores_of(query[None], np.array([3, 699]))[0].tolist()) == set(
        products.tolist()
    )


_DIMENSIONS = 6
_UNITS = st.integers(0, 2**32 - 1).map(
    lambda seed: unit(np.random.default_rng(seed).standard_normal(_DIMENSIONS).astype(np.float32))
)
_SLOTS = st.integers(0, 40)


class _Against(RuleBasedStateMachine):
    """An index beside a dictionary."""

    make: Callable[[int], VectorIndex]
    misses_nothing: bool

    def __init__(self) -> None:
        super().__init__()
        self.index = type(self).make(_DIMENSIONS)
        self.held: dict[int, npt.NDArray[np.float32]] = {}

    @rule(slot=_SLOTS, vector=_UNITS)
    def put(self, slot: int, vector: npt.NDArray[np.float32]) -> None:
        self.index.put(slot, vector)
        self.held[slot] = vector

    @rule(slots=st.lists(_SLOTS, max_size=12), vector=_UNITS)
    def put_many(self, slots: list[int], vector: npt.NDArray[np.float32]) -> None:
        vectors = unit(vector + np.linspace(0, 1, len(slots), dtype=np.float32)[:, None])
        self.index.put_many(np.array(slots, np.int64), vectors)
        self.held.update(zip(slots, vectors, strict=True))

    @rule(slot=_SLOTS)
    def remove(self, slot: int) -> None:
        self.index.remove(slot)
        self.held.pop(slot, None)

    @rule(slots=st.integers(0, 200))
    def reserve(self, slots: int) -> None:
        self.index.reserve(slots)

    @rule(query=_UNITS, k=st.integers(0, 50))
    def search(self, query: npt.NDArray[np.float32], k: int) -> None:
        slots, products = self.index.search(query, k)
        self._check(query, k, slots.tolist(), products.tolist(), set(self.held))

    @rule(query=_UNITS, k=st.integers(0, 50), allowed=st.lists(st.booleans(), max_size=50))
    def search_some(self, query: npt.NDArray[np.float32], k: int, allowed: list[bool]) -> None:
        slots, products = self.index.search(query, k, np.array(allowed, np.bool_))
        may = {slot for slot in self.held if slot < len(allowed) and allowed[slot]}
        self._check(query, k, slots.tolist(), products.tolist(), may)

    @precondition(lambda self: self.held)
    @rule(query=_UNITS)
    def scores(self, query: npt.NDArray[np.float32]) -> None:
        found = self.index.scores_of(query[None], np.arange(-1, 45))[0].tolist()
        for slot, score in zip(range(-1, 45), found, strict=True):
            if slot in self.held:
                assert score == pytest.approx(float(self.held[slot] @ query), abs=_ROUNDING)
            else:
                assert score == 0

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.index) == len(self.held)
        for slot in range(42):
            vector = self.index.vector(slot)
            assert (vector is None) == (slot not in self.held)
            if vector is not None:
                assert vector == pytest.approx(self.held[slot], abs=_ROUNDING)

    def _check(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        slots: list[int],
        products: list[float],
        may: set[int],
    ) -> None:
        assert len(slots) == len(set(slots)) == min(k, len(may))
        assert set(slots) <= may
        ranked = sorted(zip(products, slots, strict=True), key=lambda hit: (-hit[0], hit[1]))
        assert [slot for _, slot in ranked] == slots
        assert products == pytest.approx(
            [float(self.held[slot] @ query) for slot in slots], abs=_ROUNDING
        )
        missed = may - set(slots)
        if missed and products and self.misses_nothing:
            best = max(float(self.held[slot] @ query) for slot in missed)
            assert best <= products[-1] + _ROUNDING


@pytest.mark.parametrize("kind", list(_KINDS))
def test_any_history_of_changes_ends_as_a_dictionary_would(kind: str) -> None:
    members = {"make": staticmethod(_KINDS[kind]), "misses_nothing": kind in _MISS_NOTHING}
    run_state_machine_as_test(type("Against", (_Against,), members))
