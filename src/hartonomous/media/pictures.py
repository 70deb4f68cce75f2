"""Pictures: facts, EXIF, thumbnail, hash and layout of one opened picture."""

import io
from typing import TYPE_CHECKING

from hartonomous.core import picture_hash
from hartonomous.core.picture import THUMBNAIL_SIDE, Picture
from hartonomous.core.picture_layout import layout_vector
from hartonomous.media.picture_decoding import WORKING_SIDE, decoded
from hartonomous.media.picture_exif import exif_of

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_LIMIT_BYTES = 64 << 10

_FRAMES_LIMIT = 10_000
_LEAST_SIDE = 16
_QUALITIES = (75, 50, 25, 5)


def described(image: "Image.Image", digest: bytes = b"", *, turned: bool = False) -> Picture:
    """Return what is derived of an opened picture; raises what Pillow raises.

    With ``turned`` there are hashes of all eight orientations, as a search needs them.

    One of fewer than 16 pixels a side has no hash.
    """
    import numpy as np
    from PIL.Image import Resampling

    width, height = image.size
    orientation, exif, position = exif_of(image)
    if orientation >= 5:
        width, height = height, width
    frames = min(int(getattr(image, "n_frames", 1)), _FRAMES_LIMIT)
    image.seek(0)
    name, mode = (image.format or "pixels").lower(), image.mode
    working = decoded(image, orientation=orientation, side=WORKING_SIDE)
    pixels = np.asarray(working)
    hashes, quality = b"", 0
    if min(working.size) >= _LEAST_SIDE:
        # One size for all: PDQ's blur depends on it, and copies of other sizes would differ.
        square = working.resize((picture_hash.SIDE, picture_hash.SIDE), Resampling.BILINEAR)
        hashes, quality = picture_hash.hashes_of(np.asarray(square), turned=turned)
    thumbnail, kind = _thumbnail(working)
    return Picture(
        digest=digest,
        format="jpeg" if name == "mpo" else name,
        mode=mode,
        width=width,
        height=height,
        frames=max(1, frames),
        orientation=orientation,
        exif=exif,
        position=position,
        thumbnail=thumbnail,
        thumbnail_type=kind,
        hashes=hashes,
        quality=quality,
        layout=layout_vector(pixels).astype("<f4").tobytes(),
    )


def _thumbnail(image: "Image.Image") -> tuple[bytes, str]:
    """Return a small picture and its type; WebP, or JPEG where Pillow was built without it."""
    from PIL import Image, features

    kind = "webp" if features.check("webp") else "jpeg"
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    content = b""
    for quality in _QUALITIES:
        out = io.BytesIO()
        small.save(out, kind, quality=quality)
        content = out.getvalue()
        if len(content) <= THUMBNAIL_LIMIT_BYTES:
            break
    return content, f"image/{kind}"
