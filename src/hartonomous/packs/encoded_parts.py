"""Vectors of parts of files; a part that an encoder fails on is left out, and the others go on.

Models do fail on single texts: half precision overflows, a graph divides by nothing. Such a part is
tried again at the next embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from hartonomous.core.vector_block import checked_vectors
from hartonomous.errors import HartonomousError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.core.space import Space

_SEARCHED_S = 60.0
"""How long parts that fail are looked for: an encoder that takes long to fail fails as a whole."""

Part = TypeVar("Part")


class Encoded(NamedTuple):
    """Which parts have vectors [n, dimension], by place; why the others have none."""

    kept: list[int]
    vectors: NDArray[np.float32]
    refused: dict[int, str]


class EncodedParts(Generic[Part]):
    """Encodes parts for one space. ``known`` is a part that any encoder can take."""

    def __init__(
        self,
        space: Space,
        encode: Callable[[Sequence[Part]], NDArray[np.float32]],
        known: Part,
    ) -> None:
        self._space, self._encode = space, encode
        self._known = known
        self._left_s = _SEARCHED_S

    def encoded(self, parts: Sequence[Part]) -> Encoded:
        """Encode some parts together, and where that fails each alone.

        Raises the encoder's error where it fails on ``known`` too, or takes too long to fail.
        """
        try:
            return Encoded(list(range(len(parts))), self._computed(parts), {})
        except HartonomousError:
            since = time.monotonic()
            self._computed([self._known])  # it raises: not for what the parts are
        kept: list[int] = []
        rows: list[NDArray[np.float32]] = []
        refused: dict[int, str] = {}
        for at, one in enumerate(parts):
            try:
                rows.append(self._computed([one]))
                kept.append(at)
            except HartonomousError as error:
                if time.monotonic() - since > self._left_s:
                    raise
                refused[at] = error.message
        self._left_s -= time.monotonic() - since
        nothing = np.zeros((0, self._space.dimension), np.float32)
        return Encoded(kept, np.concatenate([nothing, *rows]), refused)

    def _computed(self, parts: Sequence[Part]) -> NDArray[np.float32]:
        found = self._encode(parts)
        checked_vectors(self._space, found, file="the encoder's answer")
        return found
