"""How many parameters packed weights hold, told by the shapes of the tensors beside them."""

import pytest
from described_model import side, summary_of, tensor, weights


def test_packed_weights_are_counted_by_the_shapes_beside_them() -> None:
    name = "model.layers.0.mlp.up_proj"
    summary = summary_of(
        weights(
            "model.safetensors",
            tensor(f"{name}.qweight", (8, 64), "I32"),
            tensor(f"{name}.qzeros", (1, 8), "I32"),
            tensor(f"{name}.scales", (1, 64), "F16"),
            tensor(f"{name}.g_idx", (64,), "I32"),
        ),
        side(
            "config.json",
            {
                "quantization_config": {
                    "quant_method": "GPTQ",
                    "bits": 4,
                    "group_size": 128,
                    "desc_act": False,
                    "dataset": ["long"] * 1000,
                }
            },
        ),
    )
    assert summary.parameter_count == 64 * 64
    assert summary.bits_per_weight == round(8 * (2048 + 32 + 128 + 256) / 4096, 4)
    assert summary.quantisation is not None
    assert (summary.quantisation.method, summary.quantisation.bits) == ("gptq", 4)
    assert summary.quantisation.config == {"bits": 4, "group_size": 128, "desc_act": False}
    assert summary.notices == []
    assert sum(layer.parameter_count for layer in summary.layers) == 64 * 64
    assert summary.dtypes["I32"].parameters == 64 * 64


@pytest.mark.parametrize(
    ("tensors", "count", "unsure"),
    [
        # GPTQ of 3 bits: [256, 128] in rows of 32 / 3; AWQ of 4 bits: [256, 128] in columns of 8
        ([("x.qweight", (24, 128), "I32"), ("x.qzeros", (2, 12), "I32"),
          ("x.scales", (2, 128), "F16")], 256 * 128, False),
        ([("x.qweight", (256, 16), "I32"), ("x.qzeros", (2, 16), "I32"),
          ("x.scales", (2, 128), "F16")], 256 * 128, False),
        # nothing beside it, another layout, and shapes that cannot be
        ([("x.qweight", (24, 128), "I32")], 24 * 128, True),
        ([("x.qweight", (16, 2048), "I32"), ("x.qzeros", (2, 16), "I32"),
          ("x.scales", (2, 128), "F16")], 16 * 2048, True),
        ([("x.qweight", (24, 128), "I32"), ("x.qzeros", (2, 0), "I32"),
          ("x.scales", (2, 0), "F16")], 24 * 128, True),
        ([("x.qweight", (24, 128, 1), "I32"), ("x.qzeros", (12,), "I32"),
          ("x.scales", (), "F16")], 24 * 128, True),
        ([("x.qweight", (2**60, 2**60), "I32"), ("x.qzeros", (1, 2**57), "I32"),
          ("x.scales", (1, 2**60), "F16")], 2**63 - 1, True),
        # two in a byte: MXFP4 and the types of bitsandbytes
        ([("mlp.experts.down_proj_blocks", (2, 8, 4, 16), "U8"),
          ("mlp.experts.down_proj_scales", (2, 8, 4), "U8")], 2 * 8 * 4 * 32, False),
        ([("mlp.experts.down_proj_blocks", (2, 8, 4, 16), "U8")], 2 * 8 * 4 * 16, True),
        ([("x.weight", (512, 1), "U8"), ("x.weight.absmax", (16,), "U8"),
          ("x.weight.quant_state.bitsandbytes__nf4", (80,), "U8")], 1024, False),
        ([("x.weight", (512, 1), "U8"), ("x.weight.absmax", (16,), "F32")], 512, True),
    ],
)  # fmt: skip
def test_what_is_packed_is_counted_or_said_to_be_unsure(tensors, count, unsure) -> None:
    summary = summary_of(weights("m.safetensors", *(tensor(*one) for one in tensors)))
    assert summary.parameter_count == count
    assert [one.kind for one in summary.notices] == (["packed-weights"] if unsure else [])
    assert (summary.bits_per_weight is None) == unsure
