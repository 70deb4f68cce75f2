"""The files of a checkpoint that is made of tensors in memory: weights, and an optimizer's state.

They are two members, so that the optimizer's can be dropped by itself. What is no tensor of it
(step counts, learning rates, param_groups) is JSON in its header; see ``core.state_tree``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hartonomous.core.given_tensor import is_tensor, is_torch
from hartonomous.core.state_tree import encode_state, flatten
from hartonomous.errors import UsageError
from hartonomous.packs.tensor_file import TensorFile, TensorStream
from hartonomous.ports.source import MemberSource

WEIGHTS_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STEP_KEY = "training.step"
"""The step, in the metadata of the version and in both files' headers."""
STATE_KEY = "training.state"
"""The optimizer's state without its tensors, in its file's header."""
MAX_STEP = 2**53


def checkpoint_files(
    tensors: Mapping[Any, Any] | Iterable[tuple[str, Any]],
    *,
    optimizer: object = None,
    step: int | None = None,
    now_us: int,
) -> tuple[MemberSource, ...]:
    """Return the members of a version; raises UsageError for what cannot be written.

    ``tensors`` are (nested) dictionaries, or an iterator of (name, tensor) pairs; ``optimizer`` is
    the state of one, as ``state_dict()`` gives it.
    """
    step_text = {} if step is None else {STEP_KEY: str(check_step(step))}
    weights: TensorFile | TensorStream
    if isinstance(tensors, Mapping):
        flat = flatten(tensors, is_tensor)
        # What transformers asks of a file that it loads.
        framework = {"format": "pt"} if any(map(is_torch, flat.values())) else {}
        weights = TensorFile(WEIGHTS_FILE, flat, {**framework, **step_text})
    elif isinstance(tensors, Iterable):
        weights = TensorStream(WEIGHTS_FILE, tensors, step_text)
    else:
        raise UsageError(
            f"{type(tensors).__name__} is neither a dictionary nor an iterator of (name, tensor)",
            hint="of a module give module.state_dict()",
        )
    files = [(WEIGHTS_FILE, weights)]
    if optimizer is not None:
        text, held = encode_state(optimizer, is_tensor)
        framework = {"format": "pt"} if any(map(is_torch, held.values())) else {}
        told = {**framework, **step_text, STATE_KEY: text}
        files.append((OPTIMIZER_FILE, TensorFile(OPTIMIZER_FILE, held, told)))
    return tuple(
        MemberSource(
            path=path, location=path, size=made.size, mode=0o644, modified_us=now_us, made=made
        )
        for path, made in files
    )


def check_step(step: object) -> int:
    """Return a step if it is one; raises UsageError."""
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= MAX_STEP:
        raise UsageError(f"step {step!r} is not a whole number from 0 to 2^53")
    return step


def step_label(step: int) -> str:
    """Return the label of a step's version, so that ``NAME@step-100`` is it."""
    return f"step-{step}"
