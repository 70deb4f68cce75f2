"""Migrate: bring an older store's catalog to the schema of this program."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from hartonomous.packs import directory
from hartonomous.settings import Settings


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog's schema before and after; ``copy`` is where the former file is kept."""

    path: str
    former_schema: str
    schema: str
    changed: bool
    copy: str | None


def migrate(
    path: Path, *, settings: Settings, clock: Callable[[], int], force: bool = False
) -> Migrated:
    """Migrate the catalog of the store at ``path``; nobody else may have the store open.

    The former file is copied first. A catalog of the newest schema is left as it is. Raises
    LockedError while somebody has the store open.
    """
    before, after, copy = directory.migrate(path, settings=settings, clock=clock, force=force)
    return Migrated(
        path=str(path),
        former_schema=before,
        schema=after,
        changed=before != after,
        copy=copy or None,
    )
