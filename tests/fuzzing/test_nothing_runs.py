"""Under an audit hook no parser imports, opens or runs anything, whatever the file holds."""

import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import seeds

from hartonomous.formats.detect import FORMATS
from hartonomous.formats.sandbox import ParserProcess

HOSTILE = str(Path(__file__).parents[1] / "hostile")
FILES = {
    "SAFETENSORS": ("safetensors", "model.safetensors"),
    "GGUF": ("gguf", "model.gguf"),
    "NPY": ("npy", "a.npy"),
    "TORCH_SHARDS": ("torch-shards", "__0_0.distcp"),
    "TORCH_INDEX": ("torch-index", ".metadata"),
    "TORCH_ZIP": ("torch-zip", "model.pt"),
    "TORCH_LEGACY": ("torch-legacy", "model.pt"),
    "NPZ": ("npz", "a.npz"),
    "ONNX": ("onnx", "model.onnx"),
    "PICKLE": ("pickle", "model.pkl"),
    "KERAS": ("keras", "model.keras"),
    "HDF5": ("hdf5", "model.h5"),
    "JINJA": ("jinja", "chat_template.jinja"),
    "MODEL_CARD": ("model-card", "README.md"),
    "HF_CONFIG": ("hf-json", "config.json"),
    "HF_GENERATION_CONFIG": ("hf-json", "generation_config.json"),
    "HF_ADAPTER_CONFIG": ("hf-json", "adapter_config.json"),
    "HF_TOKENIZER": ("hf-json", "tokenizer.json"),
    "HF_TOKENIZER_CONFIG": ("hf-json", "tokenizer_config.json"),
    "HF_CHAT_TEMPLATE": ("hf-json", "chat_template.json"),
    "HF_SPECIAL_TOKENS": ("hf-json", "special_tokens_map.json"),
    "HF_PREPROCESSOR_CONFIG": ("hf-json", "preprocessor_config.json"),
    "HF_PIPELINE": ("hf-json", "model_index.json"),
    "HF_QUANTIZE_CONFIG": ("hf-json", "quantize_config.json"),
    "HF_SHARD_INDEX": ("hf-json", "model.safetensors.index.json"),
    "HF_TRAINER_STATE": ("hf-json", "trainer_state.json"),
    "HF_SENTENCE_MODULES": ("hf-json", "modules.json"),
    "HF_SENTENCE_CONFIG": ("hf-json", "config_sentence_transformers.json"),
}
"""By name of the format: the target of fuzz/ whose inputs are taken, and what a file is called."""


def zipped(config: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("config.json", config)
    return file.getvalue()


def contents(target: str) -> Iterator[bytes]:
    """Yield what a target begins with, and each cut in half and with its middle turned over."""
    for seed in seeds.seeds_of(target):
        whole = zipped(seed) if target == "keras" else seed
        half = len(whole) // 2
        yield from (whole, whole[:half])
        yield whole[:half] + bytes(one ^ 0xFF for one in whole[half : half + 8]) + whole[half + 8 :]


def test_every_format_is_among_them():
    assert sorted(FILES) == sorted(entry.rpartition(":")[2] for entry in FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_imported_opened_or_run(name):
    target, path = FILES[name]
    parsed = 0
    with ParserProcess(formats=(f"audited:{name}",), search_path=(HOSTILE,), cpu_s=60) as parser:
        for content in contents(target):
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.flush()
                found = parser.describe(file.fileno(), path)
            if "events" in found.metadata:  # else it does not begin like a file of the format
                assert found.metadata["events"] == []
                parsed += 1
    assert parsed
