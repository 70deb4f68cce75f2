"""``hart repack``: encode anew what would take less now."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import background, refuse
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.quantities import Duration
from hartonomous.cli.sizes import count, duration, size

if TYPE_CHECKING:
    from hartonomous.operations.repack import Repacked


@make_command("repack")
@click.option(
    "--max-duration", "max_duration_s", type=Duration(), metavar="10m",
    help="End after this time; the next run goes on from there.",
)  # fmt: skip
@click.option(
    "--again", is_flag=True, help="Look at everything, even at what was looked at before."
)
@click.option(
    "--smallest", is_flag=True,
    help="Allow encodings of quantised tensors that are slow to read.",
)  # fmt: skip
@background
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    max_duration_s: float | None,
    again: bool,
    smallest: bool,
    dry_run: bool,
    later: bool,
) -> None:
    """Encode anew what would take less now.

    Each piece whose encoding would be chosen otherwise today, or that a tensor which came later is
    a better base of, and that would save two percent, is written anew, compared, and only then used
    in place of the old one. Tensors of versions with a hot label come to lie over one base at most.
    Works beside other commands and may be ended at any moment; the next run goes on. Needs room for
    what is written anew; 'hart gc' then frees what it replaced. With -n a sample of each piece is
    measured and nothing is written.
    """
    if later:
        refuse(dry_run=dry_run)
        submit_job(
            invocation, "repack",
            {"max_duration_s": max_duration_s, "again": again, "smallest": smallest},
        )  # fmt: skip
        return
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        done = store.repack(
            max_duration_s=max_duration_s, again=again, smallest=smallest, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip
        for note in done.notes:
            progress.note(note)
    invocation.output.emit(done, human=_page, ids=lambda _: ())


def _page(done: "Repacked") -> Iterable[Block]:
    if done.by_encoding:
        title = "would change" if done.dry_run else "changed"
        yield Table(
            columns=(Column(title), Column("atoms", right=True)),
            rows=[(change, count(number)) for change, number in done.by_encoding.items()],
        )
        yield ""
    before, after = ("take now", "would take") if done.dry_run else ("took", "take now")
    yield Fields(
        rows=[
            ("atoms looked at", count(done.examined_count)),
            ("worth it" if done.dry_run else "encoded anew", count(done.atom_count)),
            ("their bytes", size(done.logical_bytes)),
            (before, size(done.former_bytes)),
            (after, ("about " if done.dry_run else "") + size(done.stored_bytes)),
            ("bases copied a second time", count(done.copied_count)),
            ("time", duration(done.duration_s)),
        ]
    )
    if not done.complete:
        yield Cell(
            f"the time was up; {count(done.remaining_count)} atoms are left for the next run",
            "warn",
        )
    if done.dry_run:
        yield "nothing was changed (dry run)"
    elif done.atom_count:
        yield "'hart gc' frees what was replaced"
