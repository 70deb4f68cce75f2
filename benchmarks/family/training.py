"""One training loop, with checkpoints and optimizer states, that gives the same run twice.

Threads are fixed, since the order of sums depends on them. Bytes still depend on the processor's
kind (its matrix instructions), so trained members have no pinned digest.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

THREADS = 2


def prepare(seed: int) -> None:
    """Seed everything and fix what the order of sums depends on."""
    import torch

    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def optimizer_for(parameters: Iterable[Any], settings: Mapping[str, Any]) -> Any:
    """Return AdamW over what is trained; moments have the parameters' type."""
    import torch

    return torch.optim.AdamW(
        [one for one in parameters if one.requires_grad],
        lr=settings["learning_rate"], weight_decay=settings.get("weight_decay", 0.0),
        betas=(0.9, settings.get("beta2", 0.999)),
    )  # fmt: skip


def train(
    model: Any,
    optimizer: Any,
    loss_of: Callable[[int], Any],
    settings: Mapping[str, Any],
    save: Callable[[int], None],
    log: Path,
) -> None:
    """Run ``steps`` steps of warm-up and cosine decay; ``save`` is called at each checkpoint.

    Step and loss go to ``log``, a line each, to see that something is learnt.
    """
    import torch

    steps, checkpoints = settings["steps"], set(settings["checkpoints"])
    warm_up = max(1, steps // 20)

    def rate(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        return min(1.0, (step + 1) / warm_up) * (0.1 + 0.9 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train()
    with log.open("w", encoding="ascii", buffering=1) as lines:
        for step in range(1, steps + 1):
            # Products in bfloat16, weights and moments as they are: what most people train with.
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            lines.write(f"{step} {float(loss.detach()):.5f}\n")
            if step in checkpoints:
                save(step)


def checkpoint_folder(target: Path, step: int) -> Path:
    """Return the folder of a checkpoint, as ``Trainer`` names it, made."""
    folder = target / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    return folder


def save_optimizer(folder: Path, optimizer: Any) -> None:
    """Write the optimizer's state beside the weights, as ``Trainer`` does."""
    import torch

    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
