"""What a model's files declare about it: configuration, card, GGUF keys, tokenizer, adapter.

Which file holds what is decided by its name; every value goes through `core.claims`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hartonomous.core.claims import MAX_LIST_LENGTH, Claims, NoticeLog, Scalar, clean
from hartonomous.core.weight_set import Copy, Member

_TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
        "special_tokens_map.json", "added_tokens.json", "spiece.model", "tokenizer.model",
        "sentencepiece.bpe.model", "tekken.json", "chat_template.jinja", "vocab.bpe",
        "encoder.json", "tokenizer.model.v3",
    }
)  # fmt: skip
_STEP = re.compile(r"[0-9]{1,15}")
_OPTIMIZER_FILE = re.compile(
    r"(?:optimizer|scheduler|optim)\.(?:pt|pth|bin|safetensors)|(?:zero|bf16_zero|fp16_zero)_.*"
    r"_optim_states\.pt"
)
_GGUF_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_BASES = 32

# Field of the summary: the keys of configurations, then the key of GGUF after the architecture.
NUMBERS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "context_length": (
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length",
         "seq_length", "max_target_positions", "model_max_length"),
        "context_length",
    ),
    "embedding_length": (
        ("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim", "embed_dim"),
        "embedding_length",
    ),
    "vocabulary_size": (("vocab_size", "padded_vocab_size"), "vocab_size"),
    "layer_count": (
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
        "block_count",
    ),
    "head_count": (
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
        "attention.head_count",
    ),
    "kv_head_count": (
        ("num_key_value_heads", "n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num"),
        "attention.head_count_kv",
    ),
    "feed_forward_length": (
        ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "ffn_hidden_size"),
        "feed_forward_length",
    ),
    "expert_count": (
        ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"),
        "expert_count",
    ),
    "expert_used_count": (
        ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k"),
        "expert_used_count",
    ),
}  # fmt: skip
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "vision_config")


class DeclaredBase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A base model that a file names; ``said_by`` is the file, ``relation`` the card's word."""

    name: str
    said_by: str
    relation: str | None = None


