"""``hart explain``: how one tensor is kept, where its bytes lie, and who shares them."""

from collections.abc import Iterable, Iterator

import click

from hartonomous.cli.artifact_name import ARTIFACT, TENSOR
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import count, ratio, several, size
from hartonomous.operations.explain import Explained, ExplainedExtent, ExplainedPiece

_PIECES_SHOWN = 50


@make_command("explain")
@click.argument("name", type=ARTIFACT)
@click.argument("tensor", type=TENSOR)
@click.option("--file", "member", metavar="PATH", help="The file inside NAME that is meant.")
@click.pass_obj
def command(invocation: Invocation, *, name: str, tensor: str, member: str | None) -> None:
    """Say how a tensor is kept, and who shares it.

    Shows its digest, its encoding and why, the packs that hold its frames, and every other tensor
    in use with the same bytes.
    """
    with invocation.store() as store:
        found = store.explain(name, tensor, member=member)
    invocation.output.emit(found, human=_page, ids=lambda one: [one.digest or "-"])


def _page(found: Explained) -> Iterable[Block]:
    stored = f"{size(found.stored_bytes)} ({ratio(found.logical_bytes, found.stored_bytes)})"
    encodings = ", ".join(dict.fromkeys(one.encoding for one in found.pieces)) or "none"
    yield Fields(
        rows=(
            ("tensor", Cell(found.tensor, "strong")),
            ("in", f"{found.name}@{found.number}, {found.member}, at byte {found.offset}"),
            ("type", f"{found.dtype} [{', '.join(map(str, found.shape))}]"),
            ("digest", found.digest or "none: its bytes are no atom of their own"),
            ("bytes", f"{found.logical_bytes} ({size(found.logical_bytes)})"),
            ("stored", stored if found.stored_bytes else _nothing(found)),
            ("encoding", f"{encodings}: {found.reason}"),
            *(_bases(found)),
            ("uses", count(found.use_count)),
            ("saved", size(found.saved_bytes)),
        )
    )
    yield from _extents(found)
    yield from _uses(found)


def _nothing(found: Explained) -> str:
    built = any(one.bases for one in found.pieces)
    return "nothing: it is computed" if built else "nothing outside the manifest"


def _bases(found: Explained) -> Iterator[tuple[str, str]]:
    """Yield a row for each base, and how far down they go."""
    names = dict.fromkeys(name for piece in found.pieces for name in piece.bases)
    for name in names:
        yield "computed from", name
    if names:
        yield "depth", str(max(piece.depth for piece in found.pieces))


def _extents(found: Explained) -> Iterator[Block]:
    rows = [(piece, extent) for piece in found.pieces for extent in piece.extents]
    if not rows:
        return
    yield Table(
        columns=(
            Column("pack"), Column("offset", right=True), Column("stored", right=True),
            Column("bytes", right=True), Column("encoding"), Column("frames", right=True),
        ),
        rows=[_extent_row(*row) for row in rows[:_PIECES_SHOWN]],
    )  # fmt: skip
    if len(rows) > _PIECES_SHOWN:
        yield Cell(
            f"{several(len(rows) - _PIECES_SHOWN, 'more extent is', 'more extents are')} not shown",
            "dim",
        )


def _extent_row(piece: ExplainedPiece, extent: ExplainedExtent) -> tuple[str, ...]:
    part = "" if extent.logical_bytes == piece.logical_bytes else f" at {extent.position}"
    raw = f" ({extent.raw_frame_count} raw)" if extent.raw_frame_count else ""
    return (
        extent.pack,
        str(extent.pack_offset),
        str(extent.stored_bytes),
        f"{extent.logical_bytes}{part}",
        extent.encoding,
        f"{extent.frame_count}{raw}",
    )


def _uses(found: Explained) -> Iterator[Block]:
    if found.use_count < 2:
        return
    yield "the same bytes:"
    yield Table(
        columns=(Column("artifact"), Column("file"), Column("tensor"), Column("type and shape")),
        rows=[
            (f"{one.name}@{one.number}", one.member, one.tensor,
             f"{one.dtype} [{', '.join(map(str, one.shape))}]")
            for one in found.uses
        ],
    )  # fmt: skip
    if found.use_count > len(found.uses):
        yield Cell(f"{count(found.use_count - len(found.uses))} more not shown", "dim")
