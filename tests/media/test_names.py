"""Files whose names say little or nothing of their text: by their bytes, but none of a model."""

import pytest

from hartonomous.formats.reader import BytesReader
from hartonomous.media.endings import worth_a_look
from hartonomous.media.reading import read


def read_bytes(content, path):
    return read(BytesReader(content), path)


@pytest.mark.parametrize(
    "name",
    [
        "a.diff", "a.patch", "de.po", "a.pot", "a.eml", "a.ics", "App.vue", "CITATION.cff",
        "README", "LICENSE", "Makefile", "changelog", "copyright", "doc/CODEOWNERS", "hart.1",
        "crontab.5",
    ],
)  # fmt: skip
def test_plain_text_by_name_or_content(name):
    found = read_bytes("The gasket für you\n\ttab\f\n".encode(), name)
    assert "gasket" in found.blocks[0].text
    assert not found.notices
    assert worth_a_look(name)


def test_json_of_places():
    found = read_bytes(b'{"properties": {"name": "gasket"}}', "map.geojson")
    assert [one.text for one in found.blocks] == ["properties.name: gasket"]


@pytest.mark.parametrize("name", ["data", "libfoo.so.1", "blobs/sha256-12"])
@pytest.mark.parametrize(
    "content",
    [b"\x7fELF\x02\x01", b"text \x1b[1m", b"K\xe4se", b"word " * 2_000 + b"\0", b"",
     b"[PAD]\nthe\n"],
)  # fmt: skip
def test_what_is_no_text_by_content_leaves_no_word(name, content):
    found = read_bytes(content, name)
    assert (found.blocks, found.notices) == ((), ())


@pytest.mark.parametrize(
    "name", ["vocab", "merges", "checkpoint", ".gitattributes", "a.bin", "m.so"]
)
def test_files_of_models_are_not_looked_at(name):
    assert not worth_a_look(name)
    assert not read_bytes(b"a text\n", name).blocks
