"""``hart views``: what was read of documents and pictures, for search."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.background import background
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import several, size
from hartonomous.cli.text import clean

if TYPE_CHECKING:
    from hartonomous.operations.views import FileViews, ShownPicture, Unread, Views
    from hartonomous.packs.viewed_files import ViewsMade


command = HartGroup(
    "views",
    table={
        "ls": Entry(
            "hartonomous.cli.views:ls",
            "List what was read by kind, or the passages and pictures of one version.",
            "Views",
        ),
        "get": Entry(
            "hartonomous.cli.views:get", "Write a picture that a document contains.", "Views"
        ),
        "update": Entry("hartonomous.cli.views:update", "Read what was not read yet.", "Views"),
        "rebuild": Entry(
            "hartonomous.cli.views:rebuild", "Read all documents and pictures anew.", "Views"
        ),
        "drop": Entry(
            "hartonomous.cli.views:drop",
            "Delete what was read; the next search reads it again.",
            "Views",
        ),
    },
    sections=("Views",),
    help="""Show, rebuild or drop what was read of documents and pictures.

    A file stays what it is; what is derived of it for search may be dropped and made again.
    """,
)


@make_command("ls")
@click.argument("spec", type=ARTIFACT, metavar="[NAME[@X]]", required=False)
@click.option("--file", "member", metavar="PATH", help="One file of the version.")
@click.option("--position", is_flag=True, help="Show where pictures were taken, if they say so.")
@click.pass_obj
def ls(invocation: Invocation, *, spec: str | None, member: str | None, position: bool) -> None:
    """List what was read by kind, or the passages and pictures of one version."""
    with invocation.store() as store:
        if spec is None:
            found = store.views.list()
            invocation.output.emit(found, human=_page, ids=lambda one: (k.kind for k in one.kinds))
            return
        files = store.views.of(spec, member=member, position=position)
        unread = store.views.unread(spec, member=member)
    for text in _told_unread(unread, shown=len(files)):
        click.echo(f"hart: note: {clean(text)}", err=True)
    invocation.output.emit_each(files, human=_files, ids=lambda one: one.member)


@make_command("get")
@click.argument("spec", type=ARTIFACT, metavar="NAME[@X]")
@click.argument("part", metavar="PART")
@click.option("--file", "member", metavar="PATH", help="The document, one file of the version.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), default=".", metavar="FOLDER",
    help="Where to write it.", show_default="here",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.pass_obj
def get(
    invocation: Invocation, *, spec: str, part: str, member: str | None, output: str, force: bool
) -> None:
    """Write a picture that a document contains, and print its path.

    PART is its name there, as 'hart show' and 'hart views ls' list it: word/media/image1.png, or
    2/1 for the first picture on page 2 of a PDF. It has the document's own bytes where it lies
    there as a file, and is a PNG otherwise.
    """
    with invocation.store() as store:
        path = store.views.write(spec, member, part=part, folder=output, force=force)
    invocation.output.emit({"path": str(path)}, human=lambda _: [str(path)], ids=lambda _: ())


@make_command("update")
@click.pass_obj
def update(invocation: Invocation) -> None:
    """Read the documents and pictures that were not read yet."""
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        made = store.views.make(progress=progress)
    invocation.output.emit(made, human=_made, ids=lambda _: ())


@make_command("rebuild")
@background
@click.pass_obj
def rebuild(invocation: Invocation, *, later: bool) -> None:
    """Read all documents and pictures anew.

    With --background a worker does it, and searches find what is there until it has.
    """
    if later:
        submit_job(invocation, "views", {"again": True})
        return
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        made = store.views.make(rebuild=True, progress=progress)
    invocation.output.emit(made, human=_made, ids=lambda _: ())


@make_command("drop")
@click.pass_obj
def drop(invocation: Invocation) -> None:
    """Delete what was read; the next search reads it again."""
    with invocation.store() as store:
        there = store.views.drop()
    text = "dropped" if there else "there was nothing to drop"
    invocation.output.emit({"dropped": there}, human=lambda _: [text], ids=lambda _: ())


def _page(found: "Views") -> Iterable[Block]:
    if found.kinds:
        yield Table(
            columns=(Column("kind"), Column("files", right=True), Column("passages", right=True),
                     Column("pictures", right=True)),
            rows=[
                (one.kind if one.kind != "file" else "nothing to read", f"{one.file_count:,}",
                 f"{one.passage_count:,}", f"{one.picture_count:,}")
                for one in found.kinds
            ],
        )  # fmt: skip
    yield f"the indexes take {size(found.stored_bytes)}"
    if found.waiting_text_count:
        waiting = several(found.waiting_text_count, "file")
        yield Cell(f"{waiting} not read for words yet: the next hart search does it", "dim")
    if found.waiting_picture_count:
        waiting = several(found.waiting_picture_count, "file")
        yield Cell(f"{waiting} not looked at for pictures yet: hart similar does it", "dim")
    if found.stale_count:
        stale = several(found.stale_count, "file")
        yield Cell(f"{stale} read by an older recipe: 'hart worker' reads them anew", "dim")


def _told_unread(found: "Unread", *, shown: int) -> Iterable[str]:
    """Say why files are not listed; of what cannot be read only where nothing else is there."""
    if found.waiting:
        number = len(found.waiting)
        what = found.waiting[0] if number == 1 else several(number, "file")
        were = "was" if number == 1 else "were"
        yield f"{what} {were} not looked at yet; 'hart views update' does"
    elif found.unreadable and not shown:
        yield f"of files like {found.unreadable[0]} nothing is read: no text, and no picture"


def _files(found: Iterable["FileViews"]) -> Iterable[Block]:
    for one in found:
        rows: list[tuple[str, str | Cell]] = [
            ("file", Cell(f"{one.name}@{one.number}:{one.member}", "strong")),
            ("kind", one.kind),
        ]
        rows += [("title", one.title)] if one.title else []
        rows += [(key, value) for key, value in one.metadata.items() if key != "title"]
        rows += [("note", Cell(text, "warn")) for text in one.notices]
        yield Fields(rows=rows)
        columns = [Column("at", whole=True), Column("under"), Column("text")]
        if one.passages:
            yield Table(
                columns=columns,
                rows=[
                    (f"{one.pages} {each.page}, {each.start}" if each.page else str(each.start),
                     each.heading, " ".join(each.text.split()))
                    for each in one.passages
                ],
            )  # fmt: skip
        yield from _pictures(one)


def _pictures(one: "FileViews") -> Iterable[Block]:
    for each in one.pictures:
        rows: list[tuple[str, str | Cell]] = []
        if each.part:
            page = f" on {one.pages or 'page'} {each.page}" if each.page else ""
            rows.append(("contains", Cell(f"{each.part}{page}", "strong")))
        rows += [("picture", _form(each)), *each.exif.items()]
        if each.position is not None:
            above = each.position.altitude
            height = "" if above is None else f", {above:.0f} m"
            place = f"{each.position.latitude:.6f}, {each.position.longitude:.6f}{height}"
            rows.append(("position", place))
        yield Fields(rows=rows)


def _form(one: "ShownPicture") -> str:
    frames = f", {one.frames} frames" if one.frames > 1 else ""
    return f"{one.format} {one.width} x {one.height} {one.mode}{frames}"


def _made(made: "ViewsMade") -> Iterable[Block]:
    read = several(made.read_count - made.looked_count, "file")
    looked, found = several(made.looked_count, "file"), several(made.passage_count, "passage")
    pictures = several(made.picture_count, "picture")
    yield Cell(f"read {read} for words: {found}; {looked} for pictures: {pictures}", "good")
    for text in made.notes[:20]:
        yield Cell(text, "warn")
    if len(made.notes) > 20:
        yield f"and {len(made.notes) - 20} more notes: hart views ls NAME shows them"
