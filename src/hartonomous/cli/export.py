"""``hart export``: write many artifacts, or everything, as plain files."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.options import force as force_option
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import several, size
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.get import GetReport


@make_command("export")
@click.argument("words", nargs=-1, required=True, type=ARTIFACT, metavar="[NAME[@X]]... DIR")
@click.option("--all", "everything", is_flag=True, help="Write every artifact.")
@click.option("--versions", is_flag=True, help="Write every version, in folders NAME@N.")
@force_option("Write over files that are something else.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    words: tuple[str, ...],
    everything: bool,
    versions: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Write artifacts as plain files below a folder.

    Each lies below DIR under its name, and a file is called there as it was on disk, whatever bytes
    that were. A name that was taken when a file was added has more of the file's path in it, and
    those that differ in Unicode's form alone (NFC, NFD) are one name: 'hart ls' shows which it got.

    NAME may be a shell pattern over names; with --all there is no NAME. Run again after an
    interruption: what is there with the right bytes is kept.
    """
    *names, folder = words
    if everything and names:
        raise UsageError("--all takes a folder and no names", hint="hart export --all DIR")
    if not everything and not names:
        raise UsageError(
            "no artifact is named", hint="hart export NAME... DIR, or hart export --all DIR"
        )
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        reports = store.export_all(
            folder,
            names=None if everything else names,
            versions=versions,
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    if not reports and invocation.output.is_for_people:
        click.echo("hart: note: the store is empty; nothing to export", err=True)
    invocation.output.emit_each(
        reports, human=lambda rows: _page(rows, dry_run=dry_run), ids=lambda one: one.output
    )


def _page(reports: Iterable["GetReport"], *, dry_run: bool) -> Iterable[Block]:
    listed = list(reports)
    if not listed:
        return
    columns = (
        Column("name"), Column("version", right=True), Column("files", right=True, extra=True),
        Column("size", right=True), Column("place", extra=True),
    )  # fmt: skip
    yield Table(
        columns=columns,
        rows=(
            (one.name, str(one.number), f"{len(one.files):,}", size(one.logical_bytes), one.output)
            for one in listed
        ),
    )
    files = [file for one in listed for file in one.files]
    kept = sum(file.kept for file in files)
    there = f", {kept:,} of them there already" if kept else ""
    end = "; nothing was written (dry run)" if dry_run else ""
    total = size(sum(one.logical_bytes for one in listed))
    yield f"{len(listed):,} exported: {several(len(files), 'file')}{there}, {total}{end}"
