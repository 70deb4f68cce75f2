"""Builds graphs of BERT-type models from their weights: what safetensors hold, made to compute.

Architectures: bert, roberta, xlm-roberta, camembert, distilbert, mpnet, as Hugging Face's
``transformers`` defines them (Devlin et al. 2018; Liu et al. 2019; Conneau et al. 2019; Sanh et al.
2019; Song et al. 2020). Inputs ``input_ids`` and ``attention_mask``, int64 [batch, tokens]; output
``token_vectors``, float32 [batch, tokens, hidden]. Texts are single sequences, so all token types
are 0. The padding is on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hartonomous.errors import UsageError
from hartonomous.inference.int8 import quantised_linear, quantised_table
from hartonomous.inference.onnx_writer import GraphWriter, in_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet")
OUTPUT = "token_vectors"

_MOST_LAYERS = 128
_MOST_EXTENT = 1 << 22
_MASKED = float(np.finfo(np.float32).min)
_BUCKETS, _BUCKET_DISTANCE = 32, 128  # of MPNet's relative positions


class Weights(Protocol):
    """Tensors by name, as values of float32."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, None where there is none of this name."""
        ...

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return some rows of a tensor of one or two axes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What an architecture calls its weights; layers' names follow the layer's prefix."""

    words: str
    positions: str
    types: str
    norm: str
    layer: str
    query: str
    key: str
    value: str
    output: str
    output_norm: str
    inner: str
    outer: str
    outer_norm: str


_BERT = _Names(
    words="embeddings.word_embeddings", positions="embeddings.position_embeddings",
    types="embeddings.token_type_embeddings", norm="embeddings.LayerNorm",
    layer="encoder.layer.{}.", query="attention.self.query", key="attention.self.key",
    value="attention.self.value", output="attention.output.dense",
    output_norm="attention.output.LayerNorm", inner="intermediate.dense", outer="output.dense",
    outer_norm="output.LayerNorm",
)  # fmt: skip
_DISTILBERT = _Names(
    words="embeddings.word_embeddings", positions="embeddings.position_embeddings", types="",
    norm="embeddings.LayerNorm", layer="transformer.layer.{}.", query="attention.q_lin",
    key="attention.k_lin", value="attention.v_lin", output="attention.out_lin",
    output_norm="sa_layer_norm", inner="ffn.lin1", outer="ffn.lin2", outer_norm="output_layer_norm",
)  # fmt: skip
_MPNET = _Names(
    words="embeddings.word_embeddings", positions="embeddings.position_embeddings", types="",
    norm="embeddings.LayerNorm", layer="encoder.layer.{}.", query="attention.attn.q",
    key="attention.attn.k", value="attention.attn.v", output="attention.attn.o",
    output_norm="attention.LayerNorm", inner="intermediate.dense", outer="output.dense",
    outer_norm="output.LayerNorm",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The numbers of a model, checked. ``padding`` is the padding token's id where it counts."""

    architecture: str
    hidden: int
    layers: int
    heads: int
    inner: int
    words: int
    positions: int
    epsilon: float
    activation: str
    padding: int | None

    @property
    def most_tokens(self) -> int:
        """How many tokens the table of positions has room for."""
        return self.positions if self.padding is None else self.positions - self.padding - 1


