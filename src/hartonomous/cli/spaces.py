"""``hart spaces``: embedding spaces, side by side."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import count, several, size

if TYPE_CHECKING:
    from hartonomous.operations.spaces import ListedSpace, ShownSpace, SpaceRemoved, SpaceSwitched

_SECTION = "Spaces"
_SEARCHED_USES = ("meaning", "likeness")
"""Spaces of other uses are searched where they are named."""

command = HartGroup(
    "spaces",
    table={
        "ls": Entry("hartonomous.cli.spaces:ls", "List the embedding spaces.", _SECTION),
        "show": Entry("hartonomous.cli.spaces:show", "Show everything known of one.", _SECTION),
        "switch": Entry(
            "hartonomous.cli.spaces:switch", "Search this space from now on.", _SECTION
        ),
        "rm": Entry("hartonomous.cli.spaces:rm", "Remove a space.", _SECTION),
        "import": Entry(
            "hartonomous.cli.spaces:import_", "Bring vectors that you computed.", _SECTION
        ),
    },
    sections=(_SECTION,),
    help="""List, switch, remove or bring embedding spaces.

    Vectors belong to one space: what computed them, and how. Several spaces are kept side by side;
    of each modality and use one is searched. Vectors of different spaces are never compared.
    """,
)


@make_command("ls")
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the embedding spaces."""
    with invocation.store() as store:
        found = store.spaces.list()
    if not found and invocation.output.is_for_people:
        click.echo("hart: note: there are no spaces; 'hart embed' makes one", err=True)
    invocation.output.emit_each(found, human=_list, ids=lambda one: one.name)


@make_command("show")
@click.argument("name", metavar="SPACE")
@click.pass_obj
def show(invocation: Invocation, *, name: str) -> None:
    """Show everything known of one."""
    with invocation.store() as store:
        found = store.spaces.show(name)
    invocation.output.emit(found, human=_shown, ids=lambda one: one.blocks)


@make_command("switch")
@click.argument("name", metavar="SPACE")
@click.option(
    "--engine", type=click.Choice(["auto", "exact", "scan", "graph"]),
    help="Which index it has; auto is right unless it is large and hardly changes.",
)  # fmt: skip
@click.option("--degree", type=click.INT, help="Of a graph: neighbours of a vector (16).")
@click.option("--build-list", type=click.INT, help="Candidates while it is built (128).")
@click.option("--search-list", type=click.INT, help="Candidates while it is searched (128).")
@dry_run_option
@click.pass_obj
def switch(
    invocation: Invocation, /, *, name: str, engine: str | None, dry_run: bool, **graph: int | None
) -> None:
    """Search this space from now on.

    It takes the place of the one of its modality and use, which stays and can be switched back to.
    A graph with longer lists finds more and is slower.
    """
    from hartonomous.vectors.graph import GraphSettings

    said = {key: value for key, value in graph.items() if value is not None}
    settings = GraphSettings(**said) if said else None
    with invocation.store() as store:
        done = store.spaces.switch(name, engine=engine, graph=settings, dry_run=dry_run)
    invocation.output.emit(done, human=_switched, ids=lambda one: (one.name,))


@make_command("rm")
@click.argument("name", metavar="SPACE")
@dry_run_option
@click.pass_obj
def rm(invocation: Invocation, *, name: str, dry_run: bool) -> None:
    """Remove a space.

    Its blocks go to the trash, and 'hart undo' brings them back; its newest vectors, which are in
    no block yet, are computed anew by 'hart embed'.
    """
    with invocation.store() as store:
        done = store.spaces.rm(name, dry_run=dry_run)
    invocation.output.emit(done, human=_removed, ids=lambda one: (one.name,))


