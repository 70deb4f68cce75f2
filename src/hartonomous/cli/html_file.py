"""Pages that `--html` writes, for a browser; they need no network."""

import io
from pathlib import Path

import click

from hartonomous.packs.written_file import write_file


def write_html(path: Path, page: str, *, force: bool) -> None:
    """Write a page and say so; ConflictError where there is a file already, unless ``force``."""
    # What people typed may have bytes of the shell's that are no text.
    content = io.BytesIO(page.encode("utf-8", "replace"))
    write_file(path, content, force=force, hint="give another path to --html")
    click.echo(f"hart: note: wrote {path}", err=True)