def read_shape(config: Mapping[str, Any]) -> BertShape:
    """Return what ``config.json`` says; raises UsageError for what is not built here."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise UsageError(
            f"no graph is built for models of type {str(kind)[:60]!r}",
            hint=f"known are {', '.join(ARCHITECTURES)}; others need their onnx/model.onnx",
        )
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise UsageError(
            "no graph is built for this model: its positions are relative, or it is a decoder",
            hint="put the graph beside it as onnx/model.onnx",
        )
    distil = kind == "distilbert"
    number = partial(_number, config)
    padded = kind in ("roberta", "xlm-roberta", "camembert", "mpnet")
    shape = BertShape(
        architecture=kind,
        hidden=number("dim" if distil else "hidden_size", _MOST_EXTENT),
        layers=number("n_layers" if distil else "num_hidden_layers", _MOST_LAYERS),
        heads=number("n_heads" if distil else "num_attention_heads", 4096),
        inner=number("hidden_dim" if distil else "intermediate_size", _MOST_EXTENT),
        words=number("vocab_size", _MOST_EXTENT),
        positions=number("max_position_embeddings", _MOST_EXTENT),
        epsilon=_epsilon(config),
        activation=str(config.get("activation" if distil else "hidden_act", "gelu")),
        padding=number("pad_token_id", _MOST_EXTENT, least=0, default=1) if padded else None,
    )
    if shape.hidden % shape.heads or shape.most_tokens < 1:
        raise UsageError("the model's config.json has numbers that do not fit each other")
    if shape.activation not in _ACTIVATIONS:
        raise UsageError(f"no graph is built with the activation {shape.activation[:60]!r}")
    return shape


def build(shape: BertShape, weights: Weights, *, quantisation: str) -> GraphWriter:
    """Return the model's graph, in f32 or int8; raises UsageError for lacking weights.

    Weights are read when the graph is written.
    """
    return _Builder(shape, weights, quantisation).build()


class _Builder:
    """Puts one model's graph together."""

    def __init__(self, shape: BertShape, weights: Weights, quantisation: str) -> None:
        self.shape, self.weights = shape, weights
        self.names = {"distilbert": _DISTILBERT, "mpnet": _MPNET}.get(shape.architecture, _BERT)
        self.int8 = quantisation == "int8"
        self.graph = GraphWriter(shape.architecture)
        self.prefix = self._find_prefix()

    def build(self) -> GraphWriter:
        graph = self.graph
        ids = graph.input("input_ids", "int64", ("batch", "tokens"))
        mask = graph.input("attention_mask", "int64", ("batch", "tokens"))
        state = self._embed(ids)
        bias = self._mask(mask)
        if self.shape.architecture == "mpnet":
            bias = graph.node("Add", bias, self._relative(ids))
        for index in range(self.shape.layers):
            state = self._layer(index, state, bias)
        graph.node("Identity", state, output=OUTPUT)
        graph.output(OUTPUT, "float32", ("batch", "tokens", self.shape.hidden))
        return graph

    # -- weights

    def _find_prefix(self) -> str:
        for prefix in ("", f"{self.shape.architecture.replace('xlm-', '')}.", "bert.", "model."):
            if self.weights.shape(f"{prefix}{self.names.words}.weight") is not None:
                return prefix
        raise UsageError(
            f"the weights have no tensor {self.names.words}.weight",
            hint="the folder's config.json and its weights are of different models",
        )

    def _checked(self, name: str, *extents: int) -> str:
        full = self.prefix + name
        found = self.weights.shape(full)
        if found != extents:
            has = "is missing" if found is None else f"has the shape {list(found)}"
            raise UsageError(f"the tensor {full} {has} where {list(extents)} is needed")
        return full

    def _read(self, name: str, *extents: int) -> NDArray[np.float32]:
        return self.weights.rows(self._checked(name, *extents), 0, extents[0])

    def _vector(self, name: str, size: int) -> str:
        full = self._checked(name, size)
        return self.graph.weight("float32", (size,), lambda: (self.weights.rows(full, 0, size),))

    def _table(self, name: str, rows: int, ids: str) -> str:
        """Gather rows of a table by id."""
        hidden = self.shape.hidden
        read = partial(self.weights.rows, self._checked(f"{name}.weight", rows, hidden))
        if self.int8:
            return quantised_table(self.graph, ids, rows, hidden, read)
        pieces = in_rows(rows, 4 * hidden, read)
        return self.graph.node("Gather", self.graph.weight("float32", (rows, hidden), pieces), ids)

    def _linear(self, state: str, names: tuple[str, ...], inputs: int, outputs: int) -> str:
        """Multiply by one or more matrices side by side and add their biases."""
        full = [self._checked(f"{name}.weight", outputs, inputs) for name in names]
        biases = [self._checked(f"{name}.bias", outputs) for name in names]
        read = self.weights.rows

        def matrix() -> NDArray[np.float32]:
            return np.concatenate([read(one, 0, outputs) for one in full]).T

        def bias() -> tuple[NDArray[np.float32]]:
            return (np.concatenate([read(one, 0, outputs) for one in biases]),)

        width = outputs * len(names)
        added = self.graph.weight("float32", (width,), bias)
        if self.int8:
            return quantised_linear(self.graph, state, (inputs, width), matrix, added)
        weight = self.graph.weight("float32", (inputs, width), lambda: (matrix(),))
        return self.graph.node("Add", self.graph.node("MatMul", state, weight), added)

    # -- parts of the graph

    def _norm(self, state: str, name: str) -> str:
        size = self.shape.hidden
        return self.graph.node(
            "LayerNormalization", state, self._vector(f"{name}.weight", size),
            self._vector(f"{name}.bias", size), axis=-1, epsilon=self.shape.epsilon,
        )  # fmt: skip

    def _embed(self, ids: str) -> str:
        graph, shape, names = self.graph, self.shape, self.names
        words = self._table(names.words, shape.words, ids)
        state = graph.node("Add", words, self._positions(ids))
        if names.types and self.weights.shape(f"{self.prefix}{names.types}.weight") is not None:
            full = f"{self.prefix}{names.types}.weight"
            kinds = self.weights.shape(full) or (0,)
            self._checked(f"{names.types}.weight", max(kinds[0], 1), shape.hidden)
            first = graph.weight(
                "float32", (shape.hidden,), lambda: (self.weights.rows(full, 0, 1)[0],)
            )
            state = graph.node("Add", state, first)
        return self._norm(state, names.norm)

    def _positions(self, ids: str) -> str:
        """Position vectors: counted from 0, or from behind the padding's id where that is used."""
        graph, shape = self.graph, self.shape
        table = f"{self.names.positions}.weight"
        full = self._checked(table, shape.positions, shape.hidden)
        pieces = in_rows(shape.positions, 4 * shape.hidden, partial(self.weights.rows, full))
        vectors = graph.weight("float32", (shape.positions, shape.hidden), pieces)
        if shape.padding is None:
            return graph.node("Gather", vectors, self._range(ids))
        # As create_position_ids_from_input_ids does: padding keeps its own row.
        padding = graph.constant(np.array(shape.padding, np.int64))
        same = graph.node("Equal", ids, padding)
        real = graph.nodes("Cast", [graph.node("Not", same)], 1, "", {"to": 7})[0]
        axis = graph.constant(np.array(1, np.int64))
        counted = graph.node("Mul", graph.node("CumSum", real, axis), real)
        return graph.node("Gather", vectors, graph.node("Add", counted, padding))

    def _range(self, ids: str) -> str:
        """The numbers from 0 to the count of tokens, int64 [tokens]."""
        graph = self.graph
        count = graph.node("Shape", ids, start=1, end=2)
        scalar = graph.node("Squeeze", count)
        zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
        return graph.node("Range", zero, scalar, one)

    def _mask(self, mask: str) -> str:
        """What is added to scores, float32 [batch, 1, 1, tokens]: 0, or far below for padding."""
        graph = self.graph
        values = graph.nodes("Cast", [mask], 1, "", {"to": 1})[0]
        axes = graph.constant(np.array([1, 2], np.int64))
        left = graph.node(
            "Sub", graph.constant(np.array(1, np.float32)), graph.node("Unsqueeze", values, axes)
        )
        return graph.node("Mul", left, graph.constant(np.array(_MASKED, np.float32)))

    def _relative(self, ids: str) -> str:
        """MPNet's bias of relative positions, float32 [heads, tokens, tokens]."""
        graph, shape = self.graph, self.shape
        name = "encoder.relative_attention_bias.weight"
        full = self._checked(name, _BUCKETS, shape.heads)
        most = shape.most_tokens
        offsets = np.arange(1 - most, most)

        def by_offset() -> tuple[NDArray[np.float32]]:
            return (self.weights.rows(full, 0, _BUCKETS)[_buckets(offsets)],)

        table = graph.weight("float32", (len(offsets), shape.heads), by_offset)
        row, column = (
            graph.node("Unsqueeze", self._range(ids), graph.constant(np.array([axis], np.int64)))
            for axis in (1, 0)
        )
        first = graph.constant(np.array(most - 1, np.int64))
        index = graph.node("Add", graph.node("Sub", column, row), first)
        return graph.nodes("Transpose", [graph.node("Gather", table, index)], 1, "",
                           {"perm": (2, 0, 1)})[0]  # fmt: skip

    def _layer(self, index: int, state: str, bias: str) -> str:
        graph, shape, names = self.graph, self.shape, self.names
        at = names.layer.format(index)
        attended = self._attention(at, state, bias)
        added = self._linear(attended, (at + names.output,), shape.hidden, shape.hidden)
        state = self._norm(graph.node("Add", added, state), at + names.output_norm)
        inner = self._linear(state, (at + names.inner,), shape.hidden, shape.inner)
        inner = _ACTIVATIONS[shape.activation](graph, inner)
        outer = self._linear(inner, (at + names.outer,), shape.inner, shape.hidden)
        return self._norm(graph.node("Add", outer, state), at + names.outer_norm)

    def _attention(self, at: str, state: str, bias: str) -> str:
        graph, shape = self.graph, self.shape
        size = shape.hidden // shape.heads
        three = (at + self.names.query, at + self.names.key, at + self.names.value)
        together = self._linear(state, three, shape.hidden, shape.hidden)
        # [batch, tokens, 3, heads, size] -> [3, batch, heads, tokens, size]
        to = graph.constant(np.array([0, 0, 3, shape.heads, size], np.int64))
        split = graph.nodes("Transpose", [graph.node("Reshape", together, to)], 1, "",
                            {"perm": (2, 0, 3, 1, 4)})[0]  # fmt: skip
        query, key, value = (
            graph.node("Gather", split, graph.constant(np.array(one, np.int64)), axis=0)
            for one in range(3)
        )
        turned = graph.nodes("Transpose", [key], 1, "", {"perm": (0, 1, 3, 2)})[0]
        scale = graph.constant(np.array(size**-0.5, np.float32))
        scores = graph.node("MatMul", graph.node("Mul", query, scale), turned)
        shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
        mixed = graph.nodes("Transpose", [graph.node("MatMul", shares, value)], 1, "",
                            {"perm": (0, 2, 1, 3)})[0]  # fmt: skip
        return graph.node(
            "Reshape", mixed, graph.constant(np.array([0, 0, shape.hidden], np.int64))
        )


