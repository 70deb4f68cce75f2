"""Role of a tensor in its model, read from its name: embedding, attention query, norm, head …

Pure tables over names in the conventions of Hugging Face, GGUF, diffusers, PEFT, GPTQ and AWQ, of
TensorFlow and of ONNX exports. A name is reduced to its last parts (`_stem`), which bounds the
work; each rule is one compiled regular expression. What no rule knows is ``other``; a guess
from the shape is made for convolutions alone.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

MAX_NAME_CHARACTERS = 4096
"""Longer names are not looked into: role ``other``, no layer."""
_STEM_PARTS = 6
_STEM_CHARACTERS = 256


class Role(StrEnum):
    """What a tensor does in its model; values are stored in catalogs and are append-only."""

    EMBEDDING = "embedding"
    EMBEDDING_TOKEN = "embedding-token"  # noqa: S105 - a kind of embedding, no secret
    EMBEDDING_POSITION = "embedding-position"
    EMBEDDING_TYPE = "embedding-type"
    ATTENTION_Q = "attention-q"
    ATTENTION_K = "attention-k"
    ATTENTION_V = "attention-v"
    ATTENTION_KV = "attention-kv"
    ATTENTION_QKV = "attention-qkv"
    ATTENTION_O = "attention-o"
    ATTENTION = "attention"
    MLP_GATE = "mlp-gate"
    MLP_UP = "mlp-up"
    MLP_GATE_UP = "mlp-gate-up"
    MLP_DOWN = "mlp-down"
    MLP = "mlp"
    MOE_ROUTER = "moe-router"
    MOE_EXPERT_GATE = "moe-expert-gate"
    MOE_EXPERT_UP = "moe-expert-up"
    MOE_EXPERT_GATE_UP = "moe-expert-gate-up"
    MOE_EXPERT_DOWN = "moe-expert-down"
    MOE_EXPERT = "moe-expert"
    STATE_SPACE = "state-space"
    NORM = "norm"
    HEAD = "head"
    CONVOLUTION = "convolution"
    LORA_A = "lora-a"
    LORA_B = "lora-b"
    ROPE = "rope"
    SCALE = "scale"
    ZERO_POINT = "zero-point"
    GROUP_INDEX = "group-index"
    OPTIMIZER_STATE = "optimizer-state"
    BUFFER = "buffer"
    OTHER = "other"


QUANTISATION = frozenset({Role.SCALE, Role.ZERO_POINT, Role.GROUP_INDEX})
"""Roles of what is needed beside quantised weights to have the weights back."""

NOT_PARAMETERS = QUANTISATION | {Role.ROPE, Role.OPTIMIZER_STATE, Role.BUFFER}
"""Roles whose elements are no trained weights of the model and are not counted as parameters."""

EMBEDDINGS = frozenset(
    {Role.EMBEDDING, Role.EMBEDDING_TOKEN, Role.EMBEDDING_POSITION, Role.EMBEDDING_TYPE}
)

_Rules = tuple[tuple[Role, "re.Pattern[str]"], ...]


def _rules(*rows: tuple[Role, str]) -> _Rules:
    return tuple((role, re.compile(pattern)) for role, pattern in rows)


# Stems begin with a dot, so that ``\.x`` means "a part that begins with x"; indices read ``#``.
# These look at the whole name, ``weight`` and ``bias`` included.
_WHOLE = _rules(
    (
        Role.OPTIMIZER_STATE,
        r"\.(?:max_)?exp_avg(?:_sq|_sq_row|_sq_col)?$|\.exp_inf$|\.momentum(?:_buffer)?$"
        r"|\.square_avg$|\.optim(?:izer)?(?:_states?)?(?:_dict)?\.|\.adam_?[mv]$|\.max_exp_avg_sqs$",
    ),
    (Role.LORA_A, r"[._]lora_(?:embedding_)?(?:a|down)(?:\.|$)"),
    (Role.LORA_B, r"[._]lora_(?:embedding_)?(?:b|up)(?:\.|$)"),
    (
        Role.ZERO_POINT,
        r"\.(?:[^.]*_)?(?:qzeros|zero_points?)$|[_.](?:quantized|weight)_zero_point$",
    ),
    (Role.GROUP_INDEX, r"\.(?:[^.]*_)?g_idx$"),
    (
        Role.SCALE,
        r"\.(?:[^.]*_)?(?:scales|wscales|scb|weight_scale(?:_inv|_2)?)$"
        r"|\.(?:input|output|[qkv]|kv|activation|act)_scale$"
        r"|\.weight\.(?:nested_)?(?:absmax|quant_map)$|\.weight\.quant_state\b|\.weight_format$"
        r"|[_.](?:quantized|weight)_scale$",
    ),
    (
        Role.ROPE,
        r"\.inv_freq$|\.rope_(?:freqs|factors_long|factors_short)\b|\.(?:cos|sin)_cached$"
        r"|\.freqs_cis$|\.rope\.freqs$|\.attn_rot_embd\b|rotary[^.]*\.(?:inv_)?freqs?$",
    ),
    (
        Role.BUFFER,
        r"\.(?:position_ids|num_batches_tracked|running_mean|running_var|masked_bias"
        r"|token_type_ids|weight_shape|relative_position_index|attn_mask|causal_mask)$",
    ),
)

_NORM = re.compile(r"norm(?!al)[^.]*$|\.(?:[^.]*_)?(?:ln|bn)(?:_[^.]*|\d*)$")

_ROUTER = re.compile(
    r"\.(?:[^.]*_)?router(?:\.[^.]+)?$|\.ffn_gate_inp(?:_shexp)?$|\.shared_expert_gate$"
    r"|\.(?:[^.]*moe|mlp|ffn|feed_forward|mixer)\.gate(?:\.wg)?$|\.exp_probs(?:_b)?$"
    r"|\.e_score_correction$|\.expert_bias$"
)

_EXPERT = re.compile(
    r"\.(?:[a-z_]*_)?experts?\.|\.(?:[a-z_]*_)?moe\.|_(?:sh|ch)?exps?$|\.ffn_(?:gate|up|down)\.#$"
)
_EXPERT_PARTS = _rules(
    (Role.MOE_EXPERT_GATE_UP, r"gate_up|up_gate"),
    (Role.MOE_EXPERT_GATE, r"gate|\.w1$|\.wi_0$"),
    (Role.MOE_EXPERT_DOWN, r"down|\.w2$|\.linear_1$|\.wo$|\.fc2$|dense_4h_to_h|output_linear"),
    (Role.MOE_EXPERT_UP, r"up(?:_|\.|$)|\.w3$|\.wi(?:_1)?$|\.fc1$|dense_h_to_4h"),
    (Role.MOE_EXPERT, r""),
)

_ATTENTION = r"\.[^.]*att(?:n|ention)[^.]*"

# These look at the stem without ``weight`` or ``bias``; the first that fits decides.
_STEMS = _rules(
    (
        Role.HEAD,
        r"\.lm_heads?(?:\.|$)|\.embed_out$|^\.output$|\.classifier(?:\.|$)|\.pre_classifier$"
        r"|\.score$|\.output_layer$|\.qa_outputs$|\.cls\.[a-z]|^\.cls(?:\.|$)|\.pooler(?:\.|$)|\.unembed"
        r"|\.vocab_(?:projector|transform)$|\.mlm_head|\.heads?(?:\.|$)|^\.proj_out$|^\.fc$"
        r"|\.(?:text|visual|vision)_projection$|\.shared_head_head$|\.logits?_(?:head|bias)$"
        r"|^\.final_logits$|^\.ctc_",
    ),
    (
        Role.EMBEDDING_POSITION,
        r"\.(?:[^.]*_)?(?:wpe|pos(?:ition(?:al)?)?_(?:embedding|embed|embd|emb)s?(?:_[kwh])?"
        r"|embed_positions?|relative_attention_bias|relative_position_bias_table"
        r"|relative_attention|attn_rel_b|rel_pos_(?:emb[a-z]*|[hw]))(?:\.[^.]+)?$",
    ),
    (
        Role.EMBEDDING_TYPE,
        r"\.(?:token_type_embeddings?|token_types|segment_embeddings?|type_embeddings?)$",
    ),
    (
        Role.EMBEDDING_TOKEN,
        r"\.(?:[^.]*_)?(?:word_embeddings?|wte|embed_tokens|tok_embeddings|token_embd"
        r"|token_embeddings?|embed_in|tokens_embed)$|^\.shared$|^\.embeddings?$"
        r"|^\.(?:model|backbone|transformer|rwkv|language_model)\.(?:shared|embeddings?|embed)$",
    ),
    (Role.MLP_GATE, r"\.dense[a-z]*dense\.wi_0$|\.mlp\.w2$"),
    (Role.MLP_UP, r"\.dense[a-z]*dense\.wi(?:_1)?$|\.mlp\.w1$"),
    (Role.MLP_DOWN, r"\.dense[a-z]*dense\.wo$|\.(?:mlp|ffn)\.(?:c_proj|out_proj|proj_out|wo)$"),
    (Role.MLP, r"\.(?:feed_forward|ffn|channel_mix\w*)\.(?:key|value|receptance)$"),
    (
        Role.STATE_SPACE,
        r"\.linear_attn\.(?:in_proj(?!_qkv$)|out_proj|dt|a_log)[^.]*$",
    ),
    (
        Role.ATTENTION_QKV,
        r"\.(?:[^.]*_)?(?:qkv|wqkv|query_key_value|w_pack|c_attn)(?:_proj|_lin)?$"
        rf"|{_ATTENTION}\.(?:in_proj|packed_[^.]*)$",
    ),
    (
        Role.ATTENTION_KV,
        r"\.(?:[^.]*_)?w?kv(?:_proj|_a|_b|_a_proj|_b_proj|_a_proj_with_mqa|_a_with_mqa|_a_mqa)?$",
    ),
    (
        Role.ATTENTION_Q,
        r"\.(?:[^.]*_)?(?:w?q|query)(?:_(?:proj|lin|linear|a|b|a_proj|b_proj|layer|attn))?$",
    ),
    (
        Role.ATTENTION_K,
        r"\.(?:[^.]*_)?(?:wk|key|k_(?:proj|lin|linear|b_proj)|key_(?:proj|layer)|wk_b)$"
        r"|\.(?:to|[^.]*attn)_k(?:_b)?$"
        rf"|{_ATTENTION}\.k$",
    ),
    (
        Role.ATTENTION_V,
        r"\.(?:[^.]*_)?(?:wv|value|v_(?:proj|lin|linear|b_proj)|value_(?:proj|layer)|wv_b)$"
        r"|\.(?:to|[^.]*attn)_v(?:_b)?$"
        rf"|{_ATTENTION}\.v$",
    ),
    (
        Role.ATTENTION_O,
        r"\.(?:o_proj|wo|to_out(?:\.#)?|out_lin|o_lin|proj_attn|to_add_out|out_attn)$"
        r"|\.(?:[^.]*_)?attn_(?:output|out|o)$"
        rf"|{_ATTENTION}\.(?:[^.]+\.)?(?:dense|c_proj|out_proj|proj|proj_out|out|o|output|out_layer"
        r"|linear_out)$",
    ),
    (Role.MLP_GATE_UP, r"gate_up_proj$|up_gate_proj$|gate_and_up|\.w13$|\.gate_up$"),
    (
        Role.MLP_GATE,
        r"\.(?:[^.]*_)?(?:gate_proj|ffn_gate|wi_0|linear_gate)(?:_\d)?$|\.w1$|\.vis_gate$",
    ),
    (
        Role.MLP_UP,
        r"\.(?:[^.]*_)?(?:up_proj|ffn_up|wi|wi_1|c_fc|fc_in|dense_h_to_4h|lin_?1|ffn_fc1)(?:_\d)?$"
        r"|\.(?:w3|fc1|fc_1|ffn|vis_up)$|\.intermediate(?:\.dense|_dense)$"
        r"|\.(?:ff|ff_context|ffn)\.net\.#\.proj$|\.(?:mlp|ffn)\.(?:up|wi)$",
    ),
    (
        Role.MLP_DOWN,
        r"\.(?:[^.]*_)?(?:down_proj|ffn_down|fc_out|dense_4h_to_h|lin_?2|ffn_output|ffn_fc2)"
        r"(?:_\d)?$"
        r"|\.(?:w2|fc2|fc_2|vis_down)$|\.output(?:\.dense|_dense)$"
        r"|\.(?:ff|ff_context|ffn)\.net\.#$|\.(?:mlp|ffn)\.(?:down|wo)$",
    ),
    (Role.CONVOLUTION, r"conv[^.]*(?:\.[^.]+)?$|\.shortconv\."),
    (
        Role.STATE_SPACE,
        r"\.a_log$|\.ssm(?:_[^.]*)?(?:\.|$)|\.(?:x_proj|dt_proj|dt)$|\.(?:mixer|mamba|#)\.(?:d|b|c)$"
        r"|\.(?:mixer|mamba)\.(?:in_proj|out_proj|[a-z]+_proj)$|\.time_mix_[^.]*$",
    ),
    (Role.MLP, r"\.(?:[^.]*_)?(?:mlp|ffn|feed_?forward|ff)(?:\.|_|$)|\.channel_mix_[^.]*$"),
    (Role.ATTENTION, rf"{_ATTENTION}(?:\.[^.]+)?$"),
    (
        Role.EMBEDDING,
        r"\.[^.]*(?:embed|embd)[^.]*(?:\.[^.]+)*$|\.(?:cls|mask|dist|sep)_token$"
        r"|\.time_emb(?:_proj)?$|\.emb_layers",
    ),
    (Role.SCALE, r"\.scale$"),
)

_SEPARATOR = re.compile(r"[./]")
_INDEX = re.compile(r"(?<![^./])[0-9]+(?![^./])")
_PARAMETER = frozenset(
    {
        "weight", "bias", "kernel", "qweight", "weight_packed", "weight_quantized", "gamma", "beta",
        "matmul", "gemm", "add", "weight_v", "weight_g",
    }
)  # fmt: skip
_NOT_A_BIAS = frozenset({"relative_attention_bias", "relative_position_bias"})
_INTEGERS = re.compile(r"[IU]\d+$|BOOL$")


def tensor_role(name: str, shape: Sequence[int], dtype: str) -> Role:
    """Return the role of the tensor called ``name``; never raises, linear time.

    ``shape`` (row-major) and ``dtype`` decide between a bias and GPT-2's causal mask of the same
    name, and mark unknown tensors of rank three to five as convolutions.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        return Role.OTHER
    integer = _INTEGERS.match(dtype) is not None
    # The names of a model differ in their indices: with these marked, a few are left to look at.
    return _role(_INDEX.sub("#", name), min(len(shape), 6), integer)


