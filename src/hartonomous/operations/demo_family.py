"""Make the demo's family: what people keep beside one base model, written from its folder.

An operation: it reads a BERT-like model folder and writes casts, a renamed and a sharded copy, a
quantised GGUF and a variant with one really trained layer. One tensor is in memory at a time. With
one seed and one machine the files are the same each time (the order of sums in a matrix product
belongs to the machine's BLAS).
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hartonomous.core.array import as_array, numpy_dtype
from hartonomous.core.canonical_name import canonical_name
from hartonomous.core.ggml import quantise_q8_0
from hartonomous.core.gguf_writer import GGUFTensor, Value, padding
from hartonomous.core.gguf_writer import header_bytes as gguf_header
from hartonomous.core.safetensors_writer import TensorEntry, header_bytes, in_file_order
from hartonomous.core.training import TrainingPlan, tune_linear
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import ConflictError, LimitError, NotFoundError, StructureError

MODEL_FILE = "model.safetensors"
SHARD_COUNT = 3
RENAMED_PREFIX = "bert."
GGUF_FILE = "minilm-q8_0.gguf"

_MAX_HEADER_BYTES = 16 << 20
_MAX_TEXT_BYTES = 64 << 20
_FILE_TYPE_Q8_0 = 7  # llama.cpp's LLAMA_FTYPE_MOSTLY_Q8_0
_POOLING_MEAN = 1
# llama.cpp's converter leaves these two matrices of a BERT as they are.
_NEVER_QUANTISED = {"position_embd.weight", "token_types.weight"}
_NOT_IN_GGUF = ("position_ids", "pooler.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEntry:
    """One member of the family: a file or folder, what it is, and what it shows."""

    path: Path
    what: str
    why: str


class _Slot(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """The base model's folder, its tensors in file order, and where each begins in the file."""

    folder: Path
    entries: tuple[TensorEntry, ...]
    starts: dict[str, int]

    def read(self, entry: TensorEntry) -> bytes:
        """Return the bytes of one tensor."""
        with (self.folder / MODEL_FILE).open("rb") as file:
            file.seek(self.starts[entry.name])
            content = file.read(entry.byte_count)
        if len(content) != entry.byte_count:
            raise StructureError(f"{MODEL_FILE} ends inside tensor {entry.name!r}")
        return content


Convert = Callable[[TensorEntry], tuple[TensorEntry, Callable[[], bytes]]]
"""Says what becomes of a tensor: its new entry, and a function that gives its bytes later."""


def make_family(base: Path, target: Path, *, seed: int = 0) -> tuple[FamilyEntry, ...]:
    """Write the family of the model folder ``base`` under ``target`` and return its members.

    ``base`` holds ``model.safetensors`` and ``config.json`` of a BERT-like model. Takes about five
    times the base's size on disk. Raises NotFoundError when a file is missing, StructureError when
    one cannot be read, ConflictError when ``target`` already has one of the members.
    """
    opened = _open_base(base)
    target.mkdir(parents=True, exist_ok=True)
    taken = [name for name in _MEMBERS if (target / name).exists()]
    if taken:
        raise ConflictError(
            f"{target} already has {', '.join(taken)}", hint="remove them or choose another folder"
        )
    _copy_files(base, target / "base")
    shutil.copyfile(base / MODEL_FILE, target / "base" / MODEL_FILE)
    _write_cast(opened, target / "bf16", "BF16", "bfloat16")
    _write_cast(opened, target / "f16", "F16", "float16")
    _write_renamed(opened, target / "renamed")
    _write_sharded(opened, target / "sharded")
    _write_gguf(opened, target / GGUF_FILE)
    _write_tuned(opened, target / "tuned", seed)
    return tuple(
        FamilyEntry(path=target / name, what=what, why=why)
        for name, (what, why) in _MEMBERS.items()
    )


_MEMBERS = {
    "base": ("the model as published", "everything else is a relative of it"),
    "bf16": ("cast to bfloat16", "every weight is the base's, rounded: half the bytes are news"),
    "f16": ("cast to float16", "another rounding of the same weights"),
    "renamed": ("the same tensors under other names", "equal bytes are kept once, whatever name"),
    "sharded": (
        f"the same tensors in {SHARD_COUNT} files with an index",
        "equal tensors are kept once, whatever file they come in",
    ),
    GGUF_FILE: ("quantised to Q8_0 for llama.cpp", "another format, other names, 8 bits a weight"),
    "tuned": ("one layer trained further", "two tensors differ a little, the others not at all"),
}


