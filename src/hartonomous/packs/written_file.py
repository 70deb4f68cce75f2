"""A file that somebody asked for by its path: a new one, or written over the one that is there."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

from hartonomous.errors import ConflictError, HartonomousError

_PIECE_BYTES = 1 << 20


def write_file(
    path: Path,
    content: IO[bytes],
    *,
    force: bool,
    hint: str,
    opener: Callable[[str, int], int] | None = None,
) -> None:
    """Write ``content`` to its end; ``hint`` says what else to give where that cannot be.

    Raises ConflictError where there is a file already, unless ``force``.
    """
    try:
        with open(path, "wb" if force else "xb", opener=opener) as file:
            while piece := content.read(_PIECE_BYTES):
                file.write(piece)
    except FileExistsError as error:
        raise ConflictError(
            f"{path} is there already", hint=f"write over it with --force, or {hint}"
        ) from error
    except OSError as error:
        raise HartonomousError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
