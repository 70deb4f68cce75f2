"""Roles of real tensor names; the name tables of the gguf package serve as an oracle."""

import pytest
from gguf import MODEL_TENSOR, TENSOR_NAMES
from gguf.tensor_mapping import TensorNameMap
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.role import NOT_PARAMETERS, Role, tensor_role

NAMES = {
    "bert": """
        embeddings.position_ids buffer
        embeddings.word_embeddings.weight embedding-token
        bert.embeddings.position_embeddings.weight embedding-position
        bert.embeddings.token_type_embeddings.weight embedding-type
        embeddings.LayerNorm.weight norm
        encoder.layer.0.attention.self.query.weight attention-q
        encoder.layer.0.attention.self.key.bias attention-k
        encoder.layer.0.attention.self.value.weight attention-v
        encoder.layer.0.attention.output.dense.weight attention-o
        encoder.layer.0.attention.output.LayerNorm.bias norm
        encoder.layer.0.intermediate.dense.weight mlp-up
        encoder.layer.0.output.dense.weight mlp-down
        encoder.layer.0.output.LayerNorm.weight norm
        pooler.dense.weight head
        cls.predictions.transform.dense.weight head
        cls.predictions.decoder.weight head
        classifier.bias head
        qa_outputs.weight head
        roberta.encoder.layer.11.attention.self.query.weight attention-q
        lm_head.dense.weight head
        lm_head.layer_norm.weight norm
        distilbert.transformer.layer.0.attention.q_lin.weight attention-q
        distilbert.transformer.layer.0.attention.out_lin.weight attention-o
        distilbert.transformer.layer.0.ffn.lin1.weight mlp-up
        distilbert.transformer.layer.0.sa_layer_norm.weight norm
    """,
    "gpt": """
        transformer.wte.weight embedding-token
        wpe.weight embedding-position
        h.0.ln_1.weight norm
        transformer.h.0.attn.c_attn.weight attention-qkv
        transformer.h.0.attn.c_proj.weight attention-o
        transformer.h.0.mlp.c_fc.weight mlp-up
        transformer.h.0.mlp.c_proj.weight mlp-down
        transformer.ln_f.bias norm
        h.0.attn.masked_bias buffer
        gpt_neox.embed_in.weight embedding-token
        gpt_neox.layers.4.attention.query_key_value.weight attention-qkv
        gpt_neox.layers.4.attention.dense.weight attention-o
        gpt_neox.layers.4.attention.rotary_emb.inv_freq rope
        gpt_neox.layers.4.mlp.dense_h_to_4h.bias mlp-up
        gpt_neox.layers.4.mlp.dense_4h_to_h.weight mlp-down
        embed_out.weight head
        transformer.h.1.self_attention.query_key_value.weight attention-qkv
        transformer.h.1.self_attention.dense.weight attention-o
        transformer.h.1.ln_attn.weight norm
        word_embeddings_layernorm.weight norm
        transformer.h.2.mixer.Wqkv.weight attention-qkv
    """,
    "llama": """
        model.embed_tokens.weight embedding-token
        model.layers.0.self_attn.q_proj.weight attention-q
        model.layers.0.self_attn.k_proj.weight attention-k
        model.layers.0.self_attn.v_proj.weight attention-v
        model.layers.0.self_attn.o_proj.weight attention-o
        model.layers.0.self_attn.q_norm.weight norm
        model.layers.0.self_attn.qkv_proj.weight attention-qkv
        model.layers.0.mlp.gate_proj.weight mlp-gate
        model.layers.0.mlp.up_proj.weight mlp-up
        model.layers.0.mlp.down_proj.weight mlp-down
        model.layers.0.mlp.gate_up_proj.weight mlp-gate-up
        model.layers.0.mlp.fc1.weight mlp-up
        model.layers.0.mlp.fc2.weight mlp-down
        model.layers.0.self_attn.dense.weight attention-o
        model.layers.0.input_layernorm.weight norm
        model.layers.0.pre_feedforward_layernorm.weight norm
        model.norm.weight norm
        lm_head.weight head
        tok_embeddings.weight embedding-token
        layers.0.attention.wq.weight attention-q
        layers.0.attention.wo.weight attention-o
        layers.0.feed_forward.w1.weight mlp-gate
        layers.0.feed_forward.w2.weight mlp-down
        layers.0.feed_forward.w3.weight mlp-up
        output.weight head
        rope.freqs rope
    """,
    "moe": """
        model.layers.0.block_sparse_moe.gate.weight moe-router
        model.layers.0.block_sparse_moe.experts.7.w1.weight moe-expert-gate
        model.layers.0.block_sparse_moe.experts.7.w2.weight moe-expert-down
        model.layers.0.block_sparse_moe.experts.7.w3.weight moe-expert-up
        model.layers.3.mlp.gate.weight moe-router
        model.layers.3.mlp.gate.e_score_correction_bias moe-router
        model.layers.3.mlp.experts.200.gate_proj.weight moe-expert-gate
        model.layers.3.mlp.shared_experts.down_proj.weight moe-expert-down
        model.layers.3.self_attn.q_a_proj.weight attention-q
        model.layers.3.self_attn.q_a_layernorm.weight norm
        model.layers.3.self_attn.kv_a_proj_with_mqa.weight attention-kv
        model.layers.3.self_attn.kv_b_proj.weight attention-kv
        model.layers.3.mlp.experts.1.up_proj.weight_scale_inv scale
        model.layers.0.mlp.experts.gate_up_proj_blocks moe-expert-gate-up
        model.layers.0.mlp.experts.gate_up_proj_scales scale
        model.layers.0.mlp.router.weight moe-router
        blk.0.ffn_gate_inp.weight moe-router
        blk.0.ffn_gate_exps.weight moe-expert-gate
        blk.0.ffn_down_shexp.weight moe-expert-down
        blk.0.ffn_up.5.weight moe-expert-up
        blk.0.exp_probs_b.bias moe-router
    """,
    "t5, bart, whisper": """
        shared.weight embedding-token
        encoder.embed_tokens.weight embedding-token
        encoder.block.0.layer.0.SelfAttention.q.weight attention-q
        encoder.block.0.layer.0.SelfAttention.o.weight attention-o
        encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight embedding-position
        decoder.block.0.layer.1.EncDecAttention.k.weight attention-k
        decoder.block.0.layer.1.EncDecAttention.v.weight attention-v
        encoder.block.0.layer.1.DenseReluDense.wi.weight mlp-up
        encoder.block.0.layer.1.DenseReluDense.wi_0.weight mlp-gate
        encoder.block.0.layer.1.DenseReluDense.wi_1.weight mlp-up
        encoder.block.0.layer.1.DenseReluDense.wo.weight mlp-down
        encoder.block.0.layer.1.layer_norm.weight norm
        model.encoder.layers.0.self_attn.out_proj.weight attention-o
        model.decoder.layers.0.encoder_attn.q_proj.weight attention-q
        model.decoder.layers.0.encoder_attn_layer_norm.weight norm
        model.decoder.layernorm_embedding.weight norm
        model.decoder.embed_positions.weight embedding-position
        model.encoder.conv1.weight convolution
        model.encoder.layers.0.fc1.bias mlp-up
        model.encoder.layers.0.fc2.bias mlp-down
        decoder.blocks.3.cross_attn.query.weight attention-q
        decoder.blocks.3.cross_attn.out.weight attention-o
        proj_out.weight head
    """,
    "vision": """
        vit.embeddings.cls_token embedding
        vit.embeddings.patch_embeddings.projection.weight embedding
        vit.embeddings.position_embeddings embedding-position
        vit.encoder.layer.0.attention.attention.query.weight attention-q
        vit.encoder.layer.0.attention.output.dense.weight attention-o
        vit.encoder.layer.0.layernorm_before.weight norm
        vit.encoder.layer.0.intermediate.dense.bias mlp-up
        blocks.0.attn.qkv.weight attention-qkv
        blocks.0.attn.proj.weight attention-o
        blocks.0.mlp.fc1.weight mlp-up
        pos_embed embedding-position
        head.weight head
        layer1.0.conv1.weight convolution
        layer1.0.bn1.running_mean buffer
        layer1.0.bn1.num_batches_tracked buffer
        layer1.0.bn1.weight norm
        fc.weight head
        vision_model.embeddings.patch_embedding.weight embedding
        text_model.encoder.layers.0.self_attn.q_proj.weight attention-q
        transformer.resblocks.0.attn.in_proj_weight attention-qkv
        transformer.resblocks.0.attn.in_proj_bias attention-qkv
        visual_projection.weight head
        logit_scale other
        v.blk.0.attn_q.weight attention-q
    """,
    "diffusers": """
        conv_in.weight convolution
        time_embedding.linear_1.weight embedding
        down_blocks.0.resnets.0.norm1.weight norm
        down_blocks.0.resnets.0.conv1.weight convolution
        down_blocks.0.resnets.0.conv_shortcut.weight convolution
        down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight attention-q
        down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight attention-k
        down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight attention-v
        down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight attention-o
        down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight mlp-up
        down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight mlp-down
        down_blocks.0.downsamplers.0.conv.weight convolution
        up_blocks.1.upsamplers.0.conv.weight convolution
        conv_norm_out.weight norm
        quant_conv.weight convolution
        decoder.mid_block.attentions.0.proj_attn.weight attention-o
        transformer_blocks.0.attn.add_q_proj.weight attention-q
        transformer_blocks.0.attn.to_add_out.weight attention-o
        transformer_blocks.0.attn.norm_added_k.weight norm
    """,
    "gguf": """
        token_embd.weight embedding-token
        token_embd_norm.weight norm
        position_embd.weight embedding-position
        token_types.weight embedding-type
        blk.0.attn_q.weight attention-q
        blk.0.attn_k.bias attention-k
        blk.0.attn_output.weight attention-o
        blk.0.attn_output_norm.weight norm
        blk.0.attn_qkv.weight attention-qkv
        blk.0.ffn_down.weight mlp-down
        blk.0.ffn_norm.weight norm
        blk.0.layer_output_norm.bias norm
        blk.0.ssm_in.weight state-space
        blk.0.ssm_conv1d.weight convolution
        output_norm.weight norm
        output.weight head
        rope_freqs.weight rope
    """,
    "adapters and quantised files": """
        base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight lora-a
        base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight lora-b
        base_model.model.model.embed_tokens.lora_embedding_A.default lora-a
        lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight lora-a
        lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight lora-b
        blk.0.attn_q.weight.lora_a lora-a
        model.layers.0.self_attn.q_proj.qweight attention-q
        model.layers.0.self_attn.q_proj.qzeros zero-point
        model.layers.0.self_attn.q_proj.scales scale
        model.layers.0.self_attn.q_proj.g_idx group-index
        model.layers.0.mlp.down_proj.weight_packed mlp-down
        model.layers.0.mlp.down_proj.weight_scale scale
        model.layers.0.mlp.down_proj.weight_shape buffer
        model.layers.0.mlp.down_proj.input_scale scale
        model.layers.0.mlp.down_proj.weight.absmax scale
        model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4 scale
        model.layers.0.self_attn.q_proj.exp_avg optimizer-state
        state.12.exp_avg_sq optimizer-state
        encoder.layer.0.output.dense.weight.momentum_buffer optimizer-state
        optimizer.state.3.step optimizer-state
    """,
    "state space, tensorflow, onnx": """
        backbone.embeddings.weight embedding-token
        backbone.layers.0.mixer.A_log state-space
        backbone.layers.0.mixer.D state-space
        backbone.layers.0.mixer.in_proj.weight state-space
        backbone.layers.0.mixer.conv1d.weight convolution
        backbone.layers.0.mixer.dt_proj.bias state-space
        backbone.norm_f.weight norm
        bert/encoder/layer_0/attention/self/query/kernel:0 attention-q
        bert/encoder/layer_0/attention/output/LayerNorm/gamma:0 norm
        bert/embeddings/word_embeddings embedding-token
        /encoder/layer.0/attention/self/query/MatMul attention-q
        bert.encoder.layer.0.attention.self.query.weight_quantized attention-q
        bert.encoder.layer.0.attention.self.query.weight_scale scale
        bert.encoder.layer.0.attention.self.query.weight_zero_point zero-point
        onnx::MatMul_1234 other
    """,
}
CASES = [
    (name, role)
    for table in NAMES.values()
    for name, role in (line.split() for line in table.strip().splitlines())
]


