"""``hart path``: a plain file or folder for tools that open files themselves."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.artifact_name import ARTIFACT
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.options import force as force_option
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.sizes import moment, size
from hartonomous.cli.text import clean
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.path import PlainCleared, PlainHeld
    from hartonomous.store import Store

_HOUR_US = 3_600_000_000


@make_command("path", surplus="--file {} names one file of it")
@click.argument("spec", required=False, type=ARTIFACT, metavar="[NAME[@X]]")
@click.option("--file", metavar="MEMBER", help="One file of the artifact, by its path inside.")
@click.option("--list", "listed", is_flag=True, help="List what is in the cache.")
@click.option("--clear", is_flag=True, help="Empty the cache, apart from what is in use.")
@force_option("With --clear: remove what was given out lately too.")
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    spec: str | None,
    file: str | None,
    listed: bool,
    clear: bool,
    force: bool,
) -> None:
    """Print the path of a plain, read-only file or folder.

    For tools that open files themselves: llama-server -m $(hart path qwen.gguf). What has one file
    is a file, everything else a folder, each under its own name. It is put into the store's cache
    and kept for the setting cache_keep_hours at least; then the least recently used goes first when
    the cache is over cache_bytes. A part of a split GGUF set (--file) comes with the other parts.
    """
    _check(spec, file, listed=listed, clear=clear, force=force)
    with invocation.store() as store:
        if listed:
            keep_us = store.settings.cache_keep_hours * _HOUR_US
            invocation.output.emit_each(
                store.plain_cache(),
                human=lambda held: _list_page(held, keep_us),
                ids=lambda one: one.path,
            )
        elif clear:
            done = store.clear_plain_cache(force=force)
            invocation.output.emit(done, human=_clear_page, ids=None)
        else:
            assert spec is not None
            _print_path(invocation, store, spec, file)


def _check(spec: str | None, file: str | None, *, listed: bool, clear: bool, force: bool) -> None:
    given = [word for word, there in (("NAME", spec is not None), ("--list", listed),
                                      ("--clear", clear)) if there]  # fmt: skip
    if len(given) != 1:
        raise UsageError(
            f"{' and '.join(given)} exclude each other" if given else "no artifact is named",
            hint="'hart path NAME' prints a path, 'hart path --list' shows what is there",
        )
    if file is not None and spec is None:
        raise UsageError("--file needs the NAME of the artifact that the file is in")
    if force and not clear:
        raise UsageError("--force goes with --clear only")


def _print_path(invocation: Invocation, store: "Store", spec: str, file: str | None) -> None:
    with invocation.progress(store.settings) as progress:
        found = store.plain(spec, file=file, progress=progress)
        for note in found.notes:
            progress.note(note)
    if invocation.output.format is OutputFormat.JSON:
        invocation.output.emit(found, human=lambda _: (), ids=None)
    elif invocation.output.drawn:
        click.echo(clean(found.path))
    else:
        # For a shell: the path as it is, whatever bytes its name has.
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(found.path) + b"\n")
        sys.stdout.buffer.flush()


def _list_page(held: Iterable["PlainHeld"], keep_us: int) -> Iterable[Block]:
    columns = (
        Column("last given out", extra=True), Column("size", right=True),
        Column("files", right=True, extra=True), Column("kept until", extra=True), Column("path"),
    )  # fmt: skip
    rows = (
        (
            moment(one.used_us), size(one.logical_bytes), str(one.file_count),
            moment(one.used_us + keep_us) if one.in_use else "room is needed", one.path,
        )
        for one in held
    )  # fmt: skip
    yield Table(columns=columns, rows=rows)


def _clear_page(done: "PlainCleared") -> Iterable[Block]:
    yield f"removed {done.removed_count}, freed {size(done.freed_bytes)}"
    if done.kept_count:
        yield (
            f"kept {done.kept_count} of {size(done.kept_bytes)} that were given out lately; "
            "--force removes them too"
        )
