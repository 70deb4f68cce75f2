"""Vectors of parts of files; a part that an encoder fails on is left out, and the others go on.

Models do fail on single texts: half precision overflows, a graph divides by nothing, a process
crashes. Such a part is tried again at the next embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from hartonomous.core.vector_block import checked_vectors
from hartonomous.errors import HartonomousError
from hartonomous.ports.encoder import EncoderEndedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.core.space import Space

_SEARCHED_S = 60.0
"""How long parts that fail are looked for: an encoder that takes long to fail fails as a whole."""
_MOST_ENDS = 8
"""So many parts may end the encoder's process: each costs its start, or as much time as it has."""

Part = TypeVar("Part")


class Encoded(NamedTuple):
    """Which parts have vectors [n, dimension], by place; why the others have none.

    With ``gave_up`` too many parts ended the encoder, and those behind the last were not tried.
    """

    kept: list[int]
    vectors: NDArray[np.float32]
    refused: dict[int, str]
    gave_up: bool = False


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
        self._ends_left = _MOST_ENDS

    def encoded(self, parts: Sequence[Part]) -> Encoded:
        """Encode some parts together, and where that fails each alone.

        Raises the encoder's error where it fails on ``known`` too, or takes too long to fail.
        """
        try:
            return Encoded(list(range(len(parts))), self._computed(parts), {})
        except HartonomousError:
            self._computed([self._known])  # it raises: not for what the parts are
        kept: list[int] = []
        rows: list[NDArray[np.float32]] = []
        refused: dict[int, str] = {}
        for at, one in enumerate(parts):
            # Not by halves: of those that hold the part, each would end the process once more.
            since = time.monotonic()
            try:
                rows.append(self._computed([one]))
                kept.append(at)
            except EncoderEndedError as error:
                refused[at] = error.message
                self._ends_left -= 1
                if not self._ends_left:
                    break
            except HartonomousError as error:
                self._left_s -= time.monotonic() - since
                if self._left_s < 0:
                    raise
                refused[at] = error.message
        nothing = np.zeros((0, self._space.dimension), np.float32)
        return Encoded(kept, np.concatenate([nothing, *rows]), refused, not self._ends_left)

    def error(self, last: str) -> HartonomousError:
        """Return the error for having given up; ``last`` says which part ended the encoder last."""
        return EncoderEndedError(
            f"the encoder {self._space.encoder} ended {_MOST_ENDS} times, last at {last}",
            hint="hart embed begins with the same ones again: hart rm removes the files that hold "
            "them, or another --encoder may take them",
        )

    def _computed(self, parts: Sequence[Part]) -> NDArray[np.float32]:
        found = self._encode(parts)
        checked_vectors(self._space, found, file="the encoder's answer")
        return found
