"""Summaries of models from the descriptions of their files."""

import msgspec
import pytest
from described_model import side, summary_of, tensor, weights
from gguf import LlamaFileType

from hartonomous.core.description import Description, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.model import summarise, tensor_facts
from hartonomous.core.quantisation import FILE_TYPES
from hartonomous.core.role import Role

# all-MiniLM-L6-v2 as its files say it.
LAYER = {
    "attention.self.query": (384, 384), "attention.self.key": (384, 384),
    "attention.self.value": (384, 384), "attention.output.dense": (384, 384),
    "intermediate.dense": (1536, 384), "output.dense": (384, 1536),
}  # fmt: skip


def minilm() -> tuple[Tensor, ...]:
    found = [
        tensor("embeddings.position_ids", (1, 512), "I64"),
        tensor("embeddings.word_embeddings.weight", (30522, 384)),
        tensor("embeddings.position_embeddings.weight", (512, 384)),
        tensor("embeddings.token_type_embeddings.weight", (2, 384)),
        tensor("pooler.dense.weight", (384, 384)),
        tensor("pooler.dense.bias", (384,)),
    ]
    norms = ["embeddings.LayerNorm"]
    for index in range(6):
        layer = f"encoder.layer.{index}"
        for name, shape in LAYER.items():
            found.append(tensor(f"{layer}.{name}.weight", shape))
            found.append(tensor(f"{layer}.{name}.bias", shape[:1]))
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    found += [tensor(f"{norm}.{leaf}", (384,)) for norm in norms for leaf in ("weight", "bias")]
    return tuple(found)


BERT_CONFIG = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384,
    "intermediate_size": 1536, "max_position_embeddings": 512, "num_attention_heads": 12,
    "num_hidden_layers": 6, "vocab_size": 30522,
}  # fmt: skip


def test_a_sentence_transformer_folder() -> None:
    summary = summary_of(
        weights("model.safetensors", *minilm()),
        side("config.json", BERT_CONFIG),
        side("1_Pooling/config.json", {"word_embedding_dimension": 384, "model_type": "pooling"}),
        side("tokenizer.json", {"model_type": "WordPiece", "vocabulary_size": 30522}),
        side("vocab.txt", {}),
        side(
            "README.md",
            {
                "license": "apache-2.0", "language": "en", "tags": ["sentence-similarity", "x"],
                "pipeline_tag": "sentence-similarity", "library_name": "sentence-transformers",
                "datasets": ["s2orc"], "title": "all-MiniLM-L6-v2", "summary": "It maps\nsentences",
                "base_model": ["nreimers/MiniLM-L6-H384-uncased"],
            },
        ),
    )  # fmt: skip
    assert summary.parameter_count == 22_713_216  # what transformers counts
    assert (summary.tensor_count, summary.tensor_bytes) == (104, 90_856_960)
    assert (summary.architecture, summary.model_type) == ("BertModel", "bert")
    assert (summary.context_length, summary.embedding_length) == (512, 384)
    assert (summary.vocabulary_size, summary.head_count, summary.layer_count) == (30522, 12, 6)
    assert summary.feed_forward_length == 1536
    assert summary.dtypes["F32"].parameters == 22_713_216
    assert summary.dtypes["I64"].bytes == 4096
    assert summary.roles["attention-q"].tensors == 12
    assert [layer.name for layer in summary.layers][:2] == ["embeddings", "encoder.layer.0"]
    assert summary.layers[-1].name == "pooler"
    assert summary.quantisation is None and summary.bits_per_weight == 32.0
    assert summary.licence == "apache-2.0" and summary.languages == ["en"]
    assert summary.summary == "It maps sentences"
    [base] = summary.declared_base_models
    assert (base.name, base.said_by) == ("nreimers/MiniLM-L6-H384-uncased", "model-card")
    assert summary.tokenizer is not None and summary.tokenizer.kind == "WordPiece"
    assert summary.tokenizer.files == ["tokenizer.json", "vocab.txt"]
    assert summary.training is None and summary.adapter is None and summary.notices == []


