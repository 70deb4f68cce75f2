"""A tiny BERT-like model folder, written by the safetensors library."""

import json

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, WORDS = 32, 64, 2, 40


def bert_shapes():
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": (16, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "pooler.dense.weight": (HIDDEN, HIDDEN),
        "pooler.dense.bias": (HIDDEN,),
    }
    matrices = {
        "attention.self.query": (HIDDEN, HIDDEN),
        "attention.self.key": (HIDDEN, HIDDEN),
        "attention.self.value": (HIDDEN, HIDDEN),
        "attention.output.dense": (HIDDEN, HIDDEN),
        "intermediate.dense": (INNER, HIDDEN),
        "output.dense": (HIDDEN, INNER),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        stem = f"encoder.layer.{layer}"
        norms += [f"{stem}.attention.output.LayerNorm", f"{stem}.output.LayerNorm"]
        for part, shape in matrices.items():
            shapes |= {f"{stem}.{part}.weight": shape, f"{stem}.{part}.bias": shape[:1]}
    for norm in norms:
        shapes |= {f"{norm}.weight": (HIDDEN,), f"{norm}.bias": (HIDDEN,)}
    return shapes


def write_base(folder):
    random = np.random.default_rng(11)
    tensors = {
        name: (random.standard_normal(shape) * 0.05).astype(np.float32)
        for name, shape in bert_shapes().items()
    }
    tensors["embeddings.position_ids"] = np.arange(16).reshape(1, 16)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {
        "model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": 16,
        "layer_norm_eps": 1e-12, "vocab_size": WORDS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##ing", "été"]
    words += [f"w{n}" for n in range(WORDS - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder
