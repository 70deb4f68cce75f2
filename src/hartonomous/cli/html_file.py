"""Pages that `--html` writes, for a browser; they need no network."""

from pathlib import Path

import click

from hartonomous.errors import ConflictError, HartonomousError


def write_html(path: Path, page: str, *, force: bool) -> None:
    """Write a page and say so; ConflictError where there is a file already, unless ``force``."""
    # What people typed may have bytes of the shell's that are no text.
    content = page.encode("utf-8", "replace")
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConflictError(
            f"{path} is there already", hint="give --force to write over it, or another path"
        ) from error
    except OSError as error:
        raise HartonomousError(
            f"{path} cannot be written: {error.strerror}", hint="give another path to --html"
        ) from error
    click.echo(f"hart: note: wrote {path}", err=True)
