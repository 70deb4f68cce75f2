"""Pictures opened and decoded by Pillow (the extra ``images``), within limits.

Only the formats named here are tried. The size is known from the header and checked before anything
is decoded; JPEG is decoded at a smaller scale where that is enough. Runs in a limited process.
"""

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from hartonomous.errors import LimitError, StructureError
from hartonomous.media.archive import RangeFile
from hartonomous.ports.format import RangeReader

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
"""Pillow's names of the formats that are read."""
PIXELS_LIMIT = 80_000_000
"""Most pixels of a picture that is decoded: 320 MB at Pillow's four bytes each."""
WORKING_SIDE = 512
"""Longest side, in pixels, of what hashes, layouts and thumbnails are made of."""

_READ_BYTES = 1 << 20
_REFUSALS = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, LookupError, TypeError,
    AttributeError, ArithmeticError, RuntimeError,
)  # fmt: skip
"""What Pillow raises for files that are broken."""


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator["Image.Image"]:
    """Open a picture, not decoded yet; raises StructureError, LimitError.

    What Pillow raises inside the ``with`` is raised as StructureError too.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as image:
            check_size(*image.size)
            yield image
    except Image.DecompressionBombError as error:
        raise LimitError(f"it has over {2 * PIXELS_LIMIT:,} pixels") from error
    except UnidentifiedImageError as error:
        raise StructureError("it is no picture of a known format, or its header is cut") from error
    except _REFUSALS as error:
        raise StructureError(f"Pillow: {type(error).__name__}: {str(error)[:200]}") from error


def open_reader(reader: RangeReader) -> BinaryIO:
    """Return a file object over a range reader; raises StructureError for an empty file."""
    if not reader.size:
        raise StructureError("the file is empty")
    return io.BufferedReader(RangeFile(reader), _READ_BYTES)


def check_size(width: int, height: int) -> None:
    """Raise StructureError for a picture without pixels, LimitError for one with too many."""
    if width < 1 or height < 1:
        raise StructureError(f"its size is {width} x {height} pixels")
    if width * height > PIXELS_LIMIT:
        limit = f"{PIXELS_LIMIT // 1_000_000} million"
        raise LimitError(f"it has {width:,} x {height:,} pixels, and {limit} are decoded")


def decoded(image: "Image.Image", *, orientation: int, side: int) -> "Image.Image":
    """Decode the first frame; return it as RGB, turned upright, at most ``side`` pixels a side.

    Transparency lies on white. Values of more than 8 bits are scaled to 8.
    """
    from PIL import Image

    image.draft(None, (2 * side, 2 * side))  # of JPEG alone; others ignore it
    image.load()
    found = _upright(_rgb(_reduced(image, side)), orientation)
    if max(found.size) > side:
        scale = side / max(found.size)
        size = (max(1, round(found.width * scale)), max(1, round(found.height * scale)))
        found = found.resize(size, Image.Resampling.BILINEAR)
    return found


def _reduced(image: "Image.Image", side: int) -> "Image.Image":
    """Return the picture by whole steps smaller, at least ``side``, in a mode that has 8 bits."""
    step = max(1, max(image.size) // (2 * side))
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image, step)
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.reduce(step) if step > 1 else image


def _eight_bits(image: "Image.Image", step: int) -> "Image.Image":
    """Return numbers of 16 and 32 bits as grey: 16 bits by their range, others by what is there."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)[::step, ::step].astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I") and low >= 0 and high <= 0xFFFF:
        low, high = 0.0, float(0xFFFF if high > 0xFF else 0xFF)
    scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(scaled.round().astype(np.uint8))


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        over = image.convert("RGBA")
        found = Image.new("RGB", over.size, (255, 255, 255))
        found.paste(over, mask=over.getchannel("A"))
        return found
    return image.convert("RGB")


def _upright(image: "Image.Image", orientation: int) -> "Image.Image":
    """Return the picture as EXIF's orientation (1 to 8) says that it is to be shown."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[orientation]) if orientation in turns else image
