"""Unit vectors as an encoder gives them: in clusters, some of them equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from localmem_node.seams import VectorIndex

Vectors = npt.NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / lengths).astype(np.float32)


def clustered(count: int, dimensions: int, seed: int, *, clusters: int = 60) -> Vectors:
    """Noise around centres; one row in ten is a centre itself, so that many are equal."""
    chance = np.random.default_rng(seed)
    centres = unit(chance.standard_normal((clusters, dimensions), dtype=np.float32))
    noise = chance.standard_normal((count, dimensions), dtype=np.float32) / dimensions**0.5
    noise[chance.random(count) < 0.1] = 0
    return unit(centres[chance.integers(0, clusters, count)] + 0.8 * noise)


def recall(
    index: VectorIndex,
    held: dict[int, Vectors],
    queries: Vectors,
    k: int,
    slack: float,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> float:
    """The share of the k best of `held` that `index` finds. Whatever scores as high as the k-th, less
    `slack`, is right: equal vectors, and those that rounding moved past each other.
    """
    slots = np.array(sorted(held), dtype=np.int64)
    matrix = np.stack([held[slot] for slot in slots.tolist()])
    right = 0
    for query in queries:
        scores = matrix @ query
        bound = np.sort(scores)[-k] - slack
        found, _ = index.search(query, k, allowed)
        right += int(np.count_nonzero(scores[np.searchsorted(slots, found)] >= bound))
    return right / (k * len(queries))
