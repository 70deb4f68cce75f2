"""A file that somebody asked for by its path: a new one, or written over the one that is there."""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import IO

from hartonomous.errors import ConflictError, HartonomousError
from hartonomous.packs.output_file import part_of

_PIECE_BYTES = 1 << 20


def write_file(
    path: Path, content: IO[bytes], *, force: bool, hint: str, through_links: bool = True
) -> None:
    """Write ``content`` to its end; ``hint`` says what else to give where that cannot be.

    With ``force`` a file that is there keeps its content until the new one is whole; without, there
    must be none. Where ``path`` is a link, ``through_links`` writes what it leads to, else the link
    itself is replaced. Raises ConflictError where there is a file already, HartonomousError.
    """
    target = Path(os.path.realpath(path)) if through_links else path
    try:
        if not force:
            _write_new(path, content)
        elif _is_special(target):
            with target.open("wb") as file:  # a device or a pipe holds nothing to be kept
                _copy(content, file)
        else:
            _replace(target, content)
    except FileExistsError as error:
        raise ConflictError(
            f"{path} is there already", hint=f"write over it with --force, or {hint}"
        ) from error
    except OSError as error:
        raise HartonomousError(f"{path} cannot be written: {error.strerror}", hint=hint) from error


def _is_special(target: Path) -> bool:
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def _replace(target: Path, content: IO[bytes]) -> None:
    """Write a file beside and rename it over what is there, with the mode of that."""
    part = part_of(target, secrets.token_hex(8))
    _write_new(part, content, durable=True)
    try:
        with contextlib.suppress(FileNotFoundError):
            status = target.lstat()
            if stat.S_ISREG(status.st_mode):
                part.chmod(stat.S_IMODE(status.st_mode))
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_new(target: Path, content: IO[bytes], *, durable: bool = False) -> None:
    """Write a file that must not be there; one that is not written whole is taken away again."""
    with target.open("xb") as file:
        try:
            _copy(content, file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _copy(content: IO[bytes], file: IO[bytes]) -> None:
    while piece := content.read(_PIECE_BYTES):
        file.write(piece)
