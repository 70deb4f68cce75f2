"""Which block a tensor's name puts it in, and tensors grouped by layer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.description import Tensor
from hartonomous.core.layer import Layer, LayerKind, group_layers, layer_of
from hartonomous.core.weight import MAX_COUNT, bounded_count, weigh


def tensor(name: str, shape: tuple[int, ...] = (2, 3), dtype: str = "F32") -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, offset=0, length=4 * bounded_count(shape))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder.layer.3.attention.self.query.weight", ("encoder.layer", 3)),
        ("blk.0.ffn_gate_exps.weight", ("blk", 0)),
        ("model.layers.17.mlp.experts.3.gate_proj.weight", ("model.layers", 17)),
        ("transformer.h.11.attn.c_attn.weight", ("transformer.h", 11)),
        ("h.0.ln_1.weight", ("h", 0)),
        ("encoder.block.3.layer.1.DenseReluDense.wi.weight", ("encoder.block", 3)),
        ("down_blocks.1.resnets.0.conv1.weight", ("down_blocks.1.resnets", 0)),
        (
            "down_blocks.1.attentions.0.transformer_blocks.2.attn1.to_out.0.weight",
            ("down_blocks.1.attentions", 0),
        ),
        ("down_blocks.1.downsamplers.0.conv.weight", ("down_blocks.1.downsamplers", 0)),
        ("mid_block.attentions.0.to_q.weight", ("mid_block.attentions", 0)),
        ("swin.encoder.layers.2.blocks.1.attn.qkv.weight", ("swin.encoder.layers.2.blocks", 1)),
        ("swin.encoder.layers.2.downsample.norm.weight", ("swin.encoder.layers", 2)),
        ("encoder.stages.0.layers.1.layer.0.weight", ("encoder.stages.0.layers", 1)),
        ("layer1.0.conv1.weight", ("layer1", 0)),
        ("transformer.resblocks.5.ln_1.weight", ("transformer.resblocks", 5)),
        ("single_transformer_blocks.7.norm.linear.weight", ("single_transformer_blocks", 7)),
        (
            "base_model.model.model.layers.2.self_attn.q_proj.lora_A.default.weight",
            ("base_model.model.model.layers", 2),
        ),
        ("bert/encoder/layer_0/attention/self/query/kernel", ("bert.encoder.layer", 0)),
        ("/encoder/layer.4/attention/self/query/MatMul", (".encoder.layer", 4)),
        ("embeddings.word_embeddings.weight", None),
        ("model.norm.weight", None),
        ("0.weight", None),
        ("classifier.0.weight", None),
        ("ff.net.0.proj.weight", None),
        ("layers.9999999.weight", None),
        ("layers.².weight", None),
        ("layers.-1.weight", None),
        ("", None),
        ("." * 10_000, None),
        ("layers." * 585, None),
        ("layers.3." + "x" * 4096, None),
    ],
)
def test_layer_of(name: str, expected: tuple[str, int] | None) -> None:
    assert layer_of(name) == expected


@given(st.text(alphabet="layers.blocks0123/_h", max_size=120))
def test_a_layer_is_a_part_of_its_name(name: str) -> None:
    found = layer_of(name)
    if found is not None:
        group, index = found
        assert 0 <= index < 10**6
        assert name.replace("/", ".").startswith(group)


@given(st.text(max_size=4096))
def test_any_name_is_placed_or_not(name: str) -> None:
    [layer] = group_layers(weigh("m.safetensors", [tensor(name)]), limit=4)
    assert layer.tensor_count == 1
    assert len(layer.name.encode()) <= 512


def test_grouping_lists_embeddings_blocks_rest_and_heads() -> None:
    names = [
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.10.mlp.up_proj.weight",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.2.mlp.up_proj.bias",
        "model.embed_tokens.weight",
    ]
    layers = group_layers(weigh("model.safetensors", map(tensor, names)), limit=100)
    assert [(layer.name, layer.kind, layer.tensor_count) for layer in layers] == [
        ("model.embed_tokens", "embedding", 1),
        ("model.layers.2", "block", 2),
        ("model.layers.10", "block", 1),
        ("model.norm", "other", 1),
        ("lm_head", "head", 1),
    ]
    assert layers[1] == Layer(
        name="model.layers.2",
        kind=LayerKind.BLOCK,
        tensor_count=2,
        parameter_count=12,
        tensor_bytes=48,
    )


def test_embeddings_keep_their_norms_and_buffers() -> None:
    names = [
        "embeddings.LayerNorm.weight",
        "embeddings.position_ids",
        "embeddings.word_embeddings.weight",
    ]
    [layer] = group_layers(weigh("model.safetensors", map(tensor, names)), limit=9)
    assert (layer.name, layer.kind, layer.tensor_count) == ("embeddings", "embedding", 3)
    assert layer.parameter_count == 12  # position_ids is a buffer


def test_components_in_folders_keep_their_layers_apart() -> None:
    weights = [
        *weigh("text_encoder/model.safetensors", [tensor("encoder.layers.0.fc1.weight")]),
        *weigh("text_encoder_2/model.safetensors", [tensor("encoder.layers.0.fc1.weight")]),
    ]
    assert [layer.name for layer in group_layers(weights, limit=9)] == [
        "text_encoder/encoder.layers.0",
        "text_encoder_2/encoder.layers.0",
    ]


def test_layers_beyond_the_limit_are_summed_up() -> None:
    tensors = [tensor(f"blk.{index}.ffn_up.weight") for index in range(10)]
    layers = group_layers(weigh("model.gguf", tensors), limit=4)
    assert [layer.name for layer in layers] == ["blk.0", "blk.1", "blk.2", "(7 more layers)"]
    assert sum(layer.tensor_count for layer in layers) == 10
    assert sum(layer.parameter_count for layer in layers) == 60
    assert sum(layer.tensor_bytes for layer in layers) == 240


@given(st.lists(st.text(max_size=30), max_size=30), st.randoms())
def test_grouping_keeps_every_tensor_whatever_the_order(names: list[str], random: object) -> None:
    weights = weigh("m.safetensors", map(tensor, names))
    shuffled = list(weights)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    layers = group_layers(weights, limit=8)
    assert sum(layer.tensor_count for layer in layers) == len(names)
    assert group_layers(shuffled, limit=8) == layers


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), 1),
        ((2, 3, 4), 24),
        ((0, 2**70), 0),
        ((-5, 3), 0),
        ((2**62, 2), MAX_COUNT),
        ((2**4000,) * 1000, MAX_COUNT),
        ((1,) * 100_000, 1),
    ],
)
def test_counts_are_bounded(shape: tuple[int, ...], expected: int) -> None:
    assert bounded_count(shape) == expected
