"""What was removed for good while somebody read it is gone, not damaged: the error says which."""

import contextlib
from collections.abc import Iterator

from hartonomous.catalog import versions
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.packs.parts import StoreParts


@contextlib.contextmanager
def told_if_removed(parts: StoreParts, row: versions.VersionRow) -> Iterator[None]:
    """Turn the damage that a reader finds into NotFoundError, if its version is there no more."""
    try:
        yield
    except IntegrityError as error:
        with parts.database.read() as tx:
            if versions.by_uids(tx, [row.uid]):
                raise
        raise NotFoundError(
            f"{row.name}@{row.number} was removed for good while it was being read",
            hint="hart ls shows what is there",
        ) from error
