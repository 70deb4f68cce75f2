"""Keras's files: what their notices say of layers that hold code."""

from hartonomous.formats.keras import HDF5, LAYERS_KEPT
from hartonomous.formats.reader import BytesReader


def test_every_lambda_layer_is_counted_though_some_are_listed() -> None:
    text = b'{"class_name": "Lambda", "config": {}}' * (LAYERS_KEPT + 36)
    found = HDF5.parse(BytesReader(b"\x89HDF\r\n\x1a\n" + text))
    assert len(found.metadata["lambda_layers"]) == LAYERS_KEPT
    (notice,) = found.notices
    assert notice.kind == "lambda-layer"
    assert notice.text.startswith("100 Lambda layers: ")
