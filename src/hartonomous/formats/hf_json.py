"""The JSON files beside a model's weights, in the layout of Hugging Face folders.

Recognised by base name alone; such a file has no tensors, its description is a bounded copy of
what it says, or a few figures of it where it is large:

================================  ===========================================================
format (attribute)                file names
================================  ===========================================================
hf-config                         config.json
hf-generation-config              generation_config.json
hf-adapter-config                 adapter_config.json
hf-tokenizer                      tokenizer.json: model type, sizes of vocabulary and additions
hf-tokenizer-config               tokenizer_config.json
hf-special-tokens                 special_tokens_map.json
hf-preprocessor-config            preprocessor_config.json
hf-pipeline                       model_index.json
hf-quantize-config                quantize_config.json, quant_config.json, hf_quant_config.json
hf-chat-template                  chat_template.json: what the template would call
hf-shard-index                    *.safetensors.index.json, *.bin.index.json: tensors a shard
hf-trainer-state                  trainer_state.json: step, epoch, best metric
hf-sentence-modules               modules.json
hf-sentence-config                sentence_bert_config.json, config_sentence_transformers.json
================================  ===========================================================

A key that stands twice has its last value, as in every reader of these files. Keys that name code
are copied first, so that no number of other keys leaves them out; what chat templates would call
(``core.template``) is told under ``_chat_templates``.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.core.template import examine_template
from hartonomous.errors import LimitError, StructureError
from hartonomous.ports.format import RangeReader

MAX_BYTES = 16 * 1024 * 1024
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
MAX_VALUES = 1_000_000
"""Values in a file that is read whole: bounds the memory of its objects to about 100 MB."""
MAX_DEPTH = 8
MAX_VALUES_KEPT = 2_000
MAX_TEXT = 1_024
MAX_SHARDED_TENSORS = 200_000
MAX_SHARDS = 10_000
MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARS = 4 * 1024 * 1024
TEMPLATES_KEY = "_chat_templates"
"""Where the description says what chat templates would call; a file's own such key gives way."""
CODE_KEYS = (
    "auto_map", "custom_pipelines", "trust_remote_code", "auto_mapping", "_class_name",
    "quantization_config",
)  # fmt: skip
_READ_BYTES = 8 * 1024 * 1024

