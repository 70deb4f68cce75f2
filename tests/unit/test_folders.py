"""Summaries of folders: checkpoints of ranks, adapters, quantised weights, pipelines."""

from typing import Any

import msgspec
import pytest

from hartonomous.core.description import Description, Tensor
from hartonomous.core.model import ModelSummary, summarise
from hartonomous.core.model_schema import validate_summary

Member = tuple[str, Description]
WIDTHS = {"F32": 4, "F16": 2, "I32": 4, "F8_E4M3": 1, "BF16": 2}


def file(
    path: str,
    tensors: dict[str, tuple[tuple[int, ...], str]],
    *,
    format_name: str = "safetensors",
    metadata: dict[str, Any] | None = None,
) -> Member:
    placed = []
    offset = 0
    for name, (shape, dtype) in tensors.items():
        length = WIDTHS[dtype]
        for extent in shape:
            length *= extent
        placed.append(Tensor(name=name, dtype=dtype, shape=shape, offset=offset, length=length))
        offset += length
    return path, Description(format=format_name, tensors=tuple(placed), metadata=metadata or {})


def side(path: str, format_name: str, metadata: dict[str, Any]) -> Member:
    return path, Description(format=format_name, metadata=metadata)


def summed(*members: Member) -> ModelSummary:
    summary = summarise(members)
    assert summary is not None
    validate_summary(msgspec.to_builtins(summary))
    assert summarise(members[::-1]) == summary
    return summary


def rank(path: str, values: dict[str, Any], *names: str) -> Member:
    tensors = dict.fromkeys(names, ((4, 4), "F32"))
    return file(path, tensors, format_name="torch-zip", metadata={"values": values})


def test_ranks_of_deepspeed_are_one_model() -> None:
    values = {"global_steps": 7, "dp_world_size": 2, "mp_world_size": 2, "module.x": "y"}
    summary = summed(
        rank("mp_rank_00_model_states.pt", values, "module.layers.0.mlp.up_proj.weight"),
        rank("mp_rank_01_model_states.pt", values, "module.layers.0.mlp.up_proj.weight"),
        *(
            rank(f"zero_pp_rank_{data}_mp_rank_0{tensor}_optim_states.pt", {},
                 "optimizer_state_dict.single_partition_of_fp32_groups.0")
            for data in range(2) for tensor in range(2)
        ),
    )  # fmt: skip
    assert summary.parameter_count == 32
    assert summary.tensor_count == 6 and len(summary.weight_sets) == 1
    assert summary.roles["optimizer-state"].tensors == 4
    assert summary.checkpoint is not None and summary.checkpoint.ranks is not None
    assert (summary.checkpoint.kind, summary.checkpoint.step) == ("deepspeed", 7)
    assert (summary.checkpoint.ranks.tensor, summary.checkpoint.ranks.data) == (2, 2)
    assert summary.training is not None and summary.training.step == 7
    assert summary.training.has_optimizer_state
    assert [one.name for one in summary.layers if one.kind == "block"] == ["module.layers.0"]


def test_ranks_of_megatron_are_one_model() -> None:
    values = {"iteration": 100, "args.tensor_model_parallel_size": 2,
              "args.pipeline_model_parallel_size": 2, "args.data_parallel_size": 8}  # fmt: skip
    summary = summed(
        *(
            rank(f"mp_rank_{tensor:02d}_{pipeline:03d}/model_optim_rng.pt", values,
                 "model.decoder.layers.0.mlp.linear_fc1.weight")
            for tensor in range(2) for pipeline in range(2)
        )
    )  # fmt: skip
    assert summary.parameter_count == 64 and len(summary.weight_sets) == 1
    assert summary.checkpoint is not None and summary.checkpoint.ranks is not None
    assert (summary.checkpoint.kind, summary.checkpoint.step) == ("megatron", 100)
    ranks = summary.checkpoint.ranks
    assert (ranks.tensor, ranks.pipeline, ranks.data, ranks.expert) == (2, 2, 8, None)


def test_ranks_that_are_missing_are_told() -> None:
    summary = summed(rank("mp_rank_00_model_states.pt", {"mp_world_size": 4}, "module.w"))
    assert "files of 1 of 4 tensor ranks are there" in [one.text for one in summary.notices]