@pytest.mark.parametrize(("name", "role"), CASES, ids=lambda value: value)
def test_real_names(name: str, role: str) -> None:
    assert tensor_role(name, (8, 8), "F32") == role


def test_names_of_minilm() -> None:
    # The tensors of all-MiniLM-L6-v2's layer 0 and beside the layers, with their shapes.
    beside = {
        "embeddings.position_ids": (1, 512), "embeddings.LayerNorm.bias": (384,),
        "embeddings.LayerNorm.weight": (384,),
        "embeddings.position_embeddings.weight": (512, 384),
        "embeddings.token_type_embeddings.weight": (2, 384),
        "embeddings.word_embeddings.weight": (30522, 384),
        "pooler.dense.bias": (384,), "pooler.dense.weight": (384, 384),
    }  # fmt: skip
    found = [tensor_role(name, shape, "F32") for name, shape in beside.items()]
    assert found == [
        "buffer", "norm", "norm", "embedding-position", "embedding-type", "embedding-token",
        "head", "head",
    ]  # fmt: skip


# Where gguf's tables and ours differ: names that say nothing, or fused tensors that we call so.
FAMILIES = {
    "FFN_GATE": "mlp", "FFN_UP": "mlp", "FFN_DOWN": "mlp", "FFN_GATE_EXP": "moe-expert",
    "FFN_UP_EXP": "moe-expert", "FFN_DOWN_EXP": "moe-expert", "FFN_GATE_SHEXP": "moe-expert",
    "FFN_UP_SHEXP": "moe-expert", "FFN_DOWN_SHEXP": "moe-expert", "FFN_GATE_INP": "moe-router",
    "TOKEN_EMBD": "embedding", "TOKEN_TYPES": "embedding-type", "POS_EMBD": "embedding-position",
    "OUTPUT": "head", "ATTN_QKV": "attention-qkv", "ATTN_Q": "attention-q",
    "ATTN_K": "attention-k", "ATTN_V": "attention-v", "ATTN_OUT": "attention",
    "ATTN_Q_A": "attention-q", "ATTN_Q_B": "attention-q", "ATTN_KV_B": "attention-kv",
    "ATTN_KV_A_MQA": "attention-kv", "DEC_CROSS_ATTN_Q": "attention-q", "DEC_ATTN_Q": "attention-q",
    "ENC_ATTN_OUT": "attention-o", "ENC_FFN_DOWN": "mlp-down", "DEC_FFN_UP": "mlp-up",
    "ATTN_NORM": "norm", "OUTPUT_NORM": "norm", "ATTN_Q_NORM": "norm", "SSM_A": "state-space",
    "SSM_X": "state-space", "SSM_DT": "state-space",
}  # fmt: skip
UNTOLD = {
    # bare or misleading words that only their architecture explains
    "encoder", "word_embeddings_for_head", "model.transformer.ff_out", "layers.3.gate",
    "transformer.h.3.mixer.out_proj", "encoder.layers.3.mixer.out_proj",
    "model.layers.layers.3.mixer.q", "model.layers.layers.3.mixer.k",
    "model.layers.3.feed_forward.down_proj", "model.layers.3.block_sparse_moe.up",
    "model.layers.3.block_sparse_moe.down", "model.layers.3.mlp.shared_mlp.up_proj",
    "model.layers.3.mlp.shared_mlp.gate_proj", "model.layers.3.mlp.shared_mlp.down_proj",
    "model.layers.3.shared_mlp.output_linear", "model.layers.3.self_attn.q_proj_no_perm",
    "model.layers.3.self_attn.k_proj_no_perm",
}  # fmt: skip


