"""``hart ls``: list artifacts, their versions, or the trash."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import moment, parameters, several, size
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.listing import Listed

_ORDERS: dict[str, Callable[["Listed"], Any]] = {
    "name": lambda one: (one.name, one.number),
    "size": lambda one: (-one.logical_bytes, one.name, one.number),
    "time": lambda one: (-one.created_us, one.name, -one.number),
}

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGITS_SHOWN = 8


@make_command("ls")
@click.argument("pattern", required=False, type=ARTIFACT, metavar="[PATTERN]")
@click.option("--versions", is_flag=True, help="List every version, not the newest alone.")
@click.option("--trash", is_flag=True, help="List what was removed and can still be had back.")
@click.option("--tag", metavar="TAG", help="List versions that carry this tag.")
@click.option(
    "--kind", type=click.Choice(["model", "file", "vectors"]),
    help="List artifacts of this kind; vectors are left out otherwise.",
)  # fmt: skip
@click.option(
    "--sort", type=click.Choice(list(_ORDERS)), help="Order: name, largest or newest first."
)
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    pattern: str | None,
    versions: bool,
    trash: bool,
    tag: str | None,
    kind: str | None,
    sort: str | None,
) -> None:
    """List artifacts.

    PATTERN is a name, or a shell pattern over whole names: 'bert*', 'org/*'. With -q names alone
    are printed, NAME@N with --versions or --trash. The trash is in order of removal.
    """
    if versions and trash:
        raise UsageError("--versions and --trash exclude each other", hint="the trash has versions")
    with invocation.store() as store:
        found = store.ls(pattern, versions=versions, trash=trash, tag=tag, kind=kind)
    if sort is not None or not trash:
        found.sort(key=_ORDERS[sort or "name"])
    if not found and invocation.output.is_for_people:
        click.echo(
            f"hart: note: {_nothing(asked=bool(pattern or tag or kind), trash=trash)}", err=True
        )
    numbered = versions or trash
    invocation.output.emit_each(
        found,
        human=lambda rows: _page(rows, numbered=numbered, trash=trash),
        ids=lambda one: f"{one.name}@{one.number}" if numbered else one.name,
    )


def _nothing(*, asked: bool, trash: bool) -> str:
    if asked:
        return "nothing fits"
    return "the trash is empty" if trash else "the store is empty; 'hart add PATH' fills it"


def _short(label: str) -> str:
    """Shorten what is a hub's commit: 40 hex digits would take the place of everything else."""
    return f"{label[:_DIGITS_SHOWN]}..." if _COMMIT.fullmatch(label) else label


def _summary(rows: Sequence["Listed"], *, numbered: bool) -> str:
    word = "version" if numbered else "artifact"
    files = several(sum(one.file_count for one in rows), "file")
    return f"{several(len(rows), word)}, {files}, {size(sum(one.logical_bytes for one in rows))}"


def _page(rows: Iterable["Listed"], *, numbered: bool, trash: bool) -> Iterable[Block]:
    listed = list(rows)
    if not listed:
        return
    columns = (
        Column("name"),
        Column("version" if numbered else "versions", right=True, extra=not numbered),
        Column("size", right=True),
        Column("files", right=True, extra=True),
        Column("parameters", right=True, extra=True),
        Column("labels", extra=True),
        Column("removed" if trash else "added", whole=True, extra=True),
    )
    yield Table(
        columns=columns,
        rows=(
            (
                one.name,
                str(one.number if numbered else one.version_count),
                size(one.logical_bytes),
                f"{one.file_count:,}",
                "-" if one.parameter_count is None else parameters(one.parameter_count),
                ", ".join(map(_short, one.labels)),
                moment(one.removed_us or one.created_us if trash else one.created_us),
            )
            for one in listed
        ),
    )
    yield _summary(listed, numbered=numbered)
