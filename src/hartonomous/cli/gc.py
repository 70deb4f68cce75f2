"""``hart gc``: free what nothing needs."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import background, refuse
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Column, Fields, Table
from hartonomous.cli.quantities import Duration
from hartonomous.cli.sizes import count, several, size
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.packs.collected import Collected
    from hartonomous.store import Store


@make_command("gc")
@click.option(
    "--trash-days", type=click.FloatRange(min=0), metavar="DAYS",
    help="Days that the trash keeps things; the setting trash_days otherwise.",
)  # fmt: skip
@click.option("--empty-trash", is_flag=True, help="Empty the trash whatever its age; asks first.")
@click.option(
    "--grace", "grace_s", type=Duration(), default="1h", metavar="1h", show_default=True,
    help="Leave alone unknown packs that are younger.",
)  # fmt: skip
@background
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    trash_days: float | None,
    empty_trash: bool,
    grace_s: float,
    dry_run: bool,
    later: bool,
) -> None:
    """Free what nothing needs.

    Empties the trash of what lies there long enough, drops bytes that nothing refers to, and writes
    packs anew of which more than a fifth is unused, or that are small and many. A tensor that other
    tensors are built on stays, unless those take less without it: then they are written anew first.
    Works beside other commands. What went from the trash cannot be had back. With -n everything is
    foreseen but damage of what would be copied, and what atoms built on something else will take.
    """
    if empty_trash and trash_days is not None:
        raise UsageError(
            "--empty-trash and --trash-days exclude each other", hint="leave one of them out"
        )
    if later:
        refuse(dry_run=dry_run, empty_trash=empty_trash)
        submit_job(invocation, "gc", {"trash_days": trash_days, "grace_s": grace_s})
        return
    with invocation.store() as store:
        if empty_trash:
            trash_days = 0
            if not dry_run:
                _ask(invocation, store)
        with invocation.progress(store.settings) as progress:
            done = store.gc(
                trash_days=trash_days, grace_s=grace_s, dry_run=dry_run, progress=progress
            )
            for note in done.notes:
                progress.note(note)
    invocation.output.emit(done, human=_page, ids=lambda one: one.purged_versions)


def _ask(invocation: Invocation, store: "Store") -> None:
    waiting = store.ls(trash=True)
    if waiting:
        total = size(sum(one.logical_bytes for one in waiting))
        number = several(len(waiting), "version")
        invocation.confirm(f"Delete {number} of {total} in the trash for good?")


def _page(done: "Collected") -> Iterable[Block]:
    if done.purged_versions:
        title = "would go from the trash" if done.dry_run else "gone from the trash"
        yield Table(columns=(Column(title),), rows=[(spec,) for spec in done.purged_versions])
        yield ""
    counts = [
        ("versions from the trash", len(done.purged_versions)),
        ("files dropped", done.manifest_count),
        ("atoms dropped", done.atom_count),
        ("atoms built on something else", done.rebased_count),
        ("packs dropped", done.pack_count),
        ("packs written anew", done.compacted_count),
        ("stray packs removed", done.litter_count),
        ("events past their time", done.event_count),
        ("jobs past their time", done.job_count),
        ("vectors of what is gone", done.vector_count),
    ]
    rows = [(name, count(number)) for name, number in counts if number]
    if rows or done.freed_bytes:
        rows.append(("freed", _freed(done.freed_bytes)))
    else:
        yield "nothing to remove"
    if done.unused_bytes:
        text = f"{size(done.unused_bytes)}, in packs that are mostly in use"
        rows.append(("left unused", text))
    if done.kept_count:
        rows.append(("atoms kept as bases", f"{count(done.kept_count)} ({size(done.kept_bytes)})"))
    if done.trash_count:
        left = f"{several(done.trash_count, 'version')} of {size(done.trash_bytes)}"
        rows.append(("left in the trash", f"{left}; --empty-trash frees what they hold alone"))
    if rows:
        yield Fields(rows=rows)
    if done.dry_run:
        yield "nothing was changed (dry run)"


def _freed(freed_bytes: int) -> str:
    if freed_bytes >= 0:
        return size(freed_bytes)
    return f"nothing yet: what was written anew takes {size(-freed_bytes)} more"
