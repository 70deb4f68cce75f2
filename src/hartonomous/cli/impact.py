"""``hart impact``: what depends on a version, and what removing it would free."""

from collections.abc import Iterable

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Column, Fields, Table
from hartonomous.cli.sizes import count, size
from hartonomous.operations.impact import Impact

_SHOWN = 50


@make_command("impact")
@click.argument("name", type=ARTIFACT, metavar="NAME[@X]")
@click.pass_obj
def command(invocation: Invocation, *, name: str) -> None:
    """Say what depends on a version, and what removing it would free.

    Freed is what goes once the version was removed ('hart rm') and collected ('hart gc'). The rest
    stays: what other versions have too, and what tensors of other versions are computed from.
    Those versions stay whole and readable, whatever is removed.
    """
    with invocation.store() as store:
        found = store.impact(name)
    invocation.output.emit(
        found,
        human=_page,
        ids=lambda one: [f"{each.name}@{each.number}" for each in one.dependents],
    )


def _page(found: Impact) -> Iterable[Block]:
    yield Fields(
        rows=(
            ("version", f"{found.name}@{found.number}"),
            ("labels", ", ".join(found.labels) or "none"),
            ("removing it frees", size(found.freed_bytes)),
            ("stays, as others have it too", size(found.shared_bytes)),
            ("stays, as others need it", size(found.kept_bytes)),
            ("versions computed from it", count(len(found.dependents))),
        )
    )
    if found.dependents:
        yield Table(
            columns=(
                Column("computed from it"),
                Column("tensors", right=True),
                Column("size", right=True),
            ),
            rows=[
                (f"{one.name}@{one.number}", count(one.tensor_count), size(one.logical_bytes))
                for one in found.dependents[:_SHOWN]
            ],
        )
    yield from (f"stated: {text}" for text in found.stated[:_SHOWN])
    yield from (f"contained in {text}" for text in found.contained_in[:_SHOWN])