class Tokenizer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tokenizer: its kind (``BPE``, ``WordPiece``, a class, ggml's name), size and files."""

    kind: str | None = None
    vocabulary_size: int | None = None
    files: list[str] = []


class Training(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of a training run beside the weights; ``step`` is the trainer's global step."""

    has_optimizer_state: bool
    tensor_count: int = 0
    files: list[str] = []
    step: int | None = None


class Adapter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A set of low-rank or other additions to a base model; ``alpha`` scales them."""

    kind: str
    rank: int | None = None
    alpha: float | None = None
    target_modules: list[str] = []
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The files that speak for a model, as claims; empty ones where a file is not there."""

    config: Claims
    quantisation: Claims
    pipeline: Claims
    card: Claims
    gguf: Claims
    adapter: Claims
    trainer: Claims
    header: Claims
    tokenizer: Claims
    tokenizer_config: Claims
    paths: tuple[str, ...]


def find_sources(members: Sequence[Member], counted: Sequence[Copy], log: NoticeLog) -> Sources:
    """Return the files that speak for the model whose weights are ``counted``.

    Each is looked for in the folder of the largest weight set, then in the folders above it.
    """
    home = counted[0].folder if counted else ""
    by_path = {path.lower(): (path, description) for path, description in members}

    def claims(file: str) -> Claims:
        for folder in _upwards(home.lower()):
            found = by_path.get(f"{folder}/{file}" if folder else file)
            if found is not None:
                return Claims(found[1].metadata, origin=found[0], log=log)
        return Claims(None, origin=file, log=log)

    config = claims("config.json")
    nested = "quantization_config" in config
    return Sources(
        config=config,
        quantisation=config.part("quantization_config") if nested else _beside(claims),
        pipeline=claims("model_index.json"),
        card=claims("readme.md"),
        gguf=_gguf_claims(members, counted, log),
        adapter=claims("adapter_config.json"),
        trainer=claims("trainer_state.json"),
        header=_header_claims(counted, log),
        tokenizer=claims("tokenizer.json"),
        tokenizer_config=claims("tokenizer_config.json"),
        paths=tuple(path for path, _ in members),
    )


def _beside(claims: Callable[[str], Claims]) -> Claims:
    """Return the quantisation that a file of its own declares: GPTQ's, AWQ's, ModelOpt's."""
    found = claims("quantize_config.json")
    for file in ("quant_config.json", "hf_quant_config.json"):
        if found.is_empty:
            found = claims(file)
    return found.part("quantization") if "quantization" in found else found


def architecture_of(sources: Sources) -> tuple[str | None, str | None]:
    """Return (architecture, model type): ``("BertModel", "bert")``, ``("llama", "llama")``.

    A pipeline's class goes before those of its parts. An adapter that says nothing else has its
    kind for an architecture: ``("lora", None)``.
    """
    named = sources.config.texts("architectures")
    gguf = gguf_architecture(sources.gguf)
    model_type = sources.config.text("model_type") or gguf
    pipeline, diffusers = (one.text("_class_name") for one in (sources.pipeline, sources.config))
    adapter = sources.adapter.text("peft_type")
    named_by = pipeline or (named[0] if named else diffusers or gguf)
    return named_by or (adapter.lower() if adapter else None), model_type


def gguf_architecture(gguf: Claims) -> str | None:
    """Return ``general.architecture``, which is also the prefix of the model's keys, or None."""
    name = gguf.text("general.architecture")
    return name if name and _GGUF_ARCHITECTURE.fullmatch(name) else None


def number_of(field: str, sources: Sources) -> int | None:
    """Return one of ``NUMBERS``: from the configuration, parts of it nested in it, then GGUF."""
    keys, gguf_key = NUMBERS[field]
    found = sources.config.count(*keys)
    if found is not None:
        return found
    for name in _NESTED:
        if name in sources.config:
            found = sources.config.part(name).count(*keys)
            if found is not None:
                return found
    architecture = gguf_architecture(sources.gguf)
    return sources.gguf.count(f"{architecture}.{gguf_key}") if architecture and gguf_key else None


def licence_of(sources: Sources) -> str | None:
    """Return the licence: the card's word, then GGUF's; ``other`` gives way to its own name."""
    named = sources.card.texts("license")
    licence = ", ".join(named[:8]) or sources.gguf.text("general.license")
    if licence in (None, "other", "unknown"):
        own = sources.card.text("license_name") or sources.gguf.text("general.license.name")
        return own or licence
    return licence


def declared_bases(sources: Sources) -> list[DeclaredBase]:
    """Return the base models that card, adapter configuration and GGUF keys name."""
    relation = sources.card.text("base_model_relation")
    found = [
        DeclaredBase(name=name, said_by="model-card", relation=relation)
        for name in sources.card.texts("base_model")
    ]
    adapted = sources.adapter.text("base_model_name_or_path")
    if adapted:
        found.append(DeclaredBase(name=adapted, said_by="adapter-config", relation="adapter"))
    count = min(sources.gguf.count("general.base_model.count") or 0, _MAX_BASES)
    for index in range(count):
        name = _gguf_base(sources.gguf, f"general.base_model.{index}")
        if name:
            found.append(DeclaredBase(name=name, said_by="gguf"))
    return found[:_MAX_BASES]


def tokenizer_of(sources: Sources) -> Tokenizer | None:
    """Return the tokenizer that files or GGUF keys hold, or None."""
    model = sources.tokenizer.part("model") if "model" in sources.tokenizer else sources.tokenizer
    tokenizer = Tokenizer(
        kind=model.text("model_type")
        or model.text("type")
        or sources.tokenizer_config.text("tokenizer_class")
        or sources.gguf.text("tokenizer.ggml.model"),
        vocabulary_size=sources.tokenizer.count("vocabulary_size", "vocab_size")
        or sources.gguf.length("tokenizer.ggml.tokens"),
        files=_files(sources.paths, lambda name: name in _TOKENIZER_FILES),
    )
    return None if tokenizer == Tokenizer() else tokenizer


def training_of(sources: Sources, tensor_count: int, *, step: int | None = None) -> Training | None:
    """Return the training state: optimizer tensors and files, and the step; None without any.

    ``step`` is that of a checkpoint of several processes; a trainer's own word goes before it.
    """
    files = _files(sources.paths, lambda name: _OPTIMIZER_FILE.fullmatch(name) is not None)
    told = sources.trainer.count("global_step")
    if told is None and "training.step" in sources.header:
        written = sources.header.text("training.step") or ""
        told = int(written) if _STEP.fullmatch(written) else None
    step = step if told is None else told
    if not files and not tensor_count and step is None:
        return None
    return Training(
        has_optimizer_state=bool(tensor_count or any("optim" in file for file in files)),
        tensor_count=tensor_count,
        files=files,
        step=step,
    )


def adapter_of(sources: Sources, lora_rank: int | None) -> Adapter | None:
    """Return what kind of adapter the model is; ``lora_rank`` is that of its tensors, if any."""
    declared = sources.adapter.text("peft_type")
    in_gguf = sources.gguf.text("adapter.type")
    kind = declared or in_gguf or ("lora" if lora_rank is not None else None)
    if kind is None:
        return None
    alpha = sources.adapter.scalar("lora_alpha") or sources.gguf.scalar("adapter.lora.alpha")
    return Adapter(
        kind=kind.lower(),
        rank=sources.adapter.count("r") or lora_rank,
        alpha=_number(alpha),
        target_modules=sources.adapter.texts("target_modules"),
        task=sources.adapter.text("task_type") or sources.gguf.text("adapter.lora.task_name"),
    )


def _upwards(folder: str) -> list[str]:
    """Return the folder and those above it, down to the top (``""``); at most 64."""
    found = [folder]
    while folder and len(found) < 64:
        folder = folder.rpartition("/")[0]
        found.append(folder)
    return found if "" in found else [*found, ""]


def _gguf_claims(members: Sequence[Member], counted: Sequence[Copy], log: NoticeLog) -> Claims:
    """Return the keys of the largest counted GGUF file, else of the first one there is."""
    own = [member for copy in counted if copy.format == "gguf" for member in copy.members]
    for path, description in [*own, *members]:
        if description.format == "gguf":
            return Claims(description.metadata, origin=path, log=log)
    return Claims(None, origin="gguf", log=log)


def _header_claims(counted: Sequence[Copy], log: NoticeLog) -> Claims:
    """Return the metadata in the header of the first counted safetensors file, if there is one."""
    for copy in counted:
        if copy.format == "safetensors":
            for path, description in copy.members:
                return Claims(description.metadata.get("__metadata__"), origin=path, log=log)
    return Claims(None, origin="safetensors", log=log)


def _gguf_base(gguf: Claims, key: str) -> str | None:
    """Return ``owner/name`` from the repository's address, else the name with its owner."""
    address = gguf.text(f"{key}.repo_url")
    if address:
        parts = [part for part in address.split("://")[-1].split("/") if part]
        if len(parts) >= 3:
            return "/".join(parts[-2:])
    name, owner = gguf.text(f"{key}.name"), gguf.text(f"{key}.organization")
    return f"{owner}/{name}"[:256] if name and owner else name


def _files(paths: Sequence[str], is_wanted: Callable[[str], bool]) -> list[str]:
    wanted = sorted(path for path in paths if is_wanted(path.rpartition("/")[2].lower()))
    return [clean(path) for path in wanted[:MAX_LIST_LENGTH]]


def _number(value: Scalar | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