def _open_base(folder: Path) -> _Base:
    path = folder / MODEL_FILE
    for needed in (path, folder / "config.json"):
        if not needed.is_file():
            raise NotFoundError(f"{needed} is missing", hint="name the folder of a BERT-like model")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise LimitError(f"the header of {path} claims {length} bytes")
        header = file.read(length)
    try:
        raw = msgspec.json.decode(header, type=dict[str, dict[str, Any]])
        raw.pop("__metadata__", None)
        slots = msgspec.convert(raw, type=dict[str, _Slot])
    except UNDECODABLE as error:
        raise StructureError(f"{path} is no safetensors file: {error}") from error
    named = sorted(slots.items(), key=lambda item: item[1].data_offsets)
    entries = tuple(
        TensorEntry(name=name, dtype=slot.dtype, shape=slot.shape) for name, slot in named
    )
    for entry, (_, slot) in zip(entries, named, strict=True):
        start, end = slot.data_offsets
        if start < 0 or end - start != entry.byte_count or 8 + length + end > size:
            raise StructureError(f"tensor {entry.name!r} of {path} has wrong offsets")
    starts = {name: 8 + length + slot.data_offsets[0] for name, slot in named}
    return _Base(folder=folder, entries=entries, starts=starts)


def _write_safetensors(path: Path, entries: Sequence[TensorEntry], convert: Convert) -> None:
    """Write ``entries`` of the base as ``convert`` makes them, tensor by tensor."""
    made = {new.name: (new, content) for new, content in map(convert, entries)}
    ordered = in_file_order(new for new, _ in made.values())
    with path.open("xb") as file:
        file.write(header_bytes(ordered, {"format": "pt"}))
        for entry in ordered:
            file.write(made[entry.name][1]())


def _as_is(base: _Base, *, prefix: str = "") -> Convert:
    def convert(entry: TensorEntry) -> tuple[TensorEntry, Callable[[], bytes]]:
        renamed = msgspec.structs.replace(entry, name=prefix + entry.name)
        return renamed, lambda: base.read(entry)

    return convert


def _write_cast(base: _Base, folder: Path, dtype: str, torch_name: str) -> None:
    wanted = numpy_dtype(dtype)

    def convert(entry: TensorEntry) -> tuple[TensorEntry, Callable[[], bytes]]:
        if entry.dtype != "F32":
            return _as_is(base)(entry)
        return msgspec.structs.replace(entry, dtype=dtype), lambda: _cast(base, entry, wanted)

    _copy_files(base.folder, folder)
    _write_json(folder / "config.json", _config(base.folder) | {"torch_dtype": torch_name})
    _write_safetensors(folder / MODEL_FILE, base.entries, convert)


def _cast(base: _Base, entry: TensorEntry, dtype: np.dtype[Any] | None) -> bytes:
    with np.errstate(over="ignore"):  # beyond float16's range a cast gives infinity
        return _floats(base, entry).astype(dtype).tobytes()


def _write_renamed(base: _Base, folder: Path) -> None:
    _copy_files(base.folder, folder)
    _write_safetensors(folder / MODEL_FILE, base.entries, _as_is(base, prefix=RENAMED_PREFIX))


def _write_sharded(base: _Base, folder: Path) -> None:
    _copy_files(base.folder, folder)
    shards = _shards(base.entries)
    weight_map: dict[str, str] = {}
    for number, entries in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_safetensors(folder / name, entries, _as_is(base))
        weight_map |= dict.fromkeys((entry.name for entry in entries), name)
    total = sum(entry.byte_count for entry in base.entries)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / f"{MODEL_FILE}.index.json", index)


