"""Which format a file has: the table of formats, and ``describe`` which asks each of them.

The table holds strings, so that nothing is imported before the first file is described (and that
happens in the parser process). An entry that cannot be imported is an error, never skipped.
"""

from collections.abc import Sequence

from hartonomous.core.description import Description, Notice
from hartonomous.errors import StructureError
from hartonomous.ports.entry import load
from hartonomous.ports.format import Format, RangeReader

FORMATS: tuple[str, ...] = (
    "hartonomous.formats.safetensors:SAFETENSORS",
    "hartonomous.formats.gguf:GGUF",
    "hartonomous.formats.npy:NPY",
    "hartonomous.formats.torch_shards:TORCH_SHARDS",
    "hartonomous.formats.torch_index:TORCH_INDEX",
    "hartonomous.formats.torch_zip:TORCH_ZIP",
    "hartonomous.formats.torch_legacy:TORCH_LEGACY",
    "hartonomous.formats.npz:NPZ",
    "hartonomous.formats.onnx:ONNX",
    "hartonomous.formats.pickle_file:PICKLE",
    "hartonomous.formats.keras:KERAS",
    "hartonomous.formats.keras:HDF5",
    "hartonomous.formats.jinja:JINJA",
    "hartonomous.formats.model_card:MODEL_CARD",
    "hartonomous.formats.hf_json:HF_CONFIG",
    "hartonomous.formats.hf_json:HF_GENERATION_CONFIG",
    "hartonomous.formats.hf_json:HF_ADAPTER_CONFIG",
    "hartonomous.formats.hf_json:HF_TOKENIZER",
    "hartonomous.formats.hf_json:HF_TOKENIZER_CONFIG",
    "hartonomous.formats.hf_json:HF_CHAT_TEMPLATE",
    "hartonomous.formats.hf_json:HF_SPECIAL_TOKENS",
    "hartonomous.formats.hf_json:HF_PREPROCESSOR_CONFIG",
    "hartonomous.formats.hf_json:HF_PIPELINE",
    "hartonomous.formats.hf_json:HF_QUANTIZE_CONFIG",
    "hartonomous.formats.hf_json:HF_SHARD_INDEX",
    "hartonomous.formats.hf_json:HF_TRAINER_STATE",
    "hartonomous.formats.hf_json:HF_SENTENCE_MODULES",
    "hartonomous.formats.hf_json:HF_SENTENCE_CONFIG",
)
"""Every format as ``module:attribute``, in the order in which they are asked."""

HEAD_BYTES = 4096


def describe(reader: RangeReader, path: str, *, formats: Sequence[str] = FORMATS) -> Description:
    """Return what the first format that matches and parses says of a file.

    ``path`` is the file's path inside its artifact. A format that matches and then refuses the
    file leaves a notice, and the next one is asked; if none is left, the file is a ``file``.
    """
    head = reader.read(0, min(reader.size, HEAD_BYTES))
    refused: list[Notice] = []
    candidate: Format
    for candidate in map(load, formats):
        if not candidate.matches(path, head):
            continue
        try:
            found = candidate.parse(reader)
        except StructureError as error:
            text = f"not taken as {candidate.name}: {error.message}"
            refused.append(Notice(kind=error.kind, text=text))
            continue
        return Description(
            format=found.format,
            tensors=found.tensors,
            metadata=found.metadata,
            notices=(*refused, *found.notices),
        )
    return Description(format="file", notices=tuple(refused))
