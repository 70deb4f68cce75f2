"""``hart show``: everything that is known of one version."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.model_page import model_blocks, model_fields
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.cli.sizes import count, moment, parameters, several, size

if TYPE_CHECKING:
    from hartonomous.operations.listing import Shown, ShownFile, ShownLayer
    from hartonomous.packs.containment import ContainedPicture

_PICTURES_SHOWN = 20
_DIGITS = 23  # "blake3:" and 16 digits, which select a version in practice


@make_command("show")
@click.argument("spec", type=ARTIFACT, metavar="NAME[@X]")
@click.option("--tensors", is_flag=True, help="List every tensor too.")
@click.pass_obj
def command(invocation: Invocation, *, spec: str, tensors: bool) -> None:
    """Show everything that is known of one version.

    What the files say of the model (architecture, parameters, dtypes, quantisation, context length,
    licence, base models), its layers, its files, where it came from. With --json all of it, the
    tensors included.
    """
    everything = tensors or invocation.options.format is OutputFormat.JSON
    with invocation.store() as store:
        shown = store.show(spec, tensors=everything)
    invocation.output.emit(
        shown,
        human=lambda one: _page(one, tensors=tensors),
        ids=lambda one: [f"{one.name}@{one.number}"],
    )


def _page(shown: "Shown", *, tensors: bool) -> Iterable[Block]:
    yield Fields(rows=[*_head(shown), *model_fields(shown.model), *_origin(shown)])
    yield from model_blocks(shown.model)
    if shown.layers:
        yield ""
        yield _layers(shown.layers)
    yield ""
    yield _files(shown.files)
    yield from _pictures(shown)
    for file in shown.files:
        yield from (Cell(f"note: {file.path}: {notice}", "warn") for notice in file.notices)
    for one in shown.dropped:
        gone = f"dropped {moment(one.dropped_us)}, 'hart undo {one.sequence}' brings it back"
        yield Cell(f"note: {one.path} ({size(one.logical_bytes)}): {gone}", "warn")
    if tensors:
        yield ""
        yield _tensors(shown.files)


def _pictures(shown: "Shown") -> Iterable[Block]:
    """Yield the pictures that its documents contain, and the documents that contain its own."""
    if shown.contains:
        yield ""
        yield Table(
            columns=(Column("contains"), Column("on"), Column("picture"), Column("same bytes as")),
            rows=[
                (f"{one.member}: {one.part}", f"{one.pages or 'page'} {one.page}" if one.page
                 else "-", f"{one.format} {one.width} x {one.height}", _same(one))
                for one in shown.contains[:_PICTURES_SHOWN]
            ],
        )  # fmt: skip
        if len(shown.contains) > _PICTURES_SHOWN:
            yield Cell(f"{several(len(shown.contains), 'picture')}: --json lists all", "dim")
    if shown.contained_in:
        yield ""
        yield Table(
            columns=(Column("contained in"), Column("on"), Column("as"), Column("picture")),
            rows=[
                (f"{one.name}@{one.number}:{one.document}",
                 f"{one.pages or 'page'} {one.page}" if one.page else "-", one.part, one.member)
                for one in shown.contained_in[:_PICTURES_SHOWN]
            ],
        )  # fmt: skip
        if len(shown.contained_in) > _PICTURES_SHOWN:
            yield Cell(f"{several(len(shown.contained_in), 'place')}: --json lists all", "dim")
    if shown.unread_count:
        waiting = several(shown.unread_count, "document")
        yield Cell(f"{waiting} not looked at for pictures yet: 'hart views update' does", "dim")


def _same(one: "ContainedPicture") -> str:
    more = one.same_as_count - len(one.same_as[:2])
    return ", ".join(one.same_as[:2]) + (f" and {more} more" if more else "") or "-"


def _head(shown: "Shown") -> list[tuple[str, str | Cell]]:
    versions = f" of {shown.version_count}" if shown.version_count > 1 else ""
    return [
        ("name", Cell(shown.name, "strong")),
        ("version", f"{shown.number}{versions}"),
        ("digest", shown.digest),
        ("kind", shown.kind),
        ("size", f"{size(shown.logical_bytes)} ({count(shown.logical_bytes)} bytes)"),
    ]


def _origin(shown: "Shown") -> list[tuple[str, str | Cell]]:
    rows: list[tuple[str, str | Cell]] = []
    if shown.labels:
        rows.append(("labels", ", ".join(shown.labels)))
    if shown.tags:
        rows.append(("tags", ", ".join(shown.tags)))
    rows += [(f"meta {key}", value) for key, value in sorted(shown.metadata.items())]
    rows.append(("source", f"{shown.source_host}: {shown.source}"))
    rows.append(("added", moment(shown.created_us)))
    if shown.last_read_us is not None:
        times = several(shown.read_count, "time")
        rows.append(("read", f"{times}, last {moment(shown.last_read_us)}"))
    return rows


def _layers(layers: Iterable["ShownLayer"]) -> Table:
    columns = (
        Column("layers"),
        Column("kind", whole=True, extra=True),
        Column("tensors", right=True, extra=True),
        Column("parameters", right=True),
        Column("size", right=True),
    )
    rows = [
        (
            _run_name(run),
            run[0].kind,
            count(run[0].tensor_count),
            parameters(run[0].parameter_count),
            size(run[0].logical_bytes),
        )
        for run in runs(layers)
    ]
    return Table(columns=columns, rows=rows)


def runs(layers: Iterable["ShownLayer"]) -> list[list["ShownLayer"]]:
    """Return neighbouring layers that differ in name only, together."""
    found: list[list[ShownLayer]] = []
    for layer in layers:
        if found and _shape(found[-1][0]) == _shape(layer):
            found[-1].append(layer)
        else:
            found.append([layer])
    return found


def _shape(layer: "ShownLayer") -> tuple[object, ...]:
    return layer.kind, layer.tensor_count, layer.parameter_count, layer.logical_bytes


def _run_name(run: list["ShownLayer"]) -> str:
    if len(run) == 1:
        return run[0].name
    return f"{run[0].name} to {run[-1].name} ({len(run)}, each:)"


def _files(files: Iterable["ShownFile"]) -> Table:
    columns = (
        Column("file"),
        Column("format", whole=True, extra=True),
        Column("size", right=True),
        Column("tensors", right=True, extra=True),
        Column("digest", whole=True, extra=True),
    )
    return Table(
        columns=columns,
        rows=(
            (
                file.path,
                file.format or "-",
                size(file.logical_bytes),
                count(file.tensor_count) if file.tensor_count else "-",
                file.digest[:_DIGITS],
            )
            for file in files
        ),
    )


def _tensors(files: Iterable["ShownFile"]) -> Table:
    columns = (
        Column("tensor"),
        Column("dtype", whole=True),
        Column("shape"),
        Column("size", right=True),
        Column("role", whole=True, extra=True),
        Column("file", extra=True),
    )
    return Table(
        columns=columns,
        rows=(
            (
                tensor.name,
                tensor.dtype,
                "x".join(map(str, tensor.shape)) or "scalar",
                size(tensor.logical_bytes),
                tensor.role,
                file.path,
            )
            for file in files
            for tensor in file.tensors
        ),
    )
