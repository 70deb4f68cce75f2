"""Packs of a folder of backups that a check found damaged: the next backup reads these again.

A backup takes a pack that is there for whole by its size, since it would read everything otherwise.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.objects.durable import read_plain, write_atomically

SUSPECTS_FILE = "suspects"
"""Object keys, one in a line."""

_LIMIT_BYTES = 1 << 30
_KEY = re.compile(rb"packs/[0-9a-f]{2}/[0-9a-f]{32}\.pack")


def suspects(folder: Path) -> set[str]:
    """Return the object keys of the packs that are to be read again."""
    try:
        content = read_plain(folder / SUSPECTS_FILE, limit_bytes=_LIMIT_BYTES)
    except (OSError, IntegrityError):
        return set()
    return {word.decode() for word in content.split() if _KEY.fullmatch(word)}


def suspect(folder: Path, keys: Iterable[str]) -> None:
    """Name packs for the next backup, beside those that are named already.

    A medium that cannot be written cannot be backed up to either.
    """
    wanted = sorted(suspects(folder).union(keys))
    content = "".join(f"{key}\n" for key in wanted).encode()
    with contextlib.suppress(HartonomousError):
        write_atomically(folder / SUSPECTS_FILE, content)


def forget(folder: Path) -> None:
    """Forget them: each was read again, or has been copied anew."""
    (folder / SUSPECTS_FILE).unlink(missing_ok=True)
