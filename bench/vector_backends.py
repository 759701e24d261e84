"""What finds the nearest vectors, one kind beside the other: recall, times, bytes.

Vectors are a mixture: texts that were really encoded, each with seeded noise of NOISE times its length
added, and brought to length 1 again; so a vector has some dozens of neighbours at a cosine of about
0.65, which is how near pieces of source text are to each other. Up to as many as were encoded there is
no noise. Queries are encoded, without noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.exact import ExactIndex
from localmem_node.retrieval.graph import GraphIndex
from localmem_node.retrieval.hnswlib_index import HnswlibGraph
from localmem_node.retrieval.quantised import QuantisedIndex
from localmem_node.retrieval.ranking import candidates_for
from localmem_node.retrieval.usearch_index import UsearchGraph
from localmem_node.seams import VectorIndex

Vectors = npt.NDArray[np.float32]

NOISE: Final = 0.8
CHANGES: Final = 200
AT_ONCE: Final = 500
K: Final = 10
TURNOVER_MAX: Final = 10_000
"""Vectors up to which all are replaced twice; above it takes minutes."""

QUICK: Final = ("exact f32", "exact int8", "usearch i8")
"""Measured at any size; the others, up to TURNOVER_MAX or when they are asked for."""


def _usearch(storage: str) -> Callable[[int], VectorIndex]:
    return lambda dimensions: GraphIndex(
        QuantisedIndex(dimensions), UsearchGraph(dimensions, storage)
    )


BACKENDS: Final[dict[str, Callable[[int], VectorIndex]]] = {
    "exact f32": ExactIndex,
    "exact int8": QuantisedIndex,
    "usearch i8": _usearch("i8"),
    "usearch bf16": _usearch("bf16"),
    "usearch f32": _usearch("f32"),
    "hnswlib": lambda dimensions: GraphIndex(QuantisedIndex(dimensions), HnswlibGraph(dimensions)),
}


def mixture(encoded: Vectors, size: int, chance: np.random.Generator) -> Vectors:
    """`size` unit vectors: those of `encoded` if they are enough, otherwise others around them."""
    if size <= len(encoded):
        return encoded[:size]
    dimensions = encoded.shape[1]
    vectors = encoded[np.arange(size) % len(encoded)]
    noise = chance.standard_normal((size, dimensions), dtype=np.float32) / dimensions**0.5
    vectors = vectors + np.float32(NOISE) * noise
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def chosen(size: int, wanted: Sequence[str] | None) -> list[str]:
    """The names of what is measured at `size` vectors."""
    if wanted is not None:
        return list(wanted)
    return list(BACKENDS if size <= TURNOVER_MAX else QUICK)


def measure(name: str, vectors: Vectors, others: Vectors, queries: Vectors) -> dict[str, float]:
    """Recall, milliseconds, seconds and bytes of one kind of index; `others` replace `vectors`."""
    size = len(vectors)
    index = BACKENDS[name](vectors.shape[1])
    began = time.perf_counter()
    for first in range(0, size, AT_ONCE):
        some = vectors[first : first + AT_ONCE]
        index.put_many(np.arange(first, first + len(some)), some)
    found: dict[str, float] = {"build_s": time.perf_counter() - began}
    wanted = candidates_for(K)
    right = nearest(vectors, queries, wanted)
    found["recall_at_10"] = _recall(index, queries, right, K)
    found["recall_at_200"] = _recall(index, queries, right, wanted)
    taken = _times(lambda at: index.search(queries[at], wanted), len(queries))
    found["p50_ms"] = float(np.median(taken))
    found["p99_ms"] = float(np.percentile(taken, 99))
    found["bytes_per_vector"] = _bytes(index) / size
    if size <= TURNOVER_MAX:
        for slot, vector in zip((at % size for at in count()), others, strict=False):
            index.put(slot, vector)
        kept = others[-size:]
        right = nearest(np.roll(kept, len(others) % size, axis=0), queries, wanted)
        found["turned_over_recall_at_10"] = _recall(index, queries, right, K)
        found["turned_over_recall_at_200"] = _recall(index, queries, right, wanted)
        taken = _times(lambda at: index.search(queries[at], wanted), len(queries))
        found["turned_over_p50_ms"] = float(np.median(taken))
    changes = min(CHANGES, size)
    found["add_ms"] = _mean(lambda at: index.put(size + at, others[at]), changes)
    found["replace_ms"] = _mean(lambda at: index.put(at, others[-1 - at]), changes)
    found["remove_ms"] = _mean(index.remove, changes)
    return found


def replacements(encoded: Vectors, size: int, chance: np.random.Generator) -> Vectors:
    """Vectors for `others` of `measure`, related to each other in runs, not to those they replace."""
    count = 2 * (size if size <= TURNOVER_MAX else CHANGES)
    return np.roll(mixture(encoded, count, chance), len(encoded) // 3, axis=0)


def nearest(vectors: Vectors, queries: Vectors, k: int) -> npt.NDArray[np.int64]:
    """The k nearest of each query, best first: (queries, k)."""
    return np.stack([np.argsort(-np.vecdot(vectors, one), kind="stable")[:k] for one in queries])


def _recall(index: VectorIndex, queries: Vectors, right: npt.NDArray[np.int64], k: int) -> float:
    """Of the k nearest, the share among the first k of what a search for all candidates finds."""
    hits, wanted = 0, right.shape[1]
    for query, expected in zip(queries, right[:, :k], strict=True):
        hits += len(np.intersect1d(index.search(query, wanted)[0][:k], expected))
    return hits / right[:, :k].size


def _bytes(index: VectorIndex) -> int:
    """Of vectors and links, without room for more."""
    size = len(index)
    if isinstance(index, GraphIndex):
        return index.graph.nbytes + _bytes(index.rows)
    if isinstance(index, QuantisedIndex):
        return sum(array.nbytes for array in index.arrays())
    assert isinstance(index, ExactIndex)
    return size * (4 * index.dimensions + 1)


def _mean(change: Callable[[int], object], times: int) -> float:
    return float(_times(change, times, warm=False).mean())


def _times(
    call: Callable[[int], object], times: int, *, warm: bool = True
) -> npt.NDArray[np.float64]:
    """Milliseconds per call; the first pass warms caches and is not counted."""
    taken = np.zeros(times)
    for _ in range(1 + warm):
        for at in range(times):
            began = time.perf_counter()
            call(at)
            taken[at] = (time.perf_counter() - began) * 1000
    return taken
