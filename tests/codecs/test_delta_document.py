"""The test vectors of docs/format-delta.md, decoded by everything that decodes."""

import re
from pathlib import Path

import pytest
from test_fields_document import read_hex

from hartonomous.codecs import kernel
from hartonomous.codecs.differences import KINDS
from hartonomous.packs import rescue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format-delta.md"
_VECTOR = re.compile(r"^### (\d+\. .+?)\n" + r".*?```hex\n(.*?)```" * 3, re.M | re.S)
_NAMES = {kind.number: name for name, kind in KINDS.items()}

VECTORS = [
    pytest.param(*(read_hex(block) for block in blocks), id=title)
    for title, *blocks in _VECTOR.findall(PAGE.read_text(encoding="utf-8"))
]


def test_the_page_has_vectors_of_every_form_and_type():
    text = PAGE.read_text(encoding="utf-8")
    assert len(VECTORS) == text.count("\n### ") == 6
    firsts = [one.values[1][0] for one in VECTORS]
    assert {first & 3 for first in firsts} == {1, 2}
    assert {first >> 2 & 3 for first in firsts} == {0, 1, 2}
    assert {first >> 4 & 3 for first in firsts} == {0, 1}
    assert any(first & 0x40 for first in firsts)
    assert any(first & 0x80 for first in firsts)


@pytest.mark.parametrize(("prediction", "payload", "frame"), VECTORS)
@pytest.mark.parametrize("path", kernel.available())
def test_each_path_decodes_the_vectors(path, prediction, payload, frame):
    out = memoryview(bytearray(len(frame)))
    assert kernel.of_name(path).decode_deltas(
        [memoryview(payload)], [memoryview(prediction)], [out]
    ) == [None]
    assert bytes(out) == frame


@pytest.mark.parametrize(("prediction", "payload", "frame"), VECTORS)
def test_rescue_decodes_the_vectors(prediction, payload, frame):
    dtype = _NAMES[payload[0] >> 2 & 3]
    assert rescue.decode_delta(payload, prediction, dtype, len(frame)) == frame


@pytest.mark.parametrize(("prediction", "payload", "frame"), VECTORS)
def test_aarch64_decodes_the_vectors(foreign, prediction, payload, frame):
    for path in foreign.paths:
        items = [(len(frame), payload), (0, prediction)]
        assert foreign.results("delta-decode", path, items=items) == [(0, frame)]
