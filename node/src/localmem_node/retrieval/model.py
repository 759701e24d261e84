"""What every feature is worth: shipped numbers, and the sums that they are put to.

A linear model over the features of a candidate, with one set of weights for what was said (prompts,
answers, notes) and one for what was done (edits, reads, commands, errors), fitted as a softmax over
the candidates of each question (Cao et al., "Learning to Rank: From Pairwise Approach to Listwise
Approach", 2007). `python -m bench train` makes the numbers; `docs/retrieval.md` says from what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from localmem_node.retrieval.evidence import MEANING, OTHER
from localmem_node.retrieval.words import WORDS

FEATURES: Final = (*WORDS, *MEANING, *OTHER, "bias")
"""Rows of a matrix of features."""

ENCODER: Final = "all-minilm-l6-v2"
"""What the fingerprints of the encoders that the maps were fitted with have in them."""

FOLDER: Final = Path(__file__).parent / "data"

Floats = npt.NDArray[np.float32]


class Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: weights by feature."""

    said: dict[str, float]
    done: dict[str, float]
    floor: dict[str, float]
    burst_penalty: float


@dataclass(frozen=True, slots=True)
class Model:
    """`weights` are (2, features), for done and said; `floor` (features,); `maps` (2, dimensions,
    dimensions), again for done and said, or None for an encoder that has none.
    """

    weights: Floats
    floor: Floats
    maps: Floats | None
    burst_penalty: float = 0.0
    """What a hit costs for each better one of the same burst, if anything was done in it."""

    def judged(self, features: Floats, said: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Scores, relevance of (features, candidates): per candidate a number comparable within one question, the higher the
        better; and from 0 to 1 how sure it is that it has to do with the question at all.
        """
        done, of_said, logit = np.concatenate((self.weights, self.floor[None])) @ features
        return np.where(said, of_said, done), 1 / (1 + np.exp(-logit))

    def parts(self, features: Floats, said: npt.NDArray[np.bool_]) -> Floats:
        """(features, candidates): what each feature adds to the score."""
        return features * self.weights[said.astype(np.intp)].T

    def learned(self, vector: Floats) -> Floats:
        """What the learned maps make of a query's vector: (2, dimensions), rows of length 1."""
        if self.maps is None or len(vector) != self.maps.shape[1]:
            return np.stack((vector, vector))
        mapped = vector @ self.maps
        lengths = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-9)
        unit: Floats = mapped / lengths
        return unit


def for_encoder(fingerprint: str) -> Model:
    """The model of the package; the maps of queries are of use with all-MiniLM-L6-v2 only."""
    whole = shipped()
    return whole if ENCODER in fingerprint.lower() else replace(whole, maps=None)


@lru_cache(maxsize=1)
def shipped() -> Model:
    """The model of the package, for all-MiniLM-L6-v2."""
    numbers = msgspec.json.decode((FOLDER / "ranking.json").read_bytes(), type=Numbers)
    maps = np.load(FOLDER / "query_maps.npy").astype(np.float32)
    return Model(
        weights=np.stack([_column(numbers.done), _column(numbers.said)]),
        floor=_column(numbers.floor),
        maps=maps,
        burst_penalty=numbers.burst_penalty,
    )


def _column(weights: dict[str, float]) -> Floats:
    return np.array([weights.get(name, 0.0) for name in FEATURES], np.float32)