@make_command("import")
@click.argument("name", metavar="SPACE")
@click.argument("vectors", type=click.Path(path_type=Path), metavar="VECTORS.npy")
@click.option(
    "--for", "names", type=click.Path(path_type=Path), required=True, metavar="NAMES.txt",
    help="A stored file (NAME[@X][:PATH]) on each line, in the order of the vectors.",
)  # fmt: skip
@click.option("--encoder", required=True, metavar="X", help="What computed them.")
@click.option(
    "--metric", type=click.Choice(["cosine", "dot", "euclidean"]), default="cosine",
    show_default=True, help="How they are compared.",
)  # fmt: skip
@click.option(
    "--modality", type=click.Choice(["text", "picture"]), default="text", show_default=True,
    help="What the files are.",
)  # fmt: skip
@dry_run_option
@click.pass_obj
def import_(
    invocation: Invocation,
    *,
    name: str,
    vectors: Path,
    names: Path,
    encoder: str,
    metric: str,
    modality: str,
    dry_run: bool,
) -> None:
    """Bring vectors that you computed.

    VECTORS.npy has one row of float32 or float16 a line of NAMES.txt; each is about a whole stored
    file. A file that has a vector in the space keeps it only if it is not given again.
    """
    with invocation.store() as store:
        done = store.spaces.add_vectors(
            name, vectors, names, encoder=encoder, metric=metric, modality=modality,
            dry_run=dry_run,
        )  # fmt: skip
    text = "would be brought to" if dry_run else "brought to"
    invocation.output.emit(
        done,
        human=lambda one: [
            Cell(f"{several(one.added_count, 'vector')} {text} {one.name}", "good"),
            f"in place of {count(one.replaced_count)} former ones",
        ],
        ids=lambda one: (one.name,),
    )


def _list(found: Iterable["ListedSpace"]) -> Iterable[Block]:
    yield Table(
        columns=(
            Column("space"), Column("state"), Column("of"), Column("use"), Column("encoder"),
            Column("numbers", right=True), Column("vectors", right=True),
            Column("size", right=True),
        ),
        rows=[
            (Cell(one.name, "strong"), one.state, one.modality, one.use,
             f"{one.encoder} {one.quantisation}", f"{one.dimension} {one.dtype}",
             count(one.vector_count), size(one.logical_bytes))
            for one in found
        ],
    )  # fmt: skip


def _shown(found: "ShownSpace") -> Iterable[Block]:
    one = found.summary
    rows: list[tuple[str, str | Cell]] = [
        ("space", Cell(one.name, "strong")),
        ("state", one.state),
        ("use", f"{one.use} of {one.modality}s"),
        ("encoder", f"{one.encoder} {one.quantisation}"),
        ("its files", found.encoder_digest or "none: a rule, or vectors that were brought"),
        ("recipe", found.recipe),
        ("pooling", found.pooling),
        ("vectors", f"{count(one.vector_count)} of {one.dimension} {one.dtype}, {one.metric}"),
        ("about", several(found.file_count, "file")),
        ("in blocks", f"{several(one.block_count, 'block')}, {count(one.dead_count)} dead vectors"),
        ("in the tail", count(one.tail_count)),
        ("size", size(one.logical_bytes)),
        ("index", one.engine),
        ("key", one.key),
    ]
    yield Fields(rows=rows)
    yield from found.blocks


def _switched(done: "SpaceSwitched") -> Iterable[Block]:
    if not done.changed:
        yield f"{done.name} is searched already"
        return
    instead = f" in place of {done.former}" if done.former else ""
    yield Cell(f"{done.name} {'would be' if done.dry_run else 'is'} searched{instead}", "good")


def _removed(done: "SpaceRemoved") -> Iterable[Block]:
    verb = "would be removed" if done.dry_run else "removed"
    yield f"{done.name} {verb}: {several(done.vector_count, 'vector')}, " + several(
        done.block_count, "block"
    )
    if done.searched and done.use in _SEARCHED_USES:
        lack = f"searches by {done.use} of {done.modality}s have no space then"
        remedy = "'hart embed' makes one"
        if done.others:
            name = done.others[0]
            remedy = f"'hart spaces switch {name}' has them search {name}"
        yield Cell(f"{lack}; {remedy}", "warn")
