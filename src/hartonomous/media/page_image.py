"""A page of a PDF as a picture (PNG), drawn by pdfium in a limited process."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.media.archive import RangeFile
from hartonomous.ports.format import RangeReader

LONGER_SIDE = 1_600
"""Pixels of a picture's longer side."""

_READ_BYTES = 1 << 20


class PageImage(msgspec.Struct, frozen=True, kw_only=True):
    """A page drawn; ``refused`` says why it is not, and ``png`` is empty then."""

    png: bytes = b""
    refused: str = ""


def draw(reader: RangeReader, path: str, *, formats: Sequence[str]) -> PageImage:  # noqa: ARG001
    """Return a page of a PDF; ``path`` is its number, from 1."""
    import pypdfium2  # in the limited process alone

    number = int(path)
    try:
        with pypdfium2.PdfDocument(io.BufferedReader(RangeFile(reader), _READ_BYTES)) as opened:
            if not 1 <= number <= len(opened):
                return PageImage(refused=f"it has {len(opened)} pages")
            page = opened[number - 1]
            width, height = page.get_size()
            if width <= 0 or height <= 0:
                return PageImage(refused="the page has no size")
            drawn = page.render(scale=LONGER_SIDE / max(width, height), rev_byteorder=True)
            return PageImage(png=_png(drawn))
    except pypdfium2.PdfiumError as error:
        return PageImage(refused=f"pdfium: {error}")


def _png(drawn: Any) -> bytes:
    """Return a bitmap of three or four bytes a pixel as PNG (RFC 2083), its rows unfiltered."""
    width, height, channels = drawn.width, drawn.height, drawn.n_channels
    held = memoryview(drawn.buffer).cast("B")
    packer = zlib.compressobj(6)
    rows = bytearray()
    for at in range(height):
        row = bytes(held[at * drawn.stride : at * drawn.stride + width * channels])
        if channels == 4:
            row = bytes(value for place, value in enumerate(row) if place % 4 != 3)
        rows += packer.compress(b"\0" + row)
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", bytes(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
