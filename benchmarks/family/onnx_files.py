"""ONNX: PyTorch's export of the sentence model, and its int8 form by onnxruntime."""

from typing import Any

from family.recipes import Making
from family.training import prepare


def exported(making: Making) -> None:
    """Export the encoder with ids and mask as inputs and the hidden states as output."""
    import torch
    from transformers import BertModel

    prepare(making.seed)
    model = BertModel.from_pretrained(
        making.sources[0], dtype=torch.float32, local_files_only=True, attn_implementation="eager"
    )
    ids = torch.ones((1, 16), dtype=torch.int64)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        _encoder(model.eval()), (ids, ids), str(making.target), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "last_hidden_state": axes},
    )  # fmt: skip


def _encoder(model: Any) -> Any:
    import torch

    class Encoder(torch.nn.Module):
        """Two tensors in, one out: what the exporter can name."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """Return the last layer's states."""
            return self.encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state

    return Encoder()


def int8(making: Making) -> None:
    """Quantise the weights to int8, activations when the model runs (``quantize_dynamic``)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(making.sources[0]), str(making.target), weight_type=QuantType.QInt8)
