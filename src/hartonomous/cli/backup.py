"""``hart backup``: snapshots of the store in a folder; list them, check them, remove one."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import count, moment, several, size
from hartonomous.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from hartonomous.operations.backup import (
        BackedUp,
        BackupChecked,
        SnapshotListed,
        SnapshotRemoved,
    )


@make_command("backup")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--keep", type=int, metavar="N", help="Remove the oldest snapshots over N.")
@click.option("--list", "listing", is_flag=True, help="List the snapshots in DIR.")
@click.option("--verify", is_flag=True, help="Read everything in DIR and compare all digests.")
@click.option("--remove", metavar="SNAPSHOT", help="Remove a snapshot from DIR.")
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    folder: Path,
    keep: int | None,
    listing: bool,
    verify: bool,
    remove: str | None,
    dry_run: bool,
) -> None:
    """Copy the store into a folder of snapshots.

    Works beside writers and gc. Packs that DIR has are not copied again; each is compared with what
    was read when it is written. A run that was cut short goes on where it stopped. hart restore
    makes a store of a snapshot. Ends with 4 where the store was damaged already, or --verify finds
    damage.
    """
    if sum((listing, verify, remove is not None)) > 1:
        raise UsageError("--list, --verify and --remove exclude each other")
    if (listing or verify or remove is not None) and (keep is not None or dry_run):
        raise UsageError("--keep and --dry-run go with a backup alone")
    if listing:
        _list(invocation, folder)
    elif verify:
        _verify(invocation, folder)
    elif remove is not None:
        _remove(invocation, folder, remove)
    else:
        _backup(invocation, folder, keep, dry_run=dry_run)


def _backup(invocation: Invocation, folder: Path, keep: int | None, *, dry_run: bool) -> None:
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        done = store.backup(folder, keep=keep, dry_run=dry_run, progress=progress)
    invocation.output.emit(
        done, human=_page, ids=lambda one: [one.snapshot] if one.snapshot else ()
    )
    if done.faults:
        raise IntegrityError(
            f"{several(len(done.faults), 'pack')} of the store "
            f"{'is' if len(done.faults) == 1 else 'are'} damaged, and copied as found",
            hint="hart verify names what is concerned",
        )


def _list(invocation: Invocation, folder: Path) -> None:
    from hartonomous.opening import list_backups

    invocation.output.emit_each(list_backups(folder), human=_listing, ids=lambda one: one.name)


def _verify(invocation: Invocation, folder: Path) -> None:
    from hartonomous.opening import check_backups

    with invocation.progress(invocation.settings()) as progress:
        done = check_backups(folder, progress=progress)
    invocation.output.emit(done, human=_checked, ids=lambda one: one.faults)
    if done.faults:
        hint = "make another backup: what is damaged is then copied anew, if the store has it"
        if not all(fault.startswith("packs/") for fault in done.faults):
            hint = f"hart backup DIR --remove SNAPSHOT takes away what is damaged itself; {hint}"
        raise IntegrityError(f"{several(len(done.faults), 'fault')} among the backups", hint=hint)


def _remove(invocation: Invocation, folder: Path, name: str) -> None:
    from hartonomous.opening import find_backup, remove_backup

    find_backup(folder, name)  # nobody is asked about what is not there
    invocation.confirm(f"Remove snapshot {name} from {folder}?")
    done = remove_backup(folder, name)
    invocation.output.emit(done, human=_removed, ids=lambda one: [one.snapshot])


def _page(done: "BackedUp") -> Iterable[Block]:
    yield Fields(
        rows=[
            ("snapshot", done.snapshot or "none yet (dry run)"),
            ("versions", count(done.version_count)),
            ("packs", f"{count(done.pack_count)} ({size(done.pack_bytes)})"),
            (
                "to copy" if done.dry_run else "copied",
                f"{count(done.copied_count)} ({size(done.copied_bytes)}) and the catalog"
                # Nobody knows before it was copied.
                + ("" if done.dry_run else f" ({size(done.catalog_bytes)})"),
            ),
        ]
    )
    if done.removed_snapshots:
        number = several(len(done.removed_snapshots), "older snapshot")
        yield f"{number} removed, {size(done.freed_bytes)} freed"
    for fault in done.faults:
        yield Cell(fault, "bad")
    for name in done.damaged_snapshots:
        yield Cell(
            f"snapshot {name} is damaged, so no pack is removed; --remove takes it away", "bad"
        )
    if done.dry_run:
        yield "nothing was changed (dry run)"


def _listing(found: "Iterable[SnapshotListed]") -> Iterable[Block]:
    rows = [
        (one.name, moment(one.taken_us), count(one.version_count), size(one.pack_bytes),
         size(one.copied_bytes), one.store_id)
        if one.damage is None
        else (one.name, "damaged", "", "", "", one.damage)
        for one in found
    ]  # fmt: skip
    if not rows:
        yield "there is no snapshot yet"
        return
    columns = (
        Column("snapshot"), Column("taken"), Column("versions", right=True),
        Column("packs", right=True), Column("copied for it", right=True),
        Column("store", extra=True),
    )  # fmt: skip
    yield Table(columns=columns, rows=rows)


def _checked(done: "BackupChecked") -> Iterable[Block]:
    for fault in done.faults:
        yield Cell(fault, "bad")
    yield Fields(
        rows=[
            ("snapshots", count(len(done.snapshots))),
            ("packs", count(done.pack_count)),
            ("read", size(done.checked_bytes)),
        ]
    )
    if not done.faults:
        yield Cell("no fault found", "good")


def _removed(done: "SnapshotRemoved") -> Iterable[Block]:
    number = several(done.pack_count, "pack")
    yield f"{done.snapshot} removed, with {number} that no other needs ({size(done.freed_bytes)})"