def _stem(name: str) -> str:
    """Return ``.`` and the last parts of ``name`` in lower case, indices as ``#``."""
    parts = _SEPARATOR.split(name.lower().removesuffix(":0"))
    kept = [
        "#" if part.isdigit() else part for part in parts[-_STEM_PARTS:] if part not in ("", "_")
    ]
    # A leading cut is marked, so that rules for top-level names do not fit in the middle.
    head = ["~"] if len(parts) > _STEM_PARTS else []
    return "." + ".".join(head + kept)[-_STEM_CHARACTERS:]


@lru_cache(maxsize=1024)
def _role(name: str, rank: int, integer: bool) -> Role:
    return _classify(_stem(name), rank, integer)


@lru_cache(maxsize=4096)
def _classify(stem: str, rank: int, integer: bool) -> Role:
    whole = _first(_WHOLE, stem)
    if whole is not None:
        return whole
    if rank >= 3 and stem.endswith((".attn.bias", ".attention.bias")):
        return Role.BUFFER
    bare = _without_parameter(stem)
    if _NORM.search(bare):
        return Role.NORM
    if _ROUTER.search(bare):
        return Role.MOE_ROUTER
    if _EXPERT.search(bare):
        return _first(_EXPERT_PARTS, bare[bare.rfind("expert") + 1 :]) or Role.MOE_EXPERT
    found = _first(_STEMS, bare)
    if found is not None:
        return found
    return Role.CONVOLUTION if 3 <= rank <= 5 and not integer else Role.OTHER


def _first(rules: _Rules, stem: str) -> Role | None:
    return next((role for role, pattern in rules if pattern.search(stem)), None)


def _without_parameter(stem: str) -> str:
    """Drop the part that names the parameter of its module: ``weight``, ``bias`` and the like."""
    module, _, last = stem.rpartition(".")
    if last in _PARAMETER and module:
        return module
    if last in _NOT_A_BIAS:
        return stem
    for ending in ("_weight", "_bias", "_quantized", "_blocks"):
        if last.endswith(ending):
            return stem.removesuffix(ending)
    return stem