def test_weights_alone_tell_what_their_tensors_show() -> None:
    summary = summary_of(weights("renamed.safetensors", *minilm()))
    assert summary.parameter_count == 22_713_216
    assert summary.architecture is None and summary.context_length is None
    assert (summary.vocabulary_size, summary.embedding_length) == (30522, 384)
    assert summary.layer_count == 6


def test_shards_equal_the_single_file() -> None:
    tensors = minilm()
    whole = summary_of(weights("model.safetensors", *tensors))
    parts = summary_of(
        weights("model-00001-of-00002.safetensors", *tensors[:50]),
        weights("model-00002-of-00002.safetensors", *tensors[50:]),
    )
    assert msgspec.structs.replace(parts, weight_sets=[]) == msgspec.structs.replace(
        whole, weight_sets=[]
    )
    assert [(one.name, one.file_count) for one in parts.weight_sets] == [("model", 2)]


def test_an_index_joins_shards_of_any_name() -> None:
    first, second = tensor("a.weight", (2, 2)), tensor("b.weight", (3, 3))
    summary = summary_of(
        weights("part_a.safetensors", first),
        weights("part_b.safetensors", second, first),
        side("model.safetensors.index.json", {"shards": {"part_a.safetensors": 1,
             "part_b.safetensors": 2, "../evil": 3}}),
    )  # fmt: skip
    assert [(one.name, one.file_count) for one in summary.weight_sets] == [("model", 2)]
    assert (summary.parameter_count, summary.tensor_count) == (13, 2)


def test_nothing_with_tensors_is_no_model() -> None:
    assert summarise([]) is None
    assert summarise([side("config.json", BERT_CONFIG)]) is None


LLAMA_KEYS = {
    "general.architecture": "llama", "general.name": "Tiny", "general.file_type": 15,
    "general.license": "mit", "llama.context_length": 4096, "llama.embedding_length": 64,
    "llama.block_count": 2, "llama.attention.head_count": [8, 8],
    "llama.attention.head_count_kv": {
        "type": "array", "element_type": "uint32", "count": 20, "head": [2] * 16
    },
    "llama.feed_forward_length": 256, "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": {
        "type": "array", "element_type": "string", "count": 32000, "head": ["<s>"]
    },
    "general.languages": ["en", "de"], "general.tags": ["chat"],
    "general.base_model.count": 2, "general.base_model.0.name": "Base",
    "general.base_model.0.organization": "Org",
    "general.base_model.1.repo_url": "https://hub.invalid/org/base-7b",
}  # fmt: skip


def test_a_gguf_file() -> None:
    summary = summary_of(
        weights(
            "tiny.Q4_K_M.gguf",
            tensor("token_embd.weight", (512, 256), "Q6_K"),
            tensor("blk.0.ffn_down.weight", (256, 1024), "Q4_K"),
            tensor("blk.1.ffn_down.weight", (256, 1024), "Q4_K"),
            tensor("blk.0.attn_norm.weight", (256,)),
            tensor("rope_freqs.weight", (32,)),
            **LLAMA_KEYS,
        )
    )
    assert (summary.architecture, summary.name) == ("llama", "Tiny")
    assert summary.parameter_count == 512 * 256 + 2 * 256 * 1024 + 256
    assert summary.quantisation is not None
    assert summary.quantisation.method == "ggml" and summary.quantisation.bits == 4
    assert summary.quantisation.file_type == "Q4_K_M"
    assert summary.bits_per_weight == pytest.approx(4.92, abs=0.02)
    assert (summary.context_length, summary.vocabulary_size) == (4096, 32000)
    assert (summary.head_count, summary.kv_head_count, summary.layer_count) == (8, 2, 2)
    assert [base.name for base in summary.declared_base_models] == ["Org/Base", "org/base-7b"]
    assert summary.tokenizer is not None and summary.tokenizer.vocabulary_size == 32000
    assert summary.languages == ["en", "de"] and summary.licence == "mit"


