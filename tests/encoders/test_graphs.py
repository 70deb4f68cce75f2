"""The graphs that are built: what ONNX's own checker says of them, and what int8 costs."""

import io
import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.errors import LimitError, UsageError
from hartonomous.inference import bert_graph
from hartonomous.inference.int8 import quantise
from hartonomous.inference.onnx_writer import GraphWriter, in_rows


class _RandomWeights:
    """Weights of any name, of the shapes that a config asks for."""

    def __init__(self, shapes):
        self.shapes = shapes

    def shape(self, name):
        return self.shapes.get(name)

    def rows(self, name, start, stop):
        seed = sum(name.encode())
        values = np.random.default_rng(seed).standard_normal(self.shapes[name], np.float32)
        return values[start:stop]


def bert_shapes(hidden=16, inner=24, layers=2, words=50, positions=20):
    shapes = {
        "embeddings.word_embeddings.weight": (words, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
    }
    pairs = {"embeddings.LayerNorm": (hidden,)}
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        for one in ("query", "key", "value"):
            pairs[f"{at}attention.self.{one}"] = (hidden, hidden)
        pairs[f"{at}attention.output.dense"] = (hidden, hidden)
        pairs[f"{at}intermediate.dense"] = (inner, hidden)
        pairs[f"{at}output.dense"] = (hidden, inner)
        pairs[f"{at}attention.output.LayerNorm"] = pairs[f"{at}output.LayerNorm"] = (hidden,)
    for name, shape in pairs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


CONFIG = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "vocab_size": 50, "max_position_embeddings": 20,
}  # fmt: skip


def written(graph):
    out = io.BytesIO()
    graph.write(out.write)
    return out.getvalue()


@pytest.mark.parametrize("quantisation", ["f32", "int8"])
def test_onnx_accepts_the_graph(quantisation):
    shape = bert_graph.read_shape(CONFIG)
    graph = bert_graph.build(shape, _RandomWeights(bert_shapes()), quantisation=quantisation)
    content = written(graph)
    assert len(content) == graph.size_bytes()
    onnx.checker.check_model(content, full_check=True)
    model = onnx.load_from_string(content)
    assert [one.name for one in model.graph.input] == ["input_ids", "attention_mask"]
    assert [one.name for one in model.graph.output] == [bert_graph.OUTPUT]


def test_prefixes_of_heads_are_found():
    shapes = {f"bert.{name}": shape for name, shape in bert_shapes().items()}
    shape = bert_graph.read_shape(CONFIG)
    assert written(bert_graph.build(shape, _RandomWeights(shapes), quantisation="f32"))
    with pytest.raises(UsageError, match=r"no tensor embeddings\.word_embeddings"):
        bert_graph.build(shape, _RandomWeights({}), quantisation="f32")


def test_a_graph_beyond_two_gigabytes_is_refused_before_it_is_written():
    graph = GraphWriter("large")
    graph.weight("float32", (600, 1 << 20), in_rows(600, 4 << 20, lambda a, b: None))
    with pytest.raises(LimitError, match=r"2,147,483,647.*|would take"):
        graph.write(lambda _: pytest.fail("something was written"))


@given(
    st.dictionaries(
        st.sampled_from([*CONFIG, "pad_token_id", "hidden_act", "layer_norm_eps", "is_decoder"]),
        st.one_of(st.integers(-5, 1 << 70), st.text(max_size=5), st.booleans(), st.none(),
                  st.floats(allow_nan=True), st.lists(st.integers(), max_size=2)),
    ),
    st.sampled_from(bert_graph.ARCHITECTURES),
)  # fmt: skip
def test_any_config_is_read_or_refused(changed, kind):
    config = json.loads(json.dumps({**CONFIG, "model_type": kind, **changed}))
    try:
        shape = bert_graph.read_shape(config)
    except UsageError:
        return
    assert shape.hidden % shape.heads == 0 and shape.most_tokens >= 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1), st.sampled_from([63.0, 127.0]))
def test_int8_is_at_most_half_a_step_away(rows, columns, axis, limit):
    matrix = np.random.default_rng(rows * 10 + columns).standard_normal((rows, columns), np.float32)
    values, scale = quantise(matrix, axis=axis, limit=limit)
    assert np.abs(values.astype(int)).max() <= limit
    back = values * np.expand_dims(scale, axis)
    assert (np.abs(back - matrix) <= np.expand_dims(scale, axis) * 0.5001).all()
