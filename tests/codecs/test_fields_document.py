"""The test vectors of docs/format-fields.md, decoded by everything that decodes."""

import re
from pathlib import Path

import pytest

from hartonomous.codecs import kernel
from hartonomous.packs import rescue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format-fields.md"
_VECTOR = re.compile(r"^### \d+\. (.+?)\n.*?```hex\n(.*?)```\n.*?```hex\n(.*?)```", re.M | re.S)


def read_hex(block: str) -> bytes:
    """Return the bytes of a block; each line begins with their position."""
    out = b""
    for line in block.splitlines():
        position, _, content = line.partition("  ")
        assert int(position, 16) == len(out)
        out += bytes.fromhex(content)
    return out


VECTORS = [
    pytest.param(read_hex(payload), read_hex(frame), id=title)
    for title, payload, frame in _VECTOR.findall(PAGE.read_text(encoding="utf-8"))
]


def test_the_page_has_vectors_of_every_tag():
    text = PAGE.read_text(encoding="utf-8")
    assert len(VECTORS) == text.count("\n### ") - text.count("\n### Fi") - sum(
        text.count(f"\n### {title}") for title in ("Planes", "Table", "Stream")
    )
    assert len(VECTORS) == 3


@pytest.mark.parametrize(("payload", "frame"), VECTORS)
@pytest.mark.parametrize("path", kernel.available())
def test_each_path_decodes_the_vectors(path, payload, frame):
    out = memoryview(bytearray(len(frame)))
    assert kernel.of_name(path).decode_many([memoryview(payload)], [out]) == [None]
    assert bytes(out) == frame


@pytest.mark.parametrize(("payload", "frame"), VECTORS)
def test_rescue_decodes_the_vectors(payload, frame):
    assert rescue.decode_fields([payload], [len(frame)]) == [frame]


@pytest.mark.parametrize(("payload", "frame"), VECTORS)
def test_aarch64_decodes_the_vectors(foreign, payload, frame):
    for path in foreign.paths:
        assert foreign.results("decode", path, items=[(len(frame), payload)]) == [(0, frame)]
