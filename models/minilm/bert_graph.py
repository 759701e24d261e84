"""The ONNX graph of all-MiniLM-L6-v2, written node by node from the official tensors.

One text at a time: int64 token ids in, one unit vector out. There is no batch axis and no mask,
because a dynamic activation scale taken over a padded batch would make a vector depend on its
neighbours (and on one thread a batch is no faster). Pooling (mean) and L2 normalisation are part of
the graph.

Arithmetic of the quantised graph (Jacob et al. 2018 for the affine scheme):
weights  int8 with one scale per output column, kept to ±64: two products of a u8 and a 7-bit value
         fit 16 bits, so that processors without VNNI do not saturate and every processor computes
         the same integers.
inputs   u8. Attention takes one scale per text; the two feed-forward products take one per token,
         since single tokens carry outliers there that would cost all others their precision.
words    int8 with one scale per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]

LAYERS: Final = 6
HEADS: Final = 12
HIDDEN: Final = 384
TOKENS_MAX: Final = 256
EPSILON: Final = 1e-12
WEIGHT_MAX: Final = 64
INPUT_MAX: Final = 127
GELU_FLOOR: Final = 0.17
"""GELU never goes below -0.17, so adding this makes its output fit unsigned bytes."""

CLIPS: Final = np.linspace(0.6, 1.0, 21)
"""Shares of a column's largest weight that are tried as its range."""

