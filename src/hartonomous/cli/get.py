"""``hart get``: write the exact files of a version."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.options import force as force_option
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import several, size

if TYPE_CHECKING:
    from hartonomous.operations.get import GetReport, GotFile


@make_command("get")
@click.argument("spec", type=ARTIFACT, metavar="NAME[@X]")
@click.option("-o", "--output", type=click.Path(), metavar="PATH", help="File or folder to write.")
@click.option(
    "--file", "members", multiple=True, metavar="MEMBER", help="Write this file of it alone."
)
@force_option("Write over files that are something else.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    spec: str,
    output: str | None,
    members: tuple[str, ...],
    force: bool,
    dry_run: bool,
) -> None:
    """Write the exact files of an artifact.

    A single file goes to PATH (a file name, or a folder that exists), a model folder becomes PATH;
    without PATH they go under their own names into the working folder. One --file of a folder goes
    to PATH as well, or below it where PATH is a folder that exists or ends in a slash. Files that
    are there already with the right bytes are kept, an interrupted get goes on, and nothing else is
    written over without --force. X is a version number, a label or the beginning of a digest.
    """
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        report = store.get(
            spec, output, members=members, force=force, dry_run=dry_run, progress=progress
        )
    invocation.output.emit(
        report,
        human=lambda one: _page(one, dry_run=dry_run),
        ids=lambda one: (file.path for file in one.files),
    )


def _page(report: "GetReport", *, dry_run: bool) -> Iterable[Block]:
    columns = (Column("file"), Column("size", right=True), Column("outcome", whole=True))
    yield Table(
        columns=columns,
        rows=(
            (file.path, size(file.logical_bytes), _outcome(file, dry_run=dry_run))
            for file in report.files
        ),
    )
    yield total_line(report, dry_run=dry_run)


def _outcome(file: "GotFile", *, dry_run: bool) -> str | Cell:
    if file.kept:
        return Cell("there already", "dim")
    if dry_run:
        return "would be written"
    if file.resumed_bytes:
        return Cell(f"written, gone on at {size(file.resumed_bytes)}", "good")
    return Cell("written", "good")


def total_line(report: "GetReport", *, dry_run: bool) -> str:
    """Return ``bert@2: 3 files, 90.9 MB in bert``."""
    count = len(report.files)
    files = several(count, "file")
    end = "; nothing was written (dry run)" if dry_run else ""
    where = f"in {report.output}" if count != 1 else f"at {report.files[0].path}"
    return f"{report.name}@{report.number}: {files}, {size(report.logical_bytes)} {where}{end}"