@pytest.mark.parametrize("step", ["7", True, -1, 2**60, 1.5, None, [7]])
def test_a_step_that_is_no_count_is_none(step: Any) -> None:
    summary = summed(rank("mp_rank_00_model_states.pt", {"global_steps": step}, "module.w"))
    assert summary.checkpoint is not None and summary.checkpoint.step is None


def distributed(path: str, *names: str, values: dict[str, Any] | None = None) -> Member:
    tensors = dict.fromkeys(names, ((5, 8), "F32"))
    metadata = {"values": values or {}}
    return file(path, tensors, format_name="torch-distributed", metadata=metadata)


def test_chunks_of_a_distributed_checkpoint() -> None:
    index = {"tensor_count": 2, "checkpoint_id": "/data/run/step-300",
             "items": {"__0_0.distcp": {}, "__1_0.distcp": {}, "__2_0.distcp": {}}}  # fmt: skip
    name = "model.layers.3.self_attn.q_proj.weight"
    summary = summed(
        side(".metadata", "torch-distributed-index", index),
        distributed("__0_0.distcp", f"{name}[0,0]", f"optim.{name}.exp_avg[0,0]"),
        distributed("__1_0.distcp", f"{name}[5,0]"),
    )
    assert summary.parameter_count == 80 and len(summary.weight_sets) == 1
    assert summary.roles["attention-q"].tensors == 2
    assert summary.roles["optimizer-state"].tensors == 1
    assert [one.name for one in summary.layers if one.kind == "block"] == ["model.layers.3"]
    assert summary.checkpoint is not None
    assert (summary.checkpoint.kind, summary.checkpoint.file_count) == ("torch-distributed", 2)
    assert (summary.checkpoint.step, summary.checkpoint.tensor_count) == (300, 2)
    assert [one.text for one in summary.notices] == ["1 of 3 files of the checkpoint are missing"]


def test_a_distributed_checkpoint_without_its_index() -> None:
    summary = summed(distributed("__0_0.distcp", "item@0", values={"item@9": 3, "step": 4}))
    assert summary.checkpoint is not None and summary.checkpoint.step == 4
    assert [one.kind for one in summary.notices] == ["checkpoint"]


def test_a_step_inside_a_model_is_another_form_of_it() -> None:
    summary = summed(
        file("model.safetensors", {"w": ((4, 4), "F32")}),
        rank("global_step9/mp_rank_00_model_states.pt", {"global_steps": 9}, "module.w"),
        distributed("pytorch_model_fsdp_0/__0_0.distcp", "model.w"),
    )
    assert summary.parameter_count == 16
    assert [one.counted for one in summary.weight_sets] == [True, False, False]


def test_an_adapter_without_another_name_is_called_by_its_kind() -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"],
              "base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM"}  # fmt: skip
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    summary = summed(
        file(
            "adapter_model.safetensors",
            {f"{name}.lora_A.weight": ((8, 64), "F32"), f"{name}.lora_B.weight": ((64, 8), "F32")},
        ),
        side("adapter_config.json", "hf-adapter-config", config),
    )
    assert summary.architecture == "lora"
    adapter = summary.adapter
    assert adapter is not None
    assert (adapter.kind, adapter.rank, adapter.alpha) == ("lora", 8, 16.0)
    assert adapter.target_modules == ["q_proj"]
    (base,) = summary.declared_base_models
    assert (base.name, base.relation) == ("org/base", "adapter")


def packed(prefix: str = "model.layers.0.mlp.up_proj", *, g_idx: bool = True) -> Member:
    tensors = {
        f"{prefix}.qweight": ((8, 64), "I32"),
        f"{prefix}.qzeros": ((1, 8), "I32"),
        f"{prefix}.scales": ((1, 64), "F16"),
    }
    return file("model.safetensors", {**tensors, **({f"{prefix}.g_idx": ((64,), "I32")} if g_idx
                                                    else {})})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "format_name", "metadata", "expected"),
    [
        ("config.json", "hf-config",
         {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
         ("gptq", 4, 128)),
        ("config.json", "hf-config",
         {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}},
         ("awq", 4, 64)),
        ("quantize_config.json", "hf-quantize-config", {"bits": 3, "group_size": 32},
         ("gptq", 3, 32)),
        ("quantize_config.json", "hf-quantize-config", {"bits": 3, "group_size": -1},
         ("gptq", 3, None)),
        ("quant_config.json", "hf-quantize-config",
         {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"},
         ("awq", 4, 128)),
        ("config.json", "hf-config",
         {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
             "group_0": {"weights": {"num_bits": 8, "group_size": 32, "type": "int"}}}}},
         ("compressed-tensors", 8, 32)),
    ],
)  # fmt: skip
def test_methods_bits_and_groups(name, format_name, metadata, expected) -> None:
    summary = summed(packed(), side(name, format_name, metadata))
    found = summary.quantisation
    assert found is not None
    assert (found.method, found.bits, found.group_size) == expected
    assert summary.roles["mlp-up"].tensors == 1
    assert {"scale", "zero-point", "group-index"} < set(summary.roles)
    assert summary.parameter_count == 64 * 64


