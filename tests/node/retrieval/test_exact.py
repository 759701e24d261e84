from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.slots import SLOTS_MAX
from localmem_node.seams import VectorIndex

_DIMENSIONS = 4
_SMALL = st.integers(-2, 2).map(float)
_VECTORS = st.lists(_SMALL, min_size=_DIMENSIONS, max_size=_DIMENSIONS).map(
    lambda numbers: np.array(numbers, dtype=np.float32)
)
_STEPS = st.lists(st.tuples(st.integers(0, 200), st.none() | _VECTORS), max_size=40)


def _vector(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


@given(_STEPS, _VECTORS, st.integers(0, 12))
def test_it_finds_what_a_comparison_with_every_vector_finds(
    steps: list[tuple[int, npt.NDArray[np.float32] | None]],
    query: npt.NDArray[np.float32],
    k: int,
) -> None:
    index: VectorIndex = ExactIndex(_DIMENSIONS)
    held: dict[int, npt.NDArray[np.float32]] = {}
    for slot, vector in steps:
        if vector is None:
            index.remove(slot)
            held.pop(slot, None)
        else:
            index.put(slot, vector)
            held[slot] = vector
    ranked = sorted(held, key=lambda slot: (-float(held[slot] @ query), slot))[:k]
    slots, products = index.search(query, k)
    assert len(index) == len(held)
    assert slots.tolist() == ranked
    assert products.tolist() == [float(held[slot] @ query) for slot in ranked]
    asked = np.arange(-1, 205)
    expected = [float(held[slot] @ query) if slot in held else 0.0 for slot in asked.tolist()]
    assert index.scores_of(query[None], asked)[0].tolist() == expected


def test_equal_vectors_score_equally_wherever_they_stand() -> None:
    chance = np.random.default_rng(1)
    index = ExactIndex(384)
    vector = chance.standard_normal(384, dtype=np.float32)
    for slot in range(1001):
        index.put(slot, vector)
    query = chance.standard_normal(384, dtype=np.float32)
    slots, products = index.search(query, 1001)
    assert slots.tolist() == list(range(1001))
    assert len(set(products.tolist())) == 1
    assert set(index.scores_of(query[None], np.array([3, 999]))[0].tolist()) == set(
        products.tolist()
    )


def test_growing_keeps_every_vector() -> None:
    index = ExactIndex(2)
    index.put(0, _vector(1, 0))
    index.put(5000, _vector(0, 1))
    assert index.search(_vector(1, 2), 5)[0].tolist() == [5000, 0]
    assert 0 in index
    assert 4999 not in index


def test_an_empty_index_finds_nothing() -> None:
    index = ExactIndex(2)
    slots, products = index.search(_vector(1, 0), 3)
    assert slots.tolist() == products.tolist() == []
    assert index.scores_of(_vector(1, 0)[None], np.array([0, 7]))[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    "vector", [_vector(1), _vector(1, 2, 3), _vector(1, float("nan")), _vector(float("inf"), 0)]
)
def test_a_vector_of_another_shape_or_not_finite_is_refused(
    vector: npt.NDArray[np.float32],
) -> None:
    index = ExactIndex(2)
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.put(0, vector)
    with pytest.raises(ValueError, match="2 finite numbers"):
        index.search(vector, 1)
    assert len(index) == 0


@pytest.mark.parametrize("slot", [-1, SLOTS_MAX])
def test_a_slot_out_of_bounds_is_refused(slot: int) -> None:
    with pytest.raises(ValueError, match="slot"):
        ExactIndex(2).put(slot, _vector(1, 0))


def test_a_vector_has_dimensions() -> None:
    with pytest.raises(ValueError, match="dimension"):
        ExactIndex(0)
