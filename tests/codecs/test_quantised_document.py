"""The test vectors of docs/format-quantised.md, decoded by everything that decodes."""

import re
from pathlib import Path

import pytest
from quantised_samples import fixture_names, formula, tensors
from test_fields_document import read_hex

from hartonomous.codecs import kernel
from hartonomous.codecs.kernel import VARIABLE
from hartonomous.codecs.quantised import QuantisedCodec
from hartonomous.codecs.quantised_blocks import SHAPES
from hartonomous.packs import rescue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format-quantised.md"
_VECTOR = re.compile(
    r"^### \d+\. (\w+)(.+?)\n.*?```hex\n(.*?)```\n.*?```hex\n(.*?)```", re.M | re.S
)
FOUND = _VECTOR.findall(PAGE.read_text(encoding="utf-8"))
NAMES = [name for dtype in SHAPES for name in fixture_names(dtype)]
VECTORS = [
    pytest.param(dtype, read_hex(payload), read_hex(frame), id=f"{dtype}{title}")
    for dtype, title, payload, frame in FOUND
]


def test_the_page_has_a_vector_of_every_recipe():
    assert len(FOUND) == PAGE.read_text(encoding="utf-8").count("\n### ")
    kinds = {(dtype, read_hex(payload)[0]) for dtype, _, payload, _ in FOUND}
    recipes = {(name, recipe) for name, shape in SHAPES.items() for recipe in shape.recipes}
    assert kinds == recipes | {(one, 16) for one in ("I8", "U8", "F8_E4M3", "F8_E5M2")}


@pytest.mark.parametrize(("dtype", "payload", "frame"), VECTORS)
@pytest.mark.parametrize("path", kernel.available())
def test_each_path_decodes_the_vectors(path, dtype, payload, frame, monkeypatch):
    monkeypatch.setenv(VARIABLE, path)
    codec, out = QuantisedCodec(), memoryview(bytearray(len(frame)))
    first, stop = codec.window(dtype, 0, len(frame))
    source = formula(stop)[first:]
    codec.decode_many([memoryview(payload)], [source], [out], dtype, positions=[0])
    assert bytes(out) == frame


@pytest.mark.parametrize(("dtype", "payload", "frame"), VECTORS)
def test_rescue_decodes_the_vectors(dtype, payload, frame):
    first, stop = QuantisedCodec().window(dtype, 0, len(frame))
    source = formula(stop)[first:]
    assert rescue.decode_quantised(payload, source, dtype, 0, len(frame)) == frame


@pytest.mark.parametrize("name", NAMES)
def test_rescue_decodes_llama_cpps_tensors(name):
    """By their recipes and by the search: differences of all kinds, bit for bit."""
    dtype, source = name.split(".")[0], tensors("F32")[0]
    rows = 50 * 256
    content = tensors(name)[0][: rows // 256 * len(tensors(name)[0]) // 288].tobytes()
    frame, position = content[7:], 7
    first, stop = QuantisedCodec().window(dtype, position, len(frame))
    for smallest in (False, True):
        (payload,) = QuantisedCodec().encode_many(
            [memoryview(frame)],
            [source[first:stop]],
            dtype,
            positions=[position],
            smallest=smallest,
        )
        found = rescue.decode_quantised(payload, source[first:stop], dtype, position, len(frame))
        assert found == frame
        with pytest.raises(rescue.DamageError):
            rescue.decode_quantised(payload[:-1], source[first:stop], dtype, position, len(frame))
