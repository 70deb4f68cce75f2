"""Trains the 17 M-parameter Llama and its fine-tunes.

Its rows are multiples of 256 wide, so that llama.cpp's K-quants apply to every matrix.
"""

import shutil
from pathlib import Path
from typing import Any

from family.recipes import Making
from family.text import text_of, tokens_of
from family.training import (
    checkpoint_folder,
    optimizer_for,
    prepare,
    save_optimizer,
)
from family.training import (
    train as run_training,
)


def train(making: Making) -> None:
    """Train on text; sources are llama.cpp, the vocabulary and, for a fine-tune, the base.

    Parameters: ``text``, ``steps``, ``checkpoints``, ``batch``, ``length``, ``learning_rate``,
    ``weight_decay``, ``dtype`` (bfloat16: weights and moments too), ``trained_layers`` (only the
    last ones, with the head), ``optimizer`` (whether states are kept), ``shape`` (a new model's).
    """
    import torch

    settings = making.parameters
    llama_cpp, words, *base = making.sources
    prepare(making.seed)
    model = _model(base[0] if base else None, settings)
    if settings.get("dtype") == "bfloat16":
        model = model.to(torch.bfloat16)
    _freeze(model, settings.get("trained_layers"))
    optimizer = optimizer_for(model.parameters(), settings)
    tokens = torch.tensor(tokens_of(words, text_of(llama_cpp, settings["text"])))
    random = torch.Generator().manual_seed(making.seed)

    def loss_of(_step: int) -> Any:
        batch = draw(tokens, settings, random)
        return model(input_ids=batch, labels=batch).loss

    def save(step: int) -> None:
        folder = checkpoint_folder(making.target, step)
        (folder / "model").mkdir()
        save_model(model, words, folder / "model")
        if settings.get("optimizer", False):
            save_optimizer(folder, optimizer)

    making.target.mkdir()
    log = making.target / "losses.txt"
    run_training(model, optimizer, loss_of, settings, save, log)


def draw(tokens: Any, settings: Any, random: Any) -> Any:
    """Return ``batch`` rows of ``length`` tokens from anywhere in the text."""
    import torch

    length = settings["length"]
    starts = torch.randint(len(tokens) - length, (settings["batch"],), generator=random)
    return torch.stack([tokens[start : start + length] for start in starts.tolist()])


def _model(base: Path | None, settings: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if base is None:
        return LlamaForCausalLM(LlamaConfig(**settings["shape"]))
    return LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)


def _freeze(model: Any, trained_layers: int | None) -> None:
    if trained_layers is None:
        return
    for one in model.parameters():
        one.requires_grad = False
    for part in [*model.model.layers[-trained_layers:], model.lm_head]:
        for one in part.parameters():
            one.requires_grad = True


def save_model(model: Any, words: Path, folder: Path) -> None:
    """Write a folder in the Hugging Face layout, with its vocabulary."""
    model.save_pretrained(folder, safe_serialization=True)
    shutil.copyfile(words / "tokenizer.model", folder / "tokenizer.model")
