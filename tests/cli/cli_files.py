"""Small files for the commands' tests, each made by the library that its format comes from."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

LAYERS = 4


def tensors() -> dict[str, np.ndarray]:
    """Return the tensors of a Llama with four blocks that differ in their values only."""
    random = np.random.default_rng(7)
    found = {"model.embed_tokens.weight": random.normal(size=(120, 64)).astype(np.float32)}
    for layer in range(LAYERS):
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            value = random.normal(size=(64, 64)).astype(np.float32)
            found[f"model.layers.{layer}.{name}.weight"] = value
    return found


def write_sources(folder: Path) -> None:
    """Write ``tiny/`` (a model folder), ``tuned.safetensors``, ``a.gguf``, ``x.npy``, a text."""
    model = folder / "tiny"
    model.mkdir(parents=True)
    weights = tensors()
    save_file(weights, str(model / "model.safetensors"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "max_position_embeddings": 2048,
        "vocab_size": 120,
    }
    (model / "config.json").write_text(json.dumps(config))
    (model / "README.md").write_text(
        "---\nlicense: apache-2.0\nbase_model: org/base\n---\n# Tiny\n"
    )
    weights["model.layers.3.mlp.up_proj.weight"] += 1
    save_file(weights, str(folder / "tuned.safetensors"))
    write_gguf(folder / "a.gguf")
    np.save(folder / "x.npy", np.arange(10_000, dtype=np.int64).reshape(100, 100))
    (folder / "notes.txt").write_text("a line\n" * 500)


def write_gguf(path: Path) -> None:
    """Write a GGUF with one tensor and a few keys."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_block_count(1)
    writer.add_license("mit")
    writer.add_tensor("blk.0.attn_q.weight", np.ones((32, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


NAMES = ["a.gguf", "notes.txt", "tiny", "tuned.safetensors", "x.npy"]
"""What adding each thing in the folder gives."""
TREE_NAMES = [
    "sources/a.gguf",
    "sources/notes.txt",
    "sources/tiny",
    "sources/tuned.safetensors",
    "sources/x.npy",
]
"""What adding the folder itself gives, in its order."""
