"""``hart estimate``: what the store would need, from samples."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import count, several, share, size

if TYPE_CHECKING:
    from hartonomous.operations.estimate import Estimate
    from hartonomous.packs.forecast import EstimatedClass


@make_command("estimate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--include", multiple=True, metavar="PATTERN", help="Take only files that fit.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out files that fit.")
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    paths: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> None:
    """Tell what the store would need for files, storing nothing.

    Reads a hundredth of the bytes at most, and never more than 2 GiB: headers, and samples that are
    encoded as they would be. Of up to 4 MB 1 MiB is read at most, and a header that is longer than
    a hundredth of its file is read all the same, such as a GGUF file's with a large vocabulary.
    Where there is a store, what it holds already is told too. Equality is told from samples, and so
    is what differs from tensors that are like others; chunks that files without structure share are
    not looked for.
    """
    run(invocation, paths, include=include, exclude=exclude)


def run(
    invocation: Invocation,
    paths: tuple[str, ...],
    *,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> None:
    """Estimate and print, with the store that is found or without one."""
    if invocation.place().exists:
        with invocation.store() as store, invocation.progress(store.settings) as progress:
            found = store.estimate(paths, include=include, exclude=exclude, progress=progress)
    else:
        from hartonomous.opening import estimate_paths

        with invocation.progress(invocation.settings()) as progress:
            found = estimate_paths(paths, include=include, exclude=exclude, progress=progress)
    for note in (*found.notes, *(f"skipped {one}" for one in found.skipped)):
        click.echo(f"hart: note: {note}", err=True)
    invocation.output.emit(found, human=_page, ids=None)


def _page(found: "Estimate") -> Iterable[Block]:
    columns = (
        Column("what"), Column("pieces", right=True), Column("size", right=True),
        Column("would take", right=True), Column("from", right=True), Column("to", right=True),
    )  # fmt: skip
    yield Table(columns=columns, rows=map(_row, found.classes))
    part = share(found.estimated_bytes, found.logical_bytes)
    yield (
        f"{several(found.file_count, 'file')} in {several(found.artifact_count, 'artifact')}: "
        f"{size(found.logical_bytes)}, would take {size(found.estimated_bytes)} ({part}), "
        f"between {size(found.low_bytes)} and {size(found.high_bytes)}"
    )
    where = "" if found.compared else "; there is no store to compare with"
    yield f"read {size(found.read_bytes)}{where}"


def _row(one: "EstimatedClass") -> tuple[str, ...]:
    return (
        one.kind, count(one.piece_count), size(one.logical_bytes), size(one.estimated_bytes),
        size(one.low_bytes), size(one.high_bytes),
    )  # fmt: skip
