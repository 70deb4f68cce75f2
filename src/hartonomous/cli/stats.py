"""``hart stats``: what is stored, what it takes, and why."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import count, ratio, several, share, size

if TYPE_CHECKING:
    from hartonomous.operations.stats import Stats

INSIDE_MANIFESTS = "inside manifests"


@make_command("stats")
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Show what is stored, what it takes, and why.

    Sizes are bytes of files as they were added against bytes in the store's packs, and what each
    way of saving took away. Reads the catalog and the sizes of files only.
    """
    with invocation.store() as store:
        found = store.stats()
    invocation.output.emit(found, human=_page, ids=None)


def _page(found: "Stats") -> Iterable[Block]:
    yield Fields(rows=_sums(found))
    if not found.atom_count and not found.version_count:
        return
    yield ""
    yield Table(
        columns=(
            Column("saved by", whole=True),
            Column("bytes", right=True),
            Column("of all", right=True),
        ),
        rows=[
            (name, size(saved), share(saved, found.logical_bytes))
            for name, saved in _savings(found)
        ],
    )
    yield ""
    yield Table(
        columns=(
            Column("kept as", whole=True),
            Column("pieces", right=True, extra=True),
            Column("plain", right=True),
            Column("stored", right=True),
            Column("smaller", right=True),
        ),
        rows=[
            (
                held.kind,
                count(held.count),
                size(held.logical_bytes),
                size(held.stored_bytes),
                ratio(held.logical_bytes, held.stored_bytes),
            )
            for held in found.held
            if held.kind != INSIDE_MANIFESTS
        ],
    )
    yield ""
    yield Table(
        columns=(Column("on disk", whole=True), Column("bytes", right=True)),
        rows=[(part, size(taken)) for part, taken in found.disk_bytes.items()],
    )


def _manifests(found: "Stats") -> str:
    """Say what manifests take: they hold descriptions too, so no ratio would mean anything."""
    held = next(one for one in found.held if one.kind == INSIDE_MANIFESTS)
    text = f"{count(held.count)} of {size(held.stored_bytes)}"
    return (
        f"{text}; {size(held.logical_bytes)} of files lie in them" if held.logical_bytes else text
    )


def _sums(found: "Stats") -> list[tuple[str, str | Cell]]:
    kept = size(found.stored_bytes)
    smaller = ratio(found.logical_bytes, found.stored_bytes)
    rows: list[tuple[str, str | Cell]] = [
        ("artifacts", f"{count(found.artifact_count)} ({several(found.version_count, 'version')})"),
        ("files", f"{count(found.file_count)} ({several(found.tensor_count, 'tensor')})"),
        ("as plain files", size(found.logical_bytes)),
        ("stored", Cell(f"{kept} ({smaller} smaller)" if found.stored_bytes else kept, "strong")),
        ("packs", f"{count(found.pack_count)} with {several(found.atom_count, 'atom')}"),
    ]
    rows.append(("manifests", _manifests(found)))
    if found.kept_as_bases.count:
        held = found.kept_as_bases
        kept = f"{several(held.count, 'atom')} of {size(held.stored_bytes)}"
        rows.append(("kept as a base", f"{kept}: removed files held them, and others need them"))
    if found.copy_bytes:
        rows.append(("second copies", f"{size(found.copy_bytes)} of what many are built on"))
    if found.trash_version_count:
        trash = f"{several(found.trash_version_count, 'version')} of {size(found.trash_bytes)}"
        rows.append(("trash", f"{trash}; 'hart gc' empties it in time"))
    if found.dead_bytes:
        rows.append(("besides", f"{size(found.dead_bytes)} of records' headers, journal, unused"))
    return rows


def _savings(found: "Stats") -> list[tuple[str, int]]:
    return [
        ("equal files", found.saved_by_equal_files),
        ("equal tensors and data", found.saved_by_equal_atoms),
        ("encoding", found.saved_by_encoding),
    ]
