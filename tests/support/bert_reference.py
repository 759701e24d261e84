"""The official all-MiniLM-L6-v2 in plain numpy: the oracle that the shipped model is held against.

Written from the paper (Devlin et al. 2019, "BERT", and Vaswani et al. 2017 for attention) and the
model's own config; it shares no code with the build script. Slow, float32, one text at a time.
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Array = npt.NDArray[np.float32]

LAYERS = 6
HEADS = 12
TOKENS_MAX = 256
EPSILON = 1e-12


def read_safetensors(path: Path) -> dict[str, Array]:
    """Name to tensor: u64 length, JSON of names, types, shapes and offsets, then the bytes."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[first:last], dtype="<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def reference_vectors(weights: Path, tokenizer: Path, texts: Sequence[str]) -> Array:
    """One unit row per text, computed in a process of its own with one BLAS thread.

    Several of OpenBLAS's threads wait for each other by spinning; on a busy machine that takes
    many times as long, and they cannot be limited once numpy is loaded.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(weights), str(tokenizer)],
        input=json.dumps(list(texts)).encode(),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return np.frombuffer(done.stdout, dtype=np.float32).reshape(len(texts), -1)


class BertReference:
    """Texts to unit vectors by the official weights: the mean of the last layer, normalised."""

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        self._tensors = read_safetensors(weights)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS_MAX)

    def encode(self, texts: Sequence[str]) -> Array:
        """One unit row per text."""
        return np.stack([self._encode_one(text) for text in texts])

    def _encode_one(self, text: str) -> Array:
        tokens = self._tokenizer.encode(text).ids
        words = self._tensors["embeddings.word_embeddings.weight"][tokens]
        places = self._tensors["embeddings.position_embeddings.weight"][: len(tokens)]
        kind = self._tensors["embeddings.token_type_embeddings.weight"][0]
        state = self._layer_norm(words + places + kind, "embeddings.LayerNorm")
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            attended = self._dense(
                self._attention(state, f"{layer}.attention.self"), f"{layer}.attention.output.dense"
            )
            state = self._layer_norm(state + attended, f"{layer}.attention.output.LayerNorm")
            inner = gelu(self._dense(state, f"{layer}.intermediate.dense"))
            outer = self._dense(inner, f"{layer}.output.dense")
            state = self._layer_norm(state + outer, f"{layer}.output.LayerNorm")
        mean: Array = state.mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype(np.float32)

    def _attention(self, state: Array, name: str) -> Array:
        queries, keys, values = (
            self._dense(state, f"{name}.{part}").reshape(len(state), HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(queries.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed: Array = (weights @ values).transpose(1, 0, 2).reshape(state.shape)
        return mixed

    def _dense(self, state: Array, name: str) -> Array:
        product: Array = state @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]
        return product

    def _layer_norm(self, state: Array, name: str) -> Array:
        centred = state - state.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        shifted: Array = scaled * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return shifted


def gelu(values: Array) -> Array:
    """x Φ(x), with Φ the normal distribution function (Hendrycks and Gimpel 2016)."""
    result: Array = values * 0.5 * (1.0 + erf(values / math.sqrt(2.0)))
    return result.astype(np.float32)


def erf(values: Array) -> Array:
    """The error function within 2e-7: Abramowitz and Stegun 1964, formula 7.1.26."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(values))
    terms = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    series = np.zeros_like(t)
    for term in reversed(terms):
        series = (series + term) * t
    result: Array = np.sign(values) * (1.0 - series * np.exp(-values * values))
    return result


if __name__ == "__main__":
    reference = BertReference(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.buffer.write(reference.encode(json.load(sys.stdin)).tobytes())
