"""``hart embed``: compute the vectors by which passages and pictures are found."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import background, refuse
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import count, duration

if TYPE_CHECKING:
    from hartonomous.operations.embed import EmbedReport


@make_command("embed")
@click.option("--space", metavar="NAME", help="Bring this space up to date, and no other.")
@click.option(
    "--encoder", metavar="NAME", help="Make or go on with the spaces of this encoder."
)  # fmt: skip
@click.option(
    "--modality", type=click.Choice(["text", "picture"]), help="Only texts, or only pictures."
)
@click.option("--switch", is_flag=True, help="Search what was embedded once it is complete.")
@click.option(
    "--patches/--no-patches", "patches", default=None,
    help="Give nine overlapping parts of each picture vectors too; without, as the space has it.",
)  # fmt: skip
@background
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    space: str | None,
    encoder: str | None,
    modality: str | None,
    switch: bool,
    patches: bool | None,
    dry_run: bool,
    later: bool,
) -> None:
    """Compute the vectors of what was added, and remove those of what is gone.

    Without options every space that is searched or being built is brought up to date; a modality
    without any gets the rule that needs no model. May be ended at any moment and goes on from
    there. The first space of its modality and use is searched from its first vectors on, and
    searches say that it is not complete. A space of another encoder is made beside the one that is
    searched, until --switch or 'hart spaces switch'.
    """
    if later:
        refuse(dry_run=dry_run)
        submit_job(
            invocation, "embed",
            {"space": space, "encoder": encoder, "modality": modality, "switch": switch,
             **({} if patches is None else {"patches": patches})},
        )  # fmt: skip
        return
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        done = store.embed(
            space=space, encoder=encoder, modality=modality, switch=switch, patches=patches,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip
        for note in done.notes:
            progress.note(note)
    invocation.output.emit(done, human=_page, ids=lambda one: (each.space for each in one.spaces))


def _page(done: "EmbedReport") -> Iterable[Block]:
    added = "would add" if done.dry_run else "added"
    removed = "would remove" if done.dry_run else "removed"
    columns = (
        Column("space"), Column("of"), Column("state"), Column(added, right=True),
        Column(removed, right=True), Column("vectors", right=True),
    )  # fmt: skip
    rows = [
        (one.space, one.modality, one.state, count(one.added_count), count(one.removed_count),
         count(one.vector_count))
        for one in done.spaces
    ]  # fmt: skip
    if done.dry_run:
        yield Table(columns=columns, rows=rows)
    else:
        times = [(duration(one.duration_s), count(round(one.rate))) for one in done.spaces]
        yield Table(
            columns=(*columns, Column("time", right=True), Column("a second", right=True)),
            rows=[(*row, *time) for row, time in zip(rows, times, strict=True)],
        )
    if done.dry_run:
        yield "nothing was changed (dry run)"
    for one in done.spaces:
        if one.state == "building" and not done.dry_run:
            yield Cell(f"{one.space} is not searched yet: 'hart spaces switch {one.space}'", "warn")
