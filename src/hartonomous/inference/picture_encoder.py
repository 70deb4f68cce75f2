"""Pictures to vectors: resizing and cropping as the model's files say, then the graph.

The steps and their order are those of ``transformers``' image processors of CLIP and SigLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.errors import HartonomousError, UsageError
from hartonomous.inference.onnx_session import OnnxSession
from hartonomous.inference.pooling import normalised
from hartonomous.inference.recipe import PictureRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 4
_OUTPUTS = ("image_embeds", "pooler_output", "image_features")
_MOST_RATIO = 64
_MOST_RESIZED_PIXELS = 1 << 25
"""What is resized by its short side and then cropped; at least the largest crop, 4,096 by 4,096."""


def fitted(picture: NDArray[np.uint8], recipe: PictureRecipe) -> NDArray[np.uint8]:
    """Return a picture [height, width, 3] in the size that the model takes.

    Raises UsageError for another shape or type, and where Pillow is missing.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise UsageError(
            f"a picture is uint8 [height, width, 3], not {picture.dtype} {list(picture.shape)}"
        )
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            "encoding pictures needs Pillow, which is not installed here",
            hint="pip install 'hartonomous[images]'",
        ) from error
    picture = _bounded(picture, recipe.shortest_edge)
    height, width = picture.shape[:2]
    target = recipe.height, recipe.width
    if recipe.shortest_edge is not None:
        short = min(height, width)
        # Truncated, as get_resize_output_image_size does.
        long = int(recipe.shortest_edge * max(height, width) / short)
        target = (recipe.shortest_edge, long) if height <= width else (long, recipe.shortest_edge)
    resized = Image.fromarray(picture).resize(
        (target[1], target[0]), resample=Image.Resampling(recipe.resample)
    )
    result = np.asarray(resized, np.uint8)
    return _cropped(result, recipe.height, recipe.width) if recipe.crop else result


def _bounded(picture: NDArray[np.uint8], shortest_edge: int | None) -> NDArray[np.uint8]:
    """Cut the ends off a picture that is very much longer than wide: resizing would explode it."""
    height, width = picture.shape[:2]
    ratio = _MOST_RATIO
    if shortest_edge is not None:
        ratio = max(1, min(ratio, _MOST_RESIZED_PIXELS // shortest_edge**2))
    if height > ratio * width:
        start = (height - ratio * width) // 2
        return picture[start : start + ratio * width]
    if width > ratio * height:
        start = (width - ratio * height) // 2
        return picture[:, start : start + ratio * height]
    return picture


def _cropped(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut the middle out; what lies outside of the picture is black."""
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    source = picture[max(top, 0) : top + height, max(left, 0) : left + width]
    row, column = max(-top, 0), max(-left, 0)
    result[row : row + source.shape[0], column : column + source.shape[1]] = source
    return result


class PictureEncoder:
    """One model of pictures, loaded. Not for several threads at once."""

    def __init__(self, graph: str, recipe: PictureRecipe, *, threads: int) -> None:
        self._session = OnnxSession(graph, threads=threads)
        self._recipe = recipe
        if list(self._session.inputs) != ["pixel_values"]:
            raise UsageError(
                f"the graph takes {', '.join(self._session.inputs)[:200]}",
                hint="a graph of pictures takes pixel_values",
            )
        self._output, rank = self._session.chosen_output(*_OUTPUTS)
        if rank != 2:
            raise UsageError(f"the graph's output {self._output} has {rank} axes, not 2")

    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return one row a picture; each has the size that ``fitted`` gives it."""
        rows = [
            self._session.run(
                self._output, {"pixel_values": self._pixels(pictures[at : at + _BATCH])}
            )
            for at in range(0, len(pictures), _BATCH)
        ]
        result = np.concatenate(rows)
        if result.shape[0] != len(pictures) or result.ndim != 2:
            raise HartonomousError(f"the graph gives the shape {list(result.shape)}")
        if not np.isfinite(result).all():
            raise HartonomousError("the graph gives vectors that are no finite numbers")
        return normalised(result) if self._recipe.normalise else result

    def _pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        recipe = self._recipe
        values = np.stack(pictures).astype(np.float32) * np.float32(recipe.scale)
        values -= np.array(recipe.mean, np.float32)
        values /= np.array(recipe.deviation, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