def _oracle() -> list[tuple[str, str]]:
    found = []
    for table in (TensorNameMap.mappings_cfg, TensorNameMap.block_mappings_cfg):
        for kind, names in table.items():
            if kind.name in FAMILIES:
                every = (*names, TENSOR_NAMES[MODEL_TENSOR[kind.name]])
                numbered = (name.replace("{bid}", "3").replace("{xid}", "2") for name in every)
                found += [(name, FAMILIES[kind.name]) for name in numbered if name not in UNTOLD]
    return found


def test_names_that_the_gguf_package_maps() -> None:
    table = _oracle()
    assert len(table) > 400
    wrong = [
        (name, role, family)
        for name, family in table
        if not (
            role := tensor_role(name if name.endswith(".weight") else f"{name}.weight", (8, 8), "")
        ).startswith(family)
    ]
    assert wrong == []


def test_shape_tells_a_causal_mask_from_a_bias() -> None:
    name = "transformer.h.0.attn.bias"
    assert tensor_role(name, (1, 1, 1024, 1024), "F32") is Role.BUFFER
    assert tensor_role(name, (768,), "F32") is not Role.BUFFER


def test_unknown_tensors_of_rank_four_are_convolutions_and_integers_are_not() -> None:
    assert tensor_role("downsample.0.weight", (64, 3, 7, 7), "F32") is Role.CONVOLUTION
    assert tensor_role("downsample.0.weight", (64, 3, 7, 7), "I64") is Role.OTHER
    assert tensor_role("downsample.0.weight", (64, 3), "F32") is Role.OTHER


