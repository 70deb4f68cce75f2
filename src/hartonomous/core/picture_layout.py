"""A picture's layout of colours and edges: 576 numbers, without a model.

The picture is shrunk to 64 x 64 by area and cut into 8 x 8 cells. Each cell has nine numbers: the
means of brightness and of two differences of colour (YCbCr of JFIF), and how strong its edges are
in six directions of 30 degrees. Colours count from their middle, edges by their square root; the
groups are weighted so that they weigh about the same in photographs; the vector has length 1.
It knows where things are, so it finds the same picture cropped, blurred or in other colours, and
pictures that look alike as a whole; it knows nothing of what they show.
"""

from typing import TYPE_CHECKING

import numpy as np

from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSION = 576
RECIPE = "layout-1"

_SIDE = 64
_CELLS = 8
_DIRECTIONS = 6
_COLOURS = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
_COLOUR_WEIGHTS = np.array([1.0, 2.0, 2.0])
_MIDDLE = np.array([110.0, 0.0, 0.0])
"""The mean of photographs, about: what is near it says little."""
_EDGE_MEAN = 0.16
_EDGE_WEIGHT = 1.6


def layout_vector(pixels: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """Return the layout of a picture, [h, w, 3] uint8 RGB, as float32 [576] of length 1.

    Raises UsageError for another shape or no pixels.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 1:
        raise UsageError(f"an array of shape {list(pixels.shape)} is no picture [height, width, 3]")
    small = _shrunk(_shrunk(pixels.astype(np.float64), 0), 1)
    colours = small @ _COLOURS.T - _MIDDLE
    tone = _cells(colours) * (_COLOUR_WEIGHTS / 128.0)
    edges = np.sqrt(_cells(_edges(colours[:, :, 0] / 255.0)))
    edges = (edges - _EDGE_MEAN) * _EDGE_WEIGHT
    vector = np.concatenate([tone, edges], axis=2).ravel()
    length = float(np.linalg.norm(vector))
    if length > 0:
        vector = vector / length
    return vector.astype(np.float32)


def _shrunk(values: "NDArray[np.float64]", axis: int) -> "NDArray[np.float64]":
    """Return the picture with ``_SIDE`` rows or columns: means of equal parts, or repeated ones."""
    side = values.shape[axis]
    edges = np.arange(_SIDE + 1) * side // _SIDE
    if side < _SIDE:
        repeated: NDArray[np.float64] = np.take(values, edges[:-1], axis=axis)
        return repeated
    sums = np.add.reduceat(values, edges[:-1], axis=axis)
    shape = [1, 1, 1]
    shape[axis] = _SIDE
    found: NDArray[np.float64] = sums / np.diff(edges).reshape(shape)
    return found


def _cells(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return the means of 8 x 8 cells, [8, 8, channels]."""
    step = _SIDE // _CELLS
    found: NDArray[np.float64] = values.reshape(_CELLS, step, _CELLS, step, -1).mean(axis=(1, 3))
    return found


def _edges(brightness: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return the strength of edges by direction, [64, 64, 6]; an edge counts to two of them."""
    down, right = np.gradient(brightness)
    strength = np.hypot(down, right)
    turn = np.mod(np.arctan2(down, right), np.pi) / np.pi * _DIRECTIONS
    lower = np.floor(turn).astype(np.intp) % _DIRECTIONS
    share = turn - np.floor(turn)
    found = np.zeros((*brightness.shape, _DIRECTIONS))
    rows, columns = np.indices(brightness.shape)
    found[rows, columns, lower] += strength * (1.0 - share)
    found[rows, columns, (lower + 1) % _DIRECTIONS] += strength * share
    return found
