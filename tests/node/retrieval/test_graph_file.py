from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmem_node.errors import DamagedIndex
from localmem_node.retrieval.graph import Graph, GraphIndex
from localmem_node.retrieval.graph_file import load, save
from localmem_node.retrieval.hnswlib_index import HnswlibGraph
from localmem_node.retrieval.quantised import QuantisedIndex
from localmem_node.retrieval.usearch_index import UsearchGraph
from support.vectors import clustered

_DIMENSIONS = 16


@pytest.fixture(params=[UsearchGraph, HnswlibGraph])
def make(request: pytest.FixtureRequest) -> Callable[[int], Graph]:
    kind: Callable[[int], Graph] = request.param
    return kind


def _filled(make: Callable[[int], Graph]) -> GraphIndex:
    index = GraphIndex(QuantisedIndex(_DIMENSIONS), make(_DIMENSIONS))
    index.put_many(np.arange(3, 303), clustered(300, _DIMENSIONS, 1))
    for slot in (5, 200, 302):
        index.remove(slot)
    return index


def _answers(index: GraphIndex) -> list[list[int]]:
    return [index.search(query, 10)[0].tolist() for query in clustered(20, _DIMENSIONS, 2)]


def test_a_loaded_index_answers_as_the_saved_one_and_can_be_changed(
    make: Callable[[int], Graph], tmp_path: Path
) -> None:
    path, index = tmp_path / "graph", _filled(make)
    save(index, path)
    save(index, path)  # over the first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["graph"]
    loaded = load(path, make(_DIMENSIONS))
    assert len(loaded) == 297
    assert _answers(loaded) == _answers(index)
    vectors = clustered(400, _DIMENSIONS, 3)
    for slot, vector in enumerate(vectors):
        loaded.put(slot, vector)
    loaded.remove(7)
    assert len(loaded) == 399
    assert loaded.search(vectors[8], 1)[1][0] > 0.99
    assert 7 not in loaded.search(vectors[7], 20)[0].tolist()


def test_an_empty_index_is_loaded_empty(make: Callable[[int], Graph], tmp_path: Path) -> None:
    save(GraphIndex(QuantisedIndex(_DIMENSIONS), make(_DIMENSIONS)), tmp_path / "graph")
    loaded = load(tmp_path / "graph", make(_DIMENSIONS))
    assert len(loaded) == 0
    loaded.put(1, clustered(1, _DIMENSIONS, 4)[0])
    assert loaded.search(clustered(1, _DIMENSIONS, 4)[0], 3)[0].tolist() == [1]


def test_a_mapped_index_answers_as_the_saved_one_and_cannot_be_changed(tmp_path: Path) -> None:
    path, index = tmp_path / "graph", _filled(UsearchGraph)
    save(index, path)
    mapped = load(path, UsearchGraph(_DIMENSIONS), mapped=True)
    assert _answers(mapped) == _answers(index)
    vector = clustered(1, _DIMENSIONS, 5)
    with pytest.raises(ValueError, match="cannot be changed"):
        mapped.put(500, vector[0])
    with pytest.raises(ValueError, match="cannot be changed"):
        mapped.put_many(np.array([500]), vector)
    with pytest.raises(ValueError, match="cannot be changed"):
        mapped.remove(3)
    assert _answers(mapped) == _answers(index)


def test_hnswlib_says_that_it_cannot_map(tmp_path: Path) -> None:
    save(_filled(HnswlibGraph), tmp_path / "graph")
    with pytest.raises(ValueError, match="cannot be mapped"):
        load(tmp_path / "graph", HnswlibGraph(_DIMENSIONS), mapped=True)


def test_a_graph_of_another_kind_or_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    save(_filled(UsearchGraph), path)
    others: list[Graph] = [
        HnswlibGraph(_DIMENSIONS),
        UsearchGraph(_DIMENSIONS, "f32"),
        UsearchGraph(_DIMENSIONS + 1),
    ]
    for graph in others:
        with pytest.raises(DamagedIndex, match="build it anew"):
            load(path, graph)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("data", [b"", b"x", b"localmem graph 1\n", b"SQLite format 3" * 90])
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes, mapped: bool) -> None:
    path = tmp_path / "graph"
    path.write_bytes(data)
    with pytest.raises(DamagedIndex):
        load(path, UsearchGraph(_DIMENSIONS), mapped=mapped)
    assert path.read_bytes() == data


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "graph"
    save(_filled(UsearchGraph), path)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 150))
    if data.draw(st.booleans(), label="cut off"):
        damaged = whole[:at]
    else:
        damaged = whole.copy()
        damaged[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with pytest.raises(DamagedIndex):
        load(path, UsearchGraph(_DIMENSIONS), mapped=data.draw(st.booleans(), label="mapped"))
