"""``hart verify``: is every stored byte still what it was."""

from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import background
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.quantities import Duration, Share
from hartonomous.cli.sizes import duration, several, size
from hartonomous.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from hartonomous.operations.verify import VerifyReport

_MOST_FILES = 3


@make_command("verify")
@click.option("--quick", is_flag=True, help="Look at packs' headers and the catalog only.")
@click.option("--files", is_flag=True, help="Also rebuild every file and compare its digest.")
@click.option(
    "--read-data-subset", "subset", type=Share(), metavar="1/10",
    help="Read this share of the atoms, another one each day.",
)  # fmt: skip
@click.option(
    "--repair", is_flag=True, help="Let intact second copies take the place of damaged first ones."
)
@click.option(
    "--max-duration", "max_duration_s", type=Duration(), metavar="10m",
    help="End after this time, with what was found until then.",
)  # fmt: skip
@background
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    quick: bool,
    files: bool,
    subset: Fraction | None,
    repair: bool,
    max_duration_s: float | None,
    later: bool,
) -> None:
    """Check that every stored byte is what it was.

    Every atom is read, decoded and compared with its digest, and every manifest is checked; each
    fault is told with the files that need what is damaged. Ends with 4 when there is one. What many
    tensors are built on lies in the store twice: --repair has the second copy used where the first
    is damaged, and removes what is damaged in the cache of plain files.
    """
    if quick and (files or repair or subset is not None):
        raise UsageError(
            "--quick reads no data, so --files, --repair and --read-data-subset do not go with it",
            hint="leave --quick out",
        )
    if later:
        submit_job(
            invocation, "verify",
            {"quick": quick, "files": files, "subset": str(subset or 1), "repair": repair,
             "max_duration_s": max_duration_s},
        )  # fmt: skip
        return
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        report = store.verify(
            quick=quick,
            files=files,
            subset=subset or Fraction(1),
            repair=repair,
            max_duration_s=max_duration_s,
            progress=progress,
        )
    invocation.output.emit(report, human=_page, ids=lambda one: (f.where for f in one.faults))
    if report.faults:
        raise IntegrityError(
            f"{several(len(report.faults), 'fault')} found",
            hint="'hart get' still gives what is whole; where data is damaged and you have the"
            " files elsewhere, 'hart add' them again: damaged data is stored anew; run"
            " 'hart repair' if the catalog is at fault",
        )


def _page(report: "VerifyReport") -> Iterable[Block]:
    if report.faults:
        yield Table(
            columns=(Column("where"), Column("what is wrong"), Column("files that need it")),
            rows=(
                (Cell(fault.where, "bad"), fault.what, _some(fault.files))
                for fault in report.faults
            ),
        )
    looked = (
        f"{report.level}: {several(report.pack_count, 'pack')}, "
        f"{several(report.record_count, 'record')}, {several(report.atom_count, 'atom')}, "
        f"{several(report.manifest_count, 'manifest')}, "
        f"{size(report.read_bytes)} read in {duration(report.duration_s)}"
    )
    yield looked
    if report.mended:
        yield Cell(f"mended: {_some(report.mended)}", "warn")
    if not report.complete:
        yield Cell("the time was up before everything was looked at", "warn")
    if report.faults:
        yield Cell(f"{several(len(report.faults), 'fault')} found", "bad")
    else:
        yield Cell("no fault found", "good")


def _some(files: tuple[str, ...]) -> str:
    more = len(files) - _MOST_FILES
    return ", ".join(files[:_MOST_FILES]) + (f" and {more} more" if more > 0 else "")
