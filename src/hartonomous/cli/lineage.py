"""``hart lineage``: what a model came from and what came from it, as a tree, JSON or DOT."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell
from hartonomous.cli.sizes import several
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.lineage import Edge, Lineage, Measured


_PLACES_SHOWN = 3
_COPIES_SHOWN = 3
_SAME = "same-tensors"


@make_command("lineage")
@click.argument("name", type=ARTIFACT, metavar="NAME[@X]")
@click.option("--up", "up", is_flag=True, help="Only what it came from.")
@click.option("--down", "down", is_flag=True, help="Only what came from it.")
@click.option(
    "--depth", type=click.IntRange(1, 32), default=3, show_default=True, help="Steps to follow."
)
@click.option("--dot", is_flag=True, help="Write a graph for Graphviz.")
@click.pass_obj
def command(
    invocation: Invocation, *, name: str, up: bool, down: bool, depth: int, dot: bool
) -> None:
    """Show what a model came from and what came from it.

    Measured relations follow from how tensors are kept: equal, cast, transposed, quantised from
    each other, near. Declared ones are what model cards, configurations, GGUF keys or 'hart relate'
    say. Where the two disagree a warning says so. How near two models lie has no direction; where
    nothing gives one, a relation is written with '~'. A document contains the pictures that are
    stored as files too, byte for byte, once it was looked at.
    """
    if up and down:
        raise UsageError("--up and --down exclude each other", hint="without either both are shown")
    with invocation.store() as store:
        found = store.lineage(
            name, direction="up" if up else "down" if down else "both", depth=depth
        )
    if dot:
        click.echo("\n".join(_dot(found)))
    else:
        invocation.output.emit(found, human=_page, ids=lambda one: one.versions)
    for text in found.warnings:
        click.echo(f"hart: warning: {text}", err=True)


def _page(found: "Lineage") -> Iterable[Block]:
    yield Cell(found.root, "strong")
    above = [edge for edge in found.edges if edge.directed and edge.source == found.root]
    below = [edge for edge in found.edges if edge.directed and edge.target == found.root]
    if above:
        yield "came from"
        yield from _branch(found, found.root, {found.root}, 1, up=True)
    if below:
        yield "gave rise to"
        yield from _branch(found, found.root, {found.root}, 1, up=False)
    near = [edge for edge in found.edges if not edge.directed]
    ours = [edge for edge in near if found.root in (edge.source, edge.target)]
    if ours:
        yield "without a direction"
        told: Counter[str] = Counter()
        for edge in ours:
            words = _words(edge)
            told[words] += edge.kind == _SAME
            if told[words] <= _COPIES_SHOWN:
                yield f"  {edge.source} ~ {edge.target}: {words}"
        yield from _more_copies(told.values(), "  ")
    if len(near) > len(ours):
        others = several(len(near) - len(ours), "relation")
        yield Cell(f"{others} without a direction between the others: --json lists all", "dim")
    if not found.edges:
        yield "no relation was measured, declared or stated"
    if found.truncated:
        yield Cell("there is more: follow fewer steps with --depth", "dim")


def _more_copies(counts: Iterable[int], indent: str) -> Iterator[Block]:
    """Say how many copies were told of by their number alone."""
    more = sum(max(0, count - _COPIES_SHOWN) for count in counts)
    if more:
        copies = "copy" if more == 1 else "copies"
        yield Cell(f"{indent}and {more} more {copies}: --json lists all", "dim")


def _copies(found: "Lineage") -> dict[str, str]:
    """Return for each version that has the tensors of others the first one of them."""
    first: dict[str, str] = {}
    for edge in found.edges:
        if edge.kind == _SAME and not edge.directed:
            named = [first.get(one, one) for one in (edge.source, edge.target)]
            here = min(named, key=found.versions.index)
            first.update((one, here) for one in (edge.source, edge.target, *named))
    return first


def _branch(
    found: "Lineage", name: str, shown: set[str], level: int, *, up: bool
) -> Iterator[Block]:
    """Yield a version's relations and what is behind each, once: ``shown`` have been followed."""
    told: Counter[tuple[str, str]] = Counter()
    first = _copies(found)
    for edge in found.edges:
        near, far = (edge.source, edge.target) if up else (edge.target, edge.source)
        if not edge.directed or near != name:
            continue
        followed = far in shown
        if far in first and not followed and not _leads_on(found, far, up=up):
            copy = first[far], _words(edge)
            told[copy] += 1
            if told[copy] > _COPIES_SHOWN:
                continue
        shown.add(far)
        again = " (see above)" if followed and _leads_on(found, far, up=up) else ""
        yield f"{'  ' * level}{far}{again}: {_words(edge)}"
        if not followed:
            yield from _branch(found, far, shown, level + 1, up=up)
    yield from _more_copies(told.values(), "  " * level)


def _leads_on(found: "Lineage", name: str, *, up: bool) -> bool:
    """Say whether something is below a version in the tree."""
    return any(
        edge.directed and name == (edge.source if up else edge.target) for edge in found.edges
    )


def _words(edge: "Edge") -> str:
    said = dict.fromkeys(
        f"declared {'' if one.kind == edge.kind else one.kind + ' '}by {one.said_by}"
        + (f" ({one.note})" if one.note else "")
        for one in edge.declared
    )
    where = list(edge.places[:_PLACES_SHOWN])
    where += (
        [f"and {len(edge.places) - len(where)} more places"] if edge.places[len(where) :] else []
    )
    if edge.kind == "contains":
        return "; ".join([edge.kind, *where])
    measured = "not measured" if edge.measured is None else _measured(edge.measured)
    return "; ".join([edge.kind, measured, *said, *(["contains", *where] if where else [])])


def _measured(one: "Measured") -> str:
    names = ("equal", "cast", "transposed", "quantised", "merged", "near")
    shares = [f"{getattr(one, name):.0%} {name}" for name in names if getattr(one, name) >= 0.005]
    distance = "" if one.distance is None else f", {one.distance:.1f} bits apart"
    weight = "" if one.weight is None else f", weight {one.weight:g}"
    return f"{', '.join(shares) or 'hardly anything'}{distance}{weight} ({one.reason})"


def _dot(found: "Lineage") -> Iterator[str]:
    yield "digraph lineage {"
    yield "  rankdir=BT;"
    for name in found.versions:
        style = " [style=bold]" if name == found.root else ""
        yield f"  {_quoted(name)}{style};"
    for edge in found.edges:
        style = "" if edge.directed else ", dir=none"
        line = "solid" if edge.measured is not None else "dashed"
        marks = f"[label={_quoted(edge.kind)}, style={line}{style}]"
        yield f"  {_quoted(edge.source)} -> {_quoted(edge.target)} {marks};"
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