@pytest.mark.parametrize("dtype", ["Q8_0", "Q2_K", "IQ3_XXS", "IQ4_NL", "MXFP4", "TQ2_0"])
def test_a_gguf_file_without_a_file_type(dtype: str) -> None:
    # As the small quantised fixtures are: two tensors, no more keys than these.
    rows = [tensor(f"blk.{index}.ffn_down.weight", (48, 1536), dtype) for index in (0, 3)]
    keys = {"general.architecture": "bert", "general.name": "mini"}
    summary = summary_of(weights(f"mini.{dtype}.gguf", *rows, **keys))
    assert summary.quantisation is not None and summary.quantisation.method == "ggml"
    assert summary.quantisation.file_type is None
    block = DTYPES[dtype]
    assert summary.bits_per_weight == 8 * block.block_bytes / block.block_elements
    assert summary.quantisation.bits == int(next(char for char in dtype if char.isdigit()))
    assert summary.layer_count == 2 and summary.parameter_count == 2 * 48 * 1536


@pytest.mark.parametrize(("number", "dtype"), [(0, "F32"), (1, "F16"), (32 + 1024, "BF16")])
def test_a_plain_gguf_file_is_not_quantised(number: int, dtype: str) -> None:
    row = tensor("blk.0.ffn_down.weight", (4, 8), dtype)
    summary = summary_of(weights("m.gguf", row, **{"general.file_type": number}))
    assert summary.quantisation is None and summary.notices == []


def test_file_types_are_those_of_gguf() -> None:
    theirs = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in LlamaFileType
        if kind.value < 1024
    }
    assert theirs.items() <= FILE_TYPES.items()


def test_copies_of_the_same_weights_count_once() -> None:
    tensors = minilm()
    ggml = tensor("token_embd.weight", (256, 256), "Q4_K")
    members = [
        weights("model.safetensors", *tensors),
        weights("model.fp16.safetensors", *(tensor(t.name, t.shape, "F16") for t in tensors)),
        weights("onnx/model.safetensors", *tensors),
        weights("checkpoint-500/model.safetensors", *tensors),
        weights("model.Q4_K.gguf", ggml, **{"general.architecture": "bert"}),
    ]
    summary = summary_of(*members)
    assert summary.parameter_count == 22_713_216
    assert summary.formats == ["gguf", "safetensors"]
    counted = [one.name for one in summary.weight_sets if one.counted]
    assert counted == ["model"] and len(summary.weight_sets) == 5
    assert summarise(members[::-1]) == summary