@pytest.mark.parametrize(
    ("name", "metadata", "method"),
    [
        ("config.json",
         {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
                                  "activation_scheme": "dynamic"}}, "fp8"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, "fp8"),
        ("unrelated.json", {}, "fp8"),
    ],
)  # fmt: skip
def test_fp8(name: str, metadata: dict[str, Any], method: str) -> None:
    prefix = "model.layers.0.mlp.down_proj"
    weights = file(
        "model.safetensors",
        {
            f"{prefix}.weight": ((256, 128), "F8_E4M3"),
            f"{prefix}.weight_scale_inv": ((2, 1), "F32"),
        },
    )
    summary = summed(weights, side(name, "hf-quantize-config", metadata))
    found = summary.quantisation
    assert found is not None
    assert (found.method, found.bits) == (method, 8)
    assert summary.roles["scale"].tensors == 1
    if "quantization_config" in metadata:
        assert found.config["weight_block_size"] == "128x128"


def pipeline(**parts: Any) -> Member:
    return side("model_index.json", "hf-pipeline", {"_class_name": "ThePipeline", **parts})


def test_components_of_a_pipeline_are_summed_up_by_themselves() -> None:
    summary = summed(
        pipeline(
            unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"],
            text_encoder=["transformers", "CLIPTextModel"], scheduler=["diffusers", "Scheduler"],
            safety_checker=[None, None],
        ),
        file("unet/diffusion_pytorch_model.safetensors", {"conv_in.weight": ((4, 4), "F16")}),
        side("unet/config.json", "hf-config", {"_class_name": "UNet2DConditionModel"}),
        file("vae/diffusion_pytorch_model.safetensors", {"conv_in.weight": ((2, 4), "F32")}),
        file("text_encoder/model.safetensors", {"embed_tokens.weight": ((10, 4), "F32")}),
        side("text_encoder/config.json", "hf-config", {"architectures": ["CLIPTextModel"]}),
        side("scheduler/scheduler_config.json", "file", {}),
    )  # fmt: skip
    assert summary.architecture == "ThePipeline"
    assert summary.parameter_count == 16 + 8 + 40
    found = {one.name: one for one in summary.components}
    assert sorted(found) == ["text_encoder", "unet", "vae"]
    assert {name: one.parameter_count for name, one in found.items()} == {
        "text_encoder": 40, "unet": 16, "vae": 8,
    }  # fmt: skip
    assert found["text_encoder"].architecture == "CLIPTextModel"
    assert (found["unet"].library, found["unet"].class_name) == (
        "diffusers", "UNet2DConditionModel",
    )  # fmt: skip
    assert found["vae"].dtypes == ["F32"]


@pytest.mark.parametrize(
    "parts",
    [
        {"unet": "text"}, {"unet": []}, {"unet": [1, 2]}, {"../up": ["a", "b"]},
        {"unet": [["x"], None, "z"]}, {f"p{at}": ["a", "b"] for at in range(500)},
    ],
)  # fmt: skip
def test_what_an_index_claims_is_bounded(parts: dict[str, Any]) -> None:
    nested = [pipeline(**{"a": ["a", "b"]})]
    deep = "/".join("a" * 300)
    nested.append(("a/" * 300 + "model_index.json", nested[0][1]))
    summary = summed(
        pipeline(**parts),
        nested[1],
        file("unet/model.safetensors", {"w": ((2,), "F32")}),
        file(f"{deep}/model.safetensors", {"w": ((2,), "F32")}),
    )
    assert len(summary.components) <= 64
