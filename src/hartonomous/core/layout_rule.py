"""The layout of colours and edges as a space of pictures that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hartonomous.core.picture_layout import DIMENSION, RECIPE, layout_vector
from hartonomous.core.space import Space
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "layout"
"""What people call the encoder."""

SPACE = Space(
    modality="picture", encoder=NAME, encoder_digest="", recipe=f"deterministic/{RECIPE}",
    quantisation="f32", pooling="cells", dimension=DIMENSION,
)  # fmt: skip


class LayoutRule:
    """The encoder of this space, behind ``ports.encoder``; it holds nothing."""

    def space(self, modality: str) -> Space:
        """Return the space of pictures; UsageError for others."""
        if modality != "picture":
            raise UsageError(
                f"the rule {NAME!r} knows pictures, not {modality}s", hint="use another encoder"
            )
        return SPACE

    def encode_texts(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Raise UsageError."""
        del texts, query
        self.space("text")
        raise AssertionError("it has no space of texts")

    def encode_pictures(self, pictures: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return one row a picture [height, width, 3] uint8, shape [n, 576]."""
        import numpy as np

        rows = [layout_vector(one) for one in pictures]
        return np.stack(rows) if rows else np.empty((0, DIMENSION), np.float32)

    def close(self) -> None:
        """End nothing."""
