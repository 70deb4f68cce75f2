"""``hart scan``: what would run when somebody loads a model."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT_OR_PATH
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Style, Table
from hartonomous.cli.sizes import several
from hartonomous.errors import DangerError

if TYPE_CHECKING:
    from hartonomous.operations.scan import ScannedFinding, ScanReport

_STYLES: dict[str, Style] = {"danger": "bad", "code": "warn", "unknown": "dim"}


@make_command("scan")
@click.argument("target", type=ARTIFACT_OR_PATH, metavar="NAME[@X]|PATH")
@click.option("--hidden", is_flag=True, help="Look at hidden and temporary files in folders too.")
@click.pass_obj
def command(invocation: Invocation, *, target: str, hidden: bool) -> None:
    """Tell what would run when somebody loads a model; nothing is loaded.

    Names that pickles import or call, code that a configuration maps to (auto_map, a pipeline's
    own classes), Python files beside the weights, operators of ONNX that need a library, what chat
    templates call, TorchScript, Keras's Lambda layers and what its configurations import. PATH is
    parsed in a limited process and not stored; a stored version is judged by what was found when it
    was added.

    danger does harm when the file is loaded, or reaches where no model needs to; code runs where
    the reader allows it and may be wanted; unknown is what cannot be judged. Judgements go by
    names: nothing found is no promise. Ends with 4 when there is danger.
    """
    found = _scanned(invocation, target, hidden=hidden)
    for one in found.skipped:
        click.echo(f"hart: note: not looked at: {one}", err=True)
    invocation.output.emit(found, human=_page, ids=lambda one: (f.file for f in one.findings))
    if found.danger_count:
        sys.stdout.flush()
        raise DangerError(
            f"{several(found.danger_count, 'danger', 'dangers')} found",
            hint="do not load this with pickle, torch.load(weights_only=False),"
            " numpy.load(allow_pickle=True), an unsandboxed template or safe_mode=False;"
            " the table says which file is meant",
        )


def _scanned(invocation: Invocation, target: str, *, hidden: bool) -> "ScanReport":
    """Scan with the store that is found, or without one where a path is meant."""
    if invocation.place().exists:
        with invocation.store() as store, invocation.progress(store.settings) as progress:
            return store.scan(target, hidden=hidden, progress=progress)
    if not os.path.lexists(target):
        with invocation.store() as store:  # which says that there is no store
            return store.scan(target)
    from hartonomous.opening import scan_place

    with invocation.progress(invocation.settings()) as progress:
        return scan_place(target, hidden=hidden, progress=progress)


def _page(found: "ScanReport") -> Iterable[Block]:
    if found.findings:
        shows_artifact = found.artifact_count > 1
        columns = [Column("what", whole=True), Column("kind", whole=True, extra=True)]
        columns += [Column("artifact")] if shows_artifact else []
        columns += [Column("file"), Column("why")]
        yield Table(columns=columns, rows=[_row(one, shows_artifact) for one in found.findings])
    if found.omitted_count:
        yield Cell(f"{several(found.omitted_count, 'more finding')} not shown", "dim")
    looked = f"{several(found.file_count, 'file')} looked at"
    counts = (found.danger_count, found.code_count, found.unknown_count)
    if not any(counts):
        yield Cell(f"{looked}: nothing that would run was found", "good")
        return
    words = zip(counts, ("danger", "code", "unknown"), strict=True)
    told = ", ".join(f"{number:,} {word}" for number, word in words if number)
    yield Cell(f"{looked}: {told}", "bad" if found.danger_count else "warn")


def _row(one: "ScannedFinding", shows_artifact: bool) -> tuple[str | Cell, ...]:
    first = (Cell(one.severity, _STYLES[one.severity]), one.kind)
    return (*first, *((one.artifact,) if shows_artifact else ()), one.file, one.text)