def test_components_in_folders_add_up() -> None:
    part = tensor("encoder.layers.0.fc1.weight", (10, 10))
    summary = summary_of(
        weights("text_encoder/model.safetensors", part),
        weights("text_encoder_2/model.safetensors", part),
        weights("unet/model.safetensors", tensor("conv_in.weight", (20, 4, 3, 3))),
        side("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
    )
    assert summary.parameter_count == 2 * 100 + 720
    assert summary.architecture == "StableDiffusionXLPipeline"
    assert len(summary.layers) == 3


def test_the_latest_checkpoint_counts_and_a_second_copy_does_not() -> None:
    old, new = tensor("a.weight", (4, 4)), tensor("a.weight", (4, 4), "F16")
    summary = summary_of(
        weights("checkpoint-90/model.safetensors", old),
        weights("checkpoint-1000/model.safetensors", new),
    )
    assert list(summary.dtypes) == ["F16"]
    summary = summary_of(
        weights("consolidated.safetensors", tensor("layers.0.attention.wq.weight", (4, 4))),
        weights("model.safetensors", tensor("model.layers.0.self_attn.q_proj.weight", (4, 4))),
    )
    assert summary.parameter_count == 16


def test_a_vision_projector_beside_its_language_model_counts() -> None:
    summary = summary_of(
        weights("model.gguf", tensor("blk.0.attn_q.weight", (4, 4)), **LLAMA_KEYS),
        weights("mmproj.gguf", tensor("v.blk.0.attn_q.weight", (2, 2))),
    )
    assert summary.parameter_count == 20
    assert summary.architecture == "llama"


def test_numpy_files_are_named_by_their_files() -> None:
    summary = summary_of(
        weights("wte.npy", tensor("array", (10, 4))), weights("b.npy", tensor("array", (4,)))
    )
    assert (summary.parameter_count, summary.tensor_count) == (44, 2)
    assert summary.vocabulary_size == 10 and summary.formats == ["npy"]


def test_quantisation_that_only_tensors_show() -> None:
    fp8 = summary_of(weights("m.safetensors", tensor("a.weight", (8, 8), "F8_E4M3")))
    assert fp8.quantisation is not None
    assert (fp8.quantisation.method, fp8.quantisation.bits) == ("fp8", 8)
    declared = summary_of(
        weights("m.safetensors", tensor("x.qweight", (8, 8), "I32")),
        side("quantize_config.json", {"bits": 3, "group_size": 64}),
    )
    assert declared.quantisation is not None and declared.quantisation.bits == 3
    loaded = summary_of(
        weights("m.safetensors", tensor("x.weight", (8, 8), "U8")),
        side("config.json", {"quantization_config": {"load_in_4bit": True}}),
    )
    assert loaded.quantisation is not None and loaded.quantisation.bits == 4


def test_an_adapter() -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    summary = summary_of(
        weights(
            "adapter_model.safetensors",
            tensor(f"{name}.lora_A.weight", (8, 64)),
            tensor(f"{name}.lora_B.weight", (64, 8)),
        ),
        side(
            "adapter_config.json",
            {
                "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"],
                "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base",
            },
        ),
    )  # fmt: skip
    assert summary.adapter is not None
    assert (summary.adapter.kind, summary.adapter.rank) == ("lora", 8)
    assert summary.adapter.alpha == 16 and summary.adapter.target_modules == ["q_proj"]
    [base] = summary.declared_base_models
    assert (base.name, base.said_by, base.relation) == ("org/base", "adapter-config", "adapter")
    unnamed = summary_of(weights("a.safetensors", tensor(f"{name}.lora_A.weight", (4, 64))))
    assert unnamed.adapter is not None and unnamed.adapter.rank == 4


def test_training_state() -> None:
    summary = summary_of(
        weights("model.safetensors", tensor("a.weight", (4, 4))),
        weights("optimizer.safetensors", tensor("a.weight", (4, 4)), tensor("state.0.m", (4,))),
        side("trainer_state.json", {"global_step": 1200}),
        side("optimizer.pt", {}),
    )
    assert summary.parameter_count == 16 and summary.tensor_count == 1
    assert summary.training is not None and summary.training.has_optimizer_state
    assert (summary.training.tensor_count, summary.training.step) == (2, 1200)
    assert summary.training.files == ["optimizer.pt", "optimizer.safetensors"]
    found = tensor_facts("optimizer.safetensors", [tensor("a.weight", (1,))])
    assert found == [(Role.OPTIMIZER_STATE, None)]


@pytest.mark.parametrize("name", ["rng_state.pth", "rng_state_0.pth", "random_states_12.pt"])
def test_states_of_random_generators_are_no_parameters(name: str) -> None:
    rng = Description(format="torch-zip", tensors=(tensor("cpu", (5056,), "U8"),))
    held = Description(format="torch-zip", tensors=(tensor("a.weight", (4, 4)),))
    summary = summary_of(("pytorch_model.bin", held), (name, rng))
    assert (summary.parameter_count, summary.tensor_count) == (16, 1)


def test_an_optimizer_alone_has_no_parameters() -> None:
    summary = summary_of(weights("optimizer.safetensors", tensor("state.0.exp_avg", (4, 4))))
    assert summary.parameter_count == summary.tensor_count == 0
    assert summary.training is not None and summary.training.tensor_count == 1


