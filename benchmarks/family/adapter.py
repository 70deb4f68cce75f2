"""Trains a LoRA adapter with peft, and merges it into its base."""

import shutil
from typing import Any

from family.language_model import draw
from family.recipes import Making
from family.text import text_of, tokens_of
from family.training import optimizer_for, prepare
from family.training import train as run_training


def train(making: Making) -> None:
    """Train an adapter of ``rank``; sources are llama.cpp, the vocabulary and the base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    settings = making.parameters
    llama_cpp, words, base = making.sources
    prepare(making.seed)
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True),
        LoraConfig(r=settings["rank"], lora_alpha=2 * settings["rank"], task_type="CAUSAL_LM",
                   target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    )  # fmt: skip
    optimizer = optimizer_for(model.parameters(), settings)
    tokens = torch.tensor(tokens_of(words, text_of(llama_cpp, settings["text"])))
    random = torch.Generator().manual_seed(making.seed)

    def loss_of(_step: int) -> Any:
        batch = draw(tokens, settings, random)
        return model(input_ids=batch, labels=batch).loss

    log = making.target.with_name("losses.txt")
    run_training(model, optimizer, loss_of, settings, lambda _step: None, log)
    model.peft_config["default"].base_model_name_or_path = base.name  # not this machine's path
    model.save_pretrained(making.target, safe_serialization=True)
    (making.target / "README.md").unlink(missing_ok=True)  # a template with nothing in it


def merged(making: Making) -> None:
    """Write the base with the adapter added to it; sources are the base and the adapter."""
    import torch
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    base, adapter = making.sources
    prepare(making.seed)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    whole: Any = PeftModel.from_pretrained(model, adapter, is_trainable=False)
    making.target.mkdir()
    whole.merge_and_unload().save_pretrained(making.target, safe_serialization=True)
    shutil.copyfile(base / "tokenizer.model", making.target / "tokenizer.model")
