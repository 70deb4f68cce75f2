"""A first look at small tensors, many at a time: their sketches, and what resembles nothing.

Mostly nothing does, and that is found out by one pass over the signs in memory for all of them.
What may have a relative is looked at again on its own, by ``base_search``.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hartonomous.catalog.database import Database
from hartonomous.catalog.sketches import NewSketch
from hartonomous.core.array import numpy_dtype
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import Indices, Values
from hartonomous.core.sketch import Sketch, encode_rows, parts, signs_of_rows
from hartonomous.packs.base_search import TensorQuery, can_be_sketched
from hartonomous.packs.orders import orders
from hartonomous.packs.sign_table import SignTable

MOST_TENSORS = 128
"""That are looked at together; of each of their orders 1 KiB of values is held."""


class Look(msgspec.Struct, frozen=True):
    """What a look at a tensor found: its rows, and whether nothing is ``near`` to it as a whole."""

    query: TensorQuery
    content: memoryview
    sketches: tuple[NewSketch, ...]
    near: bool


def can_be_looked_at(dtype: str, shape: tuple[int, ...]) -> bool:
    """Say whether a tensor is of a plain type and has no parts that are compared with others."""
    plain = can_be_sketched(dtype, shape) and DTYPES[dtype].block_elements == 1
    return plain and not parts(shape)


class FirstLook:
    """Looks at tensors that ``can_be_looked_at``, on behalf of one writing session."""

    def __init__(self, database: Database, signs: SignTable) -> None:
        self._database = database
        self._signs = signs

    def take(self, batch: Sequence[tuple[TensorQuery, memoryview]], *, search: bool) -> list[Look]:
        """Look at tensors, given with their bytes; without ``search`` nothing is near."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for at, (query, _) in enumerate(batch):
            alike.setdefault((query.dtype, query.shape, query.heads), []).append(at)
        found: dict[int, Look] = {}
        for places in alike.values():
            looks = self._alike([batch[at] for at in places], search)
            found.update(zip(places, looks, strict=True))
        return [found[at] for at in range(len(batch))]

    def _alike(self, batch: Sequence[tuple[TensorQuery, memoryview]], search: bool) -> list[Look]:
        """Look at tensors of one type and shape."""
        first = batch[0][0]
        ways = orders(first.shape, first.heads)
        contents = [content for _, content in batch]
        values = [_values(contents, first.dtype, one.elements) for one in ways]
        signs = [signs_of_rows(one) for one in values]
        near = np.zeros(len(batch), np.bool_)
        for one in signs if search else ():
            near |= self._near(first.count, one)
        rows = encode_rows(values[0])
        return [
            _look(query, content, signs[0][at].tobytes(), values[0][at], rows[at], bool(near[at]))
            for at, (query, content) in enumerate(batch)
        ]

    def _near(self, count: int, signs: NDArray[np.uint8]) -> NDArray[np.bool_]:
        words = signs.view("<u8").astype(np.uint64, copy=False)
        near = self._signs.any_near(count, words)
        if near is None:
            with self._database.read() as tx:
                self._signs.look_up(tx, count)
            near = self._signs.any_near(count, words)
        return np.ones(len(words), np.bool_) if near is None else near


def _values(contents: Sequence[memoryview], dtype: str, elements: Indices) -> Values:
    """Return float32 values of the same elements of tensors of one plain type, a row for each."""
    plain = numpy_dtype(dtype)
    assert plain is not None, "only plain types are looked at"
    # Gathered as words: numpy takes longer for types that are not its own.
    word = np.dtype(f"<u{plain.itemsize}")
    gathered = np.empty((len(contents), len(elements)), word)
    for row, content in zip(gathered, contents, strict=True):
        row[:] = np.frombuffer(content, word)[elements]
    with np.errstate(all="ignore"):  # what float32 cannot hold becomes infinite
        return gathered.view(plain).astype(np.float32)


def _look(  # noqa: PLR0917 - the parts of one row
    query: TensorQuery, content: memoryview, signs: bytes, values: Values, row: bytes, near: bool
) -> Look:  # fmt: skip
    query.know(Sketch(signs=signs, values=values))
    sketch = NewSketch(
        first_element=0, element_count=query.count, columns=query.matrix[1], dtype=query.dtype,
        signs=signs, content=row,
    )  # fmt: skip
    # A constant resembles nothing, and has no row.
    return Look(query, content, (sketch,) if any(signs) else (), near)