def _shards(entries: Sequence[TensorEntry]) -> list[list[TensorEntry]]:
    """Cut the tensors into runs that begin at equal thirds of the bytes; none is empty."""
    total = sum(entry.byte_count for entry in entries) or 1
    runs: list[list[TensorEntry]] = [[] for _ in range(SHARD_COUNT)]
    at = 0
    for entry in entries:
        runs[min(at * SHARD_COUNT // total, SHARD_COUNT - 1)].append(entry)
        at += entry.byte_count
    return [run for run in runs if run]


def _write_tuned(base: _Base, folder: Path, seed: int) -> None:
    weight, bias = _last_output_layer(base)
    tuned_weight, tuned_bias = tune_linear(
        _floats(base, weight), _floats(base, bias), TrainingPlan(seed=seed)
    )
    tuned = {weight.name: tuned_weight, bias.name: tuned_bias}

    def convert(entry: TensorEntry) -> tuple[TensorEntry, Callable[[], bytes]]:
        changed = tuned.get(entry.name)
        return _as_is(base)(entry) if changed is None else (entry, changed.tobytes)

    _copy_files(base.folder, folder)
    _write_safetensors(folder / MODEL_FILE, base.entries, convert)


def _last_output_layer(base: _Base) -> tuple[TensorEntry, TensorEntry]:
    """Return weight and bias of the last layer's second feed-forward matrix."""
    by_name = {canonical_name(entry.name): entry for entry in base.entries}
    last = _number(_config(base.folder), "num_hidden_layers") - 1
    found = [by_name.get(f"blk.{last}.ffn_down.{kind}") for kind in ("weight", "bias")]
    weight, bias = found
    if weight is None or bias is None or weight.dtype != "F32" or bias.dtype != "F32":
        raise StructureError(
            f"{base.folder} has no F32 tensors encoder.layer.{last}.output.dense to train"
        )
    return weight, bias


def _write_gguf(base: _Base, path: Path) -> None:
    """Write the Q8_0 copy: matrices quantised as ggml's reference does, the rest in F32."""
    kept = [entry for entry in base.entries if not _is_left_out(entry)]
    tensors = [_gguf_tensor(entry) for entry in kept]
    with path.open("xb") as file:
        file.write(gguf_header(_gguf_metadata(base.folder), tensors))
        for entry, tensor in zip(kept, tensors, strict=True):
            values = _floats(base, entry)
            content = quantise_q8_0(values) if tensor.dtype == "Q8_0" else values
            file.write(content.tobytes())
            file.write(padding(tensor.byte_count))


def _is_left_out(entry: TensorEntry) -> bool:
    return any(part in entry.name for part in _NOT_IN_GGUF) or entry.dtype != "F32"


def _gguf_tensor(entry: TensorEntry) -> GGUFTensor:
    name = canonical_name(entry.name)
    matrix = len(entry.shape) == 2 and entry.shape[-1] % 32 == 0
    dtype = "Q8_0" if matrix and name not in _NEVER_QUANTISED else "F32"
    return GGUFTensor(name=name, dtype=dtype, shape=entry.shape)


def _gguf_metadata(folder: Path) -> dict[str, Value]:
    config = _config(folder)
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "bert.block_count": _number(config, "num_hidden_layers"),
        "bert.context_length": _number(config, "max_position_embeddings"),
        "bert.embedding_length": _number(config, "hidden_size"),
        "bert.feed_forward_length": _number(config, "intermediate_size"),
        "bert.attention.head_count": _number(config, "num_attention_heads"),
        "bert.attention.layer_norm_epsilon": float(config.get("layer_norm_eps", 1e-12)),
        "bert.attention.causal": False,
        "bert.pooling_type": _POOLING_MEAN,
        "general.file_type": _FILE_TYPE_Q8_0,
        "general.quantization_version": 2,
    }
    vocabulary = folder / "vocab.txt"
    return metadata | (_vocabulary(vocabulary) if vocabulary.is_file() else {})


def _vocabulary(path: Path) -> dict[str, Value]:
    """Return the WordPiece vocabulary as llama.cpp keeps it: word starts marked, not word ends."""
    words = _read_text(path).split("\n")
    words = words[:-1] if words[-1] == "" else words
    special = [word.startswith("[") and word.endswith("]") for word in words]
    tokens = [
        word if marked else word[2:] if word.startswith("##") else f"\u2581{word}"
        for word, marked in zip(words, special, strict=True)
    ]
    keys: dict[str, Value] = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if marked else 1 for marked in special],
    }
    numbers = {word: number for number, word in enumerate(words)}
    for role, word in _SPECIAL_TOKENS.items():
        if word in numbers:
            keys[f"tokenizer.ggml.{role}_token_id"] = numbers[word]
    return keys


_SPECIAL_TOKENS = {
    "unknown": "[UNK]",
    "seperator": "[SEP]",  # GGUF's own spelling
    "padding": "[PAD]",
    "bos": "[CLS]",
    "cls": "[CLS]",  # older readers look for this one
    "mask": "[MASK]",
}


def _floats(base: _Base, entry: TensorEntry) -> NDArray[np.float32]:
    return as_array(base.read(entry), entry.dtype, entry.shape).astype(np.float32, copy=False)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return msgspec.json.decode(_read_text(path), type=dict[str, Any])
    except UNDECODABLE as error:
        raise StructureError(f"{path} is no JSON object: {error}") from error


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise StructureError(f"config.json has no whole number {key!r} (found {value!r})")
    return value


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
    if len(content) > _MAX_TEXT_BYTES:
        raise LimitError(f"{path} is longer than {_MAX_TEXT_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise StructureError(f"{path} is not UTF-8: {error}") from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copy_files(source: Path, target: Path) -> None:
    """Copy the folder's plain files (configuration, tokenizer), all but the weights."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix != ".safetensors":
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
