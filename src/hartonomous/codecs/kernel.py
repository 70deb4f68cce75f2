"""Which implementation of the loops over elements runs: the C kernel's best path here, or numpy.

The variable ``HARTONOMOUS_KERNEL`` forces one of ``scalar``, ``avx2``, ``neon`` and ``numpy``. All
of them write and read the same bits.
"""

import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from hartonomous.codecs import (
    delta_reference,
    quantised_recipes,
    reference,
    rounding_reference,
    sign_reference,
)
from hartonomous.codecs.differences import Kind
from hartonomous.codecs.layouts import Layout
from hartonomous.codecs.quantised_blocks import Shape
from hartonomous.codecs.rounding_reference import GROUP_BYTES, TYPES, Grid
from hartonomous.core import casts, ggml
from hartonomous.core.casts import STORED, Array
from hartonomous.errors import UsageError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

VARIABLE = "HARTONOMOUS_KERNEL"
NUMPY = "numpy"
NAMES = ("avx2", "neon", "scalar", NUMPY)

_CASTS = {("F32", "F16"): 0, ("F32", "BF16"): 1, ("F16", "F32"): 2, ("BF16", "F32"): 3}
_NAN_RULES = {"quiet": 0, "kept": 1, "signed": 2, "canonical": 3, "ones": 4}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One implementation; ``name`` is its path's. Holds no state, so it serves all threads."""

    name: str
    native: ModuleType | None = None

    def encode_many(
        self, frames: Sequence[memoryview], leads: Sequence[int], layout: Layout
    ) -> list[bytes | None]:
        """Encode frames in one call, without the GIL in C; None where it does not pay.

        The first whole element of frame ``i`` begins at its byte ``leads[i]``. Raises ValueError
        for a frame over 16 MiB or a lead that is not shorter than an element.
        """
        if self.native is None:
            return reference.encode_many(frames, leads, layout)
        coded: list[bytes | None] = self.native.encode_many(
            self.name, frames, leads, layout.encode()
        )
        return coded

    def decode_many(
        self, payloads: Sequence[memoryview], outs: Sequence[memoryview]
    ) -> list[str | None]:
        """Fill each of ``outs``; returns for each payload None, or what is wrong with it.

        What a damaged payload's output holds is undefined; nothing outside it is written.
        """
        if self.native is None:
            return reference.decode_many(payloads, outs)
        faults: list[str | None] = self.native.decode_many(self.name, payloads, outs)
        return faults

    def encode_deltas(
        self,
        frames: Sequence[memoryview],
        predictions: Sequence[memoryview],
        leads: Sequence[int],
        kind: Kind,
    ) -> list[bytes | None]:
        """Encode frames of floats given predicted bytes of each; empty where these are exact.

        None where it does not pay; what is raised is as for ``encode_many``, and a ValueError where
        there is not a prediction of each frame's size.
        """
        if self.native is None:
            return delta_reference.encode_many(frames, predictions, leads, kind)
        coded: list[bytes | None] = self.native.delta_encode_many(
            self.name, frames, predictions, leads, kind.number
        )
        return coded

    def decode_deltas(
        self,
        payloads: Sequence[memoryview],
        predictions: Sequence[memoryview],
        outs: Sequence[memoryview],
    ) -> list[str | None]:
        """Fill each of ``outs`` as ``decode_many`` does, given what was predicted of it."""
        if self.native is None:
            return delta_reference.decode_many(payloads, predictions, outs)
        faults: list[str | None] = self.native.delta_decode_many(
            self.name, payloads, predictions, outs
        )
        return faults

    def split_blocks(  # noqa: PLR0917 - arrays, as C takes them
        self, shape: Shape, recipe: int, blocks: Bytes, source: Floats, header: Bytes,
        residual: Bytes,
    ) -> int:  # fmt: skip
        """Fill header and residual with what the prediction of quantised blocks from floats misses.

        Returns how many codes it missed. Arrays are flat: whole blocks, an element's float32 each,
        ``shape.layout.element_bytes`` a block, a byte an element. Raises ValueError for others.
        """
        if self.native is None:
            return quantised_recipes.split(shape, recipe, blocks, source, header, residual)
        wide = self.name != "scalar"
        missed: int = self.native.split_blocks(
            shape.number, recipe, wide, blocks, source, header, residual
        )
        return missed

    def join_blocks(  # noqa: PLR0917 - arrays, as C takes them
        self, shape: Shape, recipe: int, header: Bytes, source: Floats, residual: Bytes | None,
        blocks: Bytes,
    ) -> None:  # fmt: skip
        """Fill ``blocks`` from source and differences; undoes ``split_blocks``."""
        if self.native is None:
            quantised_recipes.join(shape, recipe, header, source, residual, blocks)
            return
        wide = self.name != "scalar"
        self.native.join_blocks(shape.number, recipe, wide, header, source, residual, blocks)

    def block_values(self, shape: Shape, blocks: Bytes, out: Floats) -> None:
        """Fill ``out`` with the float32 values of quantised blocks; both are flat.

        Raises ValueError where sizes do not fit.
        """
        if self.native is None:
            out[:] = ggml.dequantise_blocks(blocks.data, shape.name)
            return
        self.native.values_of_blocks(shape.number, self.name != "scalar", blocks, out)

    def fit_rounded(
        self, dtype: str, content: Bytes, values: Floats, position: int, grid: Grid
    ) -> Bytes:
        """Return the table of scales that give most of an 8-bit tensor's codes back.

        ``content`` are codes, ``values`` as many float32, from an element ``position`` on. Raises
        ValueError for more scales than elements.
        """
        if self.native is None:
            return rounding_reference.fit(dtype, content, values, position, grid)
        table = np.empty(grid.count(position, len(values)) * GROUP_BYTES, np.uint8)
        self.native.fit_rounded(
            TYPES[dtype], self.name != "scalar", position, *grid.numbers, content, values,
            *rounding_reference.steps(dtype), table,
        )  # fmt: skip
        return table

    def round_values(  # noqa: PLR0917 - arrays, as C takes them
        self, dtype: str, table: Bytes, values: Floats, position: int, grid: Grid,
        residual: Bytes | None, out: Bytes,
    ) -> None:  # fmt: skip
        """Fill ``out`` with the codes that a table of scales makes of values, plus ``residual``."""
        if self.native is None:
            out[:] = rounding_reference.rounded(dtype, table, values, position, grid, residual)
            return
        self.native.round_values(
            TYPES[dtype], self.name != "scalar", position, *grid.numbers, table, values, residual,
            out,
        )  # fmt: skip

    def near_signs(
        self, words: NDArray[np.uint64], wanted: NDArray[np.uint64], limits: NDArray[np.int16]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the columns of ``words`` that are near to ``wanted``, ascending, and how far.

        Shapes (4, n), (4,) and (257,): a column with m bits set is near at a Hamming distance of at
        most ``limits[m]``. Raises ValueError for others.
        """
        if self.native is None:
            return sign_reference.near(words, wanted, limits)
        columns, distances = np.empty((2, words.shape[1]), np.int64)
        count = self.native.near_signs(
            self.name != "scalar", words, wanted, limits, columns, distances
        )
        return columns[:count].copy(), distances[:count].copy()

    def any_near(
        self, words: NDArray[np.uint64], wanted: NDArray[np.uint64], limits: NDArray[np.int16]
    ) -> NDArray[np.bool_]:
        """Return for each of many sketches whether any column of ``words`` is near to it.

        Shapes (4, n), (m, 4) and (m, 257), each as in ``near_signs``; what is returned is (m,).
        Raises ValueError for others.
        """
        if self.native is None:
            return sign_reference.any_near(words, wanted, limits)
        found = np.empty(len(wanted), np.bool_)
        self.native.any_near_signs(
            self.name != "scalar", words, np.ascontiguousarray(wanted),
            np.ascontiguousarray(limits), limits.max(axis=1, initial=-1), found,
        )  # fmt: skip
        return found

    def cast(self, values: Array, source: str, target: str, nan: str = "quiet") -> Array:
        """Return ``values`` rounded to ``target``, as ``core.casts.cast`` does."""
        number = _CASTS.get((source, target))
        if self.native is None or number is None:
            return casts.cast(values, source, target, nan)
        out = np.empty(values.shape, STORED[target])
        self.native.cast_floats(
            number, _NAN_RULES[nan], self.name != "scalar", np.ascontiguousarray(values), out
        )
        return out


@functools.cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("hartonomous.codecs._kernel"), ""
    except ImportError as error:
        return None, str(error)


def _native() -> ModuleType | None:
    return _load()[0]


def fault() -> str:
    """Return why the C kernel cannot be loaded, empty if it can."""
    return _load()[1]


def available() -> tuple[str, ...]:
    """Return the names of what this machine can run, fastest first."""
    native = _native()
    return (*(native.paths() if native else ()), NUMPY)


def of_name(name: str) -> Kernel:
    """Return one implementation; raises UsageError where it is unknown or cannot run here."""
    if name not in NAMES:
        raise UsageError(
            f"there is no kernel named {name!r}", hint=f"{VARIABLE} takes {', '.join(NAMES)}"
        )
    if name not in available():
        raise UsageError(
            f"the kernel {name} cannot run here",
            hint=f"this machine and installation have {', '.join(available())}",
        )
    return Kernel(name, None if name == NUMPY else _native())


@functools.cache
def _chosen(name: str) -> Kernel:
    return of_name(name)


def active(environ: Mapping[str, str] | None = None) -> Kernel:
    """Return what runs: what the variable names, else the fastest there is."""
    forced = (os.environ if environ is None else environ).get(VARIABLE, "")
    return _chosen(forced or available()[0])
