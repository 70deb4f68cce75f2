"""What push, pull and sync share: their options, the other store, and how results are shown."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import several, size
from hartonomous.errors import IntegrityError

if TYPE_CHECKING:
    from hartonomous.operations.transfer import Transferred
    from hartonomous.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_MOST_ROWS = 200
_WORDS = {
    "add": "added", "remove": "to the trash", "restore": "out of the trash",
    "renumber": "has another number", "rename": "renamed", "label": "label",
    "unlabel": "label taken away", "annotate": "tags, metadata", "relate": "relation",
    "unrelate": "relation taken back",
}  # fmt: skip


def as_name(function: F) -> F:
    """Give the command ``--as NAME``, passed as ``as_name``."""
    return click.option(
        "--as", "as_name", metavar="NAME",
        help="What the one artifact is called there if it is new there.",
    )(function)  # fmt: skip


def rename(function: F) -> F:
    """Give the command ``--rename``, passed as ``rename``."""
    return click.option("--rename", is_flag=True, help="Bring what has a taken name as NAME~2.")(
        function
    )


@contextmanager
def other_store(invocation: Invocation, path: Path) -> "Iterator[Store]":
    """Open the store at a path; raises NoStoreError."""
    from hartonomous import locks
    from hartonomous.opening import open_store
    from hartonomous.packs.named_store import naming_store

    settings = dict(invocation.options.settings)
    force = invocation.options.force_network
    with locks.telling(invocation.tell):
        with naming_store(path):
            store = open_store(path, settings=settings, force=force)
        with store:
            yield store


def bring(
    invocation: Invocation, place: Path, names: tuple[str, ...], *, back: bool,
    as_name: str | None, rename: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Bring the store at a path what it lacks of this one, or (``back``) this one what that has."""
    with (
        invocation.store() as store,
        other_store(invocation, place) as other,
        invocation.progress(store.settings) as progress,
    ):
        source, target = (other, store) if back else (store, other)
        done = source.push(
            target, names, as_name=as_name, rename=rename, dry_run=dry_run, progress=progress
        )
    emit(invocation, done)


def emit(invocation: Invocation, done: "Transferred") -> None:
    """Show what was done; raises IntegrityError where something was refused."""
    invocation.output.emit(done, human=page, ids=lambda one: [row.name for row in one.carried])
    refuse(done)


def refuse(done: "Transferred") -> None:
    """Raise IntegrityError where versions were refused."""
    if done.failed:
        number = several(len(done.failed), "version")
        raise IntegrityError(
            f"{number} of {done.source} refused: {done.failed[0]}",
            hint=f"hart --store {shlex.quote(done.source)} verify names everything that is "
            "damaged; the rest was received",
        )


def page(done: "Transferred") -> Iterable[Block]:
    """Return what was done as people read it."""
    yield f"{done.source} to {done.target}"
    rows = [
        (
            one.name if one.number is None else f"{one.name}@{one.number}",
            _WORDS.get(one.action, one.action),
            size(one.logical_bytes) if one.action == "add" else "",
            one.detail,
        )
        for one in done.carried[:_MOST_ROWS]
    ]
    if rows:
        columns = (
            Column("name"), Column("what"), Column("size", right=True), Column("", extra=True),
        )  # fmt: skip
        yield Table(columns=columns, rows=rows)
    if len(done.carried) > _MOST_ROWS:
        yield f"and {len(done.carried) - _MOST_ROWS} more; --json has them all"
    for text in done.failed:
        yield Cell(f"refused: {text}", "bad")
    for text in done.notes:
        yield Cell(text, "warn")
    if not rows:
        yield "nothing to do"
        return
    would = "at most " if done.dry_run else ""
    yield (
        f"{several(done.version_count, 'version')} of {size(done.logical_bytes)},"
        f" {would}{size(done.sent_bytes)} sent"
    )
    if done.dry_run:
        yield "nothing was changed (dry run)"
