"""Looks at the small tensors of one file: taken of many before the first of them is stored."""

from collections.abc import Callable

from hartonomous.packs.base_search import TensorQuery
from hartonomous.packs.first_look import MOST_TENSORS, FirstLook, Look

MOST_BYTES = 4 * 1024 * 1024
"""Of tensors that are held while their turn has not come."""


class Looks:
    """Gives out looks in the order of a file's pieces.

    ``small`` returns a piece's tensor and its bytes, None where it is not to be looked at; asked
    with the numbers of pieces, also behind the last one. Without ``search`` nothing is near.
    """

    def __init__(
        self,
        first: FirstLook,
        small: Callable[[int], tuple[TensorQuery, memoryview] | None],
        *,
        search: bool,
    ) -> None:
        self._first = first
        self._small = small
        self._search = search
        self._found: dict[int, Look] = {}

    def of(self, number: int) -> Look | None:
        """Return the look at a piece, None if there is none; numbers only grow."""
        look = self._found.pop(number, None)
        if look is not None:
            return look
        batch: list[tuple[TensorQuery, memoryview]] = []
        held = 0
        while len(batch) < MOST_TENSORS and held < MOST_BYTES:
            one = self._small(number + len(batch))
            if one is None:
                break
            batch.append(one)
            held += one[1].nbytes
        looks = self._first.take(batch, search=self._search)
        self._found = dict(enumerate(looks, number))
        return self._found.pop(number, None)
