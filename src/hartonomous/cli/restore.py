"""``hart restore``: a store from a snapshot."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Fields
from hartonomous.cli.sizes import count, moment, several, size

if TYPE_CHECKING:
    from hartonomous.operations.restore import Restored


@make_command(
    "restore", surplus="--to {} says where the store is made, --snapshot {} which snapshot it is of"
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), metavar="STORE",
    help="Where the store is made; the place that --store names otherwise.",
)  # fmt: skip
@click.option("--snapshot", metavar="SNAPSHOT", help="Which one; the newest otherwise.")
@click.option(
    "--catalog", metavar="URL",
    help="Put the catalog on this PostgreSQL server; it is a file in the store otherwise.",
)  # fmt: skip
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    folder: Path,
    target: Path | None,
    snapshot: str | None,
    catalog: str | None,
    dry_run: bool,
) -> None:
    """Make a store from a snapshot.

    DIR is what hart backup wrote; the place of the new store must be empty. Everything is compared
    with its digest before the folder becomes a store. Names, versions, labels and bytes are those
    of the snapshot; the store's id is a new one. A run that was cut short goes on where it stopped.

    With --catalog the store is whole before its catalog goes to the server; where that fails, 'hart
    catalog copy --to URL' does it later.
    """
    from hartonomous.opening import restore_store

    place = invocation.place(parents=False).path if target is None else target
    with invocation.progress(invocation.settings()) as progress:
        done = restore_store(
            folder,
            place,
            snapshot=snapshot,
            catalog=catalog,
            force=invocation.options.force_network,
            dry_run=dry_run,
            progress=progress,
        )
    invocation.output.emit(done, human=_page, ids=lambda one: [one.path])


def _page(done: "Restored") -> Iterable[Block]:
    yield Fields(
        rows=[
            ("store", done.path),
            ("snapshot", f"{done.snapshot} ({moment(done.taken_us)})"),
            ("versions", count(done.version_count)),
            ("packs", f"{count(done.pack_count)} ({size(done.pack_bytes)})"),
            ("id", done.id or "none yet (dry run)"),
        ]
    )
    if done.waiting_job_count or done.schedule_count:
        jobs, schedules = done.waiting_job_count or 0, done.schedule_count or 0
        yield Cell(
            f"kept from the original: {several(jobs, 'waiting job')} and "
            f"{several(schedules, 'schedule')}, which a worker of this store would do too; "
            "hart jobs ls and hart schedule ls show them",
            "warn",
        )
    for fault in done.faults:
        yield Cell(f"damaged when the snapshot was taken: {fault}", "warn")
    if done.dry_run:
        yield "nothing was changed (dry run)"
