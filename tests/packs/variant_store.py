"""Atoms built on others, put into a store directly: what tests of variants share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hartonomous.catalog import atoms
from hartonomous.core.digest import digest
from hartonomous.core.plan import Cast, Operand, Plan, Transpose
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.session import WriteSession

Array = np.ndarray[Any, np.dtype[Any]]


def weights(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(count, np.float32) * np.float32(0.02)


def tuned(base: Array, seed: int = 1, step: float = 1e-4) -> Array:
    moved = np.random.default_rng(seed).standard_normal(base.size, np.float32).reshape(base.shape)
    return (base + moved * np.float32(step)).astype(np.float32)


def straight(count: int, dtype: str = "F32") -> Plan:
    return Plan(dtype, (count,), (Operand(dtype, (count,)),))


def cast(count: int, dtype: str) -> Plan:
    return Plan(dtype, (count,), (Operand("F32", (count,)),), (Cast(dtype),))


def transposition(rows: int, columns: int) -> Plan:
    """Give the F32 plan of a (rows, columns) target from its transpose."""
    return Plan("F32", (rows, columns), (Operand("F32", (columns, rows)),), (Transpose(),))


def frames(content: bytes) -> list[bytes]:
    return [content[at : at + FRAME_BYTES] for at in range(0, len(content), FRAME_BYTES)]


def put(
    session: WriteSession,
    content: bytes,
    plan: Plan | None = None,
    bases: Sequence[bytes] = (),
    *,
    dtype: str | None = "F32",
) -> bytes:
    """Store an atom and its rows; the session holds on to its bases. Returns its digest."""
    name = digest(content)
    if plan is not None:
        assert session.hold(bases) == set(bases)
    session.put_atom(
        name, len(content), frames(content), encoding=Encoding.RAW,
        dtype=dtype, on_stored=lambda *_: None, plan=plan, bases=tuple(bases),
    )  # fmt: skip
    session.flush()
    return name


def read(parts: StoreParts, name: bytes, size: int, start: int = 0) -> bytes:
    reader = AtomReader(parts)
    try:
        out = bytearray(size)
        reader.decode_into(name, memoryview(out), start)
        return bytes(out)
    finally:
        reader.close()


def row_of(parts: StoreParts, name: bytes) -> atoms.StoredAtom:
    with parts.database.read() as tx:
        rows = atoms.stored_page(tx, after_id=0, limit=100_000)
    return next(row for row in rows if row.digest == name)