def _gelu(graph: GraphWriter, x: str) -> str:
    scaled = graph.node("Div", x, graph.constant(np.array(2**0.5, np.float32)))
    one = graph.constant(np.array(1, np.float32))
    shifted = graph.node("Add", graph.node("Erf", scaled), one)
    half = graph.constant(np.array(0.5, np.float32))
    return graph.node("Mul", graph.node("Mul", x, shifted), half)


def _gelu_tanh(graph: GraphWriter, x: str) -> str:
    def constant(number: float) -> str:
        return graph.constant(np.array(number, np.float32))

    cube = graph.node("Mul", graph.node("Mul", x, x), x)
    inner = graph.node("Add", x, graph.node("Mul", cube, constant(0.044715)))
    bent = graph.node("Tanh", graph.node("Mul", inner, constant((2 / np.pi) ** 0.5)))
    return graph.node(
        "Mul", graph.node("Mul", x, constant(0.5)), graph.node("Add", bent, constant(1.0))
    )


def _relu(graph: GraphWriter, x: str) -> str:
    return graph.node("Relu", x)


_ACTIVATIONS: dict[str, Callable[[GraphWriter, str], str]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
}


def _buckets(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bucket of each offset, as MPNet and T5 (Raffel et al. 2019) count them."""
    half = _BUCKETS // 2
    result = np.where(-offsets < 0, half, 0)
    distance = np.abs(offsets)
    exact = half // 2
    with np.errstate(divide="ignore"):
        far = exact + (
            np.log(distance.astype(np.float32) / exact)
            / np.log(_BUCKET_DISTANCE / exact)
            * (half - exact)
        )
    far = np.minimum(np.where(distance < exact, 0, far).astype(np.int64), half - 1)
    return result + np.where(distance < exact, distance, far)


def _number(
    config: Mapping[str, Any], key: str, most: int, *, least: int = 1, default: int | None = None
) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"config.json has no usable {key}: {str(value)[:60]}")
    return value


def _epsilon(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(f"config.json has no usable layer_norm_eps: {str(value)[:60]}")
    return float(value)
