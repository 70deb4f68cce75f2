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
from hartonomous.errors import PartlyDoneError, UsageError

if TYPE_CHECKING:
    from hartonomous.operations.convert import ConvertedMember, ConvertReport
    from hartonomous.operations.get import GetReport, GotFile


@make_command("get", surplus="-o {} says where to write, --file {} which file of it")
@click.argument("spec", type=ARTIFACT, metavar="NAME[@X]")
@click.option("-o", "--output", type=click.Path(), metavar="PATH", help="File or folder to write.")
@click.option(
    "--file", "members", multiple=True, metavar="MEMBER", help="Write this file of it alone."
)
@click.option(
    "--as",
    "as_format",
    type=click.Choice(["safetensors"]),
    help="Write the tensors in files of this format instead.",
)
@click.option("--partial", is_flag=True, help="With --as: leave out what the format cannot carry.")
@force_option("Write over files that are something else.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    spec: str,
    output: str | None,
    members: tuple[str, ...],
    as_format: str | None,
    partial: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Write the exact files of an artifact.

    A single file goes to PATH, or into it where PATH is a folder that exists or ends in a slash; a
    model folder becomes PATH; without PATH they go under their own names into the working folder.
    One --file of a folder goes to PATH as well, or below it where PATH is a folder. Files that
    are there already with the right bytes are kept, an interrupted get goes on, and nothing else is
    written over without --force. X is a version number, a label or the beginning of a digest.

    --as safetensors writes tensors of PyTorch's checkpoints, GGUF and .npy files as safetensors,
    bit for bit; other files of a folder come as they are. Views are written in C order, tensors
    that share a storage are written each. What it cannot carry (ggml's quantised blocks, tensors
    that were not read) is listed and nothing is written; with --partial the rest is, and the
    command ends with 3.
    """
    if output == "-":
        raise UsageError(
            "get writes files, not to standard output",
            hint="'hart cat NAME --file MEMBER' does that; -o ./- is a file of that name",
        )
    if as_format is not None:
        if members:
            raise UsageError("--as takes all files of a version", hint="leave out --file")
        convert(invocation, spec, output, partial=partial, force=force, dry_run=dry_run)
        return
    if partial:
        raise UsageError("--partial goes with --as", hint="leave it out, or add --as safetensors")
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


def convert(
    invocation: Invocation,
    spec: str,
    output: str | None,
    *,
    partial: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Write a version in another format; raises PartlyDoneError where something was left out."""
    from hartonomous.packs.converted_file import told_together

    with invocation.store() as store, invocation.progress(store.settings) as progress:
        report = store.convert(
            spec, output, partial=partial, force=force, dry_run=dry_run, progress=progress
        )
        for text in told_together(report.left_out):
            progress.note(f"left out of {text}")
    invocation.output.emit(
        report, human=_converted_page, ids=lambda one: (file.path for file in one.files)
    )
    if report.left_out:
        raise PartlyDoneError(
            f"{several(len(report.left_out), 'thing')} of {report.name}@{report.number}"
            " cannot be carried by safetensors and was left out",
            hint="hart get without --as writes the exact files",
        )


def _converted_page(report: "ConvertReport") -> Iterable[Block]:
    columns = (
        Column("file"),
        Column("from", extra=True),
        Column("size", right=True),
        Column("outcome", whole=True),
    )
    yield Table(
        columns=columns,
        rows=(
            (file.path, file.source, size(file.logical_bytes), _converted_outcome(file))
            for file in report.files
        ),
    )
    end = "; nothing was written (dry run)" if report.dry_run else ""
    files = several(len(report.files), "file")
    total = size(report.logical_bytes)
    yield f"{report.name}@{report.number}: {files}, {total} at {report.output}{end}"


def _converted_outcome(file: "ConvertedMember") -> str | Cell:
    if file.kept:
        return Cell("there already", "dim")
    what = "converted" if file.converted else "as it is"
    return f"would be written ({what})" if file.digest is None else Cell(what, "good")