def test_facts_of_a_tensor_name_the_layer_of_the_summary() -> None:
    one = tensor("encoder.layer.3.output.dense.weight", (4, 4))
    assert tensor_facts("model.safetensors", [one]) == [(Role.MLP_DOWN, "encoder.layer.3")]
    assert tensor_facts("sub/m.safetensors", [one]) == [(Role.MLP_DOWN, "sub/encoder.layer.3")]
    assert tensor_facts("m.npy", [tensor("array", (4,))]) == [(Role.OTHER, None)]
    [layer] = summary_of(weights("sub/m.safetensors", one)).layers
    assert layer.name == "sub/encoder.layer.3"


def test_nested_configuration_and_other_licence() -> None:
    summary = summary_of(
        weights("model.safetensors", tensor("a.weight", (4, 4))),
        side("config.json", {"text_config": {"hidden_size": 77, "num_key_value_heads": 2}}),
        side("readme.md", {"license": "other", "license_name": "community", "base_model": "x/y"}),
    )
    assert (summary.embedding_length, summary.kv_head_count) == (77, 2)
    assert summary.licence == "community"
    assert [base.name for base in summary.declared_base_models] == ["x/y"]


WRONG = {
    "architectures": {"a": 1}, "model_type": ["x"], "hidden_size": "384", "vocab_size": -1,
    "max_position_embeddings": 10**400, "num_hidden_layers": True, "num_attention_heads": 1.5,
    "quantization_config": "gptq", "text_config": [1], "intermediate_size": [None, "x"],
}  # fmt: skip


def test_wrong_types_are_left_out_with_notices() -> None:
    summary = summary_of(
        weights(
            "m.gguf",
            tensor("a.weight", (4, 4)),
            **{"general.architecture": 7, "general.file_type": 99, "general.name": {"type": 1}},
        ),
        side("config.json", WRONG),
        side("README.md", {"license": 3, "tags": {"x": 1}, "language": [1, 2], "title": 5}),
        side("adapter_config.json", ["no", "object"]),
        side("tokenizer.json", {"model": 3, "vocabulary_size": "many"}),
        side("trainer_state.json", {"global_step": "soon"}),
    )
    assert summary.architecture is None and summary.embedding_length is None
    assert summary.quantisation is None and summary.licence is None
    assert summary.layer_count == 0 and summary.training is None
    told = " ".join(notice.text for notice in summary.notices)
    for key in ("hidden_size", "vocab_size", "general.file_type", "license", "global_step"):
        assert key in told


def test_hostile_tensors_are_bounded() -> None:
    names = ["." * 10_000, "x" * 4096, "a." * 3000, "layers.1." + "\x1b[2J\u202e" * 9, "\x00"]
    tensors = [
        Tensor(name=name, dtype="?" * 5000, shape=(2**4000, 3), offset=0, length=2**80)
        for name in names
    ]
    shapes = [(2**64,) * 50, (-1, 5), (0,) * 1000, ()]
    tensors += [
        Tensor(name=f"s{index}", dtype=f"T{index}", shape=shape, offset=0, length=-5)
        for index, shape in enumerate(shapes)
    ]
    summary = summary_of(("m.safetensors", Description(format="f" * 999, tensors=tuple(tensors))))
    assert summary.parameter_count == 2**63 - 1
    assert all("\x1b" not in layer.name for layer in summary.layers)


def test_many_layers_dtypes_and_sets_are_aggregated() -> None:
    tensors = [
        Tensor(name=f"blk.{index}.w", dtype=f"T{index % 99}", shape=(2,), offset=0, length=1)
        for index in range(5000)
    ]
    many = [weights(f"d{index}/m.safetensors", tensor("w", (2,))) for index in range(99)]
    summary = summary_of(("m.gguf", Description(format="gguf", tensors=tuple(tensors))), *many)
    assert len(summary.layers) == 4096 and len(summary.weight_sets) == 64
    assert len(summary.dtypes) <= 65
    assert sum(layer.tensor_count for layer in summary.layers) == summary.tensor_count == 5099
    assert sum(share.tensors for share in summary.dtypes.values()) == 5099
    assert sum(share.parameters for share in summary.dtypes.values()) == summary.parameter_count
    assert "weight-sets" in {notice.kind for notice in summary.notices}
