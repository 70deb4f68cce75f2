"""PDQ: 256 bits of a picture that stay alike when it is resized, recompressed or converted.

PDQ (Facebook, 2019) takes the signs of a discrete cosine transform of the picture's brightness
against their median. Turned and mirrored pictures have other bits: a search compares with the
hashes of all eight orientations. A picture without structure (blank, a plain gradient) has bits
that mean nothing, and says so by its quality.
"""

from typing import TYPE_CHECKING

import numpy as np

from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_BYTES = 32
LEAST_QUALITY = 50
"""Hashes of less are not compared: blank pictures would all be the same."""
SAME_BITS = 31
"""Most bits apart of what is called the same picture."""
ALIKE_BITS = 60
"""Most bits apart of what is reported at all; two unrelated pictures are some 128 apart."""
SIDE = 512
"""Pictures are hashed as squares of this size, whatever their own."""
RECIPE = "pdq-square-512"
ORIENTATIONS = (
    "", "turned 90° left", "turned 180°", "turned 90° right",
    "mirrored top to bottom", "mirrored", "mirrored and turned 90° left",
    "mirrored and turned 90° right",
)  # fmt: skip
"""What each of the eight hashes is of."""

_BLOCK = 65_536


def hashes_of(pixels: "NDArray[np.uint8]", *, turned: bool = False) -> tuple[bytes, int]:
    """Return the hash, 32 bytes, and the quality from 0 to 100; ``turned`` adds the other seven.

    ``pixels`` are [height, width, 3], RGB. Each orientation is hashed by itself: what the PDQ
    library derives from one transform differs by up to 60 bits for small pictures.
    """
    import pdqhash

    if min(pixels.shape[:2]) < 1:
        raise UsageError("a picture without pixels has no hash")
    packed = []
    qualities = []
    for one in _orientations(pixels) if turned else [pixels]:
        vector, quality = pdqhash.compute(np.ascontiguousarray(one))
        packed.append(np.packbits(np.asarray(vector, dtype=np.uint8)).tobytes())
        qualities.append(int(quality))
    return b"".join(packed), qualities[0]


def _orientations(pixels: "NDArray[np.uint8]") -> "list[NDArray[np.uint8]]":
    """Return the picture in the eight orientations, in the order of ``ORIENTATIONS``."""
    mirrored = pixels[:, ::-1]
    return [
        pixels, np.rot90(pixels), np.rot90(pixels, 2), np.rot90(pixels, 3), pixels[::-1],
        mirrored, np.rot90(mirrored), np.rot90(mirrored, 3),
    ]  # fmt: skip


def nearest(hashes: bytes, others: "NDArray[np.uint8]") -> tuple["NDArray[np.intp]", ...]:
    """Compare the orientations of one picture with many: return (bits apart, orientation) of each.

    ``hashes`` are some of 32 bytes each, ``others`` [n, 32]. Both results are [n].
    """
    mine = np.frombuffer(hashes, dtype=np.uint64).reshape(-1, 1, HASH_BYTES // 8)
    theirs = np.ascontiguousarray(others).view(np.uint64)
    distances = np.empty(len(theirs), dtype=np.intp)
    orientations = np.empty(len(theirs), dtype=np.intp)
    for at in range(0, len(theirs), _BLOCK):
        part = slice(at, at + _BLOCK)
        apart = np.bitwise_count(mine ^ theirs[part]).sum(axis=2, dtype=np.intp)
        orientations[part] = apart.argmin(axis=0)
        distances[part] = apart.min(axis=0)
    return distances, orientations
