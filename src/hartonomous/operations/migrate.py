"""Migrate: bring an older store's catalog to the schema of this program."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from hartonomous.packs import directory
from hartonomous.settings import Settings


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog's schema before and after; ``copy`` is where the former file is kept.

    In a dry run the catalog still has the former one.
    """

    path: str
    former_schema: str
    schema: str
    changed: bool
    copy: str | None
    dry_run: bool = False


def migrate(
    path: Path,
    *,
    settings: Settings,
    clock: Callable[[], int],
    dry_run: bool = False,
    force: bool = False,
) -> Migrated:
    """Migrate the catalog of the store at ``path``; nobody else may have the store open.

    The former file is copied first. A catalog of the newest schema is left as it is. Raises
    LockedError while somebody has the store open.
    """
    before, after, copy = directory.migrate(
        path, settings=settings, clock=clock, dry_run=dry_run, force=force
    )
    return Migrated(
        path=str(path),
        former_schema=before,
        schema=after,
        changed=before != after,
        copy=copy or None,
        dry_run=dry_run,
    )
