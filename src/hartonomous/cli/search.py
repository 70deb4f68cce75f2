"""``hart search``: find tensors in all models, by name, digest, role, shape, type or likeness."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import size
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.tensor_search import FoundTensors, NearTensor

_SHAPE = re.compile(
    r"\[\]|\(\)|(\[|(\())?\s*[0-9]{1,19}(\s*[,x]\s*[0-9]{1,19})*\s*,?\s*(?(2)\)|(?(1)\]))"
)
_COLUMNS = (
    Column("artifact"), Column("tensor"), Column("type and shape"), Column("size", right=True),
    Column("role", extra=True), Column("file", extra=True), Column("digest", extra=True),
)  # fmt: skip
_NEAR_COLUMNS = (
    Column("bits apart", right=True), Column("type and shape"), Column("how"),
    Column("used by"), Column("digest", extra=True),
)  # fmt: skip


@make_command("search")
@click.option(
    "--tensor", "pattern", metavar="PATTERN", help="A shell pattern over names, or a digest."
)
@click.option("--role", metavar="ROLE", help="What it does, such as attention-q or mlp-down.")
@click.option("--dtype", metavar="TYPE", help="Its element type, such as BF16 or Q4_K.")
@click.option("--shape", metavar="N,N…", help="Its shape, the slowest axis first.")
@click.option(
    "--near", nargs=2, metavar="NAME TENSOR", help="Stored tensors that resemble this one."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most hits."
)
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    pattern: str | None,
    role: str | None,
    dtype: str | None,
    shape: str | None,
    near: tuple[str, str] | None,
    limit: int,
) -> None:
    """Find tensors in all models.

    Which models hold this tensor: give its digest, or the beginning of it, as --tensor. Conditions
    add up. --near finds stored tensors whose values lie close, whatever their type or name.
    """
    if near:
        if any(one is not None for one in (pattern, role, dtype, shape)):
            raise UsageError("--near takes no other condition")
        with invocation.store() as store:
            found = store.nearest_tensors(*near)
        invocation.output.emit_each(found, human=_near, ids=lambda one: one.digest)
        return
    if all(one is None for one in (pattern, role, dtype, shape)):
        raise UsageError(
            "there is nothing to search for", hint="hart search --tensor 'model.layers.0.*'"
        )
    with invocation.store() as store:
        hits = store.search_tensors(
            pattern or "*", role=role, dtype=dtype, shape=_shape(shape), limit=limit
        )
    invocation.output.emit(
        hits,
        human=_page,
        ids=lambda one: dict.fromkeys(f"{each.name}@{each.number}" for each in one.tensors),
    )


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--shape: {text[:80]!r} is no shape",
            hint="such as 384,1536, or [] for a single number",
        )
    return tuple(int(one) for one in re.findall("[0-9]+", text))


def _page(found: "FoundTensors") -> Iterable[Block]:
    if not found.tensors:
        yield "no tensor fits"
        return
    yield Table(
        columns=_COLUMNS,
        rows=[
            (f"{one.name}@{one.number}", one.tensor, _form(one.dtype, one.shape),
             size(one.logical_bytes), one.role, one.member, (one.digest or "-")[:19])
            for one in found.tensors
        ],
    )  # fmt: skip
    if found.truncated:
        yield Cell("there are more: raise --limit, or ask more closely", "dim")


def _near(found: Iterable["NearTensor"]) -> Iterable[Block]:
    rows = [
        (f"{one.distance:.2f}", _form(one.dtype, one.shape), one.orientation,
         ", ".join(one.used_by) or "nothing in use", one.digest[:19])
        for one in found
    ]  # fmt: skip
    if rows:
        yield Table(columns=_NEAR_COLUMNS, rows=rows)
    else:
        yield "no stored tensor resembles it"


def _form(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} [{', '.join(map(str, shape))}]"
