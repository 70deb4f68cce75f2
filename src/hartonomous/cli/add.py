"""``hart add``: take files, model folders, trees and caches into the store."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from hartonomous.cli import reasons
from hartonomous.cli.background import background, refuse
from hartonomous.cli.background import submit as submit_job
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Style, Table
from hartonomous.cli.sizes import several, share, size
from hartonomous.errors import HartonomousError, NotFoundError, PartlyDoneError, UsageError

if TYPE_CHECKING:
    from hartonomous.operations.add import Added, AddReport
    from hartonomous.ports.progress import Progress
    from hartonomous.store import Store

_STREAM = "-"
_FOR_PATHS = ("update", "move", "include", "exclude", "hidden")
_STYLES: dict[str, Style] = {
    "added": "good", "updated": "good", "unchanged": "dim", "failed": "bad",
}  # fmt: skip


@make_command("add")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--name", metavar="NAME", help="Name of the one artifact; a next version if taken.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="Point a label to it.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Give it a tag.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Give it a metadata value.")
@click.option("--update", is_flag=True, help="Changed files of the same source: a next version.")
@click.option("--move", is_flag=True, help="Delete each source after its stored copy was compared.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Take only files that fit.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out files that fit.")
@click.option("--hidden", is_flag=True, help="Take hidden and temporary files in folders too.")
@click.option("--no-delta", is_flag=True, help="Keep each new tensor on its own.")
@click.option("--init", "make", is_flag=True, help="Make the store first if there is none.")
@background
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    *,
    paths: tuple[str, ...],
    meta: tuple[str, ...],
    make: bool,
    dry_run: bool,
    no_delta: bool,
    later: bool,
    **given: Any,
) -> None:
    """Add files, model folders, trees, hub caches or Ollama's folder.

    A model folder is one artifact. In any other folder each model and each other file is one, named
    by its path with the folder's name in front; caches name their models themselves. Hidden and
    half-written files in folders are left out, with a note, unless --hidden.

    Every option with several values may be given several times. PATH - is standard input, which
    needs --name. The same bytes again change nothing. Other bytes of a known source get a longer
    name, unless --update (next version of that source's artifact) or --name says otherwise.

    With -n nothing is stored: names, versions and outcomes are those of the real work, the stored
    bytes are estimated. Files of a size that something else has are read whole for that.

    A new tensor that resembles a stored one is kept as what differs from it where that takes less;
    --no-delta leaves that out.

    With --background a worker does it: what is wrong with the options is told now, the rest by
    'hart jobs show'.

    Ends with 3 when some artifacts failed or something could not be read, 1 when all failed or
    nothing was found.
    """
    from hartonomous.core.name import parse_meta

    given["metadata"] = dict(map(parse_meta, meta))
    given["delta"] = not no_delta
    if later:
        refuse(dry_run=dry_run, init=make)
        _submit(invocation, paths, given)
        return
    if dry_run and _STREAM in paths:
        raise UsageError(
            "standard input cannot be looked at without reading it",
            hint="write it to a file and look at that",
        )
    with (
        _opened(invocation, make=make, dry_run=dry_run) as store,
        invocation.progress(store.settings) as progress,
    ):
        report = _add(store, paths, {**given, "dry_run": dry_run}, progress)
        for notice in _notices(report):
            progress.note(notice)
    _check_found(report, paths)
    invocation.output.emit(report, human=_page, ids=_ids)
    _check_failed(report)


def _notices(report: "AddReport") -> Iterator[str]:
    for added in report.artifacts:
        if added.outcome == "unchanged" and not added.unread_count:
            continue  # they were told when it came
        for notice in added.notices:
            member = notice.partition(": ")[0]
            alone = added.file_count == 1 and added.name.endswith(member)
            yield notice if alone else f"{added.name}: {notice}"


def _submit(invocation: Invocation, paths: tuple[str, ...], given: dict[str, Any]) -> None:
    if _STREAM in paths:
        raise UsageError(
            "standard input is gone when a worker comes", hint="add it here, without --background"
        )
    # A worker has another working directory.
    absolute = [str(Path(path).absolute()) if path else path for path in paths]
    submit_job(invocation, "add", {"paths": absolute, **given})


@contextmanager
def _opened(invocation: Invocation, *, make: bool, dry_run: bool) -> Iterator["Store"]:
    """Open the store; with --init make it first, in a dry run elsewhere and for this time only."""
    if not make or invocation.place().exists:
        with invocation.store() as store:
            yield store
    elif dry_run:
        from tempfile import TemporaryDirectory

        from hartonomous.opening import open_store

        settings = dict(invocation.options.settings)
        with (
            TemporaryDirectory(prefix="hart-dry-run-") as folder,
            open_store(f"{folder}/store", create=True, settings=settings) as store,
        ):
            yield store
    else:
        from hartonomous.cli.init import make_store

        click.echo(f"hart: note: made an empty store at {make_store(invocation).path}", err=True)
        with invocation.store() as store:
            yield store


def _add(
    store: "Store", paths: tuple[str, ...], given: dict[str, Any], progress: "Progress"
) -> "AddReport":
    if _STREAM not in paths:
        return store.add(paths, progress=progress, **given)
    wrong = [f"--{name}" for name in _FOR_PATHS if given.pop(name)]
    if len(paths) > 1 or wrong:
        raise UsageError(
            f"standard input (-) does not go with {wrong[0] if wrong else 'other paths'}",
            hint="add it alone: hart add - --name NAME",
        )
    given.pop("dry_run")
    return store.add_stream(_standard_input(), progress=progress, **given)


def _standard_input() -> BinaryIO:
    stream = sys.stdin.buffer
    if stream.isatty():
        raise UsageError(
            "standard input is the terminal",
            hint="pipe something in: COMMAND | hart add - --name NAME",
        )
    return stream


def _ids(report: "AddReport") -> Iterable[str]:
    return (f"{one.name}@{one.number}" for one in report.artifacts if one.number is not None)


def _page(report: "AddReport") -> Iterable[Block]:
    columns = (
        Column("name"), Column("version", right=True, extra=True), Column("outcome", whole=True),
        Column("size", right=True, extra=True),
        Column("would take" if report.dry_run else "stored", right=True), Column("why"),
    )  # fmt: skip
    yield Table(columns=columns, rows=map(_row, report.artifacts))
    yield total_line(report)


def _row(added: "Added") -> tuple[str | Cell, ...]:
    outcome = Cell(added.outcome, _STYLES.get(added.outcome, "warn"))
    if added.number is None:
        return added.name, "-", outcome, "-", "-", added.error or ""
    why = reasons.summary(added.reasons)
    if added.outcome == "unchanged":
        mended = f"; damaged data stored anew ({why})" if added.stored_bytes else ""
        why = f"the same bytes as before{mended}"
    moved = "source removed" if added.moved else ""
    if added.source_kept is not None:
        moved = f"source kept: {added.source_kept}"
    texts = (why, moved)
    return (
        added.name, str(added.number), outcome, size(added.logical_bytes),
        size(added.stored_bytes), "; ".join(filter(None, texts)),
    )  # fmt: skip


def total_line(report: "AddReport") -> str:
    """Return ``2 added, 1 unchanged: 1.2 GB, stored 310 MB (25.8 %)``."""
    counts: dict[str, int] = {}
    for one in report.artifacts:
        counts[one.outcome] = counts.get(one.outcome, 0) + 1
    told = ", ".join(f"{counts[word]:,} {word}" for word in _STYLES if word in counts)
    part = share(report.stored_bytes, report.logical_bytes)
    if report.dry_run:
        about = f"would take about {size(report.stored_bytes)} ({part})"
        return f"{told}: {size(report.logical_bytes)}, {about}; nothing was stored (dry run)"
    return f"{told}: {size(report.logical_bytes)}, stored {size(report.stored_bytes)} ({part})"


def _check_found(report: "AddReport", paths: tuple[str, ...]) -> None:
    if report.artifacts:
        return
    raise NotFoundError(
        f"nothing to add was found at {', '.join(paths[:5])}{' ...' if len(paths) > 5 else ''}",
        hint="the notes above say why" if report.skipped else None,
    )


def _check_failed(report: "AddReport") -> None:
    if report.unread_count and not report.failed_count:
        sys.stdout.flush()
        raise PartlyDoneError(
            report.unread,
            hint="the notes name them: make them readable and run the same command again",
        )
    kept = [one for one in report.artifacts if one.source_kept is not None]
    if kept and not report.failed_count:
        sys.stdout.flush()
        raise PartlyDoneError(
            f"{several(len(kept), 'source was', 'sources were')} not removed: "
            f"{kept[0].name}: {kept[0].source_kept}",
            hint="what the table lists is in the store; nothing that was kept was changed",
        )
    if not report.failed_count:
        return
    sys.stdout.flush()  # what was done is told before what was not
    total = len(report.artifacts)
    if report.failed_count == total:
        raise HartonomousError(f"none of {total} could be added" if total > 1 else _why(report))
    raise PartlyDoneError(
        f"{report.failed_count} of {total} could not be added"
        + (f"; {report.unread}" if report.unread else ""),
        hint="mend what the table names and run the same command again",
    )


def _why(report: "AddReport") -> str:
    return next(f"{one.name} could not be added: {one.error}" for one in report.artifacts)
