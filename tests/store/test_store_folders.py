"""Folders as adapters, quantisers and pipelines write them, taken in whole and told apart."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.store import Store


@pytest.fixture
def held(tmp_path: Path) -> Any:
    with hn.open(tmp_path / "held", create=True) as store:
        yield store


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Write JSON for dicts, safetensors for dicts of arrays, bytes as they are."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        elif path.endswith(".safetensors"):
            save_file(content, place)
        else:
            place.write_text(json.dumps(content))
    return folder


def model_of(store: Store, folder: Path) -> dict[str, Any]:
    """Add a folder, compare what comes back, and return the model's summary."""
    (added,) = store.add(folder).artifacts
    back = folder.parent / f"{folder.name}-back"
    store.get(added.name, back)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (back / path.relative_to(folder)).read_bytes() == path.read_bytes()
    model = store.show(added.name).model
    assert model is not None
    return model


def test_an_adapter(held: Store, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    folder = write(
        tmp_path / "adapter",
        {
            "adapter_config.json": {
                "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
                "base_model_name_or_path": "org/base",
            },
            "adapter_model.safetensors": {
                f"{name}.lora_A.weight": np.ones((4, 32), np.float32),
                f"{name}.lora_B.weight": np.ones((32, 4), np.float32),
            },
        },
    )  # fmt: skip
    model = model_of(held, folder)
    assert model["architecture"] == "lora"
    assert model["adapter"] == {
        "kind": "lora", "rank": 4, "alpha": 8.0, "target_modules": ["q_proj"],
    }  # fmt: skip
    assert model["declared_base_models"][0]["name"] == "org/base"
    assert set(model["roles"]) == {"lora-a", "lora-b"}


def test_weights_of_gptq(held: Store, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj"
    folder = write(
        tmp_path / "quantised",
        {
            "config.json": {
                "architectures": ["LlamaForCausalLM"],
                "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
            },
            "model.safetensors": {
                f"{name}.qweight": np.zeros((32, 64), np.int32),
                f"{name}.qzeros": np.zeros((2, 8), np.int32),
                f"{name}.scales": np.ones((2, 64), np.float16),
                f"{name}.g_idx": np.zeros(256, np.int32),
            },
        },
    )
    model = model_of(held, folder)
    quantisation = model["quantisation"]
    assert (quantisation["method"], quantisation["bits"], quantisation["group_size"]) == (
        "gptq", 4, 128,
    )  # fmt: skip
    assert set(model["roles"]) == {"mlp-up", "zero-point", "scale", "group-index"}
    roles = {
        one.name.rpartition(".")[2]: one.role
        for file in held.show("quantised").files
        for one in file.tensors
    }
    assert roles == {
        "qweight": "mlp-up", "qzeros": "zero-point", "scales": "scale", "g_idx": "group-index",
    }  # fmt: skip


def test_a_pipeline_of_several_models(held: Store, tmp_path: Path) -> None:
    weights = {"conv_in.weight": np.ones((4, 3, 3, 3), np.float32)}
    folder = write(
        tmp_path / "pipeline",
        {
            "model_index.json": {
                "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0",
                "unet": ["diffusers", "UNet2DConditionModel"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "scheduler": ["diffusers", "DDIMScheduler"],
            },
            "unet/config.json": {"_class_name": "UNet2DConditionModel"},
            "unet/diffusion_pytorch_model.safetensors": weights,
            "text_encoder/config.json": {"architectures": ["CLIPTextModel"]},
            "text_encoder/model.safetensors": {"embed_tokens.weight": np.ones((5, 4), np.float32)},
            "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"},
        },
    )  # fmt: skip
    model = model_of(held, folder)
    assert model["architecture"] == "StableDiffusionPipeline"
    assert {one["name"]: one["parameter_count"] for one in model["components"]} == {
        "text_encoder": 20, "unet": 108,
    }  # fmt: skip
    assert model["parameter_count"] == 128
    assert "findings" not in model


def test_files_whose_weights_are_not_read_stay_plain(held: Store, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {}}))
        file.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))
    folder = write(
        tmp_path / "others",
        {
            "a.tflite": bytes(4) + b"TFL3" + bytes(2000),
            "b.h5": b"\x89HDF\r\n\x1a\n" + bytes(2000),
            "c.keras": archive.getvalue(),
            "d.pb": b"\x08\x01" * 100,
            "e.mlmodel": b"\x08\x07" * 100,
        },
    )
    report = held.add(folder)
    assert {one.kind for one in report.artifacts} == {"file"}
    assert [notice for one in report.artifacts for notice in one.notices] == []
    held.export_all(tmp_path / "back")
    found = {path.name: path.read_bytes() for path in (tmp_path / "back").rglob("*.*")}
    assert found == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert all(one.tensor_count == 0 for one in held.ls())
