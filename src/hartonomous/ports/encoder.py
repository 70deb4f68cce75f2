"""Port of encoders: what turns texts and pictures into vectors of a space."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hartonomous.core.space import Space
from hartonomous.errors import HartonomousError

Pixels = NDArray[np.uint8]
"""A picture, shape [height, width, 3], RGB, orientation applied."""


class EncoderEndedError(HartonomousError):
    """What computes ended while it did: it crashed, or met a limit of memory or time."""


class Encoder(Protocol):
    """Computes vectors. Close it when it is no longer needed; it may hold a process."""

    def space(self, modality: str) -> Space:
        """Return the space of its vectors for ``modality``; UsageError where it has none."""
        ...

    def encode_texts(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return one row a text, shape [n, dimension]; ``query`` puts a query's prompt before."""
        ...

    def encode_pictures(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return one row a picture, shape [n, dimension]."""
        ...

    def close(self) -> None:
        """End what it holds."""
        ...
