"""The table of formats, and which of them describes a file."""

import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.detect import FORMATS, describe, load
from hartonomous.formats.reader import READ_LIMIT_BYTES, BytesReader, FileReader

MODEL = safetensors.numpy.save({"w": np.ones((2, 3), np.float32)})


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("entry", FORMATS)
def test_entries_of_the_table_are_formats(entry: str) -> None:
    found = load(entry)
    assert isinstance(found.name, str)
    assert found.matches("no such file", b"") is False
    for path in ("a", "a.safetensors", "a.npy", "config.json", "a.gguf", "README.md"):
        for head in (b"", b"\0" * 4096, b"\xff" * 4096, b"{" * 4096):
            assert found.matches(path, head) in (True, False)


def test_names_of_formats_are_unique() -> None:
    names = [load(entry).name for entry in FORMATS]
    assert len(set(names)) == len(names)


def test_entry_without_a_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        describe(BytesReader(b""), "a", formats=("hartonomous.formats.absent:ABSENT",))
    with pytest.raises(AttributeError):
        describe(BytesReader(b""), "a", formats=("hartonomous.formats.npy:ABSENT",))


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("model.safetensors", MODEL, "safetensors"),
        ("blobs/sha256-01", MODEL, "safetensors"),
        ("a.npy", saved(np.zeros(3)), "npy"),
        ("a", saved(np.zeros(3)), "npy"),
    ],
)
def test_described_by_name_or_content(path: str, content: bytes, expected: str) -> None:
    found = describe(BytesReader(content), path)
    assert (found.format, len(found.tensors), found.notices) == (expected, 1, ())


def test_content_of_another_format_than_the_name_says() -> None:
    found = describe(BytesReader(saved(np.zeros(3))), "model.safetensors")
    assert (found.format, len(found.tensors)) == ("npy", 1)
    assert [notice.kind for notice in found.notices] == ["structure"]
    assert found.notices[0].text.startswith("not taken as safetensors: ")


@pytest.mark.parametrize("content", [b"", b"x", b"text\n" * 1000])
def test_any_other_file(content: bytes) -> None:
    found = describe(BytesReader(content), "notes.bin")
    assert (found.format, found.tensors, found.metadata, found.notices) == ("file", (), {}, ())


def test_refused_file_says_by_whom() -> None:
    found = describe(BytesReader(MODEL[:-1]), "model.safetensors")
    assert found.format == "file"
    assert "not taken as safetensors: the header describes 24 bytes" in found.notices[0].text


def test_readers_agree_and_check_ranges(tmp_path: Path) -> None:
    content = bytes(range(100))
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        for reader in (BytesReader(content), FileReader(file.fileno())):
            assert reader.size == 100
            assert reader.read(0, 100) == content
            assert reader.read(40, 20) == content[40:60]
            assert reader.read(100, 0) == b""
            for offset, length in ((0, 101), (100, 1), (-1, 1), (5, -1), (2**63, 2**63)):
                with pytest.raises(StructureError, match="ends too early"):
                    reader.read(offset, length)


def test_one_read_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os_size = READ_LIMIT_BYTES + 1
    with path.open("r+b") as file:
        file.truncate(os_size)
        reader = FileReader(file.fileno())
        assert len(reader.read(1, READ_LIMIT_BYTES)) == READ_LIMIT_BYTES
        with pytest.raises(LimitError):
            reader.read(0, os_size)
        file.truncate(10)
        with pytest.raises(StructureError, match="became shorter"):
            reader.read(0, 20)