MICROSOFT: Final = "com.microsoft"
OPSETS: Final = (("", 18), (MICROSOFT, 1))
IR_VERSION: Final = 8
FUSED: Final = frozenset(
    {"BiasGelu", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MultiHeadAttention"}
)
"""Operators of onnxruntime's own domain; each replaces several standard ones."""


def quantise_columns(weights: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """(int8 values, one scale per column) of an (in, out) matrix.

    Each column's range is the share of its largest value with the least squared error.
    """
    exact = weights.astype(np.float64)
    largest = np.abs(exact).max(axis=0)
    best_error = np.full(largest.shape, np.inf)
    scales = np.ones(largest.shape, np.float32)
    for clip in CLIPS:
        candidate = (largest * clip / WEIGHT_MAX).astype(np.float32)
        error = ((_rounded(exact, candidate) * candidate - exact) ** 2).sum(axis=0)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        scales = np.where(better, candidate, scales)
    return _rounded(exact, scales).astype(np.int8), scales


def _rounded(weights: npt.NDArray[np.float64], scales: Array) -> npt.NDArray[np.float64]:
    return np.clip(np.rint(weights / scales), -WEIGHT_MAX, WEIGHT_MAX)


class BertGraph:
    """Collects the nodes and constants of one graph. `quantised` False gives float32 throughout."""

    def __init__(self, tensors: Mapping[str, Array], *, quantised: bool) -> None:
        self._tensors = tensors
        self._quantised = quantised
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def model(self) -> ModelProto:
        """The whole model: `ids` (tokens,) int64 to `vector` (384,) float32 of length 1."""
        state = self._embeddings("ids")
        for number in range(LAYERS):
            state = self._layer(state, f"encoder.layer.{number}")
        mean = self._node("ReduceMean", [state, self._axes(0)], keepdims=0)
        self._node("LpNormalization", [mean], output="vector", axis=0, p=2)
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [HIDDEN])],
            self._constants,
        )
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS],
            producer_name="localmem",
        )

    def _embeddings(self, ids: str) -> str:
        table = self._tensors["embeddings.word_embeddings.weight"]
        if self._quantised:
            scales = (np.abs(table).max(axis=1, keepdims=True) / INPUT_MAX).astype(np.float32)
            rows = np.rint(table / np.maximum(scales, np.finfo(np.float32).tiny)).astype(np.int8)
            small = self._node("Gather", [self._constant(rows), ids])
            widened = self._node("Cast", [small], to=TensorProto.FLOAT)
            scale = self._node("Gather", [self._constant(scales), ids])
            words = self._node("Mul", [widened, scale])
        else:
            words = self._node("Gather", [self._constant(table), ids])
        # Every token of a single text has type 0, so its vector is part of each place's.
        places = (
            self._tensors["embeddings.position_embeddings.weight"][:TOKENS_MAX]
            + self._tensors["embeddings.token_type_embeddings.weight"][0]
        )
        count = self._node("Shape", [ids])
        used = self._node("Slice", [self._constant(places), self._axes(0), count, self._axes(0)])
        return self._layer_norm(self._node("Add", [words, used]), "embeddings.LayerNorm")

    def _layer(self, state: str, name: str) -> str:
        attended = self._dense(
            self._attention(state, f"{name}.attention.self"),
            *self._weights(f"{name}.attention.output.dense"),
        )
        state = self._layer_norm(
            self._node("Add", [attended, state]), f"{name}.attention.output.LayerNorm"
        )
        weights, bias = self._weights(f"{name}.intermediate.dense")
        inner = self._node(
            "BiasGelu", [self._product_by_token(state, weights), self._constant(bias)]
        )
        outer = self._dense_after_gelu(inner, *self._weights(f"{name}.output.dense"))
        return self._layer_norm(self._node("Add", [outer, state]), f"{name}.output.LayerNorm")

    def _attention(self, state: str, name: str) -> str:
        parts = [self._weights(f"{name}.{part}") for part in ("query", "key", "value")]
        joined = self._dense(
            state,
            np.concatenate([weights for weights, _ in parts], axis=1),
            np.concatenate([bias for _, bias in parts]),
        )
        batch = self._node("Unsqueeze", [joined, self._axes(0)])
        split = self._split(batch, 3)
        mixed = self._node("MultiHeadAttention", split, num_heads=HEADS)
        return self._node("Squeeze", [mixed, self._axes(0)])

    def _dense(self, state: str, weights: Array, bias: Array) -> str:
        """`state` @ weights + bias; quantised with one scale for the whole text."""
        if not self._quantised:
            product = self._node("MatMul", [state, self._constant(weights)])
            return self._node("Add", [product, self._constant(bias)])
        values, scales = quantise_columns(weights)
        return self._node(
            "DynamicQuantizeMatMul",
            [state, self._constant(values), self._constant(scales), "", self._constant(bias)],
        )

    def _product_by_token(self, state: str, weights: Array) -> str:
        """`state` @ weights; quantised with one scale per token, symmetric around 128."""
        if not self._quantised:
            return self._node("MatMul", [state, self._constant(weights)])
        magnitude = self._node("Abs", [state])
        largest = self._node("ReduceMax", [magnitude, self._axes(1)], keepdims=1)
        scale = self._node("Mul", [largest, self._scalar(1 / INPUT_MAX)])
        steps = self._node("Div", [state, scale])
        middle = self._constant(np.array(INPUT_MAX + 1, np.uint8))
        small = self._node("QuantizeLinear", [steps, self._scalar(1.0), middle])
        values, scales = quantise_columns(weights)
        return self._node("Mul", [self._integer_product(small, values, scales, middle), scale])

    def _dense_after_gelu(self, state: str, weights: Array, bias: Array) -> str:
        """`state` @ weights + bias; quantised with one scale per token, from -0.17 up."""
        if not self._quantised:
            return self._dense(state, weights, bias)
        floor = self._scalar(GELU_FLOOR)
        largest = self._node("ReduceMax", [state, self._axes(1)], keepdims=0)
        scale = self._node(
            "Mul", [self._node("Add", [largest, floor]), self._scalar(1 / (2 * INPUT_MAX + 1))]
        )
        raised = self._node("Add", [state, floor])
        small = self._node("QuantizeLinear", [raised, scale], axis=0)
        values, scales = quantise_columns(weights)
        zero = self._constant(np.array(0, np.uint8))
        by_token = self._node("Unsqueeze", [scale, self._axes(1)])
        product = self._node("Mul", [self._integer_product(small, values, scales, zero), by_token])
        # (state + floor) @ W is too large by floor * (column sums of W).
        excess = GELU_FLOOR * values.sum(axis=0, dtype=np.int64) * scales.astype(np.float64)
        return self._node("Add", [product, self._constant((bias - excess).astype(np.float32))])

    def _integer_product(
        self, small: str, values: npt.NDArray[np.int8], scales: Array, zero_point: str
    ) -> str:
        one = self._scalar(1.0)
        return self._node(
            "MatMulIntegerToFloat",
            [small, self._constant(values), one, self._constant(scales), zero_point],
        )

    def _layer_norm(self, state: str, name: str) -> str:
        # SkipLayerNormalization would take the Add too, and is slower on the CPU.
        scale, shift = (self._tensors[f"{name}.{part}"] for part in ("weight", "bias"))
        return self._node(
            "LayerNormalization",
            [state, self._constant(scale), self._constant(shift)],
            epsilon=EPSILON,
        )

    def _weights(self, name: str) -> tuple[Array, Array]:
        """(in, out) weights and bias of a dense layer; the file keeps them (out, in)."""
        return self._tensors[f"{name}.weight"].T, self._tensors[f"{name}.bias"]

    def _split(self, value: str, parts: int) -> list[str]:
        name = f"Split_{len(self._nodes)}"
        outputs = [f"{name}_{part}" for part in range(parts)]
        self._nodes.append(
            helper.make_node("Split", [value], outputs, name, axis=-1, num_outputs=parts)
        )
        return outputs

    def _node(
        self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any
    ) -> str:
        name = f"{operator}_{len(self._nodes)}"
        domain = MICROSOFT if operator in FUSED else ""
        self._nodes.append(
            helper.make_node(operator, inputs, [output or name], name, domain=domain, **attributes)
        )
        return output or name

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _axes(self, axis: int) -> str:
        return self._constant(np.array([axis], np.int64))
