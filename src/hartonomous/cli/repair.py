"""``hart repair``: a new catalog from the packs alone."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import background, refuse
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Fields, Style, Table
from hartonomous.cli.sizes import count, several
from hartonomous.errors import IntegrityError

if TYPE_CHECKING:
    from hartonomous.packs.repaired import Repaired


@make_command("repair")
@background
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, *, later: bool, dry_run: bool) -> None:
    """Rebuild the catalog from the packs.

    Names, versions, labels and removals come back as the packs tell them; what is doubtful comes
    back under recovered/. The former catalog is kept beside the new one. Nobody else may use the
    store meanwhile. Asks first. Ends with 4 when something could not be brought back.

    With -n the new catalog is made and thrown away; packs that lie under another name than their
    own are told of, and what lies in them counts as missing.
    """
    if later:
        refuse(dry_run=dry_run)
        _submit(invocation)
        return
    from hartonomous.opening import repair_store

    path = invocation.store_path()
    if not dry_run:
        invocation.confirm(f"Rebuild the catalog of {path} from its packs?")
    settings = invocation.settings(path)
    with invocation.progress(settings) as progress:
        done = repair_store(
            path,
            dry_run=dry_run,
            settings=dict(invocation.options.settings),
            force=invocation.options.force_network,
            progress=progress,
        )
    invocation.output.emit(done, human=_page, ids=lambda one: (*one.lost, *one.damaged))
    if done.lost or done.damaged:
        raise IntegrityError(
            f"{several(len(done.lost), 'thing')} could not be brought back whole, "
            f"{several(len(done.damaged), 'record or pack is', 'records or packs are')} damaged",
            hint="add the files again from elsewhere; equal bytes fill the holes",
        )


def _submit(invocation: Invocation) -> None:
    if not invocation.learning:
        invocation.confirm("Have a worker rebuild the catalog from the packs?")
    submit_job(invocation, "repair", {})


def _page(done: "Repaired") -> Iterable[Block]:
    yield Fields(
        rows=[
            ("packs read", count(done.pack_count)),
            ("atoms", count(done.atom_count)),
            ("files", count(done.manifest_count)),
            ("versions", count(done.version_count)),
            ("changes", count(done.change_count)),
            *(
                ()
                if done.dry_run
                else (("former catalog", done.former_catalog or "there was none"),)
            ),
        ]
    )
    names = "packs that would get" if done.dry_run else "packs that got"
    yield from _listed(f"{names} their names back", done.renamed, "warn")
    ends = "packs whose end would be" if done.dry_run else "packs whose end was"
    yield from _listed(f"{ends} written anew", done.mended, "warn")
    yield from _listed("damaged", done.damaged, "bad")
    yield from _listed("lost", done.lost, "bad")
    yield from _listed("recovered, doubtful", done.recovered, "warn")
    if done.dry_run:
        yield "nothing was changed (dry run)"
    elif not (done.damaged or done.lost):
        yield Cell("everything in the packs is back", "good")


def _listed(title: str, found: tuple[str, ...], style: Style) -> Iterable[Block]:
    if found:
        yield ""
        yield Table(columns=(Column(title),), rows=[(Cell(one, style),) for one in found])
