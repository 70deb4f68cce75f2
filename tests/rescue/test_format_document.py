"""docs/format.md says what the code does: its tables, its numbers and its example to the byte."""

import itertools
import re
import struct
from pathlib import Path

import pytest
from store_by_hand import PackByHand, StoreByHand

from hartonomous.core import manifest, record
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.packs import rescue

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
CONTENT = b"Hello, store! " * 5


def section(heading: str) -> str:
    """Return the text under a heading of the document."""
    start = DOCUMENT.index(f"\n### {heading}\n")
    return re.split(r"\n##+ ", DOCUMENT[start + 4 :], maxsplit=1)[0]


def example(place: Path) -> PackByHand:
    """Return the example of the document: one file of one atom in one pack."""
    store = StoreByHand(place)
    pack = store.pack()
    pack.key, pack.created_us = bytes(range(16)), 1_700_000_000_000_000
    store.commit("hello", 1, {"hello.txt": [CONTENT]}, pack=pack)
    return pack


def dump(content: bytes, start: int) -> str:
    """Return lines of offset, sixteen bytes in hex, and their text."""
    lines = []
    for at in range(0, len(content), 16):
        row = content[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start + at:06x}  {row.hex(' '):47}  {text}")
    return "\n".join(lines)


def blocks(pack: PackByHand) -> list[str]:
    """Return the dumps of the document: header, each record, contents, footer."""
    content = pack.content()
    footer = record.decode_footer(content[-64:])
    cuts = [0, 64]
    cuts += [
        record.header_start(header.offset + header.stored) + len(header.encode())
        for header in pack.headers
    ]
    cuts += [footer.toc_offset + footer.toc_bytes, len(content)]
    return [dump(content[start:stop], start) for start, stop in itertools.pairwise(cuts)]


def test_the_example_is_what_the_code_writes(tmp_path):
    expected = blocks(example(tmp_path))
    printed = re.findall(r"```hex\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert printed == expected, "\n\n".join(f"```hex\n{block}\n```" for block in expected)


def test_the_example_is_a_store(tmp_path):
    rows = re.findall(r"^[0-9a-f]{6}  ((?:[0-9a-f]{2} ?)+)", DOCUMENT, re.MULTILINE)
    content = bytes.fromhex("".join(rows))
    path = tmp_path / "packs" / "00" / f"{bytes(range(16)).hex()}.pack"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    index = rescue.read_store(tmp_path)
    [(name, commit)] = rescue.replay(index).selected("", every=True, removed=True)
    out = tmp_path / "out"
    with out.open("wb") as file:
        assert rescue.rebuild(index, commit["members"][0]["manifest"], file)
    assert (name, out.read_bytes()) == ("hello", CONTENT)


@pytest.mark.parametrize(
    ("heading", "layout"),
    [
        ("Pack header", record._PACK_HEADER),
        ("Record", record._RECORD),
        ("Footer", record._FOOTER),
        ("Frame table", struct.Struct("<IQ")),
    ],
)
def test_the_tables_are_the_layouts(heading, layout):
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ", section(heading), re.MULTILINE)
    sizes = [struct.calcsize("<" + field) for field in re.findall(r"\d*s|\w", layout.format[1:])]
    offsets = [0, *itertools.accumulate(sizes)]
    assert [(int(at), int(size)) for at, size in rows] == list(zip(offsets, sizes, strict=False))
    assert offsets[-1] == layout.size
    assert record.FRAME_ENTRY.itemsize == rescue.FRAME.size


@pytest.mark.parametrize(
    ("heading", "numbers"), [("Record kinds", RecordKind), ("Encodings", Encoding)]
)
def test_the_numbers_are_the_code_s(heading, numbers):
    rows = re.findall(r"^\| (\d+) \| ([A-Z]+) \| ", section(heading), re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {each.name: each for each in numbers}


def test_the_script_has_the_same_layout():
    pairs = [
        (rescue.PACK_HEADER.format, record._PACK_HEADER.format),
        (rescue.FOOTER.format, record._FOOTER.format),
        (rescue.RECORD.format, record._RECORD.format),
        (rescue.MAX_HEADER_BYTES, record.MAX_HEADER_BYTES),
        ((rescue.EXTENT, rescue.MANIFEST, rescue.COMMIT, rescue.CHANGE), (1, 2, 3, 4)),
        ((rescue.RAW, rescue.ZSTD), (Encoding.RAW, Encoding.ZSTD)),
    ]
    assert all(here == there for here, there in pairs)


def test_limits_in_the_document_are_the_code_s():
    assert f"at most {manifest.INLINE_BYTES} bytes" in DOCUMENT
    assert f"`frame_bytes` is {record.FRAME_BYTES}" in DOCUMENT
    assert f"{record.MAX_HEADER_BYTES // 2**20} MiB" in section("Record")
