"""PyTorch's own checkpoints of a model: the zip of today and the pickle before it."""

from family.recipes import Making
from family.rewritten import copy_beside
from family.weights_file import MODEL_FILE


def checkpoint(making: Making) -> None:
    """Write ``pytorch_model.bin`` in a model folder; ``legacy`` asks for the old form."""
    import torch
    from safetensors.torch import load_file

    state = load_file(making.sources[0] / MODEL_FILE)
    copy_beside(making.sources[0], making.target)
    torch.save(
        state,
        making.target / "pytorch_model.bin",
        _use_new_zipfile_serialization=not making.parameters.get("legacy", False),
    )
