"""Pictures made to harm: each is a notice within the limits, never an error or a wait."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from looked import looked
from PIL import Image

from hartonomous.core.picture import address
from hartonomous.packs.picture_views import content_process, picture_process, pixel_process

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
SCENE = (PICTURES / "scene.jpg").read_bytes()


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def cyclic_tiff() -> bytes:
    """Return a TIFF whose first directory is followed by itself."""
    entries = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 16), (279, 4, 1, 256)]  # fmt: skip
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHII", tag, kind, count, value)
    head = b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 8)
    return head.ljust(200, b"\0") + os.urandom(256)


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def document(content: bytes, body: str = "") -> bytes:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("word/document.xml", f'<w:document xmlns:w="{word}">{body}</w:document>')
        made.writestr("word/media/bad.png", content)
        made.writestr("word/media/good.jpg", SCENE)
    return out.getvalue()


BOMB = png(60_000, 60_000, bytes(1 << 20))
REFUSED = {
    "cut.jpg": SCENE[: len(SCENE) // 2],
    "header.jpg": SCENE[:40],
    "empty.png": b"",
    "rubbish.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "bomb.png": BOMB,
    "over.png": png(9_000, 9_000, b""),
    "no rows.png": png(100, 100, b""),
    "no size.png": png(0, 100, b""),
    "cut.webp": (PICTURES / "scene.webp").read_bytes()[:500],
    "cut.avif": (PICTURES / "scene.avif").read_bytes()[:300],
    "cut.tiff": (PICTURES / "scene.tiff").read_bytes()[:2_000],
    "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1,
                                    1, 24, 0, 0, 0, 0, 0, 0),
    "text.gif": b"GIF89a" + b"no picture at all" * 10,
    "vector.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "no.docx": b"PK\x03\x04" + bytes(200),
}  # fmt: skip
KEPT = {
    "cyclic.tiff": cyclic_tiff(),
    "thin.png": saved(Image.new("RGB", (20_000, 1)), "png"),
    "dot.png": saved(Image.new("L", (1, 1)), "png"),
    "bits.png": saved(Image.new("1", (40, 40)), "png"),
    "float.tiff": saved(Image.new("F", (40, 40), float("nan")), "tiff"),
    "whole.tiff": saved(Image.new("I", (40, 40), -5), "tiff"),
    "many.gif": saved(
        Image.new("L", (8, 8)), "gif", save_all=True,
        append_images=[Image.new("L", (8, 8), at % 250) for at in range(300)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def process():
    with picture_process() as opened:
        yield opened


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_a_notice(process, tmp_path, name):
    found = looked(process, tmp_path, name, REFUSED[name])
    assert (found.kind, found.pictures) == ("file", ())
    assert [one.kind in ("structure", "limit") for one in found.notices] == [True]


@pytest.mark.parametrize("name", KEPT)
def test_what_is_odd_is_looked_at(process, tmp_path, name):
    found = looked(process, tmp_path, name, KEPT[name])
    assert (found.kind, found.notices) == ("picture", ())


def test_the_size_is_refused_from_the_header(process, tmp_path):
    found = looked(process, tmp_path, "bomb.png", BOMB)
    assert found.notices[0].kind == "limit"
    assert "pixels" in found.notices[0].text


def test_a_bad_picture_in_a_document_costs_itself_alone(process, tmp_path):
    found = looked(process, tmp_path, "a.docx", document(BOMB))
    assert [one.part for one in found.places] == ["word/media/good.jpg"]
    assert "word/media/bad.png" in found.notices[0].text


@pytest.mark.parametrize("size", ["--5", "-", "\u00b2", "9" * 5_000, "1e9"])
def test_sizes_that_are_no_numbers_cost_nothing(process, tmp_path, size):
    body = f'<w:sectPr><w:pgSz w:w="{size}" w:h="{size}"/><w:pgMar w:left="{size}"/></w:sectPr>'
    found = looked(process, tmp_path, "a.docx", document(SCENE, body))
    assert [one.part for one in found.places] == ["word/media/bad.png", "word/media/good.jpg"]


def test_a_picture_that_thousands_of_members_have_is_looked_at_once(process, tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("word/document.xml", "<document/>")
        dots = [saved(Image.new("RGB", (40, 40), (shade, 0, 0)), "png") for shade in range(3)]
        for at in range(3_000):
            made.writestr(f"word/media/{at}.png", dots[at % 3])
    views = looked(process, tmp_path, "many.docx", out.getvalue())
    assert (len(views.pictures), len(views.places), views.notices) == (3, 3_000, ())


def test_a_process_that_needs_too_much_is_told_of_and_replaced(tmp_path):
    # Within the limit of pixels, but more than this process is granted.
    large = saved(Image.new("RGB", (8_000, 8_000)), "png", compress_level=1)
    with picture_process() as process:
        process._setup = type(process._setup)(  # the same, with less memory
            program=process._setup.program, formats=process._setup.formats,
            memory_bytes=64 << 20, cpu_s=process._setup.cpu_s, wall_s=process._setup.wall_s,
        )  # fmt: skip
        found = looked(process, tmp_path, "large.png", large)
        assert found.notices[0].kind == "limit"
        assert "memory" in found.notices[0].text
        assert looked(process, tmp_path, "a.jpg", SCENE).kind == "picture"


@pytest.mark.parametrize("part", ["word/media/none.png", "../../etc/passwd", "", "9/9"])
def test_parts_that_are_not_there(tmp_path, part):
    path = tmp_path / "file"
    for name, content in (
        ("a.docx", document(SCENE)),
        ("paper.pdf", (PICTURES / "paper.pdf").read_bytes()),
    ):
        path.write_bytes(content)
        with content_process() as process, path.open("rb") as file:
            found = process.look(file.fileno(), address(name, part))[0]
        assert found.content == b""
        with pixel_process() as process, path.open("rb") as file:
            refused = process.look(file.fileno(), address(name, part))[0]
        assert (refused.rgb, len(refused.notices)) == (b"", 1)
