"""``hart relate``: state what one version is to another, list what was stated, take it back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import moment
from hartonomous.core.relation import STATABLE
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.relate import Related, Statement


@make_command("relate")
@click.argument("source", required=False, type=ARTIFACT, metavar="[A]")
@click.argument("kind", required=False, type=click.Choice(STATABLE), metavar="[RELATION]")
@click.argument("target", required=False, type=ARTIFACT, metavar="[B]")
@click.option("--weight", type=float, metavar="W", help="B's share, where A is a merge.")
@click.option("--note", default="", metavar="TEXT", help="Why, or who says so.")
@click.option("--remove", is_flag=True, help="Take the statement back.")
@click.option("--list", "listing", is_flag=True, help="List statements, about A or all.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    source: str | None,
    kind: str | None,
    target: str | None,
    weight: float | None,
    note: str,
    remove: bool,
    listing: bool,
    dry_run: bool,
) -> None:
    """State what one version is to another.

    A RELATION B, such as 'chat fine-tune-of base'. RELATION is cast-of, quantised-from,
    exported-from, fine-tune-of, checkpoint-after, adapter-of or merged-from. What is measured needs
    no statement: see hart lineage.
    """
    if listing:
        if kind is not None or remove or note or weight is not None:
            raise UsageError("--list takes a name alone, or nothing")
        with invocation.store() as store:
            stated = store.relations(source)
        invocation.output.emit_each(stated, human=_list, ids=lambda one: one.source)
        return
    if source is None or kind is None or target is None:
        raise UsageError(
            "a relation has two ends", hint="hart relate A fine-tune-of B, or hart relate --list"
        )
    if remove and (note or weight is not None):
        raise UsageError("--remove takes no --note and no --weight")
    with invocation.store() as store:
        if remove:
            done = store.unrelate(source, kind, target, dry_run=dry_run)
        else:
            done = store.relate(source, kind, target, weight=weight, note=note, dry_run=dry_run)
    invocation.output.emit(
        done, human=lambda one: [_line(one, removed=remove)], ids=lambda one: [one.source]
    )


def _line(done: "Related", *, removed: bool) -> str:
    is_ = "is no longer stated to be" if removed else "is"
    text = f"{done.source} {is_} {done.kind} {done.target}"
    if not done.changed:
        return f"{text}; nothing to change"
    if done.dry_run:
        return f"{text}; nothing was changed (dry run)"
    return f"{text}; 'hart undo {done.sequence}' takes it back"


def _list(stated: Iterable["Statement"]) -> Iterable[Block]:
    rows = [
        (one.source, one.kind, one.target, "" if one.weight is None else f"{one.weight:g}",
         moment(one.stated_us), one.note)
        for one in stated
    ]  # fmt: skip
    if not rows:
        yield "nothing was stated; hart lineage NAME shows what was measured"
        return
    columns = (
        Column("version"), Column("is"), Column("other"), Column("weight", right=True),
        Column("stated", extra=True), Column("note", extra=True),
    )  # fmt: skip
    yield Table(columns=columns, rows=rows)
