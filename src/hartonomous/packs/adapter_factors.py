"""Matrices of stored adapters (LoRA) that may have been merged into a new tensor.

They are found by the names that PEFT gives them beside the name of the weight they change, and by
shape among the adapters in use; whether one was merged, values tell (``core.adapter_fit``).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hartonomous.catalog import tensors
from hartonomous.catalog.database import Database
from hartonomous.catalog.tensors import MatrixRow
from hartonomous.core.elements import has_values, ranges_of, values_of
from hartonomous.errors import IntegrityError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import TensorQuery
from hartonomous.packs.bounded_cache import BoundedCache
from hartonomous.packs.plan_proposals import MOST_FACTOR_BYTES, MOST_PAIRS, Factor
from hartonomous.packs.predictions import BaseGoneError

MOST_MATRICES = 4096
"""Of all adapters in use; the newest ones are looked at."""
_KEPT_BYTES = 32 << 20
_PREFIXES = ("base_model.model.", "base_model.", "")
_SUFFIXES = (".weight", ".default.weight")


class AdapterFactors:
    """Adapters of one store, for one writing session; not safe to use from several threads."""

    def __init__(self, database: Database, reader: AtomReader) -> None:
        self._database = database
        self._reader = reader
        self._all: list[MatrixRow] | None = None
        self._kept: BoundedCache[bytes, NDArray[np.uint8]] = BoundedCache(_KEPT_BYTES)

    def of(self, query: TensorQuery) -> list[Factor]:
        """Return matrices whose products have the query's shape, those of its name first.

        At most as many as ``MOST_PAIRS`` pairs have; what cannot be read is left out.
        """
        if len(query.shape) != 2:
            return []
        with self._database.read() as tx:
            named = tensors.matrices_of_names(tx, names_of(query.name), limit=MOST_MATRICES)
            if self._all is None:
                self._all = tensors.matrices_of_adapters(tx, limit=MOST_MATRICES)
        unique = {(row.digest, row.name): row for row in (*named, *self._all)}
        chosen = _of_shape(list(unique.values()), query.shape)
        return [one for row in chosen if (one := self._factor(row)) is not None]

    def forget(self) -> None:
        """Look the adapters in use up anew when they are asked for next."""
        self._all = None

    def _factor(self, row: MatrixRow) -> Factor | None:
        content = self._kept.get(row.digest)
        if content is None:
            content = np.empty(row.length, np.uint8)
            try:
                self._reader.decode_into(row.digest, content.data)
            except (IntegrityError, BaseGoneError):
                return None
            self._kept.put(row.digest, content, row.length)
        read = values_of(ranges_of(content.data), row.dtype)
        return Factor(
            digest=row.digest, dtype=row.dtype, shape=row.shape, name=row.name, read=read
        )  # fmt: skip


def names_of(weight: str) -> list[str]:
    """Return the names that the matrices of an adapter for this weight may have."""
    stem = weight.removesuffix(".weight")
    if not stem:
        return []
    return [
        f"{prefix}{stem}.lora_{letter}{suffix}"
        for prefix in _PREFIXES
        for letter in "AB"
        for suffix in _SUFFIXES
    ]


def _of_shape(rows: Sequence[MatrixRow], shape: tuple[int, ...]) -> list[MatrixRow]:
    """Return the matrices of pairs, B before its A, whose product has a shape."""
    rights: dict[tuple[str, int], list[MatrixRow]] = {}
    for row in rows:
        if "lora_A" in row.name and _usable(row) and row.shape[1] == shape[1]:
            rights.setdefault((row.name, row.shape[0]), []).append(row)
    chosen: dict[tuple[bytes, str], MatrixRow] = {}
    pairs = 0
    for left in rows:
        if "lora_B" not in left.name or not _usable(left) or left.shape[0] != shape[0]:
            continue
        for right in rights.get((left.name.replace("lora_B", "lora_A"), left.shape[1]), []):
            if pairs < MOST_PAIRS:
                pairs += 1
                chosen.update({(one.digest, one.name): one for one in (left, right)})
    return list(chosen.values())


def _usable(row: MatrixRow) -> bool:
    small = row.length <= MOST_FACTOR_BYTES
    return small and len(row.shape) == 2 and has_values(row.dtype)
