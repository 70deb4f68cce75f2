"""``hart similar``: stored pictures like a given one."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT_OR_PATH
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.html_file import write_html
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell
from hartonomous.cli.sizes import several
from hartonomous.cli.text import clean
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.similar import SimilarPictures

_NOTES_SHOWN = 5


@make_command("similar")
@click.argument("target", type=ARTIFACT_OR_PATH, metavar="FILE|NAME[@X]")
@click.option(
    "--top-k", "-k", type=click.IntRange(1, 1_000), default=10, show_default=True,
    help="Most pictures.",
)  # fmt: skip
@click.option("--file", "member", metavar="PATH", help="One file of the version.")
@click.option("--no-update", is_flag=True, help="Do not look at new pictures first.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the pictures found as a page that needs no network.",
)  # fmt: skip
@click.option(
    "--open", "opened", type=click.IntRange(1, 1_000), metavar="NUMBER",
    help="Write this picture to a file here, and print its path.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    *,
    target: str,
    top_k: int,
    member: str | None,
    no_update: bool,
    page: Path | None,
    opened: int | None,
    force: bool,
) -> None:
    """Find stored pictures that are the same, or look alike.

    The picture is a file, or one in the store. The same picture is found resized, recompressed, in
    another format, turned and mirrored; what looks alike has its colours and edges in the same
    places. Pictures inside documents are found too, with their page. Needs the extra images.
    """
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        found = store.similar_images(
            target, top_k=top_k, member=member, update=not no_update, progress=progress
        )
        if opened is not None:
            if opened > len(found.hits):
                raise UsageError(
                    f"--open {opened}: there are {several(len(found.hits), 'picture')}"
                )
            if page is not None:
                _write_page(page, found, force=force)
            hit = found.hits[opened - 1]
            click.echo(
                store.views.write(
                    f"{hit.name}@{hit.number}", hit.member, part=hit.part, force=force
                )
            )
            return
    for note in found.notes[:_NOTES_SHOWN]:
        click.echo(f"hart: note: {clean(note)}", err=True)
    if page is not None:
        _write_page(page, found, force=force)
    invocation.output.emit(
        found,
        human=_page,
        ids=lambda one: dict.fromkeys(f"{each.name}@{each.number}" for each in one.hits),
    )


def _page(found: "SimilarPictures") -> Iterable[Block]:
    from hartonomous.operations.similar import place_of

    if not found.hits:
        yield "no stored picture resembles it"
        return
    for number, hit in enumerate(found.hits, 1):
        yield Cell(f"{number}. {place_of(hit)}", "strong")
        turned = f", {hit.turned}" if hit.turned else ""
        apart = "" if hit.bits_apart is None else f", {hit.bits_apart} bits apart"
        kind = "same bytes" if hit.same_bytes else hit.kind
        yield (
            f"   {kind}, {hit.strength:.2f}{turned}; {hit.format},"
            f" {hit.width} x {hit.height}{apart}, layout {hit.layout_cosine:.2f}"
        )
        if hit.part:
            yield Cell(f"   contained as {hit.part}", "dim")
        if hit.also_in_count:
            more = hit.also_in_count - len(hit.also_in)
            others = ", ".join(hit.also_in) + (f" and {more} more" if more > 0 else "")
            yield Cell(f"   also in {others}", "dim")


def _write_page(path: Path, found: "SimilarPictures", *, force: bool) -> None:
    from hartonomous.core.picture_page import pictures_page
    from hartonomous.operations.similar import shown

    write_html(path, pictures_page(f"Pictures like {found.query}", shown(found)), force=force)