@pytest.mark.parametrize(
    "name",
    [
        "." * 10_000,
        "attn" * 1024,
        "attn." * 819,
        "a_" * 2048,
        "norm" * 1024,
        "/" * 4096,
        "x" * 4097,
        "\x00\ud800\u2028",
        "mlp.experts." * 341,
        "9" * 4096,
        "",
        "²³.weight",
    ],
)
def test_hostile_names_have_a_role(name: str) -> None:
    assert tensor_role(name, (1,), "F32") in Role


def test_overlong_names_are_not_looked_into() -> None:
    assert tensor_role("a." * 2040 + "q_proj.weight", (1,), "F32") is Role.ATTENTION_Q
    assert tensor_role("a." * 2048 + "q_proj.weight", (1,), "F32") is Role.OTHER


@given(
    st.text(max_size=200),
    st.lists(st.integers(), max_size=8),
    st.sampled_from(["F32", "I64", "Q4_K", ""]),
)
def test_any_name_has_a_role(name: str, shape: list[int], dtype: str) -> None:
    assert tensor_role(name, shape, dtype) in Role


@given(st.sampled_from(["model.", "base_model.model.", "text_model.", "a.b.c.d.e.f."]))
def test_a_prefix_does_not_change_the_role_of_a_block_tensor(prefix: str) -> None:
    for name in ("layers.3.self_attn.q_proj.weight", "layers.3.mlp.down_proj.weight"):
        assert tensor_role(prefix + name, (8, 8), "F32") == tensor_role(name, (8, 8), "F32")


def test_values_are_stable_words() -> None:
    assert len({role.value for role in Role}) == len(Role) == 35
    assert {role.value for role in NOT_PARAMETERS} == {
        "rope", "scale", "zero-point", "group-index", "optimizer-state", "buffer",
    }  # fmt: skip
