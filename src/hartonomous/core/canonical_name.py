"""One name for a tensor that several conventions name differently.

Pure and table-driven. The canonical name is the one that GGUF files use; names that no table holds
keep their own spelling, without the wrappers that training code puts in front. It serves to guess
pairs and to write GGUF, never to identify bytes. llama-like converters also permute the rows of
``attn_q`` and ``attn_k``: such a pair has the same name here and other values.
"""

import re

_WRAPPERS = (
    "base_model.model.", "language_model.", "_orig_mod.", "transformer.", "distilbert.",
    "roberta.", "module.", "model.", "bert.",
)  # fmt: skip

_LAYER = re.compile(
    r"(?:encoder\.layer|encoder\.layers|decoder\.layers|gpt_neox\.layers|layers|blk|h)"
    r"\.(\d{1,6})\.(.+)"
)

_IN_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}

_OUTSIDE = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}


def canonical_name(name: str) -> str:
    """Return the tensor's name as GGUF would write it, or ``name`` without its wrappers."""
    bare = _unwrap(name)
    stem, dot, kind = bare.rpartition(".")
    if not dot:
        return bare
    layer = _LAYER.fullmatch(stem)
    if layer:
        number, part = int(layer[1]), layer[2]
        return f"blk.{number}.{_IN_LAYER.get(part, part)}.{kind}"
    return f"{_OUTSIDE.get(stem, stem)}.{kind}"


def _unwrap(name: str) -> str:
    start = 0
    while True:
        for wrapper in _WRAPPERS:
            if name.startswith(wrapper, start):
                start += len(wrapper)
                break
        else:
            return name[start:] or name