Found = tuple[dict[str, Any], tuple[Notice, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """One kind of side file as a ``ports.format.Format``.

    ``names`` are whole base names, or endings where they begin with a dot. ``read`` turns the
    file's bytes into metadata and notices.
    """

    name: str
    names: tuple[str, ...]
    read: Callable[[bytearray], Found]
    max_bytes: int = MAX_BYTES

    def matches(self, path: str, head: bytes) -> bool:  # noqa: ARG002 — the port's signature
        """Say whether the base name of ``path`` is one of this format's; bytes are not asked."""
        base = PurePosixPath(path).name
        return any(
            base.endswith(name) if name.startswith(".") else base == name for name in self.names
        )

    def parse(self, reader: RangeReader) -> Description:
        """Return the metadata; raises StructureError (LimitError) when the JSON is unfit."""
        if reader.size > self.max_bytes:
            raise LimitError(
                f"the JSON file has {reader.size:,} bytes, at most {self.max_bytes:,} are read"
            )
        content = bytearray()
        for offset in range(0, reader.size, _READ_BYTES):
            content += reader.read(offset, min(_READ_BYTES, reader.size - offset))
        metadata, notices = self.read(content)
        return Description(format=self.name, metadata=metadata, notices=notices)


class _TokenizerModel(msgspec.Struct, frozen=True):
    vocab: msgspec.Raw = msgspec.Raw(b"{}")
    type: str | None = None


class _AddedToken(msgspec.Struct, frozen=True):
    id: int


class _Tokenizer(msgspec.Struct, frozen=True):
    model: _TokenizerModel
    version: str | None = None
    added_tokens: tuple[_AddedToken, ...] = ()


class _ShardSizes(msgspec.Struct, frozen=True):
    total_size: int | float | str | None = None


class _ShardIndex(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]
    metadata: _ShardSizes | None = None


class _TrainerState(msgspec.Struct, frozen=True):
    # What is not named here (the log of every step above all) is skipped unread.
    global_step: int | float | None = None
    max_steps: int | float | None = None
    epoch: int | float | str | None = None
    num_train_epochs: int | float | None = None
    best_metric: int | float | str | None = None
    best_model_checkpoint: str | None = None
    total_flos: int | float | str | None = None


def _decode(content: bytearray, kind: Any = Any) -> Any:
    """Return the JSON as ``kind``; raises StructureError, also for nesting that is too deep.

    Both decoders guard their own recursion; the caller has bounded the number of values.
    """
    try:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's json writes NaN and Infinity, which are no JSON but are found in practice.
            has_them = b"NaN" in content or b"Infinity" in content
            if not has_them or len(content) > MAX_BYTES:
                raise
            _check_value_count(content)
            loose = json.loads(content.decode(), parse_constant=str)
            return msgspec.convert(loose, type=kind)
    except RecursionError as error:
        raise LimitError("the JSON is nested too deep to be read") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise StructureError(f"the JSON cannot be read: {str(error)[:300]}") from error


def _check_value_count(content: bytearray) -> None:
    # Counts those in strings too: an upper bound, found without making an object of any.
    count = content.count(b",") + content.count(b"[") + content.count(b"{")
    if count > MAX_VALUES:
        raise LimitError(f"the JSON has up to {count:,} values, at most {MAX_VALUES:,} are read")


def bounded_copy(value: Any) -> tuple[Any, tuple[Notice, ...]]:
    """Copy JSON breadth first, so that what is cut is the deep and the late.

    Kept: 8 levels, 2,000 values, 1,024 characters of a string or key. A container below the last
    level becomes null. NaN and infinities become text. One notice says what was cut.
    """
    copied: list[Any] = []
    kept = 0
    cut: Counter[str] = Counter()
    waiting: deque[tuple[Any, Any, int]] = deque([([value], copied, 0)])
    while waiting:
        source, target, depth = waiting.popleft()
        for key, item in _items(source):
            if kept >= MAX_VALUES_KEPT:
                cut["values"] += 1
                break
            kept += 1
            made = _copy_scalar(item, cut)
            if isinstance(item, dict | list):
                if depth < MAX_DEPTH:
                    made = type(item)()
                    waiting.append((item, made, depth + 1))
                else:
                    cut["values"] += 1
            if key is None:
                target.append(made)
            else:
                target[_cut_text(key, cut)] = made
    return copied[0], _cut_notices(cut)


def _items(source: Any) -> Iterator[tuple[str | None, Any]]:
    if isinstance(source, dict):
        yield from source.items()
    else:
        for item in source:
            yield None, item


def _copy_scalar(item: Any, cut: Counter[str]) -> Any:
    """Return a JSON scalar within bounds; None for a container."""
    if isinstance(item, dict | list):
        return None
    if isinstance(item, str):
        return _cut_text(item, cut)
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, int) and not -(2**63) <= item < 2**64:
        return str(item)  # JSON readers agree on 64 bits only
    return item


def _cut_text(text: str, cut: Counter[str]) -> str:
    if len(text) <= MAX_TEXT:
        return text
    cut["texts"] += 1
    return text[:MAX_TEXT]


def _cut_notices(cut: Counter[str]) -> tuple[Notice, ...]:
    parts = []
    if cut["values"]:
        parts.append(
            f"values below level {MAX_DEPTH} or past the first {MAX_VALUES_KEPT:,} are left out"
        )
    if cut["texts"]:
        parts.append(f"{cut['texts']:,} strings are cut at {MAX_TEXT:,} characters")
    return (Notice(kind="metadata-cut", text="; ".join(parts)),) if parts else ()


def _read_object(content: bytearray) -> Found:
    _check_value_count(content)
    return _copied(_object_in(content))


def _object_in(content: bytearray) -> dict[str, Any]:
    value = _decode(content)
    if not isinstance(value, dict):
        raise StructureError(f"the JSON is a {_kind_of(value)}, an object was expected")
    return value


def _copied(value: dict[str, Any]) -> Found:
    """Copy an object within bounds, of which the keys that name code have some of their own."""
    named = {key: value[key] for key in CODE_KEYS if key in value}
    first, cut_first = bounded_copy(named)
    rest, cut_rest = bounded_copy({key: one for key, one in value.items() if key not in named})
    copied = {**first, **rest}
    names = dict.fromkeys(key[:MAX_TEXT] for key in value)
    notices = tuple(dict.fromkeys((*cut_first, *cut_rest)))
    return {key: copied[key] for key in names if key in copied}, notices


def _read_with_templates(content: bytearray) -> Found:
    """An object that may have a chat template: its text, or a list of named ones."""
    _check_value_count(content)
    value = _object_in(content)
    copied, notices = _copied(value)
    copied.pop(TEMPLATES_KEY, None)
    told = _templates_of(value.get("chat_template"))
    return {**copied, **({TEMPLATES_KEY: told} if told else {})}, notices


def _templates_of(value: Any) -> list[dict[str, Any]]:
    """Return what the templates would call: of one text, a list of named ones, or a dict."""
    if isinstance(value, dict):
        value = [{"name": name, "template": text} for name, text in value.items()]
    if not isinstance(value, list):
        value = [{"name": "default", "template": value}]
    told = []
    chars = 0
    for one in value[:MAX_TEMPLATES]:
        text = one.get("template") if isinstance(one, dict) else None
        if not isinstance(text, str):
            continue
        chars += len(text)
        if chars > MAX_TEMPLATE_CHARS:
            raise LimitError(f"the chat templates are over {MAX_TEMPLATE_CHARS:,} characters")
        name = one.get("name")
        shown = name[:MAX_TEXT] if isinstance(name, str) else None
        told.append({"name": shown, **msgspec.to_builtins(examine_template(text))})
    return told


def _read_modules(content: bytearray) -> Found:
    """modules.json is an array of objects; it is described under the key ``modules``."""
    _check_value_count(content)
    value = _decode(content)
    if not isinstance(value, list):
        raise StructureError(f"the JSON is a {_kind_of(value)}, an array was expected")
    return bounded_copy({"modules": value})


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "scalar"


def _read_tokenizer(content: bytearray) -> Found:
    tokenizer = _decode_tokenizer(content)
    vocabulary = memoryview(tokenizer.model.vocab)
    if bytes(vocabulary[:1]) not in (b"{", b"["):
        raise StructureError("the tokenizer's vocabulary is neither an object nor an array")
    return bounded_copy(
        {
            "version": tokenizer.version,
            "model_type": tokenizer.model.type,
            # {"token": id, …} and [["token", score], …] have one string a token.
            "vocabulary_size": count_strings(vocabulary),
            "added_token_count": len(tokenizer.added_tokens),
        }
    )


def _decode_tokenizer(content: bytearray) -> _Tokenizer:
    # Only added tokens become objects; their count is bounded by that of opening braces.
    braces = content.count(b"{")
    if braces > MAX_VALUES:
        raise LimitError(
            f"the tokenizer has up to {braces:,} objects, at most {MAX_VALUES:,} are read"
        )
    tokenizer: _Tokenizer = _decode(content, _Tokenizer)
    return tokenizer


def count_strings(text: memoryview) -> int:
    """Count the strings of valid JSON in 1 MiB steps, in linear time and fixed memory."""
    quotes = at = 0
    while at < len(text):
        chunk = bytes(text[at : at + 1024 * 1024])
        # A step must not end inside an escape: an odd run of backslashes takes one byte more.
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk += bytes(text[at + len(chunk) : at + len(chunk) + 1])
        at += len(chunk)
        quotes += chunk.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
    return quotes // 2


def _read_shard_index(content: bytearray) -> Found:
    _check_value_count(content)
    index: _ShardIndex = _decode(content, _ShardIndex)
    if len(index.weight_map) > MAX_SHARDED_TENSORS:
        raise LimitError(
            f"the index lists {len(index.weight_map):,} tensors, at most {MAX_SHARDED_TENSORS:,} "
            "are read"
        )
    counts: dict[str, int] = {}
    for shard in index.weight_map.values():
        counts[shard] = counts.get(shard, 0) + 1
    for shard in counts:
        _check_shard_name(shard)
    if len(counts) > MAX_SHARDS:
        raise LimitError(f"the index lists {len(counts):,} shards, at most {MAX_SHARDS:,} are read")
    size = index.metadata.total_size if index.metadata else None
    whole = int(size) if isinstance(size, float) and size.is_integer() else size
    sizes, notices = bounded_copy({"total_size": whole, "tensor_count": len(index.weight_map)})
    return {"shards": dict(sorted(counts.items())), **sizes}, notices


def _check_shard_name(shard: str) -> None:
    """Shards lie beside their index; a name that leads elsewhere is not passed on."""
    if shard in ("", ".", "..") or any(mark in shard for mark in "/\\\0") or len(shard) > 255:
        raise StructureError(f"the index names the shard {shard[:200]!r}, which is no file name")


def _read_trainer_state(content: bytearray) -> Found:
    state: _TrainerState = _decode(content, _TrainerState)
    return bounded_copy(
        {key: value for key, value in msgspec.structs.asdict(state).items() if value is not None}
    )


HF_CONFIG = JsonFormat(name="hf-config", names=("config.json",), read=_read_object)
HF_GENERATION_CONFIG = JsonFormat(
    name="hf-generation-config", names=("generation_config.json",), read=_read_object
)
HF_ADAPTER_CONFIG = JsonFormat(
    name="hf-adapter-config", names=("adapter_config.json",), read=_read_object
)
HF_TOKENIZER = JsonFormat(
    name="hf-tokenizer",
    names=("tokenizer.json",),
    read=_read_tokenizer,
    max_bytes=MAX_TOKENIZER_BYTES,
)
HF_TOKENIZER_CONFIG = JsonFormat(
    name="hf-tokenizer-config", names=("tokenizer_config.json",), read=_read_with_templates
)
HF_CHAT_TEMPLATE = JsonFormat(
    name="hf-chat-template", names=("chat_template.json",), read=_read_with_templates
)
HF_SPECIAL_TOKENS = JsonFormat(
    name="hf-special-tokens", names=("special_tokens_map.json",), read=_read_object
)
HF_PREPROCESSOR_CONFIG = JsonFormat(
    name="hf-preprocessor-config", names=("preprocessor_config.json",), read=_read_object
)
HF_PIPELINE = JsonFormat(name="hf-pipeline", names=("model_index.json",), read=_read_object)
HF_QUANTIZE_CONFIG = JsonFormat(
    name="hf-quantize-config",
    names=("quantize_config.json", "quant_config.json", "hf_quant_config.json"),
    read=_read_object,
)
HF_SHARD_INDEX = JsonFormat(
    name="hf-shard-index",
    names=(".safetensors.index.json", ".bin.index.json"),
    read=_read_shard_index,
)
HF_TRAINER_STATE = JsonFormat(
    name="hf-trainer-state", names=("trainer_state.json",), read=_read_trainer_state
)
HF_SENTENCE_MODULES = JsonFormat(
    name="hf-sentence-modules", names=("modules.json",), read=_read_modules
)
HF_SENTENCE_CONFIG = JsonFormat(
    name="hf-sentence-config",
    names=("sentence_bert_config.json", "config_sentence_transformers.json"),
    read=_read_object,
)
