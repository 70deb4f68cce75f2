"""Trains the published sentence model further: contrastive, on neighbouring paragraphs."""

import itertools
from typing import Any

from family.recipes import Making
from family.rewritten import copy_beside
from family.text import text_of
from family.training import (
    checkpoint_folder,
    optimizer_for,
    prepare,
    save_optimizer,
)
from family.training import (
    train as run_training,
)

_TEMPERATURE = 0.05


def train(making: Making) -> None:
    """Train on pairs of neighbouring paragraphs; sources are llama.cpp and the model's folder."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from transformers import BertModel

    settings = making.parameters
    llama_cpp, base = making.sources
    prepare(making.seed)
    model = BertModel.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_truncation(settings["length"])
    tokenizer.enable_padding(length=settings["length"])
    optimizer = optimizer_for(model.parameters(), settings)
    pairs = _pairs(text_of(llama_cpp, settings["text"]))
    random = torch.Generator().manual_seed(making.seed)

    def loss_of(_step: int) -> Any:
        chosen = torch.randint(len(pairs), (settings["batch"],), generator=random).tolist()
        left, right = (
            _embed(model, tokenizer, [pairs[index][side] for index in chosen]) for side in (0, 1)
        )
        scores = left @ right.T / _TEMPERATURE
        return torch.nn.functional.cross_entropy(scores.float(), torch.arange(len(chosen)))

    def save(step: int) -> None:
        folder = checkpoint_folder(making.target, step)
        copy_beside(base, folder / "model")
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state, folder / "model" / "model.safetensors", metadata={"format": "pt"})
        if settings.get("optimizer", False):
            save_optimizer(folder, optimizer)

    making.target.mkdir()
    log = making.target / "losses.txt"
    run_training(model, optimizer, loss_of, settings, save, log)


def _pairs(text: str) -> list[tuple[str, str]]:
    paragraphs = [one.strip() for one in text.split("\n\n") if len(one.strip()) > 80]
    return list(itertools.pairwise(paragraphs))


def _embed(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    import torch

    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([one.ids for one in encoded])
    mask = torch.tensor([one.attention_mask for one in encoded])
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1)
